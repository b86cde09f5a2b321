"""What was written at RDS is on its disk before it counts; what a loss of power may have undone is fetched again."""

import json
import os
import subprocess
from contextlib import suppress
from typing import NamedTuple, Optional, Tuple

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.mismatches import suspect
from beamferry_agent.processes import this_host
from beamferry_agent.step import AT_RDS, Step, StepEnd
from beamferry_agent.tools import Tools

_UNREADABLE = 23


class Unflushed(NamedTuple):
    """Since when what is written may be lost: the boot of this host, and seconds since the epoch."""

    boot: str
    since: int


def note_unflushed(work: str, now: int) -> None:
    """From now until ``flush`` what is written at the destination may be lost with the host's power."""
    path = os.path.join(work, "unflushed")
    new = "{}.{}.new".format(path, os.urandom(4).hex())
    with open(new, "w") as file:
        file.write("{} {}\n".format(this_host().boot, now))
    os.replace(new, path)


def read_unflushed(work: str) -> Optional[Unflushed]:
    """Return since when nothing was flushed; None where all was, or nobody knows any more."""
    try:
        with open(os.path.join(work, "unflushed"), errors="replace") as file:
            words = file.read(200).split()
    except FileNotFoundError:
        return None
    return Unflushed(words[0], int(words[1])) if len(words) == 2 and words[1].isdigit() else None


def flush(step: Step, tools: Tools, work: str, destination: str) -> None:
    """Flush what was written at the destination. Raises StepEnd."""
    if not os.path.isdir(destination):
        return
    # -f, for this file system alone, came with coreutils 8.24.
    alone = _said(tools, ("sync", "-f", "/"))[0] == 0
    code, words = _said(tools, ("sync", "-f", "--", destination) if alone else ("sync",))
    if code != 0:
        step.hear(words)
        raise StepEnd(AT_RDS)
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(work, "unflushed"))


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
            suspect(json.dumps({"source": source, "destination": destination, "list": suspects}))
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(work, "unflushed"))


def _said(tools: Tools, words: Tuple[str, ...]) -> Tuple[int, bytes]:
    process = tools.start(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = process.communicate()[0]
    return process.returncode, said
