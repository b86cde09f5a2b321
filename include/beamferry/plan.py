"""From a dry run's totals to what is to do: how much, does it fit, will it be in time."""

from __future__ import annotations

from datetime import UTC, datetime, time
from hashlib import sha256
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, Protocol
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from datetime import date

    from beamferry.beamtime import Beamtime, Site

# RDS is shared: filling it to the last byte or inode stops everybody's work.
SPARE_BYTES = 1024**3
SPARE_INODES = 1000
# What the group's own page measured for one stream: 11,708,036 B/s over the wire. Only used until a rate of ours
# is known, and only to say when the transfer may end.
ASSUMED_RATE = 11_700_000
_MIB = 1024**2
# Characters of excludes that a plan shows: it has to fit into the asset state and an XCom, 4 kB.
_EXCLUDE_SHOWN = 1000


class Counted(Protocol):
    """What a dry run counted, whatever tool made it; bytes and counts, ``transferred`` being what is to be fetched."""

    @property
    def regular_files(self) -> int:
        """Files of the source."""

    @property
    def bytes(self) -> int:
        """Their size."""

    @property
    def transferred_files(self) -> int:
        """Files to fetch."""

    @property
    def transferred_bytes(self) -> int:
        """Their size."""


class TransferPlan(Frozen):
    """What one run is to do.

    Args:
        files: regular files of the source, excludes left out.
        bytes: rsync's "Total file size"; it counts the text of links too, so it is no census's sum.
        todo_files: files to fetch.
        todo_bytes: their size.
        streams: connections at the same time.
        bytes_free: free on RDS when the plan was made, None where the file system does not say.
        rate: bytes per second that the estimate reckons with.
        rate_measured: whether that rate was measured in an earlier transfer of this beamtime.
        seconds: how long the transfer will take at that rate.
        deadline: the moment at which the tape day begins at the site.
        in_time: whether it would end by then if it began now; having nothing to move is always in time.
        exclude: what stays behind, or the first of it.
        exclude_count: how many paths stay behind.
        scope: digest of source and excludes; only plans of one scope say whether a source became smaller.
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
    exclude_count: int
    scope: str
    made_at: AwareDatetime


def deadline(beamtime: Beamtime, site: Site) -> datetime:
    """Return the moment, in UTC, at which the tape day begins in the site's zone."""
    return midnight(beamtime.tape_day, site)


def midnight(day: date, site: Site) -> datetime:
    """Return the moment, in UTC, at which a day begins in the site's zone."""
    return datetime.combine(day, time(), tzinfo=ZoneInfo(site.time_zone)).astimezone(UTC)


def make_plan(
    totals: Counted,
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
    bandwidth_limit: int | None = None,
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
        bandwidth_limit: MiB/s of all streams together, None for no limit.

    Raises:
        PermanentError: the source is empty or became smaller, or RDS has not enough bytes or inodes.
    """
    if totals.regular_files == 0:
        raise source_empty(beamtime.source_path)
    scope = _scope(beamtime)
    if previous is not None and not accept_smaller_source and previous.scope == scope:
        _refuse_smaller(totals, previous, beamtime)
    # Nothing to move needs no room: a full RDS must not keep a whole copy from being verified.
    if totals.transferred_files > 0:
        _refuse_without_room(totals, site, bytes_free, inodes_free)
    reckoned = rate or ASSUMED_RATE * streams
    if bandwidth_limit is not None:
        reckoned = min(reckoned, bandwidth_limit * _MIB)
    seconds = -(-totals.transferred_bytes // reckoned)
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
        in_time=totals.transferred_files == 0 or seconds <= (end - now).total_seconds(),
        exclude=_shown(beamtime.left_behind),
        exclude_count=len(beamtime.left_behind),
        scope=scope,
        made_at=now,
    )


def source_empty(source: str) -> PermanentError:
    """Return the error of a source without files: nothing can be said of its copy, least of all that it is whole."""
    return PermanentError(
        "source-empty",
        f"{source} holds no file that is to be fetched",
        "check the entry's source and exclude, or ask the facility whether the data went to tape already",
    )


def _scope(beamtime: Beamtime) -> str:
    # No path holds a newline.
    lines = (
        beamtime.source_path,
        *sorted(beamtime.left_behind),
        *(f"{name}/" for name in sorted(beamtime.chosen_folders)),
    )
    return sha256("\n".join(lines).encode()).hexdigest()[:16]


def _shown(exclude: tuple[str, ...]) -> tuple[str, ...]:
    # 10 for what JSON puts around each.
    used = accumulate(len(path) + 10 for path in exclude)
    return tuple(path for path, total in zip(exclude, used, strict=True) if total <= _EXCLUDE_SHOWN)


def _refuse_smaller(totals: Counted, previous: TransferPlan, beamtime: Beamtime) -> None:
    if totals.regular_files >= previous.files and totals.bytes >= previous.bytes:
        return
    raise PermanentError(
        "source-smaller",
        f"{beamtime.source_path} became smaller: {totals.regular_files:,} files with {totals.bytes:,} bytes, "
        f"last time {previous.files:,} files with {previous.bytes:,} bytes; the sync is frozen",
        "ask at the facility what was removed; if that is well, start a run with 'Accept a source that became "
        "smaller'. Nothing on RDS was or will be deleted",
    )


def _refuse_without_room(
    totals: Counted, site: Site, bytes_free: int | None, inodes_free: int | None
) -> None:
    if bytes_free is not None and totals.transferred_bytes + SPARE_BYTES > bytes_free:
        raise PermanentError(
            "rds-bytes",
            f"RDS has not enough bytes free: {human(totals.transferred_bytes)} are to come "
            f"({totals.transferred_bytes:,} bytes), {human(bytes_free)} are free ({bytes_free:,} bytes), "
            f"and {human(SPARE_BYTES)} must stay free",
            f"make room below {site.destination_root} or ask Research IT for more, then start the run again",
        )
    if inodes_free is not None and totals.transferred_files + SPARE_INODES > inodes_free:
        raise PermanentError(
            "rds-inodes",
            f"RDS has not enough inodes free: {count(totals.transferred_files, 'file')} are to come, "
            f"{inodes_free:,} inodes are free, and {SPARE_INODES:,} must stay free",
            "delete small files that nobody needs there or ask Research IT for more inodes, then start the run again",
        )


def human(size: int) -> str:
    """Return a number of bytes as people say it, in powers of ten, e.g. ``87.0 GB``."""
    if size < 1000:  # noqa: PLR2004
        return count(size, "byte")
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        # 999,950 bytes are 1.0 MB: what is shown must stay below 1,000.
        if round(value, 1) < 1000:  # noqa: PLR2004
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.1f} PB"


def count(number: int, noun: str) -> str:
    """Return how many of something, e.g. ``1 file`` or ``20,412 files``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: int) -> str:
    """Return a time as people say it, in its two largest units, e.g. ``1 h 34 min``."""
    parts = []
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, seconds = divmod(seconds, length)
        parts.append((number, unit))
    first = next((at for at, (number, _) in enumerate(parts) if number), len(parts) - 1)
    largest = parts[first : first + 2]
    # Seconds matter only where there is nothing larger.
    return " ".join(
        f"{number} {unit}" for at, (number, unit) in enumerate(largest) if at == 0 or (number and unit != "s")
    )


def sentence(plan: TransferPlan) -> str:
    """Return the plan as one line."""
    whole = f"{human(plan.bytes)} in {count(plan.files, 'file')}"
    if plan.todo_files == 0:
        return f"Nothing to move: all of {whole} is at RDS by size and time."
    late = (
        ""
        if plan.in_time
        else f" This would end after {plan.deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC, when tape begins."
    )
    return (
        f"To move: {plan.todo_bytes:,} bytes ({human(plan.todo_bytes)}) in {count(plan.todo_files, 'file')}, of "
        f"{whole}; about {duration(plan.seconds)}.{late}"
    )


def table(plan: TransferPlan, site: Site) -> str:
    """Return the plan as a Markdown table for whoever is asked to approve it."""
    begins = plan.deadline.astimezone(ZoneInfo(site.time_zone))
    basis = "measured" if plan.rate_measured else "assumed, as nothing was measured yet"
    takes = f"{duration(plan.seconds)} at {human(plan.rate)}/s ({basis}), {count(plan.streams, 'stream')}"
    todo = f"{human(plan.todo_bytes)} ({plan.todo_bytes:,} bytes) in {count(plan.todo_files, 'file')}"
    more = plan.exclude_count - len(plan.exclude)
    behind = [f"`{path}`" for path in plan.exclude] + ([f"and {more:,} more"] if more else [])
    rows = (
        ("To move", todo if plan.todo_files else "nothing"),
        ("All of the beamtime", f"{human(plan.bytes)} in {count(plan.files, 'file')}"),
        ("Free on RDS", "unknown" if plan.bytes_free is None else human(plan.bytes_free)),
        ("Takes about", takes if plan.todo_files else "no time"),
        ("Tape", f"from {begins:%A %d %B %Y, %H:%M %Z} on"),
        ("In time", "yes" if plan.in_time else "**no: it would end after the data went to tape**"),
        ("Stays behind", ", ".join(behind) or "nothing"),
    )
    return "| | |\n|---|---|\n" + "\n".join(f"| {name} | {value} |" for name, value in rows)
