"""The units of work of a transfer by rsync, how they come, and what has come."""

import threading
from typing import NamedTuple, Optional, Sequence, Tuple, Union

from beamferry_agent.facility_shell import FacilityShell
from beamferry_agent.ranges import RangedFile


class Range(NamedTuple):
    """A range of a large file, by where it begins; None for the proof of the whole file."""

    file: RangedFile
    offset: Optional[int]


class Shard(NamedTuple):
    """A list of files for one rsync, NUL-terminated, and options for it; the list is removed when they are there."""

    path: str
    options: Tuple[str, ...] = ()


Unit = Union[Range, Shard]


class Way(NamedTuple):
    """How files come: rsync's words before ``--``, its source, the facility's shell and folder there; the folder here.

    ``folder`` is open, ``destination`` its path, ``temporary`` the path below it for files that are not whole.
    """

    rsync: Sequence[str]
    source: str
    shell: FacilityShell
    far_folder: str
    destination: str
    folder: int
    temporary: str
    live: str


class Counts:
    """What has come since the dry run.

    ``received``: bytes of the wire for shards; ``flying``: bytes of ranges that are on their way.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._guard = threading.Lock()
        self.bytes = self.files = self.ranges = self.range_bytes = self.proofs = 0
        self.received = self.retries = self.resent = self.flying = 0

    def add(self, **numbers: int) -> None:
        """Count more of something."""
        with self._guard:
            for name, number in numbers.items():
                setattr(self, name, getattr(self, name) + number)
