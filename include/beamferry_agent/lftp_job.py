"""What is asked of a transfer by lftp, and the destination made ready for it."""

import hashlib
import os
from contextlib import contextmanager, suppress
from typing import Iterator, List, NamedTuple, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.destination import PARTIAL
from beamferry_agent.lftp_login import NAMES as FACILITY_NAMES
from beamferry_agent.opening import open_copies
from beamferry_agent.places import open_below, refuse_shared
from beamferry_agent.records import decode_name
from beamferry_agent.step import Step, StepEnd
from beamferry_agent.step_destination import at_rds, prepared_destination, real_destination
from beamferry_agent.tools import DATA_UMASK

NAMES = (
    "work",
    "folder",
    "streams",
    "limit",
    "stall",
    "destination",
    "group-access",
    "group",
    *FACILITY_NAMES,
)
_LISTS_ARE_GONE = 69
_OWN_MODE = 0o700
_SHARED_UMASK = 0o002
_ALL_STAGED = ".beamferry-lftp"


class Opened(NamedTuple):
    """The destination and, below it, the folder in which files arrive: each by its path and open."""

    destination: str
    root: int
    place: str
    staging: int


class Job(NamedTuple):
    """What is asked for.

    ``folder``: a name, or ``.`` for the files that lie beside the folders. ``limit``: bytes per second, 0 for none.
    ``access``, ``group``: which permissions the group is to have; '' where the umask alone decides.
    """

    work: str
    folder: bytes
    streams: int
    limit: int
    stall: int
    destination: str
    access: str
    group: str

    @property
    def umask(self) -> int:
        """For what lands on RDS."""
        return _SHARED_UMASK if self.access == "write" else DATA_UMASK

    @property
    def staging(self) -> str:
        """Where files arrive: each folder has its own, so that when it is whole nothing in there is of use."""
        name = hashlib.sha256(self.folder).hexdigest()[:16]
        return "/".join((PARTIAL, _ALL_STAGED, name))


def group_of(arguments: Arguments) -> Tuple[str, str]:
    """Return which access the group is to have, and its number or ``own``; '' for both. Raises AgentError."""
    access, group = (
        arguments.matching("group-access", "(read|write)?"),
        arguments.matching("group", "([0-9]+|own)?"),
    )
    if bool(access) != bool(group):
        arguments.needed("group" if access else "group-access")
    return access, group


def job_of(arguments: Arguments) -> Job:
    """Return what a step's arguments ask for. Raises AgentError."""
    access, group = group_of(arguments)
    return Job(
        work=os.path.abspath(arguments.needed("work")),
        folder=arguments.needed("folder").encode("utf-8", "surrogateescape"),
        streams=int(arguments.matching("streams", "[1-9][0-9]?")),
        limit=arguments.number("limit"),
        stall=arguments.number("stall"),
        destination=arguments.needed("destination"),
        access=access,
        group=group,
    )


def read_numbers(step: Step, work: str) -> Tuple[int, Tuple[int, int]]:
    """Return the seconds within which times are equal, and how many files and bytes there are to fetch."""
    try:
        for name in ("todo", "source.census"):
            os.stat(os.path.join(work, name))
        window, files, size = (
            int(number) for name in ("modify_window", "todo.totals") for number in _read(work, name).split()
        )
    except (FileNotFoundError, ValueError):
        # What an earlier job left there was removed.
        step.hear("no to-do list in {}: the dry run makes it".format(work))
        raise StepEnd(_LISTS_ARE_GONE)
    return window, (files, size)


def _read(work: str, name: str) -> bytes:
    with open(os.path.join(work, name), "rb") as file:
        return file.read()


@contextmanager
def opened(step: Step, job: Job) -> Iterator[Opened]:
    """Make the destination ready, and open it; no link is followed below, or to, its path without links.

    Raises StepEnd.
    """
    destination = real_destination(step, job.destination)
    closed = os.path.join(job.work, "closed")
    with at_rds(step):
        # First, as new folders and files take their group from those above.
        if os.path.exists(closed) and os.path.getsize(closed):
            open_copies(destination, closed, decode_name(job.folder), access=job.access, group=job.group)
        destination = prepared_destination(step, job.destination, job.staging, job.umask)
        place = os.path.join(destination, job.staging)
        with open_below("/", destination, 0o777 & ~job.umask) as root, open_below(
            "/", place, _OWN_MODE
        ) as staging:
            refuse_shared(staging, place)
            yield Opened(destination, root, place, staging)


def placed_before(path: str) -> Tuple[int, int]:
    """Return how many bytes and files earlier starts say that they have placed since the dry run."""
    size = files = 0
    with suppress(FileNotFoundError), open(path, "rb") as file:
        lines: List[bytes] = file.read().split(b"\n")
        for line in lines:
            numbers = line.split()
            if len(numbers) == 2:
                size, files = size + int(numbers[0]), files + int(numbers[1])
    return size, files
