"""Files that were found to differ from their source: remembered for a destination until they are seen to agree."""

import hashlib
import json
import os
import stat
from typing import Dict, Iterable, Iterator, List, Optional, Set, Tuple

from beamferry_agent.answers import DamagedListsError
from beamferry_agent.places import open_below, write_whole
from beamferry_agent.records import FILE, Entry, encode_name, read_names, read_records

# Such a copy gets this time of change, long before any beamtime: whatever compares size and time, be it a plain rsync
# of a person, then fetches it again.
MARK = 1
_FOLDER = os.path.join(".beamferry", "mismatches")
_HEAD = b"beamferry mismatches 1 "
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Memory:
    """The remembered paths of one destination.

    It lies in the home folder, and not among the jobs' files, which people remove when something hangs.
    """

    def __init__(self, destination: str) -> None:
        """Name the file; links that lead to a destination make no other destination of it."""
        self._home = os.environ["HOME"]
        self._destination = os.path.realpath(destination)
        self._name = hashlib.sha256(os.fsencode(self._destination)).hexdigest()[:32]

    @property
    def place(self) -> str:
        """The file."""
        return os.path.join(self._home, _FOLDER, self._name)

    def read(self) -> List[bytes]:
        """Return the paths, as bytes, in a census's order; none where nothing is remembered.

        Raises DamagedListsError when the file is not what was written.
        """
        try:
            with open(self.place, "rb") as file:
                items = list(read_names(file))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DamagedListsError("{} cannot be read: {}".format(self.place, error.strerror))
        if not items or items[0] != _HEAD + str(len(items) - 1).encode():
            raise DamagedListsError("{} is not whole".format(self.place))
        return items[1:]

    def write(self, paths: Iterable[bytes]) -> None:
        """Remember these paths and no others.

        Raises PlaceError.
        """
        kept = sorted(set(paths), key=_order)
        content = b"".join(path + b"\0" for path in [_HEAD + str(len(kept)).encode(), *kept])
        with open_below(self._home, os.path.join(self._home, _FOLDER), 0o700) as folder:
            write_whole(folder, self._name, content, 0o600)

    def put_aside(self) -> None:
        """Keep a damaged file under another name."""
        os.replace(self.place, self.place + ".damaged")

    def mark(self, paths: Iterable[bytes]) -> None:
        """Give the copies of these paths the time that has them fetched again; what is no file is left alone."""
        try:
            root = os.open(self._destination, _FOLDER_FLAGS)
        except OSError:
            return
        try:
            for path in paths:
                _mark(root, path)
        finally:
            os.close(root)

    def exists(self, path: bytes) -> bool:
        """Say whether something is there at the destination, in scope or not."""
        return os.path.lexists(os.path.join(os.fsencode(self._destination), path))


def recall(text: str) -> str:
    """Answer ``{"destination", "output", "mark"}``: write the remembered paths to a list.

    If ``mark`` is ``yes``, their copies are marked. Only what is about to fetch them marks them: a comparison would
    take a copy that was mended for another version. Raises DamagedListsError when the memory is damaged; it is put
    aside then.
    """
    asked = json.loads(text)
    memory = Memory(asked["destination"])
    try:
        paths = memory.read()
    except DamagedListsError:
        memory.put_aside()
        raise
    if asked["mark"] == "yes":
        memory.mark(paths)
    _write_list(asked["output"], paths)
    return json.dumps({"remembered": len(paths)})


def remember(text: str) -> str:
    """Answer ``{"destination", "folder"}``: settle what was remembered by the lists of a comparison.

    The folder has ``source.census``, ``destination.census``, ``sampled`` (paths whose content was compared) and
    ``mismatches``. Writes there ``unresolved``: what still is remembered and could not be compared. Raises
    DamagedListsError.
    """
    asked = json.loads(text)
    memory, folder = Memory(asked["destination"]), asked["folder"]
    try:
        old = set(memory.read())
    except DamagedListsError:
        # It was put aside when it was recalled, and everything was compared since.
        old = set()
    differ = set(_read_list(folder, "mismatches"))
    agree = {path for path in _read_list(folder, "sampled") if path in old} - differ
    left = old - differ - agree
    settled, unresolved = _judge(memory, folder, left)
    memory.write(differ | (left - settled))
    memory.mark(differ)
    _write_list(os.path.join(folder, "unresolved"), sorted(unresolved, key=_order))
    return json.dumps({"remembered": len(differ | (left - settled)), "unresolved": len(unresolved)})


def suspect(text: str) -> str:
    """Answer ``{"destination", "list"}``: remember the paths of a list as well, as they may have lost their bytes.

    Raises DamagedListsError.
    """
    asked = json.loads(text)
    memory = Memory(asked["destination"])
    with open(asked["list"], "rb") as file:
        found = set(read_names(file))
    memory.write(found.union(memory.read()))
    return json.dumps({"suspect": len(found)})


def select(text: str) -> str:
    """Answer ``{"list", "paths", "output"}``: write those records of a list whose path is among the paths."""
    asked = json.loads(text)
    with open(asked["paths"], "rb") as file:
        wanted = set(read_names(file))
    with open(asked["list"], "rb") as records, open(asked["output"], "wb") as output:
        for record in read_names(records):
            if record.split(b"//", 1)[0] in wanted:
                output.write(record + b"\0")
    return json.dumps({})


def _judge(memory: Memory, folder: str, left: Set[bytes]) -> Tuple[Set[bytes], Set[bytes]]:
    """Return which paths need no memory any more, and which nothing else in the comparison tells of."""
    here, there = (_find(folder, name, left) for name in ("source.census", "destination.census"))
    settled: Set[bytes] = set()
    unresolved: Set[bytes] = set()
    for path in left:
        source, copy = here.get(path), there.get(path)
        if source is None and copy is None:
            (unresolved if memory.exists(path) else settled).add(path)
        elif source is not None and copy is not None and _alike(source, copy):
            # Links and empty files have no content that could differ.
            (settled if source.kind != FILE or source.size == 0 else unresolved).add(path)
        elif source is None:
            unresolved.add(path)
    return settled, unresolved


def _alike(source: Entry, copy: Entry) -> bool:
    return (source.kind, source.size, source.target) == (copy.kind, copy.size, copy.target)


def _find(folder: str, census: str, wanted: Set[bytes]) -> Dict[bytes, Entry]:
    if not wanted:
        return {}
    with open(os.path.join(folder, census), "rb") as file:
        entries = ((encode_name(entry.path), entry) for entry in read_records(file))
        return {path: entry for path, entry in entries if path in wanted}


def _mark(root: int, path: bytes) -> None:
    *folders, name = path.split(b"/")
    here = os.dup(root)
    file: Optional[int] = None
    try:
        for part in folders:
            here, above = os.open(part, _FOLDER_FLAGS, dir_fd=here), here
            os.close(above)
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode):
            os.utime(file, (found.st_atime, MARK))
    except OSError:
        # It is gone, or no file any more: then a listing shows the difference.
        return
    finally:
        if file is not None:
            os.close(file)
        os.close(here)


def _read_list(folder: str, name: str) -> Iterator[bytes]:
    with open(os.path.join(folder, name), "rb") as file:
        for item in read_names(file):
            yield item.split(b"//", 1)[0]


def _write_list(place: str, paths: Iterable[bytes]) -> None:
    with open(place, "wb") as file:
        for path in paths:
            file.write(path + b"\0")


def _order(path: bytes) -> bytes:
    # As censuses are sorted.
    return path + b"//"
