"""Which file was refused, at which end and why: what the tools' lines say, each read from its beginning to its end."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry.reasons import End, Kind, Reason, reason_at_end, reason_of, reason_with

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Refusal:
    """One refusal.

    Args:
        end: where it was seen.
        path: of the file or folder as the tool showed it, '' where it named none.
        words: the tool's reason.
        reason: the same, where it is one of those that we know.
        reading: whether something was to be read.
    """

    end: End
    path: str
    words: str
    reason: Reason | None
    reading: bool = False

    @property
    def kind(self) -> Kind | None:
        """What the reason asks for."""
        return None if self.reason is None else self.reason.kind


# From 3.2 on rsync says which end complains, before that the action tells: a sender reads, and nothing else.
_OF_RSYNC = re.compile(
    r"rsync: (?:\[(?P<role>sender|receiver|Receiver|generator)\] )?(?:recv_generator: )?(?P<action>[a-z][a-z_ ]*)"
)
_READING = (
    "send_files failed to open",
    "opendir",
    "readdir",
    "readlink_stat",
    "change_dir",
    "link_stat",
    "failed to stat",
    "read errors mapping",
)
_WRITING = (
    "mkdir",
    "mkstemp",
    "symlink",
    "rename",
    "open",
    "write failed on",
    "close failed on",
    "fsync failed on",
    "delete_file",
    "unlink",
    "rmdir",
    "mknod",
    "link",
)
# Our steps mark what was read at RDS, as the tools that read are the same at both ends.
AT_RDS = "RDS: "
_READERS = ("find: ", "sha256sum: ", "sh: ")
# bash and dash put the number of a line, and dash what was to be done, before the name.
_BEFORE_NAME = re.compile(r"(?:line [0-9]+: |[0-9]+: )?(?:cannot open )?")
# Tools that write, and scripts, when they redirect.
_WRITERS = re.compile(r"(?:dd|mkdir|mv|cp|ln|rm|touch|chmod|sync|get|[^ :]*\.sh: line [0-9]+): ")
# Those write into our own folder and nowhere else.
_HOME_WRITERS = re.compile(r"(?:agent|sort|awk|mawk|gawk|tee|split|shuf|uniq|mkfifo): ")
_OUR_FOLDER = "/.beamferry/"
# Where it was asked by a trial, that is the answer, see step.py of the agent.
_TRIED = re.compile(r"beamferry: refused at (?P<end>RDS|home): ")


def refusals(stderr: str, *, writing: bool = False, destination: str = "") -> tuple[Refusal, ...]:
    """Return what was refused, in the order of the lines; what no tool of ours says is passed over.

    Args:
        stderr: what the tools complained of.
        writing: whether a job ended because it could not write; else what looks so is of the facility's profile.
        destination: folder at RDS, by which an rsync is known that does not say which end complains.
    """
    return tuple(_refusals(stderr, writing, destination))


def _refusals(stderr: str, writing: bool, destination: str) -> Iterator[Refusal]:
    # Not splitlines: it takes characters of names for the ends of lines.
    for written in stderr.split("\n"):
        line, at_rds = written.rstrip("\r"), written.startswith(AT_RDS)
        line = line[len(AT_RDS) :] if at_rds else line
        if line.startswith("rsync: "):
            found = _of_rsync(line, destination)
        elif line.startswith(_READERS):
            found = _of_reader(line, End.RDS if at_rds else End.FACILITY)
        else:
            found = _of_writer(line, writing, at_rds)
        if found is not None:
            yield found


def _of_rsync(line: str, destination: str) -> Refusal | None:
    """Read e.g. ``rsync: [sender] opendir "/x" failed: Permission denied (13)``; a name may hold quotes."""
    begun = _OF_RSYNC.match(line)
    first, last = line.find('"'), line.rfind('"')
    if begun is None or first == last:
        return None
    action, reading = begun["action"].strip(), begun["action"].startswith(_READING)
    if not reading and not action.startswith(_WRITING):
        return None
    words, _, number = line[last:].rpartition(": ")[2].rpartition(" (")
    number = number.removesuffix(")")
    if not words or not (number.isascii() and number.isdecimal()):
        return None
    path = line[first + 1 : last]
    if begun["role"] is None:
        near = bool(destination) and f"{path}/".startswith(f"{destination}/")
        end = End.FACILITY if reading and not near else End.RDS
    else:
        end = End.FACILITY if begun["role"] == "sender" else End.RDS
    return Refusal(end, path, words, reason_with(int(number)), reading)


def _of_reader(line: str, end: End) -> Refusal | None:
    """Read e.g. ``find: './x': Permission denied``."""
    before, _, words = line.partition(": ")[2].rpartition(": ")
    reason = reason_of(words)
    if reason is None:
        return None
    name = before[_BEFORE_NAME.match(before).end() :]  # type: ignore[union-attr]
    return Refusal(end, name.strip("'‘’"), words, reason, reading=True)


def _of_writer(line: str, writing: bool, at_rds: bool) -> Refusal | None:
    if tried := _TRIED.match(line):
        end = End.RDS if tried["end"] == "RDS" else End.HOME
    elif not writing:
        return None
    elif at_rds:
        end = End.RDS
    elif _HOME_WRITERS.match(line):
        end = End.HOME
    elif _WRITERS.match(line) and not line.startswith("get: Access failed"):
        end = End.HOME if _OUR_FOLDER in line else End.RDS
    else:
        return None
    reason = reason_at_end(line)
    return None if reason is None else Refusal(end, "", reason.words, reason)
