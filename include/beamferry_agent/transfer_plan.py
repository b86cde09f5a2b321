"""What a transfer by rsync has to fetch, cut into units of work; what earlier starts of the same list have brought."""

import os
import shutil
from typing import List, NamedTuple, Optional, Sequence, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.ranges import RangedFile, Version, plan
from beamferry_agent.sharding import cut, large_from, read_todo
from beamferry_agent.step import Step, StepEnd
from beamferry_agent.transfer_units import Range, Shard, Unit

_MIB = 1024 * 1024
_NO_LISTS = 69
# Files that are mostly holes take as little at RDS as at the facility, and as little of the wire.
_SPARSE = ("--sparse", "--compress")


class Totals(NamedTuple):
    """What the dry run found: files, and their size in bytes."""

    files: int
    bytes: int


def read_totals(step: Step, work: str) -> Totals:
    """Return them. Raises StepEnd where the lists of the dry run are gone."""
    try:
        with open(os.path.join(work, "todo.totals")) as file:
            files, total = (int(word) for word in file.read(100).split())
        if os.path.exists(os.path.join(work, "todo")):
            return Totals(files, total)
    except (FileNotFoundError, ValueError):
        pass
    # What an earlier job left there was removed.
    step.hear("no to-do list in {}: the dry run makes it".format(work))
    raise StepEnd(_NO_LISTS)


class TransferPlan:
    """The units of work.

    ``shards``, ``range_files``: how many there are; ``there``: bytes that are there already of files that come in
    ranges; ``large``: names of the files about which the facility is asked.
    """

    def __init__(self, work: str, destination: str, totals: Totals, asked: Arguments) -> None:
        """Take the folder of the lists, the destination, and the step's arguments. Raises AgentError."""
        self._work, self._destination, self._totals = work, destination, totals
        self.streams = asked.number("streams", 1, 1)
        least = asked.number("range-threshold")
        self._large_from = large_from(least, self.streams, totals.bytes)
        self.with_ranges = least > 0 and self.streams > 1
        self._range_bytes = asked.number("range-bytes", 64 * _MIB, 1)
        self.shards = self.range_files = self.there = 0
        self.large: List[bytes] = []
        self.units: List[Unit] = []

    def cut(self) -> None:
        """Cut the to-do list into shards and large files."""
        for name in ("plan", "live"):
            shutil.rmtree(self._path(name), ignore_errors=True)
            os.makedirs(self._path(name))
        os.makedirs(self._path("ranges"), exist_ok=True)
        with open(self._path("todo"), "rb") as todo:
            units = cut(
                read_todo(todo),
                streams=self.streams,
                count=self._totals.files,
                total=self._totals.bytes,
                large=self._large_from,
            )
            for unit in units:
                if unit.is_large:
                    self.large.append(unit.files[0].name)
                else:
                    self.units.append(self._shard([file.name for file in unit.files]))

    def add_large(self, versions: Sequence[Optional[Version]]) -> None:
        """Add the large files, by what the facility says of each.

        Ranges come first, as the proof of their files then runs while other streams still have shards to fetch. Files
        that plain rsync does better get shards of their own. Raises PlaceError.
        """
        ranges: List[Unit] = []
        # Eight ranges a stream, of all that there is to do, let the streams end together.
        length = self._totals.bytes // (self.streams * 8)
        for name, version in zip(self.large, versions):
            if version and version.is_sparse:
                self.units.append(self._shard([name], *_SPARSE))
                continue
            file = version and self.with_ranges and self._ranged(name, version, length)
            if not file:
                self.units.append(self._shard([name]))
                continue
            self.range_files += 1
            self.there += file.bytes_there
            ranges.extend(Range(file, offset) for offset in file.missing)
            # For the case that all ranges are there: nobody else would come to it.
            ranges.append(Range(file, None))
        self.units = ranges + self.units

    def _ranged(self, name: bytes, version: Version, length: int) -> Optional[RangedFile]:
        return plan(self._path("ranges"), self._destination, name, version, length, self._range_bytes)

    def _shard(self, names: Sequence[bytes], *options: str) -> Shard:
        self.shards += 1
        path = self._path("plan/s{:06d}".format(self.shards))
        with open(path, "wb") as file:
            file.writelines(name + b"\0" for name in names)
        return Shard(path, options)

    def _path(self, name: str) -> str:
        return os.path.join(self._work, name)


def read_counts(live: str) -> Tuple[int, int]:
    """Return bytes and files that earlier starts of this list fetched; versions before had a log for each stream."""
    size = files = 0
    try:
        names = sorted(name for name in os.listdir(live) if name.startswith(("log.", "shard.")))
    except FileNotFoundError:
        return 0, 0
    for name in names:
        with open(os.path.join(live, name), "rb") as file:
            for line in file:
                parts = line.split()
                if line.startswith(b">f") and len(parts) > 1 and parts[1].isdigit():
                    size, files = size + int(parts[1]), files + 1
                elif (
                    parts[:1] == [b"files"] and len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit()
                ):
                    size, files = size + int(parts[1]), files + int(parts[2])
    return size, files
