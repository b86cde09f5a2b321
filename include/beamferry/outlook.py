"""How far a beamtime is and when it will be home, in words and as a forecast."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.forecast import Forecast, clock, forecast, next_nightly, rate_of
from beamferry.plan import count, deadline, human

if TYPE_CHECKING:
    from datetime import date, datetime

    from beamferry.beamtime import Beamtime, Site
    from beamferry.known import Known

# What moved within this time moves now; a job on RDS-SSH tells of itself every few seconds.
_MOVING_NOW = timedelta(minutes=15)


def days_left(day_of: date, site: Site, now: datetime) -> int:
    """Return the days from today at the site to a day; calendar days, so that no change of clocks counts."""
    return (day_of - now.astimezone(ZoneInfo(site.time_zone)).date()).days


def foretell(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> Forecast | None:
    """Return when a beamtime will be home, None where nothing is left or no dry run has looked yet."""
    left = known.bytes_left
    if known.all_fetched or left is None or known.plan is None:
        return None
    moving, comes = known.transfer, known.transferring
    running = comes is not None and now - comes.at < _MOVING_NOW
    rate = rate_of(moving.samples) if moving is not None else None
    measured = rate is not None or known.rate is not None or known.plan.rate_measured
    if rate is None:
        rate = float(known.rate.bytes_per_second if known.rate is not None else known.plan.rate)
    return forecast(
        bytes_left=left,
        rate=max(rate, 1.0),
        measured=measured,
        running=running,
        deadline=deadline(beamtime, site),
        now=now,
        next_run=next_nightly(beamtime.key, beamtime.tape_day, now),
    )


def next_run(beamtime: Beamtime, site: Site, now: datetime) -> str:
    """Return when its next nightly run begins, e.g. ``tonight at 23:41``; '' where none comes any more."""
    begins = next_nightly(beamtime.key, beamtime.tape_day, now)
    return "" if begins is None else clock(begins, now, site.time_zone)


def outlook(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> str:
    """Return one sentence that says when it will be home, or why that is not known."""
    if known.plan is None:
        return "No run has looked at the source yet: how much there is is not known."
    if known.all_fetched:
        return "All bytes are at RDS by size and time, but the copy is not verified yet."
    coming = foretell(beamtime, site, known, now)
    ahead = "" if coming is None or known.bytes_left == 0 else coming.sentence(site.time_zone)
    if known.compared is not None:
        return f"{known.compared.sentence} {ahead}".strip()
    return f"{amount(known)} left. {ahead}" if ahead else "The last bytes are on their way."


def amount(known: Known) -> str:
    """Return what is left in words."""
    left = known.bytes_left
    if left is None or known.plan is None:
        return "An unknown amount"
    return (
        human(left)
        if known.transfer is not None or known.compared is not None
        else f"{human(left)} in {count(known.plan.todo_files, 'file')}"
    )
