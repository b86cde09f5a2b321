"""What differs between two censuses, found in one pass over the lists of differing entries."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import TYPE_CHECKING

from beamferry.census import Entry, Kind
from beamferry.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SOURCE, _DESTINATION, _MISMATCH = range(3)
_FIELDS = {Kind.FILE: "files", Kind.FOLDER: "folders", Kind.LINK: "links", Kind.OTHER: "others"}


class Difference(StrEnum):
    """How an entry at the source and its copy differ, the most alarming first."""

    CONTENT = "content"
    MISSING = "missing"
    SIZE = "size"
    KIND = "kind"
    TARGET = "target"
    TIME = "time"
    CHANGING = "changing"
    UNCOPIED = "uncopied"
    EXTRA = "extra"

    @property
    def words(self) -> str:
        """What to say after a number or a name."""
        return _WORDS[self]


_WORDS = {
    Difference.CONTENT: "of the same size and time, but of other content at RDS",
    Difference.MISSING: "missing at RDS",
    Difference.SIZE: "of another size at RDS",
    Difference.KIND: "of another kind at RDS",
    Difference.TARGET: "linked to something else at RDS",
    Difference.TIME: "rewritten: the same size, but another time of change",
    Difference.CHANGING: "changed at the source since the transfer began",
    Difference.UNCOPIED: "of a kind that RDS does not keep",
    Difference.EXTRA: "at RDS only, left as it is",
}


@dataclass(frozen=True)
class Rules:
    """What counts as a difference.

    Args:
        changing_since: files of the source changed at this time or later are changing, seconds since the epoch;
            None when there was no transfer.
        modify_window: seconds by which times may differ on the destination's file system.
        keeps_links: whether that file system has links.
    """

    changing_since: int | None
    modify_window: int
    keeps_links: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """What the lists hold of one path: the entry of either end that differs, and whether contents do."""

    path: str
    here: Entry | None
    there: Entry | None
    mismatch: bool


class Pairs:
    """The three lists, merged by path as they are read; one item of each is held at a time.

    Args:
        only_source: entries of the source's census that the destination's does not hold, sorted as there.
        only_destination: the other way round.
        mismatches: paths of files whose content differs, sorted as in a census.
    """

    def __init__(
        self, only_source: Iterable[Entry], only_destination: Iterable[Entry], mismatches: Iterable[str]
    ) -> None:
        """Read nothing yet."""
        self._merged = heapq.merge(
            self._entries(_SOURCE, only_source),
            self._entries(_DESTINATION, only_destination),
            self._paths(mismatches),
            key=itemgetter(0, 1),
        )
        # What was read so far: length of each list, and the sums of each end's entries.
        self.lengths = [0, 0, 0]
        self._sums: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        # Bytes of the source's files that have no file of their size at the destination.
        self.incomparable_bytes = 0

    def __iter__(self) -> Iterator[Pair]:
        """Yield what is known of each path, once.

        Raises:
            TransientError: a list is not sorted.
        """
        for key, group in groupby(self._merged, key=itemgetter(0)):
            items = list(group)
            path = key.removesuffix(b"//").decode("utf-8", "surrogateescape")
            mismatch = any(end == _MISMATCH for _, end, _ in items)
            ends = ([entry for _, at, entry in items if at == end] for end in (_SOURCE, _DESTINATION))
            # A folder that is written to while it is listed can show a name twice; the second is a pair of its own.
            for here, there in tuple(zip_longest(*ends)) or ((None, None),):
                if here is not None and (there is None or (here.kind, here.size) != (there.kind, there.size)):
                    self.incomparable_bytes += here.size
                yield Pair(path, here, there, mismatch)

    def difference(self, field: str) -> int:
        """Return how much more the source's entries sum up to than the destination's, of all that was read.

        Args:
            field: files, bytes, folders, links or others.
        """
        return self._sums[_SOURCE][field] - self._sums[_DESTINATION][field]

    def _entries(self, end: int, entries: Iterable[Entry]) -> Iterator[tuple[bytes, int, Entry | None]]:
        last = b""
        for entry in entries:
            last = self._next(end, entry.path, last)
            self._sums[end][_FIELDS[entry.kind]] += 1
            self._sums[end]["bytes"] += entry.size
            yield last, end, entry

    def _paths(self, paths: Iterable[str]) -> Iterator[tuple[bytes, int, Entry | None]]:
        last = b""
        for path in paths:
            last = self._next(_MISMATCH, path, last)
            yield last, _MISMATCH, None

    def _next(self, which: int, path: str, last: bytes) -> bytes:
        # What a census is sorted by: its records begin with the path and two slashes.
        key = path.encode("utf-8", "surrogateescape") + b"//"
        if key < last:
            raise damaged("is not sorted")
        self.lengths[which] += 1
        return key


def damaged(reason: str) -> TransientError:
    """Return the error of lists that cannot be what was found: nothing is concluded from them."""
    return TransientError(
        "differences-damaged",
        f"What was compared cannot be read in whole: a list of differences {reason}",
        "this is tried again; if it stays, start a run in mode 'verify only'",
    )


def differences(pairs: Iterable[Pair], rules: Rules) -> Iterator[tuple[Difference, str]]:
    """Yield each difference with its path; memory grows with the depth of folders only.

    A census gives folders no time, so one that is missing is changing when something in it is: a folder made
    after the transfer began.
    """
    missing: list[str] = []
    changing = ""
    for pair in pairs:
        kind = _difference(pair, rules)
        if kind is None:
            continue
        while missing and not pair.path.startswith(missing[-1]):
            yield Difference.MISSING, missing.pop().removesuffix("/")
        if kind is Difference.CHANGING:
            changing = pair.path
            while missing:
                yield Difference.CHANGING, missing.pop().removesuffix("/")
        elif kind is Difference.MISSING and pair.here is not None and pair.here.kind is Kind.FOLDER:
            # What is in a folder stands around it in a census: names that begin with - or . before it.
            if not changing.startswith(f"{pair.path}/"):
                missing.append(f"{pair.path}/")
                continue
            kind = Difference.CHANGING
        yield kind, pair.path
    for path in missing:
        yield Difference.MISSING, path.removesuffix("/")


def _difference(pair: Pair, rules: Rules) -> Difference | None:
    here, there = pair.here, pair.there
    if here is None:
        # Without an entry of either end the censuses agree, and only the content does not.
        return Difference.CONTENT if there is None else Difference.EXTRA
    kind = _of_entries(here, there, rules)
    # Whatever differs in a listing explains another content, except a time within the window.
    return Difference.CONTENT if kind is None and pair.mismatch else kind


def _of_entries(here: Entry, there: Entry | None, rules: Rules) -> Difference | None:
    if there is not None and _alike(here, there, rules.modify_window):
        return None
    since = rules.changing_since
    if since is not None and here.kind is Kind.FILE and here.modified >= since:
        return Difference.CHANGING
    if there is None:
        kept = here.kind is not Kind.OTHER and (here.kind is not Kind.LINK or rules.keeps_links)
        return Difference.MISSING if kept else Difference.UNCOPIED
    if here.kind is not there.kind:
        return Difference.KIND
    if here.size != there.size:
        return Difference.SIZE
    return Difference.TARGET if here.target != there.target else Difference.TIME


def _alike(here: Entry, there: Entry, modify_window: int) -> bool:
    same = (here.kind, here.size, here.target) == (there.kind, there.size, there.target)
    return same and abs(here.modified - there.modified) <= modify_window
