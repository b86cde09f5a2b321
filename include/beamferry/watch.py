"""The alarm's own alarm: a sign of life that the alerts leave on disk, and what looks at it from outside Airflow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen
from beamferry.ledger import Refusal
from beamferry.plan import count

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_Record = TypeVar("_Record", bound=Frozen)
# The DAG that sends them every morning, and the one that sends again on the same day what could not be told at once.
ALERTS_DAG = "deadlines"
AGAIN_DAG = "mails_again"
# The alerts leave a sign every morning; two hours are for a late start and for retries.
STALE = timedelta(hours=26)
# The watchdog repeats itself once a day, however often it is called.
REPEAT = timedelta(hours=23)


class Sign(Frozen):
    """What the alerts left: when the mail server last took their word, how many mails, and whom it refuses."""

    schema_version: Literal[1] = 1
    at: AwareDatetime
    mails: int
    recipients: int
    refused: tuple[Refusal, ...] = ()


class Spoken(Frozen):
    """What the watchdog last mailed about, and when."""

    at: AwareDatetime
    about: tuple[str, ...]


@dataclass(frozen=True)
class Trouble:
    """One thing that the watchdog found, with its remedy; ``about`` stays the same while its figures change."""

    about: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """Return both as one line."""
        return f"{self.problem}: {self.remedy}"


def status_file(environment: Mapping[str, str]) -> Path:
    """Return where the sign is: ``BEAMFERRY_STATUS``, or below Airflow's home."""
    named = environment.get("BEAMFERRY_STATUS")
    if named:
        return Path(named)
    home = environment.get("AIRFLOW_HOME") or str(Path.home() / "airflow")
    return Path(home) / "beamferry" / "alerts.json"


def leave(path: Path, record: Frozen) -> None:
    """Write a record whole or not at all, for this account alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(record.model_dump_json())
    new.replace(path)


def last_sign(path: Path) -> Sign | None:
    """Return the last sign, None where there is none or it cannot be read."""
    return _left(path, Sign)


def last_spoken(path: Path) -> Spoken | None:
    """Return what was last mailed, None where nothing was or the record cannot be read."""
    return _left(path, Spoken)


def _left(path: Path, model: type[_Record]) -> _Record | None:
    try:
        return model.model_validate_json(path.read_text())
    except (OSError, ValueError):
        return None


def judge(
    *,
    sign: Sign | None,
    path: Path,
    now: datetime,
    wanted: Collection[str],
    active: Collection[str] | None,
    health: Mapping[str, str] | None,
    registry_problems: int,
) -> tuple[Trouble, ...]:
    """Return what is wrong with the alarm.

    Args:
        sign: the last sign of life.
        path: where it was looked for.
        now: the present, aware.
        wanted: DAGs that must run: one for each beamtime, and those of the alerts.
        active: DAGs that Airflow has and that are not paused, None where it could not be asked.
        health: state by component of Airflow, None where its web server does not answer.
        registry_problems: entries of the registry that cannot be read.
    """
    found = []
    if sign is None:
        found.append(
            Trouble(
                "sign",
                f"The alerts never left a sign of life at {path}",
                f"see in Airflow whether the DAG '{ALERTS_DAG}' runs and what its last run says",
            )
        )
    elif now - sign.at > STALE:
        hours = (now - sign.at) // timedelta(hours=1)
        found.append(
            Trouble(
                "sign",
                f"No alert could be sent for {hours} hours (since {sign.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC)",
                f"see what the last run of the DAG '{ALERTS_DAG}' says: the mail server may refuse it",
            )
        )
    found += [
        Trouble(f"recipient {one.recipient}", one.error.problem, one.error.remedy)
        for one in (sign.refused if sign is not None else ())
    ]
    if health is None:
        found.append(
            Trouble(
                "web server",
                "Airflow's web server does not answer",
                "start Airflow on its machine: ./run up, or compose up",
            )
        )
    else:
        for name, state in health.items():
            if state != "healthy":
                found.append(
                    Trouble(
                        f"component {name}",
                        f"Airflow's {name} is {state}",
                        "restart it: without it no transfer and no alert begins",
                    )
                )
    if active is None:
        found.append(
            Trouble("dags", "Airflow does not say which DAGs it has", "run 'airflow dags list' to see why")
        )
    else:
        found += [
            Trouble(
                f"dag {name}",
                f"DAG {name} is missing or paused",
                "unpause it in Airflow, or see its import errors there",
            )
            for name in sorted(set(wanted) - set(active))
        ]
    if registry_problems:
        found.append(
            Trouble(
                "registry",
                f"{count(registry_problems, 'problem')} in the registry keep beamtimes from being watched",
                "run 'beamferry check' and correct them",
            )
        )
    return tuple(found)


def to_speak(before: Spoken | None, problems: tuple[Trouble, ...], now: datetime) -> bool:
    """Say whether the watchdog mails: at once for anything new, else once a day."""
    if before is None or not problems:
        return bool(problems)
    new = {trouble.about for trouble in problems} - set(before.about)
    return bool(new) or now - before.at > REPEAT
