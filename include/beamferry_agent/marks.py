"""Copies that are to be fetched again: they get a time that their source does not have."""

import os
import re
import stat
from typing import IO, Iterable, Iterator, Optional, Tuple

from beamferry_agent.places import PlaceError, follow, resolved
from beamferry_agent.records import unescape_name

# Long before any beamtime: whatever compares size and time, be it a plain rsync of a person, then fetches such a copy
# again. The second one is for a source that has nearly that time itself.
MARKS = (1, 10 * 86400)
_NEAR = 2 * 86400
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As dry_run.sh asks for them: a mark, the changes, the size, the name.
_LINE = re.compile(rb"@ >f(?P<changes>\S*) \d+ (?P<name>.*)", re.DOTALL)
_TIME = 2


def fetchable(lines: IO[bytes]) -> Iterator[bytes]:
    """Yield the files that rsync would fetch and that have their source's time, of the lines of a dry run by all.

    Rsync tells of times by a letter.
    """
    for line in lines:
        match = _LINE.fullmatch(line[:-1] if line.endswith(b"\n") else line)
        if match is None:
            continue
        changes = match.group("changes")
        # All are "+" for a file that is not here.
        if changes[_TIME : _TIME + 1] in (b"t", b"+"):
            continue
        yield unescape_name(match.group("name"))


def mark(destination: bytes, copies: Iterable[Tuple[bytes, Optional[int]]]) -> None:
    """Give copies another time than their source's; what is no file, or is gone, is left alone.

    ``copies``: a path and the source's time, None where the copy has that. No link in ``destination`` is followed.
    Raises PlaceError, which names the file or the folder.
    """
    followed = follow(resolved(os.fsdecode(destination)))
    try:
        if followed.left:
            return
        for path, modified in copies:
            _mark(followed.handle, path, modified, os.path.join(destination, path))
    finally:
        os.close(followed.handle)


def _mark(root: int, path: bytes, modified: Optional[int], place: bytes) -> None:
    try:
        _set_time(root, path, modified)
    except (FileNotFoundError, NotADirectoryError):
        # A listing shows the difference.
        return
    except OSError as error:
        words = "{} differs from its source, and its time cannot be changed so that it is fetched again ({})"
        raise PlaceError(words.format(os.fsdecode(place), error.strerror))


def _set_time(root: int, path: bytes, modified: Optional[int]) -> None:
    *folders, name = path.split(b"/")
    here = os.dup(root)
    try:
        for part in folders:
            here, above = os.open(part, _FOLDER_FLAGS, dir_fd=here), here
            os.close(above)
        found = os.stat(name, dir_fd=here, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            return
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        try:
            found = os.fstat(file)
            taken = found.st_mtime if modified is None else modified
            os.utime(file, (found.st_atime, next(time for time in MARKS if abs(time - taken) > _NEAR)))
        finally:
            os.close(file)
    finally:
        os.close(here)
