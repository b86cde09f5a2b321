"""Tools that a probe starts: each has an end in time, and a bound in bytes for each file that it writes."""

import os
import resource
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from tempfile import TemporaryDirectory, gettempdir
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Union

from beamferry_agent.environment import tool_environment
from beamferry_agent.errors import AgentError

# As timeout(1) and shells have them.
LATE, NOT_STARTED = 124, 127
# Between the request to end and the end.
_GRACE = 5


class Ended(NamedTuple):
    """How a tool ended: its code, 124 when it was late; whether it wrote as much as it may into a file."""

    code: int
    is_endless: bool


class ScratchError(AgentError):
    """The folder for temporary files takes nothing. The message names it, and says why."""

    exit_code = 69


@contextmanager
def scratch_runner() -> Iterator["Runner"]:
    """Yield a runner with a folder of its own, which is removed at the end. Raises ScratchError."""
    try:
        with TemporaryDirectory(prefix="beamferry-") as scratch:
            yield Runner(scratch)
    except OSError as error:
        raise ScratchError("{}: {}".format(_temporary(), error.strerror or error))


def _temporary() -> str:
    with suppress(OSError):
        return gettempdir()
    return "/tmp"  # noqa: S108 - only named


class Runner:
    """Starts tools whose words and answers lie in a folder of our own."""

    def __init__(self, scratch: str) -> None:
        """``scratch`` is removed by whoever made it."""
        self.scratch = scratch

    def place(self, name: str) -> str:
        """Return a file in the folder."""
        return os.path.join(self.scratch, name)

    def read(self, name: str, limit: int = -1) -> bytes:
        """Return what a file in the folder begins with, nothing where there is none."""
        with suppress(FileNotFoundError), open(self.place(name), "rb") as file:
            return file.read(limit)
        return b""

    def read_end(self, name: str, limit: int) -> bytes:
        """Return what a file in the folder ends with, nothing where there is none."""
        with suppress(FileNotFoundError), open(self.place(name), "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - limit, 0))
            return file.read()
        return b""

    def run(
        self,
        words: Sequence[Union[str, bytes]],
        output: str,
        complaints: Optional[str] = None,
        *,
        seconds: float,
        limit: int,
        given: bytes = b"",
        own: Optional[Dict[str, str]] = None,
    ) -> Ended:
        """Run a tool with ``given`` as its stdin; ``output`` and ``complaints`` name files for what it says.

        ``complaints``: None where they go to the output. ``limit``: bytes of each file that it writes. ``own``: of its
        environment. What is late, or still there when we are to end, is ended with all that it started.
        """
        with ExitStack() as opened:
            files = [
                opened.enter_context(open(self.place(name), "wb", 0)) for name in (output, complaints) if name
            ]
            try:
                with _bounded_files(limit) as bound:
                    process = subprocess.Popen(
                        words,
                        stdin=subprocess.PIPE,
                        stdout=files[0],
                        stderr=files[-1],
                        env=tool_environment(own),
                        start_new_session=True,
                    )
            except OSError as error:
                reason = "{}: {}\n".format(os.fsdecode(words[0]), error.strerror)
                files[-1].write(reason.encode("utf-8", "replace"))
                return Ended(NOT_STARTED, is_endless=False)
            code = _end_of(process, given, seconds)
            return Ended(code, any(os.fstat(file.fileno()).st_size >= bound for file in files))


def _end_of(process: "subprocess.Popen[bytes]", given: bytes, seconds: float) -> int:
    try:
        process.communicate(given, timeout=seconds)
    except subprocess.TimeoutExpired:
        return LATE
    finally:
        if process.poll() is None:
            _end_group(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            return


@contextmanager
def _bounded_files(limit: int) -> Iterator[int]:
    """Have what is started meanwhile write no larger file, and no picture of its memory; yield the bound."""
    before = {number: resource.getrlimit(number) for number in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE)}
    # A password may be in its memory.
    resource.setrlimit(resource.RLIMIT_CORE, (0, before[resource.RLIMIT_CORE][1]))
    soft, hard = before[resource.RLIMIT_FSIZE]
    # Where somebody has set less, that stays.
    bound = limit if soft == resource.RLIM_INFINITY else min(limit, soft)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bound, hard))
    try:
        yield bound
    finally:
        for number, values in before.items():
            resource.setrlimit(number, values)
