"""Why a file system refuses: the words of each errno, whether trying again helps, and what it means at each end."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a reason asks for."""

    DENIED = "a person has to give permission"
    FULL = "somebody has to make room"
    PASSING = "it may heal by itself"


class End(Enum):
    """Where it was seen."""

    FACILITY = "the facility"
    RDS = "RDS"
    HOME = "the home folder on RDS-SSH"


@dataclass(frozen=True)
class Reason:
    """One reason.

    Args:
        number: the errno.
        words: of the C library, in English.
        kind: what the reason asks for.
    """

    number: int
    words: str
    kind: Kind

    @property
    def name(self) -> str:
        """The errno's name, e.g. ``ENOSPC``."""
        return errno.errorcode[self.number]


# The numbers are Linux's, which both ends run.
REASONS = (
    Reason(errno.EACCES, "Permission denied", Kind.DENIED),
    Reason(errno.EPERM, "Operation not permitted", Kind.DENIED),
    Reason(errno.EROFS, "Read-only file system", Kind.DENIED),
    Reason(errno.ENOSPC, "No space left on device", Kind.FULL),
    Reason(errno.EDQUOT, "Disk quota exceeded", Kind.FULL),
    Reason(errno.EFBIG, "File too large", Kind.FULL),
    Reason(errno.ESTALE, "Stale file handle", Kind.PASSING),
    Reason(errno.EIO, "Input/output error", Kind.PASSING),
    Reason(errno.ENOTCONN, "Transport endpoint is not connected", Kind.PASSING),
    Reason(errno.EHOSTDOWN, "Host is down", Kind.PASSING),
    Reason(errno.ETIMEDOUT, "Connection timed out", Kind.PASSING),
)
# What a reason means at each end, by the error's code: who has to act, and whether it is tried again. At the facility
# things are read, and reading needs no room.
CODES = {
    End.FACILITY: {Kind.DENIED: "files-unreadable", Kind.PASSING: "facility-storage-unwell"},
    End.RDS: {Kind.DENIED: "rds-not-writable", Kind.FULL: "rds-full", Kind.PASSING: "rds-unwell"},
    End.HOME: {Kind.DENIED: "rds-home-denied", Kind.FULL: "rds-home-full", Kind.PASSING: "rds-home-unwell"},
}
# The file systems of older systems have other words for it.
_OLDER = {"Stale NFS file handle": errno.ESTALE}
_BY_WORDS = {reason.words: reason for reason in REASONS} | {
    words: reason for words, number in _OLDER.items() for reason in REASONS if reason.number == number
}
# Python's own line, when a program of ours is refused.
_OF_PYTHON = re.compile(r"^[A-Za-z]+: \[Errno (?P<number>[0-9]+)\] ")
_BY_NUMBER = {reason.number: reason for reason in REASONS}
_WORDS = "|".join(map(re.escape, _BY_WORDS))
_AT_END = re.compile(rf"(?:: (?P<words>{_WORDS})(?: \([0-9]+\))?|\((?P<bracketed>{_WORDS})\))\r?$")


def reason_with(number: int) -> Reason | None:
    """Return the reason with this errno, None where we know none."""
    return _BY_NUMBER.get(number)


def reason_of(words: str) -> Reason | None:
    """Return the reason of which these are the whole words, None where they are no file system's that we know."""
    return _BY_WORDS.get(words)


def kind_of(words: str) -> Kind | None:
    """Return what a reason asks for of which these are the whole words, None where we do not know it."""
    reason = _BY_WORDS.get(words)
    return None if reason is None else reason.kind


def reason_at_end(line: str) -> Reason | None:
    """Return the reason in which a tool's line ends, as in ``dd: error writing 'x': No space left on device``."""
    if python := _OF_PYTHON.search(line):
        return reason_with(int(python["number"]))
    found = _AT_END.search(line)
    return None if found is None else _BY_WORDS[found["words"] or found["bracketed"]]
