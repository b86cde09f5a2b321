"""Compares the content of chosen files by hashes of both ends, and once more what differs at the source."""

import os
from typing import IO, Callable, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from beamferry_agent.digests import SOME_UNREAD, Shard, Stream, chosen_in, cut, led_away, records_of, sums_of
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.facility_shell import FacilityShell
from beamferry_agent.places import ForeignError
from beamferry_agent.reading_words import reading_code
from beamferry_agent.records import size_of
from beamferry_agent.step import Progress
from beamferry_agent.together import as_they_end, together
from beamferry_agent.tools import Tools


class Lists(NamedTuple):
    """Where lists lie: ``out`` is for those that stay, ``scratch`` for what is on its way."""

    out: str
    scratch: str


class Content:
    """The content of a list of chosen files, see ``digests.py``; how the source is read is another's.

    It leaves ``sampled``, ``mismatches`` and ``unstable``, lists of paths in order.

    ``compared``, ``compared_bytes``, ``mismatches``, ``unstable``: counts.
    """

    def __init__(self, tools: Tools, copy: int, chosen: str, streams: int, lists: Lists) -> None:
        """Cut the list; ``copy`` is the open folder here. Raises DamagedListsError."""
        self.tools, self.list, self.lists = tools, chosen, lists
        self._copy = copy
        self.chosen = chosen_in(chosen)
        self.shards = cut(chosen, self.chosen, streams)
        self.near = [self.stream("near", number) for number in range(len(self.shards))]
        self.compared = self.compared_bytes = self.mismatches = self.unstable = 0

    # --- what a way to the source does ------------------------------------------------------------------------

    def run(self, check: Callable[[], None]) -> int:
        """Read both ends and compare; return 0, 23 or 24 where it could be made, else why it could not.

        ``check``: see ``together``. Raises DamagedListsError, StepEnd.
        """
        raise NotImplementedError

    @property
    def progress(self) -> Progress:
        """How far it is."""
        raise NotImplementedError

    @property
    def complaints(self) -> Tuple[Sequence[str], Sequence[str]]:
        """Files with what was complained of at the facility, and here."""
        return (), [one.complaints for one in self.near]

    # --- what is the same -------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Return the path of a file for what is on its way."""
        return os.path.join(self.lists.scratch, name)

    def stream(self, end: str, number: int) -> Stream:
        """Return one end's reading of a shard."""
        return Stream(self.list, self.shards[number], self.path("{}.{}".format(end, number)))

    def reading_here(self) -> List[Callable[[], int]]:
        """Return what reads the copy, shard by shard."""
        return [self._here(stream) for stream in self.near]

    def _here(self, stream: Stream) -> Callable[[], int]:
        return lambda: stream.here(self.tools, self._copy, from_storage=True)

    @property
    def cached(self) -> int:
        """How many files may have come from this machine's memory."""
        return sum(stream.cached for stream in self.near)

    @property
    def led_away(self) -> Optional[ForeignError]:
        """What stands in the place of a file of the copy, where that is something else."""
        return led_away(self.near)

    def compare(self, far: Iterable[Optional[bytes]]) -> None:
        """Compare the hashes of the source, in the list's order; a file that an end could not read is left out.

        Leaves what differs in ``differ`` and its hashes in ``differ.sums``. Raises DamagedListsError.
        """
        with self._output("sampled") as sampled, self._output("mismatches") as mismatches:
            with open(self.path("differ"), "wb") as differ, open(self.path("differ.sums"), "wb") as sums:
                for record, there, here in side_by_side(self._records(), far, self._sums_here()):
                    if there is None or here is None:
                        continue
                    path, size = size_of(record)
                    sampled.write(path + b"\0")
                    self.compared, self.compared_bytes = self.compared + 1, self.compared_bytes + size
                    if there != here:
                        mismatches.write(path + b"\0")
                        self.mismatches += 1
                        differ.write(record + b"\0")
                        sums.write(there + b"\n")

    def compare_again(self, again: Iterable[Optional[bytes]]) -> None:
        """Take the hashes of what differs that the source gave once more: others are no fault of RDS.

        What could not be read twice stays a plain difference. Raises DamagedListsError.
        """
        differ = records_of(self.path("differ"), self.differing)
        with self._output("unstable") as unstable:
            for record, first, second in side_by_side(differ, sums_of(self.path("differ.sums")), again):
                if second is not None and second != first:
                    unstable.write(size_of(record)[0] + b"\0")
                    self.unstable += 1

    @property
    def differing(self) -> Shard:
        """All of what differs."""
        return Shard(0, self.mismatches)

    def _records(self) -> Iterator[bytes]:
        return records_of(self.list, Shard(0, self.chosen.files))

    def _sums_here(self) -> Iterator[Optional[bytes]]:
        for stream in self.near:
            yield from stream.sums()

    def _output(self, name: str) -> IO[bytes]:
        return open(os.path.join(self.lists.out, name), "wb")


class OverSsh(Content):
    """Content that the facility's sha256sum reads there, by its shell, below a folder."""

    def __init__(
        self,
        tools: Tools,
        source: Tuple[FacilityShell, bytes],
        copy: int,
        chosen: str,
        streams: int,
        lists: Lists,
    ) -> None:
        """Take both ends."""
        super().__init__(tools, copy, chosen, streams, lists)
        self._shell, self._folder = source
        self._far = [self.stream("far", number) for number in range(len(self.shards))]
        self._again: List[Stream] = []

    @property
    def progress(self) -> Progress:
        """How far both ends are, halved: each reads as much as the other."""
        streams = (*self._far, *self.near)
        done = (sum(stream.bytes for stream in streams) // 2, sum(stream.files for stream in streams) // 2)
        return Progress(done[0], self.chosen.bytes, done[1], self.chosen.files)

    @property
    def complaints(self) -> Tuple[Sequence[str], Sequence[str]]:
        """See ``Content``."""
        return [one.complaints for one in (*self._far, *self._again)], super().complaints[1]

    def run(self, check: Callable[[], None]) -> int:
        """See ``Content``."""
        code = self._read(check)
        far, near = self.complaints
        if code in (0, SOME_UNREAD):
            self.compare(found for stream in self._far for found in stream.sums())
            again = self._read_again(check)
            code = code if again in (0, SOME_UNREAD) else again
        return reading_code((*far, *near)) if code == SOME_UNREAD else code

    def _read(self, check: Callable[[], None]) -> int:
        result = 0
        for _, code in as_they_end(check, [*map(self._there, self._far), *self.reading_here()]):
            if code not in (0, SOME_UNREAD):
                return code
            result = result or code
        return result

    def _read_again(self, check: Callable[[], None]) -> int:
        if not self.mismatches:
            return 0
        stream = Stream(self.path("differ"), self.differing, self.path("again"))
        self._again.append(stream)
        (code,) = together(check, [self._there(stream)])
        if code in (0, SOME_UNREAD):
            self.compare_again(stream.sums())
        return code

    def _there(self, stream: Stream) -> Callable[[], int]:
        return lambda: stream.at_facility(self.tools, self._shell, self._folder)


def side_by_side(
    records: Iterable[bytes], first: Iterable[Optional[bytes]], second: Iterable[Optional[bytes]]
) -> Iterator[Tuple[bytes, Optional[bytes], Optional[bytes]]]:
    """Yield each record with its two hashes; one that has none was not answered. Raises DamagedListsError."""
    hashes = iter(first), iter(second)
    for record in records:
        found = [next(one, b"") for one in hashes]
        if b"" in found:
            raise DamagedListsError("a file of the list was not answered")
        yield record, found[0], found[1]
