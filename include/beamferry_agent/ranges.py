"""Large files in byte ranges, side by side, into rsync's own partial folder: what is there, and what is to come.

What is known of a file is kept in W/ranges/KEY, KEY being the hash of its name: first a line with the source's size and
time and the length of a range, then a line with the offset of each range that is there. KEY.name holds the name. When
all ranges are there rsync fetches the file with its partial as the basis: its checksums prove the whole file and mend
what differs, so nothing here has to be trusted.
"""

import hashlib
import os
import re
import stat
from contextlib import suppress
from typing import Iterator, NamedTuple, Optional, Set, Tuple

from beamferry_agent.destination import PARTIAL, remove_partial

_MIB = 1024 * 1024
# Ranges shorter than this spend more on the request than on the bytes.
_LEAST = 4 * _MIB
_HEADER = re.compile(rb"(?P<size>[0-9]+) (?P<modified>[0-9]+\.[0-9]+) (?P<length>[1-9][0-9]*)\n")
_FACTS = re.compile(
    rb"(?P<size>[0-9]{1,18}) (?P<modified>[0-9]+\.[0-9]+) (?P<blocks>[0-9]{1,18}) (?P<block>[0-9]{1,9})\Z"
)


class Version(NamedTuple):
    """A file at the source: its size in bytes, its time as the facility prints it, and whether most of it is holes."""

    size: int
    modified: bytes
    is_sparse: bool = False


def read_version(line: bytes) -> Optional[Version]:
    """Return what the facility says of a file; None where ranges of it cannot be had."""
    found = _FACTS.match(line)
    if found is None:
        return None
    size, blocks, block = (int(found.group(name)) for name in ("size", "blocks", "block"))
    return Version(size, found.group("modified"), blocks * block < size // 2)


class RangedFile:
    """A file that comes in ranges; ``offsets`` are those that are there, ``plain`` that rsync has to do all of it."""

    def __init__(self, folder: str, name: bytes, version: Version, length: int, offsets: Set[int]) -> None:
        """Take the folder of all that is known, the name, and what is known."""
        self._state = _state(folder, name)
        self.name, self.version, self.length, self.offsets = name, version, length, offsets
        self.plain = False

    @property
    def missing(self) -> Iterator[int]:
        """The offsets of what is still to come."""
        return (at for at in range(0, self.version.size, self.length) if at not in self.offsets)

    @property
    def bytes_there(self) -> int:
        """How much of it is there."""
        return sum(self.size_of(at) for at in self.offsets)

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there, as far as anybody knows."""
        return next(self.missing, None) is None

    def size_of(self, offset: int) -> int:
        """Return the bytes of the range that begins there."""
        return min(self.length, self.version.size - offset)

    def keep(self) -> None:
        """Write down all that is known."""
        with open(self._state + ".name", "wb") as file:
            file.write(self.name)
        new = self._state + ".new"
        with open(new, "wb") as file:
            file.write(b"%d %s %d\n" % (self.version.size, self.version.modified, self.length))
            file.writelines(b"%d\n" % at for at in sorted(self.offsets))
        os.replace(new, self._state)

    def add(self, offset: int) -> None:
        """Write down that one more is there."""
        self.offsets.add(offset)
        with open(self._state, "ab") as file:
            file.write(b"%d\n" % offset)

    def forget(self) -> None:
        """Remove what is known: the file is there."""
        for path in (self._state, self._state + ".name"):
            with suppress(FileNotFoundError):
                os.unlink(path)


def plan(
    folder: str, destination: str, name: bytes, version: Version, length: int, most: int
) -> Optional[RangedFile]:
    """Return how a file comes in ranges; None where plain rsync does it better.

    ``length`` and ``most``: bytes of a range where none is known yet, and at most. Raises PlaceError.
    """
    # What is at the destination is whole, or an older form of which rsync sends but the difference.
    if os.path.lexists(os.path.join(os.fsencode(destination), name)):
        return None
    header, offsets = _read(folder, name)
    there = _partial_size(destination, name)
    if there is None or (header is not None and header[0][:2] != version[:2]):
        # Another version of the file began here: its bytes are worth nothing.
        if os.path.lexists(_partial(destination, name)):
            remove_partial(destination, name)
        header, there = None, 0
    if header is not None:
        known = RangedFile(folder, name, version, header[1], offsets)
        known.offsets = {at for at in offsets if at < version.size and at % header[1] == 0}
        return known
    length = max(min(length // _MIB * _MIB, most), _LEAST)
    # A partial that rsync left when it was stopped is whole as far as it goes.
    begun = RangedFile(folder, name, version, length, {at * length for at in range(there // length)})
    begun.keep()
    return begun


def _read(folder: str, name: bytes) -> Tuple[Optional[Tuple[Version, int]], Set[int]]:
    """Return what was written down of a file, None where nothing was or it cannot be read, and its offsets."""
    try:
        with open(_state(folder, name), "rb") as file:
            content = file.read()
    except FileNotFoundError:
        return None, set()
    found = _HEADER.match(content)
    if found is None:
        # No version of any file: what began there is begun anew.
        return (Version(-1, b""), 1), set()
    version = Version(int(found.group("size")), found.group("modified"))
    # A last line that was cut short may name another range.
    lines = content[found.end() : content.rfind(b"\n") + 1].split(b"\n")
    return (version, int(found.group("length"))), {int(line) for line in lines if line.isdigit()}


def _partial_size(destination: str, name: bytes) -> Optional[int]:
    """Return the size of a file's partial; None where what has its name is no file, or nothing is there."""
    try:
        found = os.lstat(_partial(destination, name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _partial(destination: str, name: bytes) -> bytes:
    above, file = os.path.split(os.path.join(os.fsencode(destination), name))
    return os.path.join(above, PARTIAL.encode(), file)


def _state(folder: str, name: bytes) -> str:
    return os.path.join(folder, hashlib.sha256(name).hexdigest())
