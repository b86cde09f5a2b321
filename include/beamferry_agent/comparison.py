"""From the lists of differing entries to what differs: all is counted, a few are kept by name."""

import json
import os
from collections import Counter
from contextlib import ExitStack
from typing import IO, Dict, Iterable, Iterator, List
from typing import Counter as CounterOf

from beamferry_agent.answers import COUNTED, LISTS, Comparison, ComparisonRequest
from beamferry_agent.differences import COUNTED_AS, KINDS, Pairs, Rules, differences
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.records import Entry, decode_name, read_names, read_records


def answer(text: str) -> str:
    """Answer a ComparisonRequest. Raises DamagedListsError."""
    return compare_lists(ComparisonRequest.from_json(text)).to_json()


def compare_lists(request: ComparisonRequest) -> Comparison:
    """Return what the lists in the request's folder say.

    Raises DamagedListsError when a list cannot be read, was cut short, or does not explain what was counted.
    """
    try:
        with ExitStack() as opened:
            here, there, *flagged, closed = (
                opened.enter_context(open(os.path.join(request.folder, name), "rb")) for name in LISTS
            )
            paths = [_paths(stream) for stream in flagged]
            return compare(
                read_records(here), read_records(there), paths, request, closed=read_records(closed)
            )
    except OSError as error:
        raise DamagedListsError("a list of differences cannot be read: {}".format(error.strerror or error))


def _paths(stream: IO[bytes]) -> Iterator[str]:
    return (decode_name(name.split(b"//", 1)[0]) for name in read_names(stream))


def compare(
    only_source: Iterable[Entry],
    only_destination: Iterable[Entry],
    flagged: Iterable[Iterable[str]],
    request: ComparisonRequest,
    *,
    closed: Iterable[Entry] = (),
) -> Comparison:
    """Return what differs, reading each difference once and keeping only a few.

    ``flagged``: the lists of paths, in the order of ``LISTS``; ``closed``: what the group cannot read. Raises
    DamagedListsError as ``compare_lists`` does.
    """
    pairs = Pairs(only_source, only_destination, flagged, closed)
    counted: CounterOf[str] = Counter()
    named: Dict[str, List[str]] = {}
    room = dict.fromkeys(KINDS, request.kept_bytes)
    rules = Rules(request.changing_since, request.modify_window, request.keeps_links)
    entries: Dict[str, CounterOf[str]] = {}
    for kind, path, entry in differences(pairs, rules):
        counted[kind] += 1
        entries.setdefault(kind, Counter())[COUNTED_AS[entry]] += 1
        if counted[kind] <= request.kept and room[kind] > 0:
            room[kind] -= len(json.dumps(path))
            # One that does not fit ends the list, so that what is named is always the first of its kind.
            if room[kind] >= 0:
                named.setdefault(kind, []).append(path)
    _refuse_damaged(pairs, request)
    found = {kind: dict(of_kind) for kind, of_kind in entries.items()}
    return Comparison(dict(counted), found, named, pairs.incomparable_bytes)


def _refuse_damaged(pairs: Pairs, request: ComparisonRequest) -> None:
    """Refuse lists that were cut short where an entry ends: they would look like fewer differences."""
    if pairs.lengths != list(request.lengths):
        raise DamagedListsError(
            "a list of differences was cut short (lengths {} instead of {})".format(
                pairs.lengths, list(request.lengths)
            )
        )
    for field in COUNTED:
        expected = request.source[field] - request.destination[field]
        if pairs.difference(field) != expected:
            raise DamagedListsError(
                "the lists of differences do not explain what was counted ({}: {:,} more at the source)".format(
                    field, expected
                )
            )
