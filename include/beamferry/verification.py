"""From two censuses to a verdict: which files agree, at which level, and what differs."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen, Level
from beamferry.census import Entry, Kind
from beamferry.plan import human

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

# How many differences of each kind are kept by name; all are counted.
KEPT = 200
# The asset state takes a few kilobytes; the certificate beside the data names more.
KEPT_IN_STATE = 3
# Clocks of the two ends may differ this much before a change made during the transfer is taken for an old one.
CLOCK_SKEW_SECONDS = 120


class Outcome(StrEnum):
    """What a comparison came to."""

    VERIFIED = "verified"
    CHANGING = "changing"
    DIFFERENT = "different"


class Difference(StrEnum):
    """How an entry at the source and its copy differ."""

    MISSING = "missing at RDS"
    TYPE = "of another type at RDS"
    SIZE = "of another size at RDS"
    TARGET = "a link to somewhere else at RDS"
    TIME = "changed at the source since it was copied"
    CONTENT = "of the same size but other content at RDS"
    CHANGING = "changed at the source while the transfer ran"
    EXTRA = "at RDS only"


# What is at RDS only was removed from the source, or put there by a person: nothing is lost by it.
_HARMLESS = {Difference.EXTRA, Difference.CHANGING}


class Ends(Frozen):
    """What was counted at one end; ``oldest`` is the earliest time of a file, seconds since the epoch."""

    files: int
    bytes: int
    folders: int
    links: int
    others: int
    oldest: int


class Named(Frozen):
    """One difference by name; the name is safe to show, whatever it holds."""

    kind: Difference
    path: str


class Verdict(Frozen):
    """What is known after both ends were compared.

    Args:
        outcome: verified, changing (compare again when the source is at rest) or different.
        level: how thoroughly; a level includes those before it.
        source: what the source holds, excludes left out.
        destination: what RDS holds.
        counts: how many entries differ, by kind.
        named: the first of them.
        sampled_files: files compared byte by byte.
        sampled_bytes: their size.
        partial_files: unfinished files that a transfer left at RDS.
        checked_at: when the comparison began.
        sentence: all of this in plain words.
    """

    schema_version: Literal[1] = 1
    outcome: Outcome
    level: Level
    source: Ends
    destination: Ends
    counts: dict[Difference, int]
    named: tuple[Named, ...]
    sampled_files: int
    sampled_bytes: int
    partial_files: int
    checked_at: AwareDatetime
    sentence: str

    def for_state(self) -> Verdict:
        """Return the verdict with few enough differences by name for the asset state."""
        few = tuple(item.model_copy(update={"path": item.path[:200]}) for item in self.named[:KEPT_IN_STATE])
        return self.model_copy(update={"named": few})


def safe(path: str) -> str:
    """Return a file's name as text that can be shown: what is not printable is escaped, and so is its mark."""
    shown = path.replace("\\", "\\\\")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in shown
    )


def compare(
    only_source: Iterable[Entry],
    only_destination: Iterable[Entry],
    mismatches: Iterable[str],
    *,
    level: Level,
    source: Ends,
    destination: Ends,
    sampled_files: int,
    sampled_bytes: int,
    partial_files: int,
    transfer_began: datetime | None,
    modify_window: int,
    checked_at: datetime,
) -> Verdict:
    """Return the verdict on two censuses, reading each difference once and keeping only a few.

    Args:
        only_source: entries of the source's census that the destination's does not hold, sorted by path.
        only_destination: the other way round.
        mismatches: paths of files whose content differs.
        level: how thoroughly both ends were compared.
        source: what was counted at the source.
        destination: what was counted at RDS.
        sampled_files: files compared byte by byte.
        sampled_bytes: their size.
        partial_files: unfinished files at RDS.
        transfer_began: when the dry run before the transfer was made, None if this run had none.
        modify_window: seconds by which times may differ on the destination's file system.
        checked_at: when the comparison began.
    """
    counts: Counter[Difference] = Counter()
    kept: dict[Difference, list[Named]] = {kind: [] for kind in Difference}

    def note(kind: Difference, path: str) -> None:
        counts[kind] += 1
        if len(kept[kind]) < KEPT:
            kept[kind].append(Named(kind=kind, path=safe(path)))

    since = None if transfer_began is None else int(transfer_began.timestamp()) - CLOCK_SKEW_SECONDS
    for here, there in _pairs(only_source, only_destination):
        kind = _difference(here, there, since, modify_window)
        if kind is not None:
            note(kind, (here or there).path)  # type: ignore[union-attr]
    for path in mismatches:
        note(Difference.CONTENT, path)

    if partial_files or any(count for kind, count in counts.items() if kind not in _HARMLESS):
        outcome = Outcome.DIFFERENT
    elif counts[Difference.CHANGING]:
        outcome = Outcome.CHANGING
    else:
        outcome = Outcome.VERIFIED
    found = {kind: counts[kind] for kind in Difference if counts[kind]}
    return Verdict(
        outcome=outcome,
        level=level,
        source=source,
        destination=destination,
        counts=found,
        named=tuple(item for kind in Difference for item in kept[kind]),
        sampled_files=sampled_files,
        sampled_bytes=sampled_bytes,
        partial_files=partial_files,
        checked_at=checked_at,
        sentence=_sentence(outcome, level, source, found, sampled_files, partial_files),
    )


def _pairs(
    only_source: Iterable[Entry], only_destination: Iterable[Entry]
) -> Iterator[tuple[Entry | None, Entry | None]]:
    """Merge two sorted streams by path, one entry of each in memory."""
    sources, destinations = iter(only_source), iter(only_destination)
    here, there = next(sources, None), next(destinations, None)
    while here is not None or there is not None:
        if there is None or (here is not None and _order(here) < _order(there)):
            yield here, None
            here = next(sources, None)
        elif here is None or _order(there) < _order(here):
            yield None, there
            there = next(destinations, None)
        else:
            yield here, there
            here, there = next(sources, None), next(destinations, None)


def _order(entry: Entry) -> bytes:
    """Return what a census is sorted by: its records begin with the path and two slashes."""
    return entry.path.encode("utf-8", "surrogateescape") + b"//"


def _difference(
    here: Entry | None, there: Entry | None, since: int | None, modify_window: int
) -> Difference | None:
    if here is None:
        return Difference.EXTRA
    if there is not None and _alike(here, there, modify_window):
        return None
    if since is not None and here.kind is Kind.FILE and here.modified >= since:
        return Difference.CHANGING
    if there is None:
        return Difference.MISSING
    if here.kind is not there.kind:
        return Difference.TYPE
    if here.size != there.size:
        return Difference.SIZE
    return Difference.TARGET if here.target != there.target else Difference.TIME


def _alike(here: Entry, there: Entry, modify_window: int) -> bool:
    return ((here.kind, here.size, here.target) == (there.kind, there.size, there.target)) and abs(
        here.modified - there.modified
    ) <= modify_window


def words(level: Level, sampled_files: int) -> str:
    """Return what a level means, so that no text makes more of it than it is."""
    return {
        Level.LISTED: "listed at both ends, sizes not compared",
        Level.SIZES: "every file compared by path and size, no content read",
        Level.SAMPLED: f"every file compared by path and size, {sampled_files:,} of them byte by byte",
        Level.FULL: "the content of every file compared at both ends",
    }[level]


def _sentence(
    outcome: Outcome,
    level: Level,
    source: Ends,
    counts: dict[Difference, int],
    sampled_files: int,
    partial_files: int,
) -> str:
    total = f"{source.files:,} files ({human(source.bytes)})"
    if outcome is Outcome.VERIFIED:
        return f"All {total} are at RDS: {words(level, sampled_files)}."
    listed = "; ".join(f"{count:,} {kind}" for kind, count in counts.items() if kind is not Difference.EXTRA)
    if partial_files:
        listed = "; ".join(filter(None, (listed, f"{partial_files:,} unfinished at RDS")))
    if outcome is Outcome.CHANGING:
        return f"The source is still changing: of {total}, {listed}. The next run brings the changes."
    return f"The copy is not complete: of {total}, {listed}."
