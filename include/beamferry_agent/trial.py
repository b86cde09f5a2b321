"""A trial of the destination: names are made in a folder of its own, whose list then tells what cannot be held."""

import errno
import os
import re
import signal
import sys
from contextlib import contextmanager
from itertools import chain
from typing import Iterable, Iterator, List, NamedTuple

from beamferry_agent.destination import PARTIAL
from beamferry_agent.errors import AgentError
from beamferry_agent.names import LONG, PLAIN, TRIALS, Lacks, Refused, lacking, long_name, unheld
from beamferry_agent.places import PlaceError, make_file, place_error, private_folder
from beamferry_agent.records import FOLDER, read_names, unescape_name

# Names in a message; more than this helps nobody, the file has them all.
_NAMED = 20
_NAMED_BYTES = 4096
# Of a path in a message.
_SHORT = 200
# As Linux takes them, see path_resolution(7).
_LONGEST_PATH = 4095
# These say nothing of a name: the folder has no room, or does not work.
_OF_THE_FOLDER = frozenset(
    (
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EIO,
        errno.ESTALE,
        errno.EROFS,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.ENOTCONN,
    )
)
# As rsync escapes names, see records.unescape_name.
_TO_ESCAPE = re.compile(rb"[^ -~]|\\(?=#[0-7]{3})")


class NamesError(AgentError):
    """Names cannot be held. The message counts them, and has a line for each of the first ones."""

    exit_code = 72


class NewNames(NamedTuple):
    """Files with the names that are new: ``records`` of a census, or ``todo`` and ``others``, lines of SIZE and NAME as
    rsync prints them; '' for what there is none of.
    """

    records: str = ""
    todo: str = ""
    others: str = ""


def refuse_names(destination: str, root: str, new: NewNames, output: str) -> List[str]:
    """Refuse what of a list the destination cannot hold; return what its file system lacks.

    If all can be held, ``output`` is not made; else it gets a line for each that cannot. Raises NamesError, PlaceError
    and DamagedListsError.
    """
    lacks = try_names(destination, root)
    found = unheld(lambda: _paths(new), lacks, lambda folder: _names_there(destination, folder))
    lines = (_line(entry) for entry in chain(_too_long(destination, new), found))
    first = next(lines, None)
    if first is not None:
        raise NamesError(_write_all(output, chain((first,), lines)))
    return sorted(lacks.traits)


def _write_all(output: str, lines: Iterable[bytes]) -> str:
    """Write all lines, and return what is to be said of them."""
    new = "{}.{}.new".format(output, os.urandom(6).hex())
    count, room, said = 0, _NAMED_BYTES, ""
    with open(new, "wb") as file:
        for line in lines:
            file.write(line + b"\n")
            count += 1
            room -= len(line)
            if count <= _NAMED and room >= 0:
                said += "\ncannot be held: " + line.decode("ascii")
    os.replace(new, output)
    return "names that cannot be held: {}{}".format(count, said)


def _line(entry: Refused) -> bytes:
    why = entry.why.encode() if entry.why else b"would be taken for " + entry.other
    return _TO_ESCAPE.sub(_escaped, _in_short(entry.path) + b" (" + why + b")")


def _in_short(path: bytes) -> bytes:
    """Return a path as people can read it: of a long one the beginning and the end."""
    return path if len(path) <= _SHORT else path[: _SHORT // 2] + b"..." + path[-_SHORT // 2 :]


def _too_long(destination: str, new: NewNames) -> Iterator[Refused]:
    """Yield the paths that are too long below this destination, with what a transfer keeps of them meanwhile."""
    room = _LONGEST_PATH - len(os.fsencode(destination)) - len("/" + PARTIAL + "/")
    # A list is looked at path by path only where an entry of it is as long.
    if max(_lengths(new), default=0) > room:
        for path in _paths(new):
            if len(path) > room:
                yield Refused(path, "is a path of more than {} bytes".format(room), b"")


def _escaped(match: "re.Match[bytes]") -> bytes:
    return "\\#{:03o}".format(match.group()[0]).encode()


def _paths(new: NewNames) -> Iterator[bytes]:
    """Yield the paths of a list, those of folders with ``/`` at their end."""
    for record in _records(new):
        path, kind = (record + b"//").split(b"//", 2)[:2]
        yield path + b"/" if kind == FOLDER.encode() else path
    for line in _lines(new):
        path = unescape_name(line.rstrip(b"\n").split(b" ", 1)[1])
        # The beamtime's own folder has a line of its own.
        if path != b"./":
            yield path


def _lengths(new: NewNames) -> Iterator[int]:
    return map(len, chain(_records(new), _lines(new)))


def _records(new: NewNames) -> Iterator[bytes]:
    if new.records:
        with open(new.records, "rb") as file:
            for record in read_names(file):
                yield record


def _lines(new: NewNames) -> Iterator[bytes]:
    for place in (new.todo, new.others):
        if place:
            with open(place, "rb") as file:
                for line in file:
                    yield line


def _names_there(destination: str, folder: bytes) -> Iterable[bytes]:
    try:
        return os.listdir(os.path.join(os.fsencode(destination), folder))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise place_error(destination, error)


def try_names(destination: str, root: str) -> Lacks:
    """Return what the file system of a destination lacks; where that is not there yet, of the folder nearest to it.

    Raises PlaceError when the folder there cannot be tried at all.
    """
    place = _nearest(destination, root)
    with _ended_in_order(), private_folder(place, "names") as folder:
        _make(folder, place, PLAIN[0])
        made = {name: _can_be_made(folder, place, name) for names in TRIALS.values() for name in names}
        if not all(made[name] for name in TRIALS[LONG]):
            _make_shorter(folder, place)
        _make(folder, place, PLAIN[1])
        try:
            found = [os.fsencode(name) for name in os.listdir(folder)]
        except OSError as error:
            raise place_error(place, error)
    if not set(PLAIN).issubset(found):
        raise PlaceError("{} does not list what was made in it".format(place))
    return lacking(found)


def _make_shorter(folder: int, place: str) -> None:
    """Make the longest name that can be made."""
    for length in range(len(TRIALS[LONG][0]), len(PLAIN[0]), -1):
        if _can_be_made(folder, place, long_name(length)):
            return


def _make(folder: int, place: str, name: bytes) -> None:
    try:
        make_file(folder, name)
    except OSError as error:
        raise place_error(place, error)


def _can_be_made(folder: int, place: str, name: bytes) -> bool:
    try:
        make_file(folder, name)
    except OSError as error:
        if error.errno in _OF_THE_FOLDER:
            raise place_error(place, error)
        return False
    return True


def _nearest(destination: str, root: str) -> str:
    """Return the destination, or the nearest folder above it that is there, but none above the root."""
    top = os.path.realpath(root)
    at = os.path.normpath(destination)
    below = at.startswith(top.rstrip("/") + "/")
    while not os.path.isdir(at) and at != top:
        at = os.path.dirname(at)
    return top if below and not (at + "/").startswith(top.rstrip("/") + "/") else at


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let what was begun be removed when this is asked to end."""
    before = signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
