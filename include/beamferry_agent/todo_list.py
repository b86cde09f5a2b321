"""Reads what a dry run of rsync prints: what is to do, remarks, and the text of ``--stats``."""

import os
from contextlib import ExitStack
from types import TracebackType
from typing import Optional, Type

from beamferry_agent.rsync_summary import Summary

# How rsync is asked for its lines, see ``TodoList.hear``.
FORMAT = "--out-format=@ %i %l %n"


class TodoList:
    """Writes ``todo.new`` (SIZE NAME, files to fetch) and ``others`` (the same of folders and links to make).

    ``files`` and ``bytes``: what is to fetch. ``summary``: what else rsync says.
    """

    def __init__(self, work: str) -> None:
        """Take the folder of the lists."""
        self._work = work
        self.files = self.bytes = 0
        self.summary = Summary()
        self._open = ExitStack()

    def __enter__(self) -> "TodoList":
        """Make the lists."""
        self._todo = self._open.enter_context(open(os.path.join(self._work, "todo.new"), "wb"))
        self._others = self._open.enter_context(open(os.path.join(self._work, "others"), "wb"))
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Write them to their ends."""
        self._open.close()

    def hear(self, line: bytes) -> None:
        """Take one line: the mark before it tells what is to do from whatever else rsync says.

        Where LC_ALL is C rsync escapes all that is not printable ASCII, so a line is a name whatever the name holds.
        """
        if line.startswith(b"@ "):
            _, item, rest = line.split(b" ", 2)
            if item[:1] == b"c":
                self._others.write(rest + b"\n")
            elif item[:2] == b">f":
                self._todo.write(rest + b"\n")
                self.bytes += int(rest[: rest.index(b" ")])
                self.files += 1
        else:
            # "created directory", "skipping non-regular file".
            self.summary.hear(line)
