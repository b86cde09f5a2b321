"""Puts files that have arrived into their places while others still come."""

import os
from contextlib import suppress
from typing import Iterable, List

from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.lftp_lists import Wanted, look

_A, _B = (7, 257, 4294967291), (11, 65599, 4294967279)
# Of complaints that are kept.
_LINES_LIMIT = 256 * 1024


class Lines:
    """Lines for people: all are counted, and so many are kept as anybody reads."""

    def __init__(self) -> None:
        """Begin with none."""
        self.count = 0
        self._kept: List[bytes] = []
        self._size = 0
        self._left_out = 0

    def add(self, line: bytes) -> None:
        """Add a line without its end."""
        self.count += 1
        if self._size > _LINES_LIMIT:
            self._left_out += 1
            return
        self._kept.append(line)
        self._size += len(line)

    @property
    def told(self) -> bytes:
        """All that is kept, and how much is not."""
        more = [b"[%d more such lines left out]" % self._left_out] if self._left_out else []
        return b"".join(line + b"\n" for line in self._kept + more)


def make_folders(folders: Folders, paths: Iterable[bytes], umask: int) -> Lines:
    """Make folders that are missing; return why some cannot be.

    What is written through a link in their way would leave the destination. The umask is the process's: to be called
    while nothing else runs in it.
    """
    complaints = Lines()
    before = os.umask(umask)
    try:
        for path in paths:
            words = _make(folders, path)
            if words:
                complaints.add(words)
    finally:
        os.umask(before)
    return complaints


def _make(folders: Folders, path: bytes) -> bytes:
    try:
        folders.enter(path, make=True)
    except BlockedError as error:
        return str(error).encode("utf-8", "surrogateescape")
    except OSError as error:
        return (
            b"mkdir: cannot create directory './"
            + path
            + b"': "
            + (error.strerror or "error").encode("utf-8")
        )
    return b""


def staged_name(file: Wanted) -> bytes:
    """Return the name under which a file arrives: another version of a file never has the same.

    It is made of two sums over the path, and of size and time.
    """
    sums = []
    for start, factor, modulus in (_A, _B):
        value = start
        for byte in file.path:
            value = (value * factor + byte) % modulus
        sums.append(value)
    return b"%d-%d-%d-%d" % (sums[0], sums[1], file.size, file.modified)


class Staging:
    """The folder in which files arrive; nothing lists it, and it is this account's alone.

    ``since``: a time by the clock of the destination; what has a time from there on has one that no server has told.
    """

    def __init__(self, handle: int) -> None:
        """Take its descriptor, which stays its owner's."""
        self.handle = handle
        self.since = 0

    def names(self) -> List[bytes]:
        """Return what is there."""
        return [os.fsencode(name) for name in os.listdir(self.handle)]

    def size(self) -> int:
        """Return how many bytes are there."""
        total = 0
        for name in self.names():
            # It may have been put into its place meanwhile.
            found = look(self.handle, name)
            total += found.size if found else 0
        return total

    def sweep(self, wanted: Iterable[bytes]) -> None:
        """Remove what is of versions that are not wanted any more, and have the rest begin anew. Raises OSError."""
        kept = frozenset(wanted)
        os.utime(self.handle)
        self.since = os.fstat(self.handle).st_mtime_ns // 10**9
        for name in self.names():
            if name in kept:
                os.utime(name, dir_fd=self.handle, follow_symlinks=False)
            else:
                self.remove(name)

    def remove(self, name: bytes) -> None:
        """Remove a file, if it is there. Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.handle)


class Placer:
    """Renames files from the staging folder into their places, once they are whole and as they were listed.

    ``bytes_placed``, ``files_placed``: of this start. ``changed``: those that are not as they were listed, by lines for
    people. ``longest_short``: the largest size of those that are shorter. ``misplaced``: why some found no place.
    """

    def __init__(self, staging: Staging, folders: Folders, window: int, placed: str) -> None:
        """``window``: seconds within which times are equal. ``placed``: the file that is told of what was placed."""
        self._staging, self._folders, self._window, self._placed = staging, folders, window, placed
        self.bytes_placed = self.files_placed = 0
        self.changed, self.misplaced = Lines(), Lines()
        self.longest_short = -1

    def settle(self, arrived: Iterable[Wanted]) -> None:
        """Put these into their places."""
        count = size = 0
        try:
            # Those of one folder come one after the other.
            for file in sorted(arrived, key=lambda file: os.path.dirname(file.path)):
                if self._settle(file):
                    count, size = count + 1, size + file.size
        finally:
            if count:
                self.bytes_placed, self.files_placed = self.bytes_placed + size, self.files_placed + count
                with open(self._placed, "ab") as note:
                    note.write(b"%d %d\n" % (size, count))

    def _settle(self, file: Wanted) -> bool:
        """Return whether it is in its place now.

        One that is not as it was listed is thrown away. Its time tells as well as its size, as lftp copies it; where
        the server tells none the file has the time at which it came, and gets the listing's. The next listing then
        shows whether that was right.
        """
        name = staged_name(file)
        try:
            found = look(self._staging.handle, name)
            if found is None:
                return False
            is_near = abs(found.modified - file.modified) <= self._window
            if found.size != file.size or (not is_near and found.modified < self._staging.since):
                self.changed.add(b"beamferry: changed: " + file.path)
                if found.size < file.size:
                    self.longest_short = max(self.longest_short, file.size)
                self._staging.remove(name)
                return False
            if not is_near:
                times = (file.modified, file.modified)
                os.utime(name, times, dir_fd=self._staging.handle, follow_symlinks=False)
            self._rename(name, file.path)
        except BlockedError as error:
            self.misplaced.add(str(error).encode("utf-8", "surrogateescape"))
            return False
        except OSError as error:
            reason = (error.strerror or "error").encode("utf-8")
            self.misplaced.add(b"mv: ./" + file.path + b": " + reason)
            return False
        return True

    def _rename(self, name: bytes, path: bytes) -> None:
        """A link in the way is replaced, not followed; a folder in the way is an error."""
        above, _, last = path.rpartition(b"/")
        try:
            self._rename_into(self._folders.enter(above), name, last)
        except FileNotFoundError:
            # Somebody may have put a new folder into the place of the one that was open.
            self._folders.forget()
            self._rename_into(self._folders.enter(above), name, last)

    def _rename_into(self, folder: int, name: bytes, last: bytes) -> None:
        os.rename(name, last, src_dir_fd=self._staging.handle, dst_dir_fd=folder)
