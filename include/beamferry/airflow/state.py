"""What is known of a beamtime, kept with its asset: it outlives runs, and the board and the mails read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.context import AssetStateStoreAccessor

from beamferry.fetched import key_of
from beamferry.forecast import Sample, recorded
from beamferry.known import Known
from beamferry.ledger import Ledger

if TYPE_CHECKING:
    from pydantic import JsonValue

    from beamferry.beamtime import Beamtime
    from beamferry.fetched import Brought
    from beamferry.remote import Progress

Key = Literal[
    "plan",
    "progress",
    "transfer",
    "fetched",
    "verification",
    "rate",
    "problem",
    "retry",
    "certificate",
    "log_in",
    "metadata",
    "course",
    "alerts",
    "rehearsal",
    "alerts_ran",
    "installation",
]
# Where the ledger of real alerts is, and that of rehearsals.
Memory = Literal["alerts", "rehearsal"]
# What says how a beamtime is; the rest is the alerts' own memory.
KNOWN: tuple[Key, ...] = (
    "plan",
    "progress",
    "transfer",
    "fetched",
    "verification",
    "rate",
    "problem",
    "retry",
    "certificate",
    "log_in",
    "metadata",
    "course",
)


def asset(beamtime: Beamtime) -> Asset:
    """Return the asset that stands for a beamtime's data on RDS."""
    return Asset(name=beamtime.asset_name, uri=f"x-beamferry:{beamtime.asset_name}", group="beamferry")


class BeamtimeState:
    """The JSON values of one beamtime's asset, for tasks and triggers that have it as inlet or outlet.

    Args:
        name: the asset's name.
    """

    def __init__(self, name: str) -> None:
        """Open nothing yet: each call is one message to the supervisor."""
        self._store = AssetStateStoreAccessor(name=name)

    def get(self, key: Key) -> dict[str, Any] | None:
        """Return a value, or None where nothing is known yet.

        Raises:
            TypeError: somebody else stored something there that is no JSON object.
        """
        value = self._store.get(key)
        if value is None or isinstance(value, dict):
            return value
        raise TypeError(f"asset state '{key}' holds {type(value).__name__}, not an object")

    async def history(self, run_id: str, part: str) -> tuple[Sample, ...]:
        """Return the series of a run's job so far, so that another triggerer or its next folder can go on with it."""
        try:
            value = await self._store.aget(_progress_keys(part)[-1])
        except AirflowRuntimeError:
            return ()
        return _series(value, run_id, part)

    def set(self, key: Key, value: dict[str, Any]) -> None:
        """Store a value, which names the version of its form; it replaces what was there."""
        self._store.set(key, value)

    def keep_course(self) -> None:
        """Store how what was left became less so far; the next job takes the place of what tells it."""
        known = self.known("plan", "progress", "transfer", "fetched", "course")
        self.set("course", known.whole_course.model_dump(mode="json"))

    def keep_end(self, number: int, brought: Brought) -> None:
        """Store that a transfer ended well, by its number in the run; no other writes under the same key."""
        self._store.set(key_of(number), brought.model_dump(mode="json"))

    def forget(self, key: Key) -> None:
        """Remove a value that is no longer true."""
        self._store.delete(key)

    def known(self, *keys: Key) -> Known:
        """Return what is known of the beamtime, or only these keys of it; a value that nobody can read is named."""
        values = {key: self._store.get(key) for key in keys or KNOWN}
        fetching = Known.read({"fetched": values.get("fetched")}).fetching
        ends = () if fetching is None else fetching.keys
        return Known.read(values | {key: self._store.get(key) for key in ends})

    def ledger(self, memory: Memory) -> Ledger:
        """Return who was told what."""
        return Ledger.read(self._store.get(memory))

    async def publish(
        self, progress: Progress, *, part: str, run_id: str, history: tuple[Sample, ...] = ()
    ) -> bool:
        """Store how far a job is, from the triggerer; returns False when the API server could not be asked.

        Progress that is lost is replaced by the next poll's, so a restart of the API server must not end a job.
        """
        value = _progress(progress, part, run_id, history)
        try:
            for key in _progress_keys(part):
                await self._store.aset(key, value)
        except AirflowRuntimeError:
            return False
        return True

    def tell(self, progress: Progress, *, part: str, run_id: str) -> bool:
        """Store how far a job is, from the task that waits for it; returns False as ``publish`` does."""
        keys = _progress_keys(part)
        try:
            history = _series(self._store.get(keys[-1]), run_id, part)
            sample = Sample(progress.updated, progress.bytes_done)
            value = _progress(progress, part, run_id, recorded(history, sample))
            for key in keys:
                self._store.set(key, value)
        except AirflowRuntimeError:
            return False
        return True


def _progress_keys(part: str) -> tuple[Key, ...]:
    """Return where a job's progress is kept; the next job's takes the place of what is told under the first key."""
    return ("progress", "transfer") if part == "transfer" else ("progress",)


def _progress(progress: Progress, part: str, run_id: str, history: tuple[Sample, ...]) -> dict[str, Any]:
    return {
        "schema_version": 1,
        **vars(progress),
        "part": part,
        "run_id": run_id,
        "history": [[sample.at, sample.done] for sample in history],
    }


def _series(value: JsonValue, run_id: str, part: str) -> tuple[Sample, ...]:
    """Return the series that a stored progress tells, empty where it is of another run's or part's job."""
    told = Known.read({"progress": value if isinstance(value, dict) else None}).moving
    return () if told is None or (told.run_id, told.part) != (run_id, part) else told.samples
