"""Records of a census, as both ends list what they hold, read one at a time."""

import re
from typing import IO, Iterator, NamedTuple, Tuple

from beamferry_agent.errors import DamagedListsError

# A path has at most 4096 bytes, and so has what a link holds; the rest is numbers.
_RECORD_LIMIT = 16 * 1024
_CHUNK = 64 * 1024
# What rsync prints in the place of a byte; it does so with a backslash as well where that would look like it.
_ESCAPED = re.compile(rb"\\#([0-7]{3})")
# PATH//TYPE//SIZE//MTIME//LINKTARGET: no path holds '//', and the link's target, which may, comes last.
_SEPARATOR = b"//"

# What an entry is, by the letter it has in a census.
FILE, FOLDER, LINK, OTHER = "f", "d", "l", "o"

Entry = NamedTuple("Entry", [("path", str), ("kind", str), ("size", int), ("modified", int), ("target", str)])
Entry.__doc__ = """One entry of a census.

``path``: below the folder that was listed; bytes that are not UTF-8 stand as lone surrogates.
``kind``: FILE, FOLDER, LINK or OTHER.
``size``: bytes of a file, 0 of all others.
``modified``: time of a file's last change, whole seconds since the epoch, 0 for all others.
``target``: what a link holds, else ''.
"""


def read_records(stream: IO[bytes]) -> Iterator[Entry]:
    """Yield the entries of a census, or of a difference of two, holding one record at a time.

    Raises DamagedListsError when a record cannot be read, or the last one is cut short.
    """
    for record in read_names(stream):
        yield _entry(record)


def read_names(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the items of a NUL-terminated list, e.g. of ``mismatches``, one at a time.

    Raises DamagedListsError when the last item is cut short, or one is longer than any path can be.
    """
    rest = b""
    while True:
        chunk = stream.read(_CHUNK)
        if not chunk:
            break
        items = (rest + chunk).split(b"\0")
        rest = items.pop()
        for item in items:
            yield item
        if len(rest) > _RECORD_LIMIT:
            raise DamagedListsError("an entry is longer than a path can be")
    if rest:
        raise DamagedListsError("a list ends in the middle of an entry")


def count_records(path: str) -> int:
    """Return how many items a NUL-terminated list has. Raises DamagedListsError."""
    with open(path, "rb") as file:
        return sum(1 for _ in read_names(file))


def size_of(record: bytes) -> Tuple[bytes, int]:
    """Return path and size of a record PATH//f//SIZE. Raises DamagedListsError."""
    try:
        path, _, size = record.split(_SEPARATOR)
        return path, int(size)
    except ValueError:
        raise _unreadable(record)


def unescape_name(name: bytes) -> bytes:
    """Return a name as it is of what rsync prints where LC_ALL is C: ``\\#ooo`` in the place of a byte."""
    return _ESCAPED.sub(_unescaped, name)


def _unescaped(match: "re.Match[bytes]") -> bytes:
    return bytes((int(match.group(1), 8) & 0xFF,))


def decode_name(name: bytes) -> str:
    """Return a name as text that ``encode('utf-8', 'surrogateescape')`` turns back into the same bytes."""
    return name.decode("utf-8", "surrogateescape")


def encode_name(name: str) -> bytes:
    """Return the bytes of a name that ``decode_name`` made a text."""
    return name.encode("utf-8", "surrogateescape")


def _entry(record: bytes) -> Entry:
    parts = record.split(_SEPARATOR, 4)
    try:
        path, kind, size, modified, target = parts
        entry = Entry(decode_name(path), kind.decode("ascii"), int(size), int(modified), decode_name(target))
    except ValueError:
        raise _unreadable(record)
    if not path or entry.size < 0 or entry.kind not in (FILE, FOLDER, LINK, OTHER):
        raise _unreadable(record)
    return entry


def _unreadable(record: bytes) -> DamagedListsError:
    return DamagedListsError("{!a} is not an entry".format(decode_name(record[:200])))
