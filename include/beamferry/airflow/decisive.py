"""What a run decides by, kept on RDS-SSH: people with ordinary roles can write XComs and asset state, but not there."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.remote import JOBS

if TYPE_CHECKING:
    from pydantic import JsonValue

    from beamferry.remote import Session

_log = logging.getLogger(__name__)
_VERSION = 1
# What made each record, for the sentence about one that is not there.
_MAKERS = {
    "facts": "verify_access",
    "listing": "dry_run",
    "plan": "parse_totals",
    "moved": "transfer",
    "verdict": "verify_sizes",
}


@dataclass(frozen=True)
class RunRecords:
    """What one run of a beamtime found; a later run's records replace them.

    They are ``facts``, ``listing``, ``plan``, ``moved`` and ``verdict``.

    Args:
        beamtime: the beamtime's key.
        run_id: Airflow's name of the run.
    """

    beamtime: str
    run_id: str

    def write(self, session: Session, name: str, value: JsonValue) -> None:
        """Keep a record."""
        record = {"version": _VERSION, "run_id": self.run_id, "value": value}
        session.make_folder(self._folder, mode=0o700)
        session.write(self._path(name), json.dumps(record, ensure_ascii=False).encode(), mode=0o600)

    def add(self, session: Session, name: str, part: str, value: JsonValue) -> None:
        """Keep a part of a record that is made in several; the parts of one run are made one after the other."""
        kept = self.read_if_made(session, name)
        self.write(session, name, {**(kept if isinstance(kept, dict) else {}), part: value})

    def read(self, session: Session, name: str) -> JsonValue:
        """Return a record of this very run.

        Raises:
            PermanentError: there is none, it is another run's, or it was damaged.
        """
        value = self.read_if_made(session, name)
        if value is None:
            raise self._missing(name, "is not there")
        return value

    def read_if_made(self, session: Session, name: str) -> JsonValue:
        """Return a record of this very run, None where this run has made none that can be read."""
        run_id, value = self._read(session, name)
        return value if run_id == self.run_id else None

    def last(self, session: Session, name: str) -> JsonValue:
        """Return a record of whichever run made the last one, None where there is none that can be read."""
        return self._read(session, name)[1]

    def _read(self, session: Session, name: str) -> tuple[str | None, JsonValue]:
        """Return the run and the value of a record; a damaged one is put aside, or no run could go on."""
        try:
            text = session.read(self._path(name))
            if not text:
                return None, None
            record = json.loads(text)
            if record["version"] != _VERSION:
                # Another version's; this run makes it anew.
                return None, None
            return str(record["run_id"]), record["value"]
        except (ValueError, KeyError, TypeError, PermanentError) as error:
            aside = session.put_aside(self._path(name))
            _log.warning(
                "RDS-SSH: ~/%s was damaged (%s); it is kept as %s beside it", self._path(name), error, aside
            )
            return None, None

    def _missing(self, name: str, how: str) -> PermanentError:
        return PermanentError(
            "run-record-missing",
            f"What {_MAKERS[name]} found in this run {how} on RDS-SSH (~/{self._path(name)})",
            f"clear the task {_MAKERS[name]} and those after it, or start a new run",
        )

    @property
    def _folder(self) -> str:
        return f"{JOBS}/{self.beamtime}/run"

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}.json"
