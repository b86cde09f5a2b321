"""Compares the content of chosen files: hashes of both ends side by side, and once more what differs at the source."""

import os
from typing import IO, Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

from beamferry_agent.both_censuses import Ends
from beamferry_agent.digests import SOME_UNREAD, Shard, Stream, chosen_in, cut, led_away, records_of, sums_of
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.places import ForeignError
from beamferry_agent.records import size_of
from beamferry_agent.step import Progress
from beamferry_agent.together import as_they_end, together
from beamferry_agent.tools import Tools


class Content:
    """The content of a list of chosen files, see ``digests.py``.

    ``out``: folder that gets ``sampled``, ``mismatches`` and ``unstable``, lists of paths in order. ``scratch``: folder
    for what is on its way.
    """

    def __init__(
        self, tools: Tools, ends: Ends, chosen: str, streams: int, *, out: str, scratch: str
    ) -> None:
        """Cut the list. Raises DamagedListsError."""
        self._tools, self._ends, self._list = tools, ends, chosen
        self._out, self._scratch = out, scratch
        self.chosen = chosen_in(chosen)
        self._shards = cut(chosen, self.chosen, streams)
        self._far = [
            self._stream("far.{}".format(number), shard) for number, shard in enumerate(self._shards)
        ]
        self._near = [
            self._stream("near.{}".format(number), shard) for number, shard in enumerate(self._shards)
        ]
        self._again: List[Stream] = []
        self.compared = self.mismatches = self.unstable = 0

    def _stream(self, name: str, shard: Shard) -> Stream:
        return Stream(self._list, shard, os.path.join(self._scratch, name))

    @property
    def progress(self) -> Progress:
        """How far both ends are, halved: each reads as much as the other."""
        streams = (*self._far, *self._near)
        done = (sum(stream.bytes for stream in streams) // 2, sum(stream.files for stream in streams) // 2)
        return Progress(done[0], self.chosen.bytes, done[1], self.chosen.files)

    @property
    def cached(self) -> int:
        """How many files may have come from this machine's memory."""
        return sum(stream.cached for stream in self._near)

    @property
    def led_away(self) -> Optional[ForeignError]:
        """What stands in the place of a file of the copy, where that is something else."""
        return led_away(self._near)

    @property
    def complaints(self) -> Tuple[Sequence[str], Sequence[str]]:
        """Files with what was complained of at the facility, and here."""
        return [one.complaints for one in (*self._far, *self._again)], [one.complaints for one in self._near]

    def read(self, check: Callable[[], None]) -> int:
        """Read the files at both ends; return 0, SOME_UNREAD, or what ended a stream, and with it this.

        ``check``: see ``together``. Raises DamagedListsError.
        """
        result = 0
        for _, code in as_they_end(check, [*map(self._at_facility, self._far), *map(self._here, self._near)]):
            if code not in (0, SOME_UNREAD):
                return code
            result = result or code
        return result

    def _at_facility(self, stream: Stream) -> Callable[[], int]:
        return lambda: stream.at_facility(self._tools, self._ends.shell, self._ends.folder)

    def _here(self, stream: Stream) -> Callable[[], int]:
        copy = self._ends.copy
        if copy is None:
            raise DamagedListsError("there is nothing to read at RDS")
        return lambda: stream.here(self._tools, copy, from_storage=True)

    def compare(self) -> None:
        """Compare the hashes; a file that an end could not read is left out. Raises DamagedListsError."""
        with self._output("sampled") as sampled, self._output("mismatches") as mismatches:
            with open(self._path("differ"), "wb") as differ, open(self._path("differ.sums"), "wb") as sums:
                for record, far, near in self._hashes():
                    if far is None or near is None:
                        continue
                    path = size_of(record)[0] + b"\0"
                    sampled.write(path)
                    self.compared += 1
                    if far != near:
                        mismatches.write(path)
                        self.mismatches += 1
                        differ.write(record + b"\0")
                        sums.write(far + b"\n")

    def read_again(self, check: Callable[[], None]) -> int:
        """Read once more at the source what differs; return as ``read`` does.

        Bytes that come out differently each time are no fault of RDS. What could not be read twice stays a plain
        difference. Raises DamagedListsError.
        """
        if not self.mismatches:
            return 0
        path, place = self._path("differ"), self._path("again")
        shard = Shard(0, self.mismatches)
        stream = Stream(path, shard, place)
        self._again.append(stream)
        (code,) = together(check, [self._at_facility(stream)])
        if code not in (0, SOME_UNREAD):
            return code
        first = sums_of(self._path("differ.sums"))
        with self._output("unstable") as unstable:
            for record, once, again in _side_by_side(records_of(path, shard), first, stream.sums()):
                if again is not None and again != once:
                    unstable.write(size_of(record)[0] + b"\0")
                    self.unstable += 1
        return code

    def _hashes(self) -> Iterator[Tuple[bytes, Optional[bytes], Optional[bytes]]]:
        for shard, far, near in zip(self._shards, self._far, self._near):
            yield from _side_by_side(records_of(self._list, shard), far.sums(), near.sums())

    def _output(self, name: str) -> IO[bytes]:
        return open(os.path.join(self._out, name), "wb")

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)


def _side_by_side(
    records: Iterable[bytes], first: Iterable[Optional[bytes]], second: Iterable[Optional[bytes]]
) -> Iterator[Tuple[bytes, Optional[bytes], Optional[bytes]]]:
    """Yield each record with its two hashes; one that has none was not answered. Raises DamagedListsError."""
    hashes = iter(first), iter(second)
    for record in records:
        found = [next(one, b"") for one in hashes]
        if b"" in found:
            raise DamagedListsError("a file of the list was not answered")
        yield record, found[0], found[1]
