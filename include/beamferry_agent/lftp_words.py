"""What one connection of lftp says: what became of each file, and why the connection is at its end."""

import re
from typing import Callable, List, NamedTuple

# Of one line, and of all that is said of a file; what is more helps nobody.
_LINE_LIMIT, _REASON_LIMIT = 64 * 1024, 128 * 1024
_MOST_FATAL = 3
# What ends a connection for good; the last one means that the disk is full. They are looked for behind the names of
# files, and not in what a server says of a file.
_LOST = (
    rb"^[a-z]+: (.*: )?(Fatal error|Login failed)|^Not connected|^ssh: |^[^ ]*:? ?[Pp]ermission denied [(]"
)
_FULL = rb": (No space left on device|Disk quota exceeded|File too large)\Z"
_ENDS, IS_FULL = re.compile(_LOST + b"|" + _FULL), re.compile(_FULL)
OF_A_FILE = re.compile(rb"^[a-z]+: Access failed: ")
# A reply of the 400s passes, e.g. "426 Connection closed".
_PASSES = re.compile(rb"^[a-z]+: Access failed: 4")
_FATE = re.compile(rb"(ok|same|differs|changed|unread|no) ([0-9]{1,9})\Z")
# Too many connections are no wrong password.
BUSY = re.compile(rb"421|[Tt]oo many")
LOG_IN_FAILED = re.compile(rb"Login failed|Certificate|GetPass|[Pp]ermission denied \(|Host key")


class Fate(NamedTuple):
    """What became of a file of a pass: a word and the file's number in it."""

    word: str
    number: int


class Heard:
    """What one connection says, read as it comes: fates of files, and why it is at its end."""

    def __init__(self, tell: Callable[[Fate, bytes], None]) -> None:
        """``tell`` takes a fate, and lftp's own words on a file that was refused."""
        self._tell = tell
        self._line = b""
        self._reason: List[bytes] = []
        self._reason_size = 0
        self.is_in = False
        self.is_lost = False
        self.fatal: List[bytes] = []

    def take(self, chunk: bytes) -> None:
        """Read what came; a line is taken when its end is there."""
        *lines, self._line = (self._line + chunk).split(b"\n")
        for line in lines:
            self._take_line(line)
        # Its beginning tells what it is.
        self._line = self._line[:_LINE_LIMIT]

    def end(self) -> None:
        """Take what came last, whatever its end."""
        if self._line:
            self._take_line(self._line)
        self._line = b""

    def _take_line(self, line: bytes) -> None:
        if line == b"in":
            self.is_in = True
            return
        fate = _FATE.match(line)
        if fate is not None:
            self._take_fate(fate.group(1), int(fate.group(2)))
            return
        if self._reason_size < _REASON_LIMIT:
            self._reason.append(line)
            self._reason_size += len(line) + 1
        if _ENDS.search(line) and not OF_A_FILE.match(line):
            self.is_lost = True
            if len(self.fatal) < _MOST_FATAL:
                self.fatal.append(line)

    def _take_fate(self, name: bytes, number: int) -> None:
        reason, self._reason, self._reason_size = self._reason, [], 0
        if name != b"no":
            self._tell(Fate(name.decode("ascii"), number), b"")
        elif any(map(OF_A_FILE.match, reason)) and not any(map(_PASSES.match, reason)):
            self._tell(Fate("refused", number), b"".join(line + b"\n" for line in reason))
        else:
            self._tell(Fate("silent" if not reason else "failed", number), b"")
