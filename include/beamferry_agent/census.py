"""What both ends hold: each is listed by a script, the lists are sorted, and compared record by record."""

import os
import subprocess
from typing import IO, Callable, Dict, NamedTuple, Optional

from beamferry_agent.census_script import UNSAFE
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.facility_shell import SAY_MARK, FacilityShell, keep_words, opened
from beamferry_agent.records import decode_name, read_names
from beamferry_agent.step import AT_HOME, Step, StepEnd
from beamferry_agent.tools import Tools

# Some forty million names.
_LISTING_LIMIT = 4 * 1024 * 1024 * 1024
# Two lists are sorted at the same time.
_SORT_MEMORY = "32M"
_CHUNK = 1024 * 1024
_SHOWN = 200


class Listing:
    """One end's listing on its way: ``entries`` came, ``unsafe`` of them have a mode that RDS does not get."""

    def __init__(self, raw: str, complaints: str) -> None:
        """Name the file ``raw`` for what is listed, and the one for complaints."""
        self.raw, self.complaints = raw, complaints
        self.entries = self.unsafe = self._looked_at = 0

    def of_source(self, shell: FacilityShell, script: bytes) -> int:
        """List the source by a ``source_script``; return its exit code, see ``Answer``."""
        with open(self.raw, "wb") as raw, shell.ask(
            SAY_MARK + script, self.complaints, _LISTING_LIMIT
        ) as answer:
            rest = b""
            for chunk in answer.chunks():
                records = (rest + chunk).split(b"\0")
                rest = records.pop()
                unsafe = records.count(UNSAFE)
                if unsafe:
                    records = [record for record in records if record != UNSAFE]
                self.unsafe += unsafe
                self.entries += len(records)
                raw.write(b"".join(record + b"\0" for record in records))
            # One that is cut short is read as such.
            raw.write(rest)
        return answer.code

    def of_copy(self, tools: Tools, script: bytes, folder: int) -> int:
        """List the copy by a ``copy_script`` in its folder; return the exit code. Raises OSError."""
        place = self.raw + ".sh"
        with open(place, "wb") as file:
            file.write(script)
        with open(place, "rb") as stdin, open(self.raw, "wb") as raw:
            process = tools.start(
                ("sh", "-s"), stdin=stdin, stdout=raw, stderr=subprocess.PIPE, folder=folder
            )
        keep_words(opened(process.stderr), self.complaints)
        return process.wait()

    def of_nothing(self) -> int:
        """Tell of a folder that is not there."""
        with open(self.raw, "wb"), open(self.complaints, "wb"):
            return 0

    def look(self) -> None:
        """Count the entries that the copy's listing has by now."""
        with open(self.raw, "rb") as raw:
            raw.seek(self._looked_at)
            for chunk in iter(lambda: raw.read(_CHUNK), b""):
                self._looked_at += len(chunk)
                self.entries += chunk.count(b"\0")


def keep_records(path: str, has: Callable[[bytes], bool]) -> None:
    """Keep those records of a list that count. Raises DamagedListsError."""
    kept = path + ".kept"
    with open(path, "rb") as records, open(kept, "wb") as file:
        file.writelines(record + b"\0" for record in read_names(records) if has(record))
    os.replace(kept, path)


def sort_records(step: Step, tools: Tools, listed: str, output: str, scratch: str) -> None:
    """Sort a list of NUL-terminated records by their bytes. Raises StepEnd where our own folder takes nothing."""
    words = ("sort", "-z", "-S", _SORT_MEMORY, "-T", scratch, "-o", output, "--", listed)
    process = tools.start(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    complaints = process.communicate()[1]
    if process.returncode:
        step.hear(complaints)
        raise StepEnd(AT_HOME)


class Counted:
    """What one end holds: how many of each kind, the bytes of the files, the time of the oldest one."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.files = self.bytes = self.folders = self.links = self.others = 0
        self.oldest: Optional[int] = None

    def add(self, kind: bytes, size: int, modified: int) -> None:
        """Count an entry."""
        if kind == b"f":
            self.files += 1
            self.bytes += size
            if self.oldest is None or modified < self.oldest:
                self.oldest = modified
        elif kind == b"d":
            self.folders += 1
        elif kind == b"l":
            self.links += 1
        else:
            self.others += 1

    def facts(self) -> Dict[str, int]:
        """Return the counts by their names."""
        return {
            "files": self.files,
            "bytes": self.bytes,
            "folders": self.folders,
            "links": self.links,
            "others": self.others,
            "oldest": self.oldest or 0,
        }


class Compared(NamedTuple):
    """What two censuses hold, and how many records of each the other one does not have."""

    source: Counted
    copy: Counted
    only_source: int
    only_copy: int


def compare_censuses(
    source: IO[bytes], copy: IO[bytes], only_source: IO[bytes], only_copy: IO[bytes], common: IO[bytes]
) -> Compared:
    """Read two sorted censuses once, and write what only one of them has.

    ``common`` gets files with content that are at both ends with one size, as PATH//f//SIZE; whatever their times are.
    Raises DamagedListsError.
    """
    here, there = _End(source, only_source), _End(copy, only_copy)
    last = b""
    while here.record is not None or there.record is not None:
        if here.record == there.record:
            file = here.take()
            there.take()
        elif there.record is None or (here.record is not None and here.record < there.record):
            file = here.take_alone()
            file = file if file == there.alone else b""
        else:
            file = there.take_alone()
            file = file if file == here.alone else b""
        if file and file != last:
            common.write(file + b"\0")
            last = file
    return Compared(here.counted, there.counted, here.only, there.only)


class _End:
    """A census as it is read: ``record`` is the next one, ``alone`` the file of the last one that stands here alone."""

    def __init__(self, census: IO[bytes], output: IO[bytes]) -> None:
        self._records, self._output = read_names(census), output
        self.counted, self.only, self.alone = Counted(), 0, b""
        self.record = next(self._records, None)

    def take(self) -> bytes:
        """Count the record and go on; return PATH//f//SIZE where it is a file with content, else b''."""
        record = self.record or b""
        try:
            path, kind, size, modified, _ = record.split(b"//", 4)
            self.counted.add(kind, int(size), int(modified))
        except ValueError:
            raise DamagedListsError("{!a} is not an entry of a listing".format(decode_name(record[:_SHOWN])))
        self.record = next(self._records, None)
        return b"%b//f//%b" % (path, size) if kind == b"f" and size != b"0" else b""

    def take_alone(self) -> bytes:
        """Do the same with a record that the other end does not have."""
        self._output.write((self.record or b"") + b"\0")
        self.only += 1
        self.alone = self.take()
        return self.alone
