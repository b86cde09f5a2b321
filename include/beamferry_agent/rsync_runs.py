"""Runs of rsync: its command as this host's ssh takes it, its words and its lines, each with a bound in bytes."""

import subprocess
import threading
from typing import IO, Callable, Iterator, List, Optional, Sequence, Tuple

from beamferry_agent.errors import AgentError
from beamferry_agent.facility_shell import keep_words
from beamferry_agent.tools import Tools

# A name has at most 4096 bytes, of which rsync prints each as four.
_LONGEST_LINE = 64 * 1024
_CHUNK = 64 * 1024


class Command:
    """rsync's words of Airflow's side: what stands before ``-- SOURCE DESTINATION``, and these two."""

    def __init__(self, words: Sequence[str]) -> None:
        """Take them. Raises AgentError where they are not rsync's."""
        if len(words) < 4 or words[-3] != "--" or "-e" not in words[:-3]:
            raise AgentError("rsync's command must end in -- SOURCE DESTINATION, and name ssh")
        self._words = list(words[:-3])
        self.source, self.destination = words[-2:]

    @property
    def ssh(self) -> List[str]:
        """The words of ssh."""
        return self._words[self._words.index("-e") + 1].split()

    def led(self, ssh: Sequence[str]) -> Tuple[str, ...]:
        """Return the words before ``--``, with these of ssh."""
        at = self._words.index("-e") + 1
        return (*self._words[:at], " ".join(ssh), *self._words[at + 1 :])


def run_rsync(
    tools: Tools,
    words: Sequence[str],
    hear_line: Callable[[bytes], None],
    complaints: str,
    *,
    folder: Optional[int] = None,
    umask: Optional[int] = None,
) -> int:
    """Run rsync to its end, hand on its lines and add its words to a file; return its exit code.

    It starts in ``folder``, a descriptor. What is larger than a file may be is an error to it, and not its end.
    """
    process = tools.start(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, folder=folder, umask=umask, hears_signals=False
    )
    if process.stdout is None or process.stderr is None:
        raise AgentError("rsync was started without a pipe")
    listener = threading.Thread(target=keep_words, args=(process.stderr, complaints), daemon=True)
    listener.start()
    with process.stdout as output:
        for line in lines_of(output):
            hear_line(line)
    code = process.wait()
    listener.join()
    return code if code >= 0 else 128 - code


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of a stream without their ends. Raises AgentError for one that is longer than any of rsync's."""
    rest = b""
    while True:
        chunk = stream.read1(_CHUNK)  # type: ignore[attr-defined]
        if not chunk:
            break
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line
        if len(rest) > _LONGEST_LINE:
            raise AgentError("rsync printed a line that is longer than a name can be")
    if rest:
        yield rest
