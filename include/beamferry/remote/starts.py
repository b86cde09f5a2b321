"""What the start of a job on RDS-SSH is answered: it runs, or somebody else's has to end first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from beamferry.errors import TransientError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_DOES = {
    "dry_run": "is listing",
    "transfer": "is transferring",
    "verify": "is comparing",
    "manifest": "is writing the manifest of",
}


@dataclass(frozen=True)
class Owner:
    """Who starts a job: an id that is one Airflow installation's for ever, and its name for people."""

    id: str
    name: str


@dataclass(frozen=True)
class Busy:
    """Why a job could not start yet.

    Args:
        reason: ``installation``, ``unread``, ``beamtime``, ``host``, ``version`` or ``leftover``, see ``sentence``.
        job: the job to wait for as ``<beamtime>/<part>``; empty where nobody knows.
        installation: name of the Airflow installation that started it.
        run: the run that started it.
        since: seconds since the epoch at which it started, 0 where nobody knows.
        host: the host on which it runs, where that is not the one that was asked, and how to tell the two apart.
        told: sentences on what was found damaged, and put aside.
    """

    reason: str
    job: str
    installation: str
    run: str
    since: int
    host: str
    told: tuple[str, ...] = ()

    def sentence(self, beamtime: str, zone: ZoneInfo) -> str:
        """Say who keeps the beamtime, or its destination, and since when."""
        key, _, part = self.job.partition("/")
        what = "this beamtime" if key in {"", beamtime} else f"{key}, to the same destination,"
        does = f"{_DOES.get(part, 'works on')} {what}{self._since(zone)}"
        on = f" on {self.host}" if self.host else ""
        match self.reason:
            case "installation":
                return f"another Airflow installation ({self.installation}, run {self.run}) {does}{on}"
            case "unread":
                return (
                    f"another Airflow installation ({self.installation}, run {self.run}) has not yet read how its "
                    "job of this beamtime ended"
                )
            case "beamtime":
                return f"run {self.run} {does}{on}"
            case "host":
                return f"run {self.run} {does} on {self.host}, where it cannot be stopped from here"
            case "version":
                return f"a job that an earlier version of Beamferry started {does}"
            case _:
                return "processes of an earlier job still hold this beamtime or write to its destination"

    def _since(self, zone: ZoneInfo) -> str:
        if not self.since:
            return ""
        at, now = datetime.fromtimestamp(self.since, UTC).astimezone(zone), datetime.now(zone)
        return f" since {at:%H:%M}" if at.date() == now.date() else f" since {at:%Y-%m-%d %H:%M}"

    def error(self, beamtime: str, zone: ZoneInfo) -> TransientError:
        """Return the error of a task that cannot wait for it otherwise."""
        remedy = (
            "if it stays, log in to RDS-SSH, look for them with 'ps x', and end them"
            if self.reason == "leftover"
            else "nothing to do: this is tried again, and goes on when that one has ended"
        )
        said = self.sentence(beamtime, zone)
        return TransientError("beamtime-busy", f"{said[0].upper()}{said[1:]}", remedy)


@dataclass(frozen=True)
class Started:
    """A job that runs, or has ended well for the same run; ``how`` is ``started``, ``attached`` or ``finished``.

    ``generation`` tells this start of the job from every other; None for a job that an earlier version started.
    ``told``: sentences on what was found damaged, and put aside.
    """

    how: str
    generation: str | None
    told: tuple[str, ...] = ()


def parse_start(text: str) -> Started | Busy:
    """Read what the agent answers to the start of a job: a line, and more of them for people.

    Raises:
        TransientError: it is not what the agent answers, e.g. because the connection broke in the middle.
    """
    line, *told = text.strip().splitlines() or [""]
    how, _, rest = line.partition(" ")
    try:
        if how == "busy":
            raw = json.loads(rest)
            return Busy(
                reason=str(raw["reason"]),
                job=str(raw["job"]),
                installation=str(raw["installation"]),
                run=str(raw["run"]),
                since=int(raw["since"]),
                host=str(raw["host"]),
                told=tuple(told),
            )
        if how not in {"started", "attached", "finished"}:
            raise ValueError(how)
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            "job-status-unreadable",
            f"RDS-SSH gave no readable answer to the start of the job ({error})",
            "this is tried again, and attaches to the job if it runs; if it stays, look at ~/.beamferry/jobs there",
        ) from error
    return Started(how, rest or None, tuple(told))
