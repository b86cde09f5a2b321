"""The dry run's lists, of one folder each: what is to be fetched, and which folders hold it."""

import os
import stat
from contextlib import suppress
from typing import IO, FrozenSet, Iterator, NamedTuple, Optional, Tuple, Union

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.records import read_names

_SEPARATOR = b"//"
_BESIDE = b"."


class Wanted(NamedTuple):
    """A file that is to come: its path, and size and time as they were listed."""

    path: bytes
    size: int
    modified: int


class Copy(NamedTuple):
    """What is there of a file: bytes, and its time in whole seconds."""

    size: int
    modified: int


def look(folder: int, name: bytes) -> Optional[Copy]:
    """Return what is seen of a file in a folder, None where there is none. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Copy(found.st_size, found.st_mtime_ns // 10**9) if stat.S_ISREG(found.st_mode) else None


def records_of(names: Iterator[bytes], folder: bytes) -> Iterator[bytes]:
    """Yield those records that are a folder's; ``.`` stands for the files that lie beside the folders."""
    if folder != _BESIDE:
        # Of the folder itself the separator begins so.
        start = folder + b"/"
        yield from (record for record in names if record.startswith(start))
        return
    for record in names:
        at = record.find(_SEPARATOR)
        if record.find(b"/") == at and record[at + 2 : at + 5] != b"d//":
            yield record


def folders_of(census: str, folder: bytes) -> Iterator[bytes]:
    """Yield the paths of the folders that a census has of one, those above before those below.

    Raises DamagedListsError.
    """
    with open(census, "rb") as file:
        for record in records_of(read_names(file), folder):
            path, kind = _parts(record)[:2]
            if kind == b"d":
                yield path


def wanted_of(todo: Union[str, IO[bytes]], folder: Optional[bytes]) -> Iterator[Tuple[bytes, Wanted]]:
    """Yield the records of a list of files to fetch, of one folder or of all, each with what it says.

    Raises DamagedListsError.
    """
    if isinstance(todo, str):
        with open(todo, "rb") as file:
            yield from wanted_of(file, folder)
        return
    names = read_names(todo)
    for record in names if folder is None else records_of(names, folder):
        path, _, size, modified = _parts(record)
        try:
            wanted = Wanted(path, int(size), int(modified))
        except ValueError:
            raise _unreadable(record)
        yield record, wanted


def _parts(record: bytes) -> Tuple[bytes, bytes, bytes, bytes]:
    parts = record.split(_SEPARATOR, 4)
    if len(parts) != 5 or not parts[0]:
        raise _unreadable(record)
    return parts[0], parts[1], parts[2], parts[3]


def _unreadable(record: bytes) -> DamagedListsError:
    return DamagedListsError("{!a} is not an entry".format(record[:200].decode("utf-8", "surrogateescape")))


def read_damaged(path: str) -> FrozenSet[bytes]:
    """Return the paths that differ whatever their size and time say. Raises DamagedListsError."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return frozenset(read_names(file))
    return frozenset()


def is_file_there(folders: Folders, file: Wanted, window: Optional[int]) -> bool:
    """Say whether a file is in its place, by its size, and by its time unless ``window`` is None."""
    above, _, name = file.path.rpartition(b"/")
    try:
        found = look(folders.enter(above), name)
    except (OSError, BlockedError):
        # What cannot be looked at is to come; placing it tells why it cannot.
        return False
    if found is None or found.size != file.size:
        return False
    return window is None or abs(found.modified - file.modified) <= window
