"""The files of a job's folder: read in whatever state they are, written whole; what cannot be read is put aside."""

import errno
import os
import stat
from contextlib import suppress
from typing import List, Optional, Union

from beamferry_agent.errors import AgentError
from beamferry_agent.job_marks import read_code, read_leader, read_mark, read_object, read_text
from beamferry_agent.places import PlaceError, write_whole

# Larger than any of ours; what is read is bounded.
_LIMIT = 64 * 1024
# Something else stands where a file of ours has to be, or its mode keeps us out; all else is the file system's trouble.
_IN_THE_WAY = frozenset((errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR))


class HomeError(AgentError):
    """The home folder does not take or give what it has to; the message ends in the system's words, in brackets."""


class DamagedFileError(AgentError):
    """A file is there, and is not what was written."""


# What each file has to hold to be whole; of the others nothing is known but that they are files.
_READ = {
    "mark": read_mark,
    "pid": read_leader,
    "exit_code": read_code,
    "key": read_text,
    "call": read_text,
    "progress.json": read_object,
    "result.json": read_object,
    "status.json": read_object,
}
_OTHERS = ("heartbeat", "errors", "stats", "notes")


class Folder:
    """A job's folder. ``told``: a sentence for each file that was put aside."""

    def __init__(self, path: str) -> None:
        """Take its path; it need not be there."""
        self.path = path
        self.told: List[str] = []

    def exists(self) -> bool:
        """Say whether it is there."""
        return os.path.isdir(self.path)

    def make(self) -> None:
        """Make it and those above it; what is in the way is put aside.

        Raises HomeError.
        """
        make_folder(self.path, self.told)

    def read(self, name: str) -> Optional[bytes]:
        """Return what a file holds, None where there is none.

        Raises DamagedFileError for what is no file or may not be read, HomeError.
        """
        return read_file(os.path.join(self.path, name))

    def look(self, name: str) -> Optional[bytes]:
        """Return what a file holds, None where there is none that can be read."""
        try:
            return self.read(name)
        except DamagedFileError:
            return None

    def is_damaged(self, name: str) -> bool:
        """Say whether a file is there and is not what was written."""
        try:
            content = self.read(name)
        except DamagedFileError:
            return True
        reader = _READ.get(name)
        return content is not None and reader is not None and reader(content) is None

    def write(self, name: str, content: Union[str, bytes]) -> None:
        """Write a file whole; what is in its place is replaced, or put aside.

        Raises HomeError.
        """
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        if os.path.isdir(os.path.join(self.path, name)):
            self.put_aside(name)
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HomeError("{} cannot be used ({})".format(self.path, error.strerror))
        try:
            write_whole(handle, name, data, 0o600)
        except PlaceError as error:
            raise HomeError("{}: {}".format(self.path, error))
        finally:
            os.close(handle)

    def keep(self, name: str, content: str) -> None:
        """Write a file anew where it is gone or says something else; what is damaged is put aside.

        Raises HomeError.
        """
        if self.is_damaged(name):
            self.put_aside(name)
        if self.look(name) != content.encode("utf-8", "surrogateescape"):
            self.write(name, content)

    def renew(self, name: str, content: str) -> None:
        """Write a file that is true for some seconds alone: whole, and of no worth after a loss of power.

        Raises HomeError.
        """
        path = os.path.join(self.path, name)
        try:
            handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(content)
            os.replace(path + ".new", path)
        except OSError as error:
            raise HomeError("{} cannot be written ({})".format(path, error.strerror))

    def touch(self, name: str) -> None:
        """Make a file, or renew its time.

        Raises HomeError.
        """
        path = os.path.join(self.path, name)
        if os.path.lexists(path) and not os.path.isfile(path):
            self.put_aside(name)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            os.utime(path)
        except OSError as error:
            raise HomeError("{} cannot be written ({})".format(path, error.strerror))

    def forget(self, name: str) -> None:
        """Remove a file, or put aside what is in its place.

        Raises HomeError.
        """
        path = os.path.join(self.path, name)
        if os.path.isdir(path) and not os.path.islink(path):
            self.put_aside(name)
            return
        try:
            remove(path)
        except OSError as error:
            raise HomeError("{} cannot be removed ({})".format(path, error.strerror))

    def put_aside(self, name: str) -> None:
        """Keep what is no file of ours any more under another name, and say so."""
        put_aside(os.path.join(self.path, name), self.told)

    def make_way(self) -> None:
        """Put aside the folders that lie where the job's files belong: a script would move its files into them."""
        for name in (*_READ, *_OTHERS):
            path = os.path.join(self.path, name)
            if os.path.isdir(path) and not os.path.islink(path):
                self.put_aside(name)

    def put_damaged_aside(self) -> None:
        """Put all aside that is not what was written, and say so."""
        for name in (*_READ, *_OTHERS, "log"):
            if self.is_damaged(name):
                self.put_aside(name)

    def clear(self) -> None:
        """Remove what an earlier start left; its log is kept for people.

        Raises HomeError.
        """
        self.put_damaged_aside()
        left = [
            name for name in os.listdir(self.path) if name.endswith(".new") or name.startswith(".beamferry-")
        ]
        for name in (*_READ, *_OTHERS, *left):
            self.forget(name)
        try:
            log = os.path.join(self.path, "log")
            if os.path.lexists(log):
                if os.path.isdir(log + ".previous"):
                    self.put_aside("log.previous")
                os.replace(log, log + ".previous")
        except OSError as error:
            raise HomeError("{} cannot be cleared ({})".format(self.path, error.strerror))


def read_file(path: str, limit: int = _LIMIT) -> Optional[bytes]:
    """Return what a small file holds, None where there is none.

    Raises DamagedFileError for what is no file or may not be read, HomeError.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise DamagedFileError("{} is no file".format(path))
            return os.read(handle, limit)
        finally:
            os.close(handle)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            raise DamagedFileError("{} cannot be read ({})".format(path, error.strerror))
        raise HomeError("{} cannot be read ({})".format(path, error.strerror))


def remove(path: str) -> None:
    """Remove a file; one that is not there is as well."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(path)


def put_aside(path: str, told: List[str]) -> None:
    """Keep what is in the way as ``NAME.damaged``, and say so once.

    Raises HomeError.
    """
    aside = path + ".damaged"
    if os.path.lexists(aside):
        aside += "-" + os.urandom(4).hex()
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HomeError("{} cannot be put aside ({})".format(path, error.strerror))
    place = path if path.startswith("/") else "~/" + path
    told.append("{} was damaged; it is kept as {} beside it.".format(place, os.path.basename(aside)))


def make_folder(path: str, told: List[str]) -> None:
    """Make a folder for this account alone, and those above it; a file in its place is put aside.

    Raises HomeError.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above:
        make_folder(above, told)
    if os.path.lexists(path):
        put_aside(path, told)
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise HomeError("{} cannot be made ({})".format(path, error.strerror))
