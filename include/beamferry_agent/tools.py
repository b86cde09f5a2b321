"""The tools that a step starts: in an environment of our own, holding the job's locks, and ended with the step."""

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import IO, Dict, FrozenSet, Iterable, List, Optional, Sequence, Union

from beamferry_agent.environment import tool_environment
from beamferry_agent.processes import descendants, moved_bytes
from beamferry_agent.step import NO_TOOL, Step, StepEnd

Word = Union[str, bytes]
# What lands on RDS gets the modes that any copying there would give it; our own notes are for this account alone.
DATA_UMASK = 0o022
_STEP_SECONDS, _KILL_AT, _STEPS = 0.2, 40, 60
_UMASK = 'umask "$0" && exec "$@"'


class Tools:
    """Starts tools for a step, and ends them.

    ``locks``: descriptors that whatever writes has to hold, see ``supervisor.py``.
    """

    def __init__(self, step: Step, locks: Sequence[int] = ()) -> None:
        """Take both."""
        self._step, self._locks = step, tuple(locks)
        self._ending = False
        # Between the look at who is there and the end of all, nothing new may begin.
        self._guard = threading.Lock()
        self._counted: Dict[int, int] = {}
        self._of_tools = 0
        self._told = 0

    def require(self, names: Iterable[str]) -> None:
        """End the step where a tool is missing. Raises StepEnd."""
        path = tool_environment()["PATH"]
        missing = [name for name in names if shutil.which(name, path=path) is None]
        for name in missing:
            self._step.hear("{}: not found on this host".format(name))
        if missing:
            raise StepEnd(NO_TOOL)

    def start(
        self,
        words: Sequence[Word],
        *,
        stdin: Union[int, IO[bytes]] = subprocess.DEVNULL,
        stdout: Union[int, IO[bytes], None] = None,
        stderr: Union[int, IO[bytes], None] = None,
        umask: Optional[int] = None,
        folder: Optional[int] = None,
        kept: Sequence[int] = (),
        own: Optional[Dict[str, str]] = None,
        hears_signals: bool = True,
    ) -> "subprocess.Popen[bytes]":
        """Start a tool; it begins in ``folder``, a descriptor, and keeps ``kept`` open. Raises OSError, StepEnd.

        ``umask``: for what it creates, where that is not for this account alone. ``own``: of its environment.
        ``hears_signals``: a reader that went away, or a file that may grow no more, is a signal to it, else an error.
        """
        if umask is not None:
            words = ("sh", "-c", _UMASK, "{:03o}".format(umask), *words)
        with self._guard:
            if self._ending:
                raise StepEnd(128 + signal.SIGTERM)
            return subprocess.Popen(
                words,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                cwd=None if folder is None else "/proc/self/fd/{}".format(folder),
                env=tool_environment(own),
                pass_fds=(*self._locks, *kept),
                restore_signals=hears_signals,
            )

    # --- whether anything moves -------------------------------------------------------------------------------

    def moved(self, count: int) -> None:
        """Note bytes that came by another way than through a tool of ours."""
        with self._guard:
            self._told += count

    def measure(self, movers: FrozenSet[str]) -> int:
        """Return how many bytes moved since the beginning: those told of, and what these tools read and wrote.

        ssh is best left out: its keep-alives are answered by a far side whose file system hangs.
        """
        found = moved_bytes(movers)
        self._of_tools += sum(max(count - self._counted.get(pid, 0), 0) for pid, count in found.items())
        self._counted = found
        with self._guard:
            return self._of_tools + self._told

    # --- the end ----------------------------------------------------------------------------------------------

    def end_all(self, and_begin_no_more: bool = False) -> None:
        """Ask all processes below this one to end, then insist. rsync saves its partial file when asked."""
        with self._guard:
            self._ending = self._ending or and_begin_no_more
            found = descendants(os.getpid())
        for step in range(1, _STEPS + 1):
            alive = [pid for pid in found if _is_alive(pid)]
            if not alive:
                return
            if step in (1, _KILL_AT):
                _signal(alive, signal.SIGTERM if step == 1 else signal.SIGKILL)
            time.sleep(_STEP_SECONDS)


def _is_alive(pid: int) -> bool:
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            # One that waits to be asked how it ended does nothing any more.
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X", b"")
    except OSError:
        return False


def _signal(pids: List[int], number: int) -> None:
    for pid in pids:
        # It may have ended meanwhile.
        with suppress(OSError):
            os.kill(pid, number)
