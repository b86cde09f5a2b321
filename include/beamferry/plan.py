"""From a dry run's totals to what is to do: how much, does it fit, will it be in time."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime, Site
    from beamferry.rsync_output import Totals

# RDS is shared: filling it to the last byte stops everybody's work.
SPARE_BYTES = 1024**3
# What the group's own page measured for one stream: 11,708,036 B/s over the wire. Only used until a rate of ours
# is known, and only to say when the transfer may end.
ASSUMED_RATE = 11_700_000


class TransferPlan(Frozen):
    """What one run is to do.

    Args:
        files: regular files of the source, excludes left out.
        bytes: their size.
        todo_files: files to fetch.
        todo_bytes: their size.
        streams: connections at the same time.
        bytes_free: free on RDS when the plan was made, None where the file system does not say.
        rate: bytes per second that the estimate reckons with.
        rate_measured: whether that rate was measured in an earlier transfer of this beamtime.
        seconds: how long the transfer will take at that rate.
        deadline: last moment before the tape day begins at the site.
        in_time: whether it would end before the deadline if it began now.
        exclude: what stays behind.
        made_at: when the dry run was read.
    """

    schema_version: Literal[1] = 1
    files: int
    bytes: int
    todo_files: int
    todo_bytes: int
    streams: int
    bytes_free: int | None
    rate: int
    rate_measured: bool
    seconds: int
    deadline: AwareDatetime
    in_time: bool
    exclude: tuple[str, ...]
    made_at: AwareDatetime


def deadline(beamtime: Beamtime, site: Site) -> datetime:
    """Return the moment, in UTC, at which the tape day begins in the site's zone."""
    midnight = datetime.combine(beamtime.tape_day, time(), tzinfo=ZoneInfo(site.time_zone))
    return midnight.astimezone(UTC)


def make_plan(
    totals: Totals,
    *,
    beamtime: Beamtime,
    site: Site,
    now: datetime,
    bytes_free: int | None,
    inodes_free: int | None,
    previous: TransferPlan | None,
    rate: int | None,
    streams: int,
    accept_smaller_source: bool,
) -> TransferPlan:
    """Return what a run is to do.

    Args:
        totals: what the dry run printed.
        beamtime: the registry's entry.
        site: the group's own side.
        now: the present, aware.
        bytes_free: free bytes at the destination, None where unknown.
        inodes_free: free inodes at the destination, None where they are not limited.
        previous: the plan of the last run, if there was one.
        rate: bytes per second measured before, if there was a transfer.
        streams: connections at the same time.
        accept_smaller_source: go on although the source became smaller.

    Raises:
        PermanentError: the source is empty or became smaller, or RDS has not enough bytes or inodes.
    """
    if totals.regular_files == 0:
        raise PermanentError(
            "source-empty",
            f"{beamtime.source_path} holds no file that is to be fetched",
            "check the entry's source and exclude, or ask the facility whether the data went to tape already",
        )
    if previous is not None and not accept_smaller_source and previous.exclude == beamtime.exclude:
        _refuse_smaller(totals, previous, beamtime)
    # A run with nothing to move still compares both ends, however full RDS is.
    needed = totals.transferred_bytes + SPARE_BYTES if totals.transferred_bytes else 0
    if bytes_free is not None and needed > bytes_free:
        raise PermanentError(
            "rds-bytes",
            f"RDS has not enough room: {human(totals.transferred_bytes)} are to come "
            f"({totals.transferred_bytes:,} bytes), {human(bytes_free)} are free ({bytes_free:,} bytes), "
            f"and {human(SPARE_BYTES)} must stay free",
            f"make room below {site.destination_root} or ask Research IT for more, then start the run again",
        )
    if inodes_free is not None and totals.transferred_files > inodes_free:
        raise PermanentError(
            "rds-inodes",
            f"RDS has not enough inodes: {totals.transferred_files:,} files are to come, "
            f"{inodes_free:,} more can be made",
            "delete small files that nobody needs there or ask Research IT for more inodes, then start the run again",
        )
    reckoned = rate or ASSUMED_RATE * streams
    seconds = totals.transferred_bytes // reckoned
    end = deadline(beamtime, site)
    return TransferPlan(
        files=totals.regular_files,
        bytes=totals.bytes,
        todo_files=totals.transferred_files,
        todo_bytes=totals.transferred_bytes,
        streams=streams,
        bytes_free=bytes_free,
        rate=reckoned,
        rate_measured=bool(rate),
        seconds=seconds,
        deadline=end,
        # In seconds, as a day after the year 9999 cannot be reckoned with.
        in_time=seconds <= (end - now).total_seconds(),
        exclude=beamtime.exclude,
        made_at=now,
    )


def _refuse_smaller(totals: Totals, previous: TransferPlan, beamtime: Beamtime) -> None:
    if totals.regular_files >= previous.files and totals.bytes >= previous.bytes:
        return
    raise PermanentError(
        "source-smaller",
        f"{beamtime.source_path} became smaller: {totals.regular_files:,} files with {totals.bytes:,} bytes, "
        f"last time {previous.files:,} files with {previous.bytes:,} bytes; the sync is frozen",
        "ask at the facility what was removed; if that is well, start a run with 'Accept a source that became "
        "smaller'. Nothing on RDS was or will be deleted",
    )


def human(size: int) -> str:
    """Return a number of bytes as people say it, in powers of ten, e.g. ``87.0 GB``."""
    if size < 1000:  # noqa: PLR2004
        return "1 byte" if size == 1 else f"{size} bytes"
    value = size / 1000
    for unit in ("kB", "MB", "GB", "TB"):
        # What would be rounded to 1000.0 is 1.0 of the next unit.
        if round(value, 1) < 1000:  # noqa: PLR2004
            return f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} PB"


def duration(seconds: int) -> str:
    """Return a time as people say it, e.g. ``1 h 34 min``."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds} s"
    hours, minutes = divmod(seconds // 60, 60)
    days, hours = divmod(hours, 24)
    words = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{value} {unit}" for value, unit in words if value)


def sentence(plan: TransferPlan) -> str:
    """Return the plan as one line."""
    if plan.todo_files == 0:
        return f"Nothing to move: all {plan.files:,} files ({human(plan.bytes)}) are at RDS by size and time."
    return (
        f"To move: {plan.todo_bytes:,} bytes ({human(plan.todo_bytes)}) in {plan.todo_files:,} files, of "
        f"{human(plan.bytes)} in {plan.files:,} files; about {duration(plan.seconds)}."
    )


def table(plan: TransferPlan, site: Site) -> str:
    """Return the plan as a Markdown table for whoever is asked to approve it."""
    zone = ZoneInfo(site.time_zone)
    basis = "measured" if plan.rate_measured else "assumed"
    rows = (
        ("To move", f"{human(plan.todo_bytes)} ({plan.todo_bytes:,} bytes) in {plan.todo_files:,} files"),
        ("All of the beamtime", f"{human(plan.bytes)} in {plan.files:,} files"),
        ("Free on RDS", "unknown" if plan.bytes_free is None else human(plan.bytes_free)),
        (
            "Takes about",
            f"{duration(plan.seconds)} at {human(plan.rate)}/s ({basis}), {plan.streams} streams",
        ),
        ("Tape", f"from {plan.deadline.astimezone(zone):%A %d %B %Y, %H:%M %Z} on"),
        ("In time", "yes" if plan.in_time else "**no: it would end after the data went to tape**"),
        ("Stays behind", ", ".join(f"`{path}`" for path in plan.exclude) or "nothing"),
    )
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
