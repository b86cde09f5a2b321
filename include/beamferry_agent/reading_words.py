"""What is complained of while both ends are read: which end it is of, and what it means."""

import os
import re
from typing import Iterable

from beamferry_agent.step import Step

# The tools are the same at both ends: lines of those that read at RDS get a mark.
OF_RDS = b"RDS: "
# Something cannot be read; something went away meanwhile.
UNREAD, VANISHED = 23, 24
# Only lines of the tools that read count: a far host may print what it likes on stderr. Names stand before the reason,
# and may look like one.
_OF_READER = re.compile(rb"(?:find|sha256sum|sh|[^ ]*/sh): ")
_GONE = re.compile(rb": No such file(?: or directory)?\r?\n?\Z")
_PIECE = 64 * 1024


def reading_code(files: Iterable[str]) -> int:
    """Return what a failed reading means: 24 where files had only gone away in the meantime, else 23."""
    is_gone = False
    for path in files:
        if not os.path.exists(path):
            continue
        with open(path, "rb") as lines:
            for line in lines:
                if not _OF_READER.match(line):
                    continue
                if not _GONE.search(line):
                    return UNREAD
                is_gone = True
    return VANISHED if is_gone else UNREAD


def hear_lines(step: Step, path: str, mark: bytes = b"") -> None:
    """Let a step hear the lines of a file, if there is one, each with a mark."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as file:
        for lines in iter(lambda: file.readlines(_PIECE), []):
            step.hear(b"".join(mark + line for line in lines))


def complaint(path: bytes, words: str) -> bytes:
    """Return a line about a file that this process could not read, as a tool would have it."""
    name = path.replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return b"sha256sum: ./%b: %b\n" % (name, words.encode("ascii", "replace"))
