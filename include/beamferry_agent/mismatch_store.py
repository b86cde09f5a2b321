"""Where files that were found to differ are remembered: a file for each source and its copy, in the home folder."""

import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.moved_copies import Seen, find_copies, look_at
from beamferry_agent.places import PlaceError, open_below, write_whole
from beamferry_agent.records import read_names

_FOLDER = os.path.join(".beamferry", "mismatches")
_LOCK = ".lock"
_HEAD = b"beamferry mismatches 3 "
# Two paths, each of at most 4096 bytes, and a host.
_HEAD_LIMIT = 16 * 1024


class Pair(NamedTuple):
    """A source, ``HOST:PATH``, and the folder here that holds its copy, without links on the way."""

    source: bytes
    destination: bytes


class Spot(NamedTuple):
    """Where a path is remembered: the pair it was found with, and its path below that."""

    pair: Pair
    path: bytes

    @property
    def copy(self) -> bytes:
        """The file that was found to differ."""
        return os.path.join(self.pair.destination, self.path)


def pair_of(source: str, destination: str) -> Pair:
    """Return a source and a destination; links that lead to a destination make no other destination of it."""
    host, _, path = source.partition(":")
    return Pair(
        os.fsencode("{}:{}".format(host, path.rstrip("/"))), os.fsencode(os.path.realpath(destination))
    )


class Store:
    """What is remembered, by the pairs with which it was found.

    It lies in the home folder, and not among the jobs' files, which people remove when something hangs.
    """

    def __init__(self) -> None:
        """Name the folder."""
        self._home = os.environ["HOME"]

    @property
    def folder(self) -> str:
        """The folder."""
        return os.path.join(self._home, _FOLDER)

    @contextmanager
    def open(self) -> Iterator[int]:
        """Keep everybody else out, so that nobody writes back what another one has changed.

        Yields the folder's descriptor. Raises PlaceError.
        """
        with open_below(self._home, self.folder, 0o700) as folder:
            try:
                lock = os.open(
                    _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
                )
            except OSError as error:
                raise PlaceError("{}: {}".format(os.path.join(self.folder, _LOCK), error.strerror))
            try:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX)
                except OSError as error:
                    raise PlaceError("{} cannot be locked ({})".format(self.folder, error.strerror))
                yield folder
            finally:
                os.close(lock)

    def find(self, folder: int, pair: Pair, *, pass_damaged: bool = False) -> Dict[bytes, List[Spot]]:
        """Return what is remembered of a pair by its path below it, with whatever pair it was found.

        That is each file below the destination, and each whose source is below the source: an entry may name another
        folder of either, and a copy may be moved. Raises DamagedListsError when one of the memory's files that has to
        do with the pair is not what was written: then everything has to be compared again, and the file stays until
        that is done. With ``pass_damaged`` such files are passed over.
        """
        found: Dict[bytes, List[Spot]] = {}
        for name, other, paths in self._files(folder, pair):
            if paths is None and not pass_damaged:
                raise DamagedListsError("{} is not whole".format(os.path.join(self.folder, name)))
            for path in paths or ():
                below = _below(pair, Spot(other, path))
                if below is not None:
                    found.setdefault(below, []).append(Spot(other, path))
        return found

    def adopt_moved(self, folder: int, pair: Pair) -> None:
        """Let a pair have what is remembered of copies that were moved below its destination from anywhere.

        Their old place and their source may both have nothing to do with the pair: a moved file is known by its inode.
        Only where a remembered copy is gone from its place is the destination searched. Raises PlaceError.
        """
        gone: Dict[Seen, List[Spot]] = {}
        for _, other, paths in self._files(folder, pair, untouched=True):
            for path, seen in (paths or {}).items():
                spot = Spot(other, path)
                if seen.inode and _below(pair, spot) is None and not os.path.lexists(spot.copy):
                    gone.setdefault(seen, []).append(spot)
        remove: Dict[Pair, Set[bytes]] = {}
        add: Set[bytes] = set()
        for path, seen in find_copies(pair.destination, set(gone)) if gone else ():
            add.add(path)
            for spot in gone[seen]:
                remove.setdefault(spot.pair, set()).add(spot.path)
        if add:
            self.change(folder, pair, add, remove)

    def put_aside(self, folder: int, pair: Pair) -> None:
        """Keep damaged files under other names, once everything that they told of was compared with a pair."""
        for name, other, paths in self._files(folder, pair):
            # A copy that was moved is compared where it is now.
            moved = _relative(other.source, pair.source) is not None and not os.path.lexists(
                other.destination
            )
            if paths is None and (moved or _relative(other.destination, pair.destination) is not None):
                os.rename(name, name + ".damaged", src_dir_fd=folder, dst_dir_fd=folder)

    def _files(
        self, folder: int, pair: Pair, *, untouched: bool = False
    ) -> Iterator[Tuple[str, Pair, Optional[Dict[bytes, Seen]]]]:
        """Yield name, pair and paths of the files that have to do with a pair; None as paths of one that is damaged.

        With ``untouched`` those that have nothing to do with it as well, as far as they are whole.
        Of a file whose beginning is lost nobody knows the pair but who looks for its name.
        """
        for name in sorted(os.listdir(folder)):
            if name.startswith(".") or name.endswith(".damaged"):
                continue
            try:
                other, paths = _read(folder, name, None if untouched else pair)
            except DamagedListsError:
                damaged = pair if name == _name(pair) else _pair_of_head(folder, name)
                if damaged is not None and _touches(damaged, pair):
                    yield name, damaged, None
            else:
                yield name, other, paths

    def change(self, folder: int, pair: Pair, add: Set[bytes], remove: Dict[Pair, Set[bytes]]) -> None:
        """Remember more paths of a pair, and forget some, of whatever pairs.

        Raises PlaceError; DamagedListsError where one of these is damaged, and nothing was changed of that pair.
        """
        for other in {pair, *remove}:
            try:
                _, paths = _read(folder, _name(other), other)
            except FileNotFoundError:
                paths = {}
            kept = set(paths) - remove.get(other, set())
            if other == pair:
                kept |= add
            if kept:
                items = [_HEAD + str(len(kept)).encode(), *other]
                for path in sorted(kept, key=in_order):
                    seen = look_at(Spot(other, path).copy) or paths.get(path) or Seen(0, 0)
                    items.append(b"%b//%d//%d" % (path, seen.inode, seen.size))
                write_whole(folder, _name(other), b"".join(item + b"\0" for item in items), 0o600)
            elif paths:
                os.unlink(_name(other), dir_fd=folder)


def in_order(path: bytes) -> bytes:
    """Return what a path is sorted by, so that lists come in a census's order."""
    return path + b"//"


def _name(pair: Pair) -> str:
    return hashlib.sha256(b"\0".join(pair)).hexdigest()[:32]


def _read(folder: int, name: str, wanted: Optional[Pair]) -> Tuple[Pair, Dict[bytes, Seen]]:
    """Return a file's pair and its paths, with what was seen of each copy.

    With a wanted pair the paths of one that has nothing to do with it are not read.
    """
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(handle, "rb") as file:
        items = read_names(file)
        head, source, destination = (next(items, b"") for _ in range(3))
        pair = Pair(source, destination)
        if (
            wanted is not None
            and head.startswith(_HEAD)
            and name == _name(pair)
            and not _touches(pair, wanted)
        ):
            return pair, {}
        lines = [item.split(b"//") for item in items]
    if name != _name(pair) or head != _HEAD + str(len(lines)).encode():
        raise DamagedListsError("is not whole")
    try:
        return pair, {path: Seen(int(inode), int(size)) for path, inode, size in lines}
    except ValueError:
        raise DamagedListsError("is not whole")


def _pair_of_head(folder: int, name: str) -> Optional[Pair]:
    """Return the pair of a damaged file, None where its beginning is lost."""
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:
        _, source, destination, *_ = file.read(_HEAD_LIMIT).split(b"\0") + [b""] * 3
    pair = Pair(source, destination)
    return pair if _name(pair) == name else None


def _touches(one: Pair, other: Pair) -> bool:
    return any(
        _relative(a, b) is not None or _relative(b, a) is not None
        for a, b in ((one.source, other.source), (one.destination, other.destination))
    )


def _below(pair: Pair, spot: Spot) -> Optional[bytes]:
    """Return the path by which a pair knows a file, None where it is not below it."""
    found = _relative(spot.copy, pair.destination)
    if found is None:
        found = _relative(os.path.join(spot.pair.source, spot.path), pair.source)
    return found or None


def _relative(path: bytes, folder: bytes) -> Optional[bytes]:
    """Return a path below a folder, b'' for the folder itself, None where it is elsewhere."""
    if path == folder:
        return b""
    prefix = folder.rstrip(b"/") + b"/"
    return path[len(prefix) :] if path.startswith(prefix) else None
