"""Places on a file system that others can write to: nothing is followed, nothing that exists is written through."""

import errno
import os
import stat
import sys
from contextlib import contextmanager
from typing import Iterator, List, NamedTuple, Optional, Tuple, Type

from beamferry_agent.errors import LINK_BELOW, AgentError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# On the way: a folder that may be passed and not read, as /home often is.
_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# As the kernel counts them.
_MOST_LINKS = 40
# Between ROOT and REST of a path, as rsync writes it.
_CUT = "/./"


class PlaceError(AgentError):
    """A place cannot be used: it is not this account's own, or the system says no. The message is a clause."""

    exit_code = 73


class ForeignError(PlaceError):
    """What is in the way is, or could be, somebody else's: their link, their folder, one that they can write to."""

    exit_code = 70


class FullError(PlaceError):
    """There is no room, or no quota, left."""

    exit_code = 11


class Followed(NamedTuple):
    """How far a path leads: the folder that was reached, open to be passed, its path without links, and the rest."""

    handle: int
    real: str
    left: List[str]


def follow(path: str) -> Followed:
    """Follow a path as far as it exists; links on the way are followed if root or this account made them.

    Of ``ROOT/./REST`` that goes for ROOT alone. In REST no link is followed: also one of this account's own may have
    come with the data, and somebody may have moved it into the way.

    Raises PlaceError when a link is not to be followed, or something is no folder.
    """
    root, _, rest = path.partition(_CUT)
    trusted: Tuple[int, ...] = (0, os.geteuid())
    left, below, at, links = _parts(root), _parts(rest), "/", 0
    if ".." in below:
        raise PlaceError("{} is not below {}".format(path, root))
    real: List[str] = []
    here = os.open("/", _PASSED)
    try:
        while left or below:
            if not left:
                left, below, at, trusted = below, [], root or "/", ()
            part = left.pop(0)
            at = os.path.join(at, part)
            try:
                target = _link(here, part, trusted)
            except FileNotFoundError:
                return Followed(here, "/" + "/".join(real), [part, *left, *below])
            if target is None:
                above, here = here, os.open(part, _PASSED, dir_fd=here)
                os.close(above)
                real = real[:-1] if part == ".." else [*real, part]
            else:
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                left = _parts(target) + left
                if target.startswith("/"):
                    os.close(here)
                    here, real = os.open("/", _PASSED), []
    except OSError as error:
        os.close(here)
        raise PlaceError("{}: {}".format(at, error.strerror))
    except ForeignError as error:
        os.close(here)
        raise ForeignError("{} {}".format(at, error))
    return Followed(here, "/" + "/".join(real), [])


def resolved(path: str) -> str:
    """Return a path that has no link any more in a form of which none is followed."""
    return _CUT + path.lstrip("/")


def open_root(path: str) -> int:
    """Open a folder to pass, as ``follow`` does; return its descriptor.

    Raises PlaceError, also when it is not there.
    """
    followed = follow(path)
    if followed.left:
        os.close(followed.handle)
        missing = os.path.join(followed.real, followed.left[0])
        raise PlaceError("{}: {}".format(missing, os.strerror(errno.ENOENT)))
    return followed.handle


def _link(folder: int, name: str, trusted: Tuple[int, ...]) -> Optional[str]:
    """Return where a link leads, None for what is none; owner and target are those of one and the same link."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(handle)
        if not stat.S_ISLNK(found.st_mode):
            return None
        if not trusted:
            raise ForeignError(LINK_BELOW)
        if found.st_uid not in trusted:
            raise ForeignError("is a link of somebody else, account number {}".format(found.st_uid))
        return os.readlink("", dir_fd=handle)
    finally:
        os.close(handle)


@contextmanager
def open_below(root: str, path: str, mode: int) -> Iterator[int]:
    """Open a folder below a root, and make it and those above it where they are missing; no link is followed.

    ``path`` is absolute and below ``root``; ``mode`` is that of folders that are made, whatever the umask is.
    Raises PlaceError.
    """
    below = os.path.relpath(path, root)
    parts = _parts(below)
    if below.startswith("..") or ".." in parts:
        raise PlaceError("{} is not below {}".format(path, root))
    here = open_root(root)
    try:
        at = os.path.normpath(root)
        for part in parts:
            at = os.path.join(at, part)
            here, above = _open_or_make(here, part, at, mode), here
            os.close(above)
        try:
            above, here = here, os.open(".", _FOLDER, dir_fd=here)
        except OSError as error:
            raise PlaceError("{}: {}".format(path, error.strerror))
        os.close(above)
        yield here
    finally:
        os.close(here)


def _open_or_make(above: int, part: str, at: str, mode: int) -> int:
    try:
        try:
            os.mkdir(part, mode, dir_fd=above)
        except FileExistsError:
            try:
                return os.open(part, _PASSED, dir_fd=above)
            except FileNotFoundError:
                # It went away in between, as rsync removes an empty folder of its own.
                os.mkdir(part, mode, dir_fd=above)
        folder = os.open(part, _FOLDER, dir_fd=above)
        # The umask took from it; a share's setgid bit is kept.
        os.fchmod(folder, mode | stat.S_IMODE(os.fstat(folder).st_mode) & stat.S_ISGID)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise ForeignError("{} is a link or a file, where a folder has to be".format(at))
        raise PlaceError("{}: {}".format(at, error.strerror))
    return folder


def refuse_shared(folder: int, path: str) -> None:
    """Refuse a folder that others can write to: what stands in it could be anybody's.

    Raises PlaceError when the folder is not this account's, or others may write to it; where a file system keeps
    neither owners nor modes, as a CIFS share, nothing can be told and nothing is refused.
    """
    found = os.fstat(folder)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid == os.geteuid() and not mode & 0o022:
        return
    if not _keeps_modes(folder):
        return
    if found.st_uid != os.geteuid():
        raise ForeignError("{} belongs to somebody else, account number {}".format(path, found.st_uid))
    raise ForeignError("{} can be written to by others (mode {:04o})".format(path, mode))


def _keeps_modes(folder: int) -> bool:
    """Say whether the file system tells one mode and owner from another."""
    name = _unused_name("probe")
    try:
        handle = os.open(name, _NEW, 0o600, dir_fd=folder)
    except OSError:
        # Where nothing can be made, what is told of the folder has to be believed.
        return True
    try:
        os.fchmod(handle, 0o640)
        found = os.fstat(handle)
        return stat.S_IMODE(found.st_mode) == 0o640 and found.st_uid == os.geteuid()
    except OSError:
        return False
    finally:
        os.close(handle)
        os.unlink(name, dir_fd=folder)


def write_whole(folder: int, name: str, content: bytes, mode: int) -> None:
    """Put a file into an open folder, whole or not at all; what had the name, be it a link, is replaced.

    Raises PlaceError.
    """
    new = _unused_name(name)
    try:
        handle = os.open(new, _NEW, 0o600, dir_fd=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(new, dir_fd=folder)
            raise
        os.fsync(folder)
    except OSError as error:
        raise _kind(error)("{} cannot be written ({})".format(name, error.strerror))


@contextmanager
def private_folder(path: str, name: str) -> Iterator[int]:
    """Make an empty folder for this account alone in one that is there; it is removed with the files in it.

    No link in ``path`` is followed. Raises PlaceError.
    """
    above = open_root(resolved(path))
    new = _unused_name(name)
    try:
        try:
            os.mkdir(new, 0o700, dir_fd=above)
            folder = os.open(new, _FOLDER, dir_fd=above)
        except OSError as error:
            raise place_error(path, error)
        try:
            # Whatever else has the name by now is left alone.
            if os.listdir(folder):
                raise PlaceError("{} was put in the way of a folder of ours".format(os.path.join(path, new)))
            try:
                yield folder
            finally:
                _remove(above, new, folder, path)
        finally:
            os.close(folder)
    finally:
        os.close(above)


def _remove(above: int, name: str, folder: int, path: str) -> None:
    try:
        for file in os.listdir(folder):
            os.unlink(file, dir_fd=folder)
        os.rmdir(name, dir_fd=above)
    except OSError as error:
        # It stays there to be seen, and is said; nothing else hangs on it.
        sys.stderr.write("agent: {} cannot be removed: {}\n".format(os.path.join(path, name), error.strerror))


def make_file(folder: int, name: bytes) -> None:
    """Make an empty file of a name that nothing has yet."""
    os.close(os.open(name, _NEW, 0o600, dir_fd=folder))


def place_error(path: str, error: OSError) -> PlaceError:
    """Return the error of a place that the system says no to."""
    return _kind(error)("{}: {}".format(path, error.strerror))


def _kind(error: OSError) -> Type[PlaceError]:
    return FullError if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else PlaceError


def _unused_name(name: str) -> str:
    return ".beamferry-{}-{}".format(name, os.urandom(6).hex())


def _parts(path: str) -> List[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
