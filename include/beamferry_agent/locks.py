"""Locks: they lie outside of what they guard, nothing of ours removes them, and whatever still writes inherits them."""

import errno
import fcntl
import os
import time
from typing import List

from beamferry_agent.errors import AgentError
from beamferry_agent.job_files import HomeError, make_folder, put_aside

# Our scripts, and the shell that runs them, use low numbers for files of their own.
_LOWEST = 100
_STEP_SECONDS = 0.1
_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_LIMIT = 16 * 1024


class LocksError(AgentError):
    """The file system of the locks gives none."""

    exit_code = 71


class Lock:
    """The open file of a lock. ``path``: of the file."""

    def __init__(self, path: str, told: List[str]) -> None:
        """Open it, and make it where it is missing; what is no file in its place is put aside.

        Raises HomeError.
        """
        self.path = path
        make_folder(os.path.dirname(path), told)
        if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
            put_aside(path, told)
        try:
            try:
                handle = self._open()
            except PermissionError:
                # The file itself has to stay: somebody may hold it.
                os.chmod(path, 0o600)
                handle = self._open()
            try:
                self.handle = fcntl.fcntl(handle, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
            finally:
                os.close(handle)
        except OSError as error:
            raise HomeError("{} cannot be used ({})".format(path, error.strerror))

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def take(self, seconds: float, *, shared: bool = False) -> bool:
        """Take the lock; return False where somebody else has it all the time.

        Raises LocksError.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self.handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if error.errno not in _HELD:
                    raise LocksError(
                        "{} cannot be locked: {}".format(os.path.dirname(self.path), error.strerror)
                    )
            if time.monotonic() >= end:
                return False
            time.sleep(_STEP_SECONDS)

    def close(self) -> None:
        """Close it; whoever has inherited it goes on holding it."""
        os.close(self.handle)


def read_lock(handle: int) -> bytes:
    """Return what the holder of a lock has written into its file."""
    return os.pread(handle, _LIMIT, 0)


def write_lock(handle: int, content: bytes) -> None:
    """Write who holds a lock into its file, which has to stay the one that is locked.

    Raises HomeError.
    """
    try:
        os.pwrite(handle, content, 0)
        os.ftruncate(handle, len(content))
        os.fsync(handle)
    except OSError as error:
        raise HomeError("a lock cannot be written ({})".format(error.strerror))


def is_held(path: str) -> bool:
    """Say whether somebody has a lock.

    Raises LocksError, HomeError.
    """
    if not os.path.isfile(path):
        return False
    lock = Lock(path, [])
    try:
        return not lock.take(0, shared=True)
    finally:
        lock.close()


def is_at(handle: int, path: str) -> bool:
    """Say whether the file that is open is the one with this path."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    here = os.fstat(handle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
