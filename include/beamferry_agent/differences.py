"""What differs between two censuses, found in one pass over the lists of differing entries."""

import heapq
from collections import Counter
from itertools import groupby, zip_longest
from operator import itemgetter
from typing import Counter as CounterOf
from typing import FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Tuple

from beamferry_agent.answers import LISTS
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.marks import MARKS
from beamferry_agent.records import FILE, FOLDER, LINK, OTHER, Entry, encode_name

# The lists, in the order of answers.LISTS; three of them hold paths.
_SOURCE, _DESTINATION, _MISMATCH, _UNSTABLE, _UNRESOLVED, _CLOSED = range(len(LISTS))
# What an entry is counted as, by its kind in a census; see ``answers.COUNTED``.
COUNTED_AS = {FILE: "files", FOLDER: "folders", LINK: "links", OTHER: "others"}

# How an entry at the source and its copy differ, the most alarming first.
CONTENT, UNSTABLE, UNRESOLVED = "content", "unstable", "unresolved"
MISSING, SIZE, KIND, TARGET = "missing", "size", "kind", "target"
TIME, CLOSED, CHANGING, UNCOPIED, EXTRA = "time", "closed", "changing", "uncopied", "extra"
KINDS = (CONTENT, UNSTABLE, UNRESOLVED, MISSING, SIZE, KIND, TARGET, TIME, CLOSED, CHANGING, UNCOPIED, EXTRA)

Rules = NamedTuple(
    "Rules", [("changing_since", Optional[int]), ("modify_window", int), ("keeps_links", bool)]
)
Rules.__doc__ = """What counts as a difference; see ``answers.ComparisonRequest``."""

Pair = NamedTuple(
    "Pair",
    [
        ("path", str),
        ("here", Optional[Entry]),
        ("there", Optional[Entry]),
        ("flags", FrozenSet[int]),
        ("closed", Optional[Entry]),
    ],
)
Pair.__doc__ = """What the lists hold of one path.

``here``, ``there``: the entry of either end that differs.
``flags``: which of the lists of paths have it.
``closed``: the entry of the destination if the group cannot read it.
"""

_Item = Tuple[bytes, int, Optional[Entry]]


class Pairs:
    """The lists, merged by path as they are read; one item of each is held at a time.

    ``only_source``: entries of the source's census that the destination's does not hold, sorted as there.
    ``only_destination``: the other way round.
    ``flagged``: the lists of paths, each sorted as in a census.
    ``closed``: entries that the group cannot read, sorted as in a census.
    """

    def __init__(
        self,
        only_source: Iterable[Entry],
        only_destination: Iterable[Entry],
        flagged: Iterable[Iterable[str]],
        closed: Iterable[Entry],
    ) -> None:
        """Read nothing yet."""
        self._merged = heapq.merge(
            self._entries(_SOURCE, only_source),
            self._entries(_DESTINATION, only_destination),
            *(self._paths(which, paths) for which, paths in enumerate(flagged, _MISMATCH)),
            self._closed(closed),
            key=itemgetter(0, 1),
        )
        # What was read so far: length of each list, and the sums of each end's entries.
        self.lengths = [0] * len(LISTS)
        self._sums: Tuple[CounterOf[str], CounterOf[str]] = (Counter(), Counter())
        # Bytes of the source's files that have no file of their size at the destination.
        self.incomparable_bytes = 0

    def __iter__(self) -> Iterator[Pair]:
        """Yield what is known of each path, once.

        Raises DamagedListsError when a list is not sorted.
        """
        for key, group in groupby(self._merged, key=itemgetter(0)):
            items = list(group)
            path = key[:-2].decode("utf-8", "surrogateescape")
            flags = frozenset(end for _, end, _ in items if _MISMATCH <= end < _CLOSED)
            closed = next((entry for _, end, entry in items if end == _CLOSED), None)
            ends = ([entry for _, at, entry in items if at == end] for end in (_SOURCE, _DESTINATION))
            # A folder that is written to while it is listed can show a name twice; the second is a pair of its own.
            for here, there in tuple(zip_longest(*ends)) or ((None, None),):
                if here is not None and (there is None or (here.kind, here.size) != (there.kind, there.size)):
                    self.incomparable_bytes += here.size
                yield Pair(path, here, there, flags, closed)

    def difference(self, field: str) -> int:
        """Return how much more the source's entries sum up to than the destination's, of all that was read."""
        return self._sums[_SOURCE][field] - self._sums[_DESTINATION][field]

    def _entries(self, end: int, entries: Iterable[Entry]) -> Iterator[_Item]:
        last = b""
        for entry in entries:
            last = self._next(end, entry.path, last)
            self._sums[end][COUNTED_AS[entry.kind]] += 1
            self._sums[end]["bytes"] += entry.size
            yield last, end, entry

    def _closed(self, entries: Iterable[Entry]) -> Iterator[_Item]:
        last = b""
        for entry in entries:
            last = self._next(_CLOSED, entry.path, last)
            yield last, _CLOSED, entry

    def _paths(self, which: int, paths: Iterable[str]) -> Iterator[_Item]:
        last = b""
        for path in paths:
            last = self._next(which, path, last)
            yield last, which, None

    def _next(self, which: int, path: str, last: bytes) -> bytes:
        # What a census is sorted by: its records begin with the path and two slashes.
        key = encode_name(path) + b"//"
        if key < last:
            raise DamagedListsError("a list of differences is not sorted")
        self.lengths[which] += 1
        return key


def differences(pairs: Iterable[Pair], rules: Rules) -> Iterator[Tuple[str, str, str]]:
    """Yield each difference: one of ``KINDS``, its path, and what kind of entry it is in a census.

    Memory grows with the depth of folders only. A census gives folders no time, so one that is missing is changing when
    something in it is: a folder made after the transfer began.
    """
    missing: List[str] = []
    changing = ""
    for pair in pairs:
        kind = _difference(pair, rules)
        if kind is None:
            continue
        while missing and not pair.path.startswith(missing[-1]):
            yield MISSING, missing.pop()[:-1], FOLDER
        if kind == CHANGING:
            changing = pair.path
            while missing:
                yield CHANGING, missing.pop()[:-1], FOLDER
        elif kind == MISSING and pair.here is not None and pair.here.kind == FOLDER:
            # What is in a folder stands around it in a census: names that begin with - or . before it.
            if not changing.startswith(pair.path + "/"):
                missing.append(pair.path + "/")
                continue
            kind = CHANGING
        entry = pair.here or pair.there or pair.closed
        # Where only a content is told of, it is a file's.
        yield kind, pair.path, FILE if entry is None else entry.kind
    for path in missing:
        yield MISSING, path[:-1], FOLDER


def _difference(pair: Pair, rules: Rules) -> Optional[str]:
    here, there = pair.here, pair.there
    if _UNRESOLVED in pair.flags:
        return UNRESOLVED
    content = UNSTABLE if _UNSTABLE in pair.flags else CONTENT
    if here is None:
        if there is not None:
            return EXTRA
        # Without an entry of either end the censuses agree, and only the content does not, or the copy is closed.
        return content if pair.flags else CLOSED
    kind = _of_entries(here, there, rules)
    if _MISMATCH not in pair.flags:
        return CLOSED if kind is None and pair.closed is not None else kind
    # Whatever differs in a listing explains another content, except a time within the window, or one that we set.
    marked = kind == TIME and there is not None and there.modified in MARKS
    return content if kind is None or marked else kind


def _of_entries(here: Entry, there: Optional[Entry], rules: Rules) -> Optional[str]:
    if there is not None and _alike(here, there, rules.modify_window):
        return None
    since = rules.changing_since
    if since is not None and here.kind == FILE and here.modified >= since:
        return CHANGING
    if there is None:
        kept = here.kind != OTHER and (here.kind != LINK or rules.keeps_links)
        return MISSING if kept else UNCOPIED
    if here.kind != there.kind:
        return KIND
    if here.size != there.size:
        return SIZE
    return TARGET if here.target != there.target else TIME


def _alike(here: Entry, there: Entry, modify_window: int) -> bool:
    same = (here.kind, here.size, here.target) == (there.kind, there.size, there.target)
    return same and abs(here.modified - there.modified) <= modify_window
