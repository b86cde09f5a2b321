"""The folder that a beamtime goes to, and what a transfer keeps in it meanwhile: no link of others leads out of it."""

import os
import stat
from contextlib import contextmanager
from typing import Iterator, Tuple

from beamferry_agent.places import ForeignError, follow, open_below, place_error, refuse_shared, resolved

# As rsync's --partial-dir names it; nothing of that name comes from the source.
PARTIAL = ".beamferry-partial"
_DATA_MODE, _OWN_MODE = 0o755, 0o700


def resolve(path: str) -> str:
    """Return a destination's path without links, whether it is there or not.

    Of ``ROOT/./REST`` links are followed in ROOT alone, and there if root or this account made them. Raises PlaceError.
    """
    followed = follow(path)
    os.close(followed.handle)
    return os.path.join(followed.real, *followed.left)


def prepare(path: str, below: str, umask: int) -> str:
    """Make a destination and, below it, a folder of the transfer's own; return the destination's path without links.

    ``umask`` counts for the destination itself where it is made. No link below the destination is followed. Raises
    PlaceError, also when the transfer's own folder is somebody else's, or others can write to it.
    """
    destination = resolve(path)
    with open_below("/", os.path.dirname(destination), _DATA_MODE):
        pass
    with open_below("/", destination, 0o777 & ~umask):
        pass
    place = destination
    for part in below.split("/"):
        place = os.path.join(place, part)
        with open_below(resolved(destination), place, _OWN_MODE) as folder:
            refuse_shared(folder, place)
    return destination


@contextmanager
def open_partial(destination: str, name: bytes) -> Iterator[int]:
    """Open the partial of a file below a destination to be written, made where it is missing.

    Raises PlaceError, also where it is no file of its own; FileNotFoundError where its folder goes away meanwhile, as
    rsync removes an empty one.
    """
    with _open_partials(destination, name) as (folder, place, file):
        refuse_shared(folder, place)
        handle = _open_file(folder, file, os.path.join(place, file))
    try:
        yield handle
    finally:
        os.close(handle)


def write_at(handle: int, content: bytes, offset: int, place: str) -> None:
    """Write all of it into a file at RDS. Raises PlaceError, which says why RDS does not take it."""
    view = memoryview(content)
    while view:
        try:
            written = os.pwrite(handle, view, offset)
        except OSError as error:
            raise place_error(place, error)
        offset += written
        view = view[written:]


def remove_partial(destination: str, name: bytes) -> None:
    """Remove a file's partial, and no other file. Raises PlaceError."""
    with _open_partials(destination, name) as (folder, place, file):
        try:
            os.unlink(file, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise place_error(os.path.join(place, file), error)


@contextmanager
def _open_partials(destination: str, name: bytes) -> Iterator[Tuple[int, str, str]]:
    """Open the folder of a file's partial, made where it is missing; yield it, its path and the file's name in it."""
    above, file = os.path.split(os.path.join(destination, os.fsdecode(name)))
    with open_below(resolved(destination), above, _DATA_MODE):
        pass
    place = os.path.join(above, PARTIAL)
    with open_below(resolved(destination), place, _OWN_MODE) as folder:
        yield folder, place, file


def _open_file(folder: int, name: str, place: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise place_error(place, error)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(handle)
        raise ForeignError("{} is no file of its own".format(place))
    return handle
