"""The folders below the destination, each opened from the one above it: no link of others is followed on the way."""

import os
import stat
from collections import OrderedDict
from contextlib import suppress
from types import TracebackType
from typing import Optional, Type

_PASSED = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# With a few more than a path has components, files that come in any order do not each walk their path.
_MOST_OPEN = 64


class BlockedError(Exception):
    """Something else stands where a folder has to be; the message is a line with the place."""


class Folders:
    """Folders below a root, opened to be passed; those that were used last stay open."""

    def __init__(self, root: int) -> None:
        """``root`` is a descriptor, and stays its owner's."""
        self._root = root
        self._open: "OrderedDict[bytes, int]" = OrderedDict()

    def __enter__(self) -> "Folders":
        """Begin."""
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Close what is open."""
        self.forget()

    def forget(self) -> None:
        """Close what is open: the next look begins at the root."""
        while self._open:
            os.close(self._open.popitem()[1])

    def enter(self, path: bytes, make: bool = False) -> int:
        """Return a folder's descriptor, valid until the next call; '' is the root.

        ``make``: make what is missing, with the modes that the umask gives. Raises OSError, BlockedError.
        """
        here = self._open.get(path)
        if here is not None:
            self._open.move_to_end(path)
            return here
        parts = path.split(b"/") if path else []
        if b".." in parts:
            raise ValueError("a path of the list is not below the destination")
        known = len(parts)
        while known and b"/".join(parts[:known]) not in self._open:
            known -= 1
        here = self._root
        for end in range(1, known + 1):
            at = b"/".join(parts[:end])
            if at in self._open:
                self._open.move_to_end(at)
                here = self._open[at]
        for end in range(known + 1, len(parts) + 1):
            at = b"/".join(parts[:end])
            here = _step(here, parts[end - 1], at, make)
            self._keep(at, here)
        return here

    def _keep(self, at: bytes, handle: int) -> None:
        self._open[at] = handle
        if len(self._open) > _MOST_OPEN:
            os.close(self._open.popitem(last=False)[1])


def _step(above: int, name: bytes, at: bytes, make: bool) -> int:
    try:
        try:
            return os.open(name, _PASSED, dir_fd=above)
        except FileNotFoundError:
            if not make:
                raise
        # Somebody else may have made something meanwhile, whatever it is.
        with suppress(FileExistsError):
            os.mkdir(name, 0o777, dir_fd=above)
        return os.open(name, _PASSED, dir_fd=above)
    except NotADirectoryError:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
        kind = "link" if is_link else "file"
        raise BlockedError(
            "./{}: a {} stands where a folder has to come".format(at.decode("utf-8", "surrogateescape"), kind)
        )
