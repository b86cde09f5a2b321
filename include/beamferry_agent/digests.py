"""The hashes of chosen files, read at both ends in parallel streams.

A list of chosen files has records PATH//f//SIZE in order. It is cut into shards of about equal work; each end writes
the hashes of a shard to a file, a line for each record in its order, ``-`` for a file that could not be read.
"""

import re
from itertools import islice
from typing import Iterable, Iterator, List, NamedTuple, Optional

from beamferry_agent.copy_reading import OTHER, CopyReader
from beamferry_agent.digest_script import digest_script
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.facility_shell import SAY_MARK, FacilityShell
from beamferry_agent.places import ForeignError
from beamferry_agent.reading_words import complaint
from beamferry_agent.records import decode_name, read_names, size_of
from beamferry_agent.ticker import STALL_BYTES
from beamferry_agent.tools import Tools

# Opening a small file costs about as much as reading this much.
_OPENING = 64 * 1024
_UNREAD = b"-"
# "HASH  -", as the file came through a descriptor; anything else is not from sha256sum.
_LINE = re.compile(rb"([0-9a-f]{64})(?:[ \t]|\Z)")
_LONGEST_LINE = 200
# What a stream of a digest ends with where it could not read a file.
SOME_UNREAD = 1


class Chosen(NamedTuple):
    """What a list holds: files, their bytes, and the size of the largest one."""

    files: int
    bytes: int
    largest: int


class Shard(NamedTuple):
    """A part of a list: where it begins in the file, and how many files it has."""

    begin: int
    files: int


def led_away(streams: Iterable["Stream"]) -> Optional[ForeignError]:
    """Return the error of files here that something else stands in the place of, None where there is none."""
    for stream in streams:
        if stream.led_away is not None:
            return ForeignError("{}: {}".format(decode_name(stream.led_away), OTHER))
    return None


def chosen_in(path: str) -> Chosen:
    """Return what a list holds. Raises DamagedListsError."""
    files = total = largest = 0
    with open(path, "rb") as file:
        for record in read_names(file):
            size = size_of(record)[1]
            files, total, largest = files + 1, total + size, max(largest, size)
    return Chosen(files, total, largest)


def cut(path: str, chosen: Chosen, streams: int) -> List[Shard]:
    """Cut a list into at most so many parts."""
    target = (chosen.bytes + chosen.files * _OPENING) / streams
    shards: List[Shard] = []
    begin = files = at = work = 0
    with open(path, "rb") as file:
        for record in read_names(file):
            if files and work >= target * (len(shards) + 1) and len(shards) + 1 < streams:
                shards.append(Shard(begin, files))
                begin, files = at, 0
            files, at = files + 1, at + len(record) + 1
            work += size_of(record)[1] + _OPENING
    if files:
        shards.append(Shard(begin, files))
    return shards


def records_of(path: str, shard: Shard) -> Iterator[bytes]:
    """Yield the records of a shard of a list."""
    with open(path, "rb") as file:
        file.seek(shard.begin)
        yield from islice(read_names(file), shard.files)


def sums_of(path: str) -> Iterator[Optional[bytes]]:
    """Yield the hashes of a file of such lines, None for a file that could not be read."""
    with open(path, "rb") as lines:
        for line in lines:
            found = line[:-1]
            yield None if found == _UNREAD else found


class Stream:
    """One end's reading of one shard; ``files`` and ``bytes`` are those read so far.

    ``place``: the beginning of names for the files ``.sums`` and ``.errors``.
    """

    def __init__(self, path: str, shard: Shard, place: str) -> None:
        """Take the list, the shard and the place."""
        self._path, self._shard, self._place = path, shard, place
        self.files = self.bytes = self.cached = 0
        # The first file here that something else stands in the place of.
        self.led_away: Optional[bytes] = None

    def sums(self) -> Iterator[Optional[bytes]]:
        """Yield the hash of each file, None for one that could not be read."""
        return sums_of(self._place + ".sums")

    @property
    def complaints(self) -> str:
        """File with what was complained of."""
        return self._place + ".errors"

    def at_facility(self, tools: Tools, shell: FacilityShell, folder: bytes) -> int:
        """Have the facility read the files; return the script's exit code. Raises DamagedListsError."""
        records = records_of(self._path, self._shard)
        with open(self._place + ".sums", "wb") as sums:
            with shell.ask(self._script(folder), self.complaints, None) as answer:
                for line in answer.lines(_LONGEST_LINE):
                    found, record = _LINE.match(line), next(records, None)
                    if record is None or (found is None and line != _UNREAD):
                        raise DamagedListsError("what the facility says is no answer of sha256sum")
                    sums.write((found.group(1) if found else _UNREAD) + b"\n")
                    self.files += 1
                    self.bytes += size_of(record)[1]
                    # Each stands for a file that was read there.
                    tools.moved(STALL_BYTES)
        return answer.code

    def _script(self, folder: bytes) -> Iterator[bytes]:
        yield SAY_MARK
        yield from digest_script(folder, records_of(self._path, self._shard))

    def here(self, tools: Tools, folder: int, *, from_storage: bool) -> int:
        """Read the files of the copy; return 0, or SOME_UNREAD. ``from_storage``: see ``CopyReader.read``."""

        def note(count: int) -> None:
            self.bytes += count
            tools.moved(count)

        code, reader = 0, CopyReader(folder, note)
        with open(self._place + ".sums", "wb") as sums, open(self.complaints, "wb") as complaints:
            for record in records_of(self._path, self._shard):
                path = size_of(record)[0]
                found = reader.read(path, from_storage=from_storage)
                self.cached += found.is_cached
                if found.hash is None:
                    complaints.write(complaint(path, found.reason))
                    code = SOME_UNREAD
                    if found.is_other and self.led_away is None:
                        self.led_away = path
                sums.write((found.hash.encode("ascii") if found.hash else _UNREAD) + b"\n")
                self.files += 1
                tools.moved(STALL_BYTES)
        reader.close()
        return code
