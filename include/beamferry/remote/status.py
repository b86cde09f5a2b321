"""What the agent says of a job on RDS-SSH."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal, cast

from beamferry.errors import TransientError

State = Literal["absent", "running", "finished", "dead"]


@dataclass(frozen=True)
class Progress:
    """How far a job is: bytes and files done of all that it has to do, and bytes per second just now."""

    phase: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    rate: int
    updated: int


@dataclass(frozen=True)
class Status:
    """How a job is: ``heartbeat_age`` in seconds, -1 when there never was one.

    ``generation`` is the start that it speaks of, None for a job that an earlier version started; ``beat`` is another
    number for each sign of life.
    """

    state: State
    exit_code: int | None
    heartbeat_age: int
    progress: Progress | None
    generation: str | None = None
    beat: int = 0


def parse_status(text: str) -> Status:
    """Read the line with which the agent answers.

    Raises:
        TransientError: the line is not what the agent answers, e.g. because the connection broke in the middle.
    """
    try:
        raw = json.loads(text)
        progress = raw["progress"]
        if raw["state"] not in {"absent", "running", "finished", "dead"}:
            raise ValueError(raw["state"])
        return Status(
            cast("State", raw["state"]),
            None if raw["exit_code"] is None else int(raw["exit_code"]),
            int(raw["heartbeat_age"]),
            None if progress is None else Progress(**progress),
            str(raw.get("generation", "")) or None,
            int(raw.get("beat", 0)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            "job-status-unreadable",
            f"RDS-SSH gave no readable status of the job ({error})",
            "this is tried again; if it stays, look at ~/.beamferry/jobs on RDS-SSH",
        ) from error
