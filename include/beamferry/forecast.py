"""When a beamtime will be home: from what is left, how fast it came so far, and when runs begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.plan import count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

# Runs that nobody starts begin between these hours of the day, UTC.
NIGHT_BEGINS = time(22)
NIGHT_ENDS = time(6)
# Hours of the day at which nobody says "tonight".
_DAY = (6, 18)
# Pauses up to this share of a transfer are left out of its rate: on a recorded transfer, and on forty drawn like it,
# that foretold the end best. Where a link stands still for longer, standing still is what it does.
_PAUSES = 1 / 3
# A plot or a forecast needs no more, and each is written again with every look at a job.
KEPT_SAMPLES = 48
# A transfer of a few bytes leaves a rate at which terabytes end after the calendar does: this is late enough.
_LONGEST = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Sample:
    """How many bytes were done at a moment in seconds since the epoch."""

    at: int
    done: int


def recorded(history: Sequence[Sample], sample: Sample) -> tuple[Sample, ...]:
    """Return a series with one more sample; a long one keeps every second of its samples and its ends."""
    kept = (*(old for old in history if old.at < sample.at and old.done <= sample.done), sample)
    if len(kept) > KEPT_SAMPLES:
        kept = (*kept[:-1:2], kept[-1])
    return kept


def rate_of(history: Sequence[Sample]) -> float | None:
    """Return bytes per second to reckon with, or None where the series says nothing yet.

    Time in which nothing moved does not count, unless it is a good part of all.
    """
    if len(history) < 2 or history[-1].at <= history[0].at:  # noqa: PLR2004
        return None
    moved, length = history[-1].done - history[0].done, history[-1].at - history[0].at
    paused = sum(after.at - before.at for before, after in pairwise(history) if after.done == before.done)
    if moved <= 0:
        return None
    return moved / (length - paused if paused <= length * _PAUSES else length)


@dataclass(frozen=True)
class Forecast:
    """When it will be done, compared with the deadline.

    Args:
        ends_at: when the last byte is there, UTC.
        must_start_by: the last moment at which a transfer at this rate can begin and be in time, UTC.
        deadline: when tape begins, UTC.
        rate: bytes per second that this reckons with.
        measured: whether that rate was measured.
        begun: whether the transfer is under way.
        made_at: when this was reckoned, UTC.
    """

    ends_at: datetime
    must_start_by: datetime
    deadline: datetime
    rate: float
    measured: bool
    begun: bool
    made_at: datetime

    @property
    def margin(self) -> timedelta:
        """Time between the end and the deadline; negative when it is late."""
        return self.deadline - self.ends_at

    @property
    def late(self) -> bool:
        """Whether it ends after the deadline."""
        return self.margin < timedelta(0)

    def sentence(self, zone: str) -> str:
        """Return the forecast in plain words and in a site's time."""
        where = ZoneInfo(zone)
        basis = "at the measured rate" if self.measured else "at a rate that is assumed, not yet measured"
        if not self.late:
            return f"Done {span(self.margin)} before tape, on {day(self.ends_at, where)}, {basis}."
        by = self.must_start_by.astimezone(where)
        if self.begun or self.must_start_by <= self.made_at:
            return f"{span(-self.margin).capitalize()} late: ends on {day(self.ends_at, where)}, {basis}."
        return (
            f"{span(-self.margin).capitalize()} late: start by {by:%A %-d %B, %H:%M} to be in time, {basis}."
        )


def forecast(
    *,
    bytes_left: int,
    rate: float,
    measured: bool,
    running: bool,
    deadline: datetime,
    now: datetime,
    next_run: datetime | None,
) -> Forecast:
    """Return when a transfer will end.

    Args:
        bytes_left: bytes still to fetch.
        rate: bytes per second, more than 0.
        measured: whether the rate was measured.
        running: whether it moves at present; otherwise it begins with its next run.
        deadline: when tape begins, aware.
        now: the present, aware.
        next_run: when a run begins by itself; None where only a person's begins, which may be at once.

    Raises:
        ValueError: the rate is not more than 0.
    """
    if rate <= 0:
        raise ValueError("a forecast needs a rate")
    takes = timedelta(seconds=min(bytes_left / rate, _LONGEST.total_seconds()))
    begins = now if running or bytes_left == 0 or next_run is None else next_run
    return Forecast(begins + takes, deadline - takes, deadline, rate, measured, running, now)


def nightly_at(key: str) -> time:
    """Return the minute of the day, UTC, at which a beamtime's nightly run begins: always the same, spread over all."""
    window = (NIGHT_ENDS.hour - NIGHT_BEGINS.hour) % 24 * 60
    minute = int.from_bytes(sha256(key.encode()).digest()[:4]) % window
    return time((NIGHT_BEGINS.hour + minute // 60) % 24, minute % 60)


def next_nightly(key: str, last_day: date, now: datetime) -> datetime | None:
    """Return when a beamtime's next nightly run begins, UTC; None where none comes, after the last day."""
    moment = now.astimezone(UTC)
    begins = datetime.combine(moment.date(), nightly_at(key), tzinfo=UTC)
    if begins <= moment:
        begins += timedelta(days=1)
    return begins if begins.date() <= last_day else None


def clock(moment: datetime, now: datetime, zone: str) -> str:
    """Return a moment within the next day as people say it, e.g. ``tonight at 23:41`` or ``tomorrow at 02:15``."""
    where = ZoneInfo(zone)
    there = moment.astimezone(where)
    if there.date() != now.astimezone(where).date():
        return f"tomorrow at {there:%H:%M}"
    return f"{'today' if _DAY[0] <= there.hour < _DAY[1] else 'tonight'} at {there:%H:%M}"


def span(length: timedelta) -> str:
    """Return a length of time in the one unit that matters, e.g. ``6 days`` or ``5 hours``."""
    hours = length.total_seconds() / 3600
    if hours < 1:
        return "less than an hour"
    number, unit = (int(hours // 24), "day") if hours >= 48 else (int(hours), "hour")  # noqa: PLR2004
    return count(number, unit)


def day(moment: datetime, zone: ZoneInfo) -> str:
    """Return a day as people say it, e.g. ``Tuesday 3 May``."""
    return f"{moment.astimezone(zone):%A %-d %B}"
