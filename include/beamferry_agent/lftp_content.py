"""Content that comes once more over lftp is compared with a copy, or hashed, as it comes: none touches a disk."""

import hashlib
import os
import threading
from typing import Dict, List, Optional, Sequence

from beamferry_agent.copy_reading import CopyReader, Read, leave_the_cache
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.marked_content import Marked, Reader, Reading


class CopyFolders(Reader):
    """The copy as one connection reads it."""

    def __init__(self, copy: int) -> None:
        """``copy``: the destination, open to be passed."""
        self.reader = CopyReader(copy, lambda _: None)

    def close(self) -> None:
        """Close the folders."""
        self.reader.close()


class Compare(Marked):
    """Each file is compared with its copy.

    ``unread``: lines on copies that cannot be read. ``cached``: how many may have come from this machine's memory.
    ``led_away``: one in whose place something else stands.
    """

    def __init__(self, files: Sequence[Wanted], copy: int) -> None:
        """``copy``: the destination, open to be passed."""
        super().__init__(files)
        self._copy = copy
        self._guard = threading.Lock()
        self.unread: List[bytes] = []
        self.cached = 0
        self.led_away: Optional[bytes] = None

    def make_reader(self) -> Reader:
        """See ``Marked``."""
        return CopyFolders(self._copy)

    def begin(self, number: int, reader: Reader) -> Reading:
        """See ``Marked``."""
        if not isinstance(reader, CopyFolders):
            raise TypeError("the copy is not open")
        return _Compared(self, self._files[number], reader.reader)

    def note(self, unread: Optional[bytes] = None, cached: bool = False) -> None:
        """Note what several connections find."""
        with self._guard:
            self.cached += cached
            if unread is not None:
                self.unread.append(unread)


class _Compared(Reading):
    """A file that is compared; both had one size when they were listed.

    A stream that ends early is a lost connection, of which lftp tells, or else a file that has become shorter.
    """

    def __init__(self, manner: Compare, file: Wanted, reader: CopyReader) -> None:
        super().__init__(file.size)
        self._manner, self._path = manner, file.path
        self._file: Optional[int] = None
        self._same = True
        found = reader.open(file.path)
        self._unread = found if isinstance(found, Read) else None
        if not isinstance(found, Read):
            self._file = found
            manner.note(cached=not leave_the_cache(found))

    def take(self, piece: bytes) -> None:
        """See ``Reading``."""
        at = self.count
        super().take(piece)
        view = memoryview(piece)
        while self._same and self._file is not None and view:
            try:
                mine = os.pread(self._file, len(view), at)
            except OSError as error:
                self._unread = Read(None, os.strerror(error.errno or 0))
                self._close()
                return
            if not mine or mine != view[: len(mine)]:
                self._same = False
            at, view = at + len(mine), view[len(mine) :]

    def end(self, came: bool) -> bytes:
        """See ``Reading``."""
        self._close()
        if not came:
            return b"no"
        if self._unread is not None:
            reason = self._unread.reason.encode("utf-8", "replace")
            self._manner.note(unread=b"beamferry: unread: " + self._path + b" (" + reason + b")")
            if self._unread.is_other:
                self._manner.led_away = self._path
            return b"unread"
        if self.count != self.size:
            return b"changed"
        return b"same" if self._same else b"differs"

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
        self._file = None


class Digest(Marked):
    """Each file's content is hashed; ``sums`` has the hashes of those that came whole, by their paths."""

    def __init__(self, files: Sequence[Wanted], sums: Dict[bytes, bytes]) -> None:
        """``sums`` is added to."""
        super().__init__(files)
        self.sums = sums

    def begin(self, number: int, reader: Reader) -> Reading:  # noqa: ARG002
        """See ``Marked``."""
        return _Hashed(self.sums, self._files[number])


class _Hashed(Reading):
    def __init__(self, sums: Dict[bytes, bytes], file: Wanted) -> None:
        super().__init__(file.size)
        self._sums, self._path, self._digest = sums, file.path, hashlib.sha256()

    def take(self, piece: bytes) -> None:
        super().take(piece)
        self._digest.update(piece)

    def end(self, came: bool) -> bytes:
        # A stream that ends early is a lost connection, of which lftp tells.
        if not came or self.count != self.size:
            return b"no"
        self._sums[self._path] = self._digest.digest()
        return b"same"
