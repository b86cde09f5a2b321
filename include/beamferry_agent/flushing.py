"""What was written at the destination is flushed before it counts: until then a loss of power could undo it."""

import os
import subprocess
import time
from contextlib import suppress
from typing import Tuple

from beamferry_agent.processes import this_host
from beamferry_agent.step import AT_RDS, Step, StepEnd
from beamferry_agent.tools import Tools

_NAME = "unflushed"


def note_unflushed(step: Step, work: str) -> None:
    """Note that from now on what is written may be lost with the host's power, see ``suspect_unflushed``."""
    step.put(os.path.join(work, _NAME), "{} {}\n".format(this_host().boot, int(time.time())))


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
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(work, _NAME))


def _sync(tools: Tools, folder: int, *arguments: str) -> Tuple[int, bytes]:
    process = tools.start(
        ("sync", *arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, folder=folder
    )
    words, _ = process.communicate()
    return process.returncode, words
