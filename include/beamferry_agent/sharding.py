"""Cuts the to-do list of rsync into what one connection fetches at a time; nothing here touches a file."""

from typing import Iterable, Iterator, List, NamedTuple

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.records import unescape_name

_MIB = 1024 * 1024
# Making a small file on network storage takes about 5 ms: a file counts this much more than its size.
_FILE_COST = 64 * 1024
# A broken stream costs the pass over one shard's files, and rsync holds one shard's list.
_MOST_FILES, _MOST_BYTES = 10000, 8192 * _MIB
# Opening a connection takes 0.4 s at 15 ms and a tenth of a second of CPU at both ends, which is to be small against
# the 10 s that 128 MiB take at 13 MB/s.
_LEAST_BYTES, _FULL_BYTES = 16 * _MIB, 128 * _MIB
# Above this size a file always comes in ranges: a host that loses power costs at most this much of one file.
_ALWAYS_RANGES = 16 * 1024 * _MIB
# The facility is asked about each large file, which takes a few milliseconds.
_LEAST_LARGE = 32 * _MIB


class Todo(NamedTuple):
    """One file to fetch: its size in bytes, and its name below the source."""

    size: int
    name: bytes


class Unit(NamedTuple):
    """What one connection fetches: a shard, or one file that is worth fetching in ranges."""

    files: List[Todo]
    is_large: bool


def read_todo(lines: Iterable[bytes]) -> Iterator[Todo]:
    """Yield the files of a list with lines SIZE NAME, the names as rsync prints them.

    Raises DamagedListsError.
    """
    for line in lines:
        size, gap, name = line.rstrip(b"\n").partition(b" ")
        if not gap or not size.isdigit() or not name:
            raise DamagedListsError("the to-do list has a line that is none of its own: start with a dry run")
        yield Todo(int(size), unescape_name(name) if b"\\#" in name else name)


def large_from(least: int, streams: int, total: int) -> int:
    """Return the bytes from which a file is large: it comes in ranges, or alone where those are of no use.

    With many large files each stream has whole ones to fetch, and ranges would only cost the reading of each file once
    more: they pay where a file is more than an eighth of a stream's share. ``least``: bytes, 0 for our own choice.
    """
    return max(min(total // (streams * 8), _ALWAYS_RANGES), least or _LEAST_LARGE)


def cut(files: Iterable[Todo], *, streams: int, count: int, total: int, large: int) -> Iterator[Unit]:
    """Yield shards, and large files one by one.

    Shards shrink as the work runs out (guided self-scheduling), so the streams end together: each takes
    1/(1.5 x streams) of what is left. ``count`` and ``total``: files and bytes of the whole list; ``large``: bytes
    from which a file is large.
    """
    left = total + count * _FILE_COST
    least = min(max(left / (streams * 3), _LEAST_BYTES), _FULL_BYTES)
    target = 0.0
    held: List[Todo] = []
    weight = 0
    for file in files:
        cost = file.size + _FILE_COST
        left -= cost
        if file.size >= large:
            yield Unit([file], is_large=True)
            continue
        if held and (len(held) >= _MOST_FILES or weight >= target):
            yield Unit(held, is_large=False)
            held, weight = [], 0
        if not held:
            target = min(max(left / (streams * 1.5), least), _MOST_BYTES)
        held.append(file)
        weight += cost
    if held:
        yield Unit(held, is_large=False)
