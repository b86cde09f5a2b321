"""Reads the files of a copy: below an open folder, part by part, so that no link leads out of it."""

import errno
import hashlib
import os
import stat
from contextlib import suppress
from typing import Callable, NamedTuple, Optional, Union

from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.places import ForeignError, place_error

_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A named pipe is not waited for.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
OTHER = "a link, or something else, is where a file has to be"
_BUFFER_BYTES = 256 * 1024


def open_copy(path: str) -> Optional[int]:
    """Open a destination, a path without links on the way, to be passed; None where nothing was ever fetched.

    Raises PlaceError, also where a link has come into the way.
    """
    here, at = os.open("/", _PASSED), "/"
    for part in path.split("/"):
        if not part:
            continue
        at = os.path.join(at, part)
        try:
            here, above = os.open(part, _PASSED, dir_fd=here), here
        except FileNotFoundError:
            os.close(here)
            return None
        except OSError as error:
            os.close(here)
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise ForeignError("{} is a link or a file, where a folder has to be".format(at))
            raise place_error(at, error)
        os.close(above)
    return here


def can_enter(folder: int) -> Optional[str]:
    """Return why an open folder cannot be entered, None where it can."""
    try:
        os.close(os.open(".", _PASSED, dir_fd=folder))
    except OSError as error:
        return os.strerror(error.errno or 0)
    return None


class Read(NamedTuple):
    """What came of reading a file: its SHA-256, or else why it could not be read.

    ``is_other``: a link, or something else, stands where a file or a folder was listed.
    ``is_cached``: some of it may have come from this machine's memory instead of the storage.
    """

    hash: Optional[str]
    reason: str = ""
    is_other: bool = False
    is_cached: bool = False


_OTHER = Read(None, OTHER, is_other=True)


class CopyReader:
    """Reads files below an open folder, for one thread; of folders on the way the latest stay open."""

    def __init__(self, root: int, moved: Callable[[int], None]) -> None:
        """Take the folder, and whom to tell of bytes that were read."""
        self._folders, self._moved = Folders(root), moved
        self._buffer = bytearray(_BUFFER_BYTES)

    def read(self, path: bytes, *, from_storage: bool) -> Read:
        """Read a file to its end; ``from_storage``: not from this machine's memory, as far as it lets go of it."""
        try:
            file = self._open(path)
        except BlockedError:
            return _OTHER
        except OSError as error:
            return _unread(error)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return _OTHER
            is_cached = from_storage and not leave_the_cache(file)
            return Read(self._hash(file), is_cached=is_cached)
        except OSError as error:
            return _unread(error)
        finally:
            os.close(file)

    def open(self, path: bytes) -> Union[int, Read]:
        """Open a file to be read from the storage by somebody else, or return why it cannot be read."""
        try:
            file = self._open(path)
        except BlockedError:
            return _OTHER
        except OSError as error:
            return _unread(error)
        if stat.S_ISREG(os.fstat(file).st_mode):
            return file
        os.close(file)
        return _OTHER

    def _hash(self, file: int) -> str:
        digest, buffer = hashlib.sha256(), self._buffer
        view = memoryview(buffer)
        while True:
            count = os.readv(file, (buffer,))
            if not count:
                return digest.hexdigest()
            digest.update(view[:count])
            self._moved(count)

    def _open(self, path: bytes) -> int:
        above, _, name = path.rpartition(b"/")
        return os.open(name, _READ, dir_fd=self._folders.enter(above))

    def close(self) -> None:
        """Close the folders."""
        self._folders.forget()


def leave_the_cache(file: int) -> bool:
    """Take a file out of this machine's page cache; what was written has to be flushed before."""
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    with suppress(OSError):
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return True


def _unread(error: OSError) -> Read:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return _OTHER
    return Read(None, os.strerror(error.errno or 0))


def count_files(folder: int) -> int:
    """Return how many files are below an open folder; no link is followed. Raises OSError."""

    def refuse(error: OSError) -> None:
        raise error

    return sum(
        stat.S_ISREG(os.stat(name, dir_fd=here, follow_symlinks=False).st_mode)
        for _, _, names, here in os.fwalk(".", onerror=refuse, dir_fd=folder)
        for name in names
    )
