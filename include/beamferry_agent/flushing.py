"""What was written at RDS is on its disk before it counts; what a loss of power may have undone is fetched again."""

import os
import subprocess
import time
from contextlib import suppress
from typing import NamedTuple, Optional, Tuple

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.mismatches import suspect
from beamferry_agent.processes import this_host
from beamferry_agent.step import AT_RDS, Step, StepEnd
from beamferry_agent.tools import Tools

_UNREADABLE = 23
_NAME = "unflushed"


class Unflushed(NamedTuple):
    """Since when what is written may be lost: the boot of this host, and seconds since the epoch."""

    boot: str
    since: int


def note_unflushed(step: Step, work: str) -> None:
    """Note that from now on what is written may be lost with the host's power, see ``suspect_unflushed``."""
    step.put(os.path.join(work, _NAME), "{} {}\n".format(this_host().boot, int(time.time())))


def read_unflushed(work: str) -> Optional[Unflushed]:
    """Return since when nothing was flushed, None where all was; where it cannot be read, all counts as unflushed."""
    try:
        with open(os.path.join(work, _NAME), errors="replace") as file:
            words = file.read(200).split()
    except FileNotFoundError:
        return None
    if len(words) != 2 or not words[1].isdigit():
        return Unflushed("", 0)
    return Unflushed(words[0], int(words[1]))


def flush(step: Step, tools: Tools, work: str, folder: int) -> None:
    """Flush the file system of a folder. Raises StepEnd."""
    # For this file system alone it came with coreutils 8.24.
    if _sync(tools, folder, "-f", "/")[0] == 0:
        code, words = _sync(tools, folder, "-f", ".")
        if code:
            step.hear(words)
            raise StepEnd(AT_RDS)
    else:
        os.sync()
    _forget(work)


def suspect_unflushed(step: Step, tools: Tools, work: str, source: str, destination: str) -> None:
    """Have all that an earlier boot of this host wrote, and may not have flushed, fetched and compared again.

    ``source``: HOST:PATH. Raises StepEnd, PlaceError.
    """
    found = read_unflushed(work)
    if found is not None and found.boot != this_host().boot and os.path.isdir(destination):
        step.say(
            "The host was restarted before all was flushed: files of that time are fetched and compared again."
        )
        suspects = os.path.join(work, "suspects")
        handle = os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            with open(suspects, "wb") as output:
                newer = ("find", ".", "-type", "f", "-newerct", "@{}".format(found.since), "-printf", "%P\\0")
                process = tools.start(newer, stdout=output, stderr=subprocess.PIPE, folder=handle)
                words = process.communicate()[1]
        finally:
            os.close(handle)
        if process.returncode != 0:
            step.hear(words)
            raise StepEnd(_UNREADABLE)
        # Where what is remembered is damaged, everything is compared again.
        with suppress(DamagedListsError):
            suspect(source, destination, suspects)
    _forget(work)


def _forget(work: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(work, _NAME))


def _sync(tools: Tools, folder: int, *arguments: str) -> Tuple[int, bytes]:
    process = tools.start(
        ("sync", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, folder=folder
    )
    words, _ = process.communicate()
    return process.returncode, words
