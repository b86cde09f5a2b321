"""From two censuses to a verdict: which files agree, at which level, and what differs."""

from __future__ import annotations

import json
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

# How many differences of each kind are kept by name, and how many bytes of JSON they may take; all are counted.
# The verdict goes by way of a file on RDS-SSH, of which 256 KiB are read back.
KEPT = 200
KEPT_BYTES = 24 * 1024
# The asset state takes a few kilobytes; the certificate beside the data names more.
KEPT_IN_STATE = 3
PATH_BYTES_IN_STATE = 400
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
    TIME = "of another time at RDS"
    CONTENT = "of the same size but other content at RDS"
    CHANGING = "changed at the source while the transfer ran"
    SPECIAL = "neither file, folder nor link, so it is not fetched"
    EXTRA = "at RDS only"


# What is at RDS only was removed from the source, or put there by a person: nothing is lost by it. Sockets, pipes
# and devices hold no data, and rsync passes them over.
_HARMLESS = {Difference.EXTRA, Difference.SPECIAL}


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
        few = tuple(
            item.model_copy(update={"path": _shortened(item.path, PATH_BYTES_IN_STATE)})
            for item in self.named[:KEPT_IN_STATE]
        )
        return self.model_copy(update={"named": few})


class _Tally:
    """Counts all differences and keeps some of each kind by name, however long the names are."""

    def __init__(self) -> None:
        self.counts: Counter[Difference] = Counter()
        self._kept: dict[Difference, list[Named]] = {kind: [] for kind in Difference}
        self._room = dict.fromkeys(Difference, KEPT_BYTES)

    def note(self, kind: Difference, path: str) -> None:
        self.counts[kind] += 1
        if len(self._kept[kind]) == KEPT or not self._room[kind]:
            return
        named = Named(kind=kind, path=safe(path))
        size = len(named.model_dump_json().encode()) + 1
        if size <= self._room[kind]:
            self._kept[kind].append(named)
            self._room[kind] -= size
        else:
            self._room[kind] = 0

    @property
    def found(self) -> dict[Difference, int]:
        return {kind: self.counts[kind] for kind in Difference if self.counts[kind]}

    @property
    def named(self) -> tuple[Named, ...]:
        return tuple(item for kind in Difference for item in self._kept[kind])


def safe(path: str) -> str:
    """Return a file's name as text that can be shown: what is not printable is escaped, and so is its mark."""
    shown = path.replace("\\", "\\\\")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in shown
    )


def _shortened(text: str, limit: int) -> str:
    """Return as much of a text as takes at most ``limit`` bytes of JSON in ASCII, with a mark where it is cut."""
    if len(json.dumps(text)) <= limit:
        return text
    kept, left = "", limit - len(json.dumps("…"))
    for character in text:
        left -= len(json.dumps(character)) - len('""')
        if left < 0:
            break
        kept += character
    return kept + "…"


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
        only_source: entries of the source's census that the destination's does not hold, sorted by path as ``LC_ALL=C sort`` does.
        only_destination: the other way round.
        mismatches: paths of files whose content differs, sorted in the same way.
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
    tally = _Tally()
    since = None if transfer_began is None else int(transfer_began.timestamp()) - CLOCK_SKEW_SECONDS
    contents = iter(mismatches)
    content = next(contents, None)
    for here, there in _pairs(only_source, only_destination):
        path = (here or there).path  # type: ignore[union-attr]
        while content is not None and _order(content) < _order(path):
            tally.note(Difference.CONTENT, content)
            content = next(contents, None)
        kind = _difference(here, there, since, modify_window)
        if content == path:
            # One file, one difference: a file that is being written has other content because of that.
            kind = kind if kind is Difference.CHANGING else Difference.CONTENT
            content = next(contents, None)
        if kind is not None:
            tally.note(kind, path)
    while content is not None:
        tally.note(Difference.CONTENT, content)
        content = next(contents, None)

    found = tally.found
    if partial_files or found.keys() - _HARMLESS - {Difference.CHANGING}:
        outcome = Outcome.DIFFERENT
    elif Difference.CHANGING in found:
        outcome = Outcome.CHANGING
    else:
        outcome = Outcome.VERIFIED
    return Verdict(
        outcome=outcome,
        level=level,
        source=source,
        destination=destination,
        counts=found,
        named=tally.named,
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
        if there is None or (here is not None and _order(here.path) < _order(there.path)):
            yield here, None
            here = next(sources, None)
        elif here is None or _order(there.path) < _order(here.path):
            yield None, there
            there = next(destinations, None)
        else:
            yield here, there
            here, there = next(sources, None), next(destinations, None)


def _order(path: str) -> bytes:
    """Return what a census is sorted by: its records begin with the path and two slashes."""
    return path.encode("utf-8", "surrogateescape") + b"//"


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
        return Difference.SPECIAL if here.kind is Kind.OTHER else Difference.MISSING
    checks = (
        (Difference.TYPE, here.kind is not there.kind),
        (Difference.SIZE, here.size != there.size),
        (Difference.TARGET, here.target != there.target),
    )
    return next((kind for kind, differs in checks if differs), Difference.TIME)


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
    listed = "; ".join(f"{count:,} {kind}" for kind, count in counts.items() if kind not in _HARMLESS)
    if partial_files:
        listed = "; ".join(filter(None, (listed, f"{partial_files:,} unfinished at RDS")))
    if outcome is Outcome.CHANGING:
        return f"The source is still changing: of {total}, {listed}. The next run brings the changes."
    return f"The copy is not complete: of {total}, {listed}."
