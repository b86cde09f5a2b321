"""Gives the group its permissions on copies that are there already: of what is this account's, and nothing else."""

import errno
import os
import stat
from typing import Dict, List, Optional

from beamferry_agent.places import open_root, place_error, resolved
from beamferry_agent.records import FILE, Entry, read_records

_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SEEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ITSELF = "."
# Reading needs the second of the two at a folder. What the account itself may do is what the transfer needs.
_FILE_BITS = {"read": 0o640, "write": 0o660}
_FOLDER_BITS = {"read": 0o750, "write": 0o770}
# What no copy has: leave for others to write, and what lets a file be run as somebody else.
_NEVER = stat.S_IWOTH | stat.S_ISUID
# Gone, or something else by now: the comparison tells of it.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def open_copies(destination: str, census: str, folder: str, *, access: str, group: str) -> Dict[str, int]:
    """Open what a census of what has to be opened holds of a folder.

    ``folder``: a name, or ``.`` for the files beside the folders; the destination itself belongs to each. ``access``:
    read or write. ``group``: the number of the group that everything is given, or ``own``. Returns how many were
    ``opened``, and how many are not this account's to open and were ``left``. Raises DamagedListsError, PlaceError.
    """
    number = None if group == "own" else int(group)
    counts = {"opened": 0, "left": 0}
    folders = _Folders(destination)
    try:
        with open(census, "rb") as records:
            for entry in read_records(records):
                if not _belongs(entry, folder):
                    continue
                if ".." in entry.path.split("/"):
                    raise ValueError("an entry of the list is not below the destination")
                done = _open(folders, entry, access, number)
                if done is not None:
                    counts["opened" if done else "left"] += 1
    finally:
        folders.close()
    return counts


def _belongs(entry: Entry, folder: str) -> bool:
    if entry.path == _ITSELF:
        return True
    first, slash, _ = entry.path.partition("/")
    is_beside = not slash and entry.kind == FILE
    return is_beside if folder == _ITSELF else first == folder and not is_beside


class _Folders:
    """The way to the folder of one entry after the other; a list has those of one folder together."""

    def __init__(self, root: str) -> None:
        self._handles = [open_root(resolved(root))]
        self._names: List[str] = []

    def enter(self, path: str) -> int:
        """Return the folder, open to be passed; no link is followed. Raises OSError."""
        names = [name for name in path.split("/") if name]
        same = 0
        while same < min(len(names), len(self._names)) and names[same] == self._names[same]:
            same += 1
        while len(self._names) > same:
            os.close(self._handles.pop())
            self._names.pop()
        for name in names[same:]:
            self._handles.append(os.open(name, _PASSED, dir_fd=self._handles[-1]))
            self._names.append(name)
        return self._handles[-1]

    def close(self) -> None:
        """Close what is open."""
        while self._handles:
            os.close(self._handles.pop())


def _open(folders: _Folders, entry: Entry, access: str, group: Optional[int]) -> Optional[bool]:
    """Open one entry; return None where it is gone, False where it is not this account's alone."""
    above, name = os.path.split(entry.path)
    try:
        handle = os.open(name, _SEEN, dir_fd=folders.enter(above))
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise place_error(entry.path, error)
    try:
        found = os.fstat(handle)
        if not (stat.S_ISREG if entry.kind == FILE else stat.S_ISDIR)(found.st_mode):
            return None
        # A file with another name may be one that is not for the group.
        if found.st_uid != os.geteuid() or (entry.kind == FILE and found.st_nlink != 1):
            return False
        _change(handle, found, access, group)
    except OSError as error:
        if error.errno == errno.EPERM:
            return False
        raise place_error(entry.path, error)
    finally:
        os.close(handle)
    return True


def _change(handle: int, found: os.stat_result, access: str, group: Optional[int]) -> None:
    # The one way to a file that is open to be looked at alone, and to no other that may have its name by now.
    place = "/proc/self/fd/{}".format(handle)
    if group is not None and found.st_gid != group:
        os.chown(place, -1, group)
    never = _NEVER | (0 if access == "write" else stat.S_IWGRP)
    if stat.S_ISREG(found.st_mode):
        bits = _FILE_BITS[access]
        never |= stat.S_ISGID
    else:
        bits = _FOLDER_BITS[access] | (0 if group is None else stat.S_ISGID)
    os.chmod(place, stat.S_IMODE(found.st_mode) & ~never | bits)
