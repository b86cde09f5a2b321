"""The folder that a beamtime goes to, and what a transfer keeps in it meanwhile: no link of others leads out of it."""

import json
import os
import stat
from contextlib import contextmanager
from typing import Dict, Iterator, Tuple

from beamferry_agent.places import ForeignError, follow, open_below, place_error, refuse_shared, resolved

# As rsync's --partial-dir names it; nothing of that name comes from the source.
PARTIAL = ".beamferry-partial"
_DATA_MODE, _OWN_MODE = 0o755, 0o700
# Where the bytes of a range come from: stdin has the request.
_BYTES = 3


def resolve(text: str) -> str:
    """Answer ``{"destination"}``: return the folder's path without links, whether it is there or not.

    Of ``ROOT/./REST`` links are followed in ROOT alone, and there if root or this account made them. Raises PlaceError.
    """
    followed = follow(_fields(text)["destination"])
    os.close(followed.handle)
    return os.path.join(followed.real, *followed.left)


def prepare(text: str) -> str:
    """Answer ``{"destination", "below", "umask"}``: make the folder and, below it, one of the transfer's own.

    Returns the folder's path. ``umask``, octal, counts for the destination itself where it is made. No link below the
    destination is followed. Raises PlaceError, also when the transfer's own folder is somebody else's, or others can
    write to it.
    """
    asked = _fields(text)
    destination = resolve(text)
    with open_below("/", os.path.dirname(destination), _DATA_MODE):
        pass
    with open_below("/", destination, 0o777 & ~int(asked["umask"], 8)):
        pass
    place = destination
    for part in asked["below"].split("/"):
        place = os.path.join(place, part)
        with open_below(resolved(destination), place, _OWN_MODE) as folder:
            refuse_shared(folder, place)
    return destination


def receive_range(text: str) -> str:
    """Do ``{"destination", "name", "offset", "count"}``: have dd write so many bytes into a file's partial, and end.

    ``name`` is a file that holds the name. The bytes come from descriptor 3. Raises PlaceError.
    """
    asked = _fields(text)
    with _open_partials(asked) as (folder, place, name):
        refuse_shared(folder, place)
        partial = _open_partial(folder, name, os.path.join(place, name))
        os.dup2(_BYTES, 0)
        os.dup2(partial, 1)
    words = ("bs=1048576", "iflag=count_bytes,fullblock", "oflag=seek_bytes", "conv=notrunc")
    os.execvp("dd", ("dd", *words, "count=" + str(int(asked["count"])), "seek=" + str(int(asked["offset"]))))


def discard(text: str) -> str:
    """Answer ``{"destination", "name"}``: remove a file's partial, and no other file. Raises PlaceError."""
    with _open_partials(_fields(text)) as (folder, place, name):
        try:
            os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise place_error(os.path.join(place, name), error)
    return ""


@contextmanager
def _open_partials(asked: Dict[str, str]) -> Iterator[Tuple[int, str, str]]:
    """Open the folder of a file's partial, made where it is missing; yield it, its path and the file's name in it."""
    destination = asked["destination"]
    with open(asked["name"], "rb") as file:
        above, name = os.path.split(os.path.join(destination, os.fsdecode(file.read())))
    with open_below(resolved(destination), above, _DATA_MODE):
        pass
    place = os.path.join(above, PARTIAL)
    with open_below(resolved(destination), place, _OWN_MODE) as folder:
        yield folder, place, name


def _open_partial(folder: int, name: str, place: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise place_error(place, error)
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(handle)
        raise ForeignError("{} is no file of its own".format(place))
    return handle


def _fields(text: str) -> Dict[str, str]:
    fields = json.loads(text)
    if not isinstance(fields, dict) or not all(isinstance(value, str) for value in fields.values()):
        raise ValueError("a request must be texts by name")
    return fields
