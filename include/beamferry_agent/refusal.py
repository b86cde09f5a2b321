"""Why a folder takes nothing: what failed may have said so to nobody, as a quota may be told of at a file's end."""

import errno
import os

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = b"\0" * 65536


def refusal_of(folder: str, size: int = 0) -> str:
    """Write a trial into a folder and remove it; return why that did not work, '' where it did or nothing is there.

    ``size``: bytes that are tried beside the first 64 KiB.
    """
    name = ".beamferry-trial.{}".format(os.urandom(6).hex())
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _words(folder, error)
    try:
        return _tried(handle, name, size)
    except OSError as error:
        return _words(os.path.join(folder, name), error)
    finally:
        os.close(handle)


def _tried(folder: int, name: str, size: int) -> str:
    trial = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        for _ in range(size // len(_PIECE) + 1):
            if os.write(trial, _PIECE) != len(_PIECE):
                return os.strerror(errno.ENOSPC)
        os.fsync(trial)
    finally:
        try:
            os.unlink(name, dir_fd=folder)
        finally:
            os.close(trial)
    return ""


def _words(path: str, error: OSError) -> str:
    return "{}: {}".format(path, error.strerror)
