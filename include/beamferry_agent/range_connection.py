"""A connection for ranges: a shell at the facility that takes requests one by one, so that the handshake and the slow
start are paid once; and the questions about large files that come before.
"""

import os
import shlex
import subprocess
import threading
from contextlib import suppress
from typing import Iterator, List, Optional, Sequence

from beamferry_agent.errors import AgentError
from beamferry_agent.facility_shell import BEGUN, FacilityShell, keep_words, note_greeting
from beamferry_agent.ranges import Version, read_version
from beamferry_agent.tools import Tools

_CHUNK = 1024 * 1024
# Of what a log-in shell may print before our mark.
_GREETING_LIMIT = 64 * 1024
# Of an answer about one file.
_STAT_BYTES = 256
_OPENING = "LC_ALL=C; export LC_ALL; cd {} || exit 66\n"
# How the shell there ends when a file is not what it was, or cannot be read.
GONE_CODES = frozenset((66, 67, 68))
_RANGE = r"""range() {
  [ "$(stat -c "%s %.9Y" - <"$1")" = "$2" ] || exit 67
  dd bs=1048576 iflag=skip_bytes,count_bytes,fullblock skip="$3" count="$4" <"$1" 2>/dev/null || exit 68
}
"""


def _word(text: bytes) -> bytes:
    return b"'" + text.replace(b"'", b"'\\''") + b"'"


def stat_script(source: str, names: Sequence[bytes]) -> bytes:
    """Return a script that tells size and time of each file, or ``plain`` where ranges of it cannot be had.

    Names come through stdin: on a shared host everyone can read the arguments of everyone's processes.
    """
    lines = [
        b"echo " + BEGUN,
        os.fsencode(_OPENING.format(shlex.quote(source)).rstrip("\n")),
        # GNU dd and stat, or no ranges.
        b"dd bs=1 count=0 skip=0 iflag=skip_bytes,count_bytes,fullblock </dev/null 2>/dev/null &&",
        b'  stat -c "%s %.9Y %b %B" - </dev/null >/dev/null 2>&1 || { echo plain; exit 0; }',
    ]
    lines += [b'stat -c "%s %.9Y %b %B" - <' + _word(b"./" + name) + b" || echo plain" for name in names]
    return b"\n".join(lines) + b"\n"


class LargeFiles:
    """What the facility says of the large files; ``versions`` are in the order of the names, None for plain rsync."""

    def __init__(self, shell: FacilityShell, source: str, complaints: str) -> None:
        """Take the facility, the folder there, and a file for complaints."""
        self._shell, self._source, self._complaints = shell, source, complaints
        self.versions: List[Optional[Version]] = []

    def ask(self, names: Sequence[bytes]) -> int:
        """Ask for all files at once; return the exit code."""
        with open(self._complaints, "wb"):
            pass
        script = stat_script(self._source, names)
        with self._shell.ask(script, self._complaints, _STAT_BYTES * (len(names) + 1)) as answer:
            found = [read_version(line) for line in answer.lines(_STAT_BYTES)]
        self.versions = [*found, *[None] * len(names)][: len(names)]
        return answer.code


class RangeConnection:
    """One shell at the facility, as long as it lasts."""

    def __init__(self, tools: Tools, shell: FacilityShell, source: str, complaints: str) -> None:
        """Start it; the file ``complaints`` is made anew."""
        self._complaints, self._rest = complaints, b""
        self._greeted = False
        with open(complaints, "wb"):
            pass
        self._process = tools.start(
            (*shell.command, "sh", "-s"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            hears_signals=False,
        )
        process = self._process
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise AgentError("ssh was started without a pipe")
        self._in, self._out = process.stdin.fileno(), process.stdout.fileno()
        self._listener = threading.Thread(target=keep_words, args=(process.stderr, complaints), daemon=True)
        self._listener.start()
        self._write(
            b"echo " + BEGUN + b"; " + os.fsencode(_OPENING.format(shlex.quote(source))) + _RANGE.encode()
        )

    def ask(self, name: bytes, version: Version, offset: int, count: int) -> None:
        """Ask for a range; where the shell has ended its code tells why."""
        asked = (_word(b"./" + name), _word(b"%d %s" % version[:2]), b"%d" % offset, b"%d" % count)
        self._write(b"range " + b" ".join(asked) + b"\n")

    @property
    def is_greeted(self) -> bool:
        """Whether the shell runs what it is asked for; what a start file prints before is left."""
        held = b"\n"
        mark = b"\n" + BEGUN + b"\n"
        while not self._greeted and len(held) <= _GREETING_LIMIT:
            piece = os.read(self._out, _CHUNK)
            held += piece
            _, found, rest = held.partition(mark)
            if found:
                self._greeted, self._rest = True, rest
            elif not piece:
                break
        if not self._greeted:
            note_greeting(held, self._complaints)
        return self._greeted

    def read(self, count: int) -> Iterator[bytes]:
        """Yield the bytes of a range, fewer where the shell ends."""
        while count > 0:
            piece = self._rest[:count] or os.read(self._out, min(count, _CHUNK))
            self._rest = self._rest[count:]
            if not piece:
                return
            count -= len(piece)
            yield piece

    def close(self) -> int:
        """End it, and return its exit code."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                # What could not be written is told by the code.
                with suppress(OSError):
                    stream.close()
        code = self._process.wait()
        self._listener.join()
        return code if code >= 0 else 128 - code

    def _write(self, text: bytes) -> None:
        # It has ended where it takes nothing.
        with suppress(OSError):
            while text:
                text = text[os.write(self._in, text) :]
