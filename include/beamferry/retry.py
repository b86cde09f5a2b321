"""A fault of a task that Airflow will try again by itself: nobody has to act, and nobody is mailed."""

from __future__ import annotations

from datetime import UTC, timedelta
from hashlib import sha1
from math import ceil
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen

if TYPE_CHECKING:
    from datetime import datetime

# Airflow takes up a task some seconds after its time.
_TAKEN_UP = timedelta(minutes=1)


class Retry(Frozen):
    """What ended a try of a task that is tried again.

    Args:
        code: of the error.
        problem: its sentence.
        remedy: what would help.
        task: the task.
        folder: the folder that it fetches, None where it is for the whole beamtime.
        run_id: the run.
        try_number: the try that ended.
        at: when it ended.
        again_at: when it is tried again.
        number: which of the retries that will be.
        of: how many there are.
    """

    schema_version: Literal[1] = 1
    code: str
    problem: str
    remedy: str
    task: str
    folder: str | None = None
    run_id: str
    try_number: int
    at: AwareDatetime
    again_at: AwareDatetime
    number: int
    of: int

    def waits(self, run_id: str, now: datetime) -> bool:
        """Say whether a run waits for this retry at a moment; once it is taken up its job says how it goes."""
        return run_id == self.run_id and now < self.again_at + _TAKEN_UP


def next_try(
    *,
    dag_id: str,
    task_id: str,
    logical_date: datetime | None,
    try_number: int,
    delay: timedelta,
    longest: timedelta,
    ended: datetime,
) -> datetime:
    """Return when Airflow tries a task again, reckoned as its scheduler does with a delay that doubles.

    Args:
        dag_id: part of what spreads the retries.
        task_id: the same.
        logical_date: the same; None for a run that has none.
        try_number: the try that ended, counted from 1.
        delay: before the first retry.
        longest: the longest delay.
        ended: when the try ended.
    """
    shortest = max(1, ceil(delay.total_seconds() * 2 ** min(try_number - 1, 30)))
    date = None if logical_date is None else logical_date.astimezone(UTC).isoformat(" ")
    name = f"{dag_id}#{task_id}#{date}#{try_number}"
    spread = int(sha1(name.encode(), usedforsecurity=False).hexdigest(), 16) % shortest
    return ended + min(longest, timedelta(seconds=shortest + spread))
