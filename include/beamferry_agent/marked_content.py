"""The content of many files as it comes by the stdout of one lftp, cut at marks that nobody can foresee."""

import os
import secrets
import select
import subprocess
from collections import deque
from typing import Callable, Deque, List, Optional, Sequence, Tuple

from beamferry_agent.facility_shell import opened
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import word
from beamferry_agent.lftp_manner import Manner
from beamferry_agent.lftp_words import OF_A_FILE

_CHUNK = 256 * 1024
# A file may have grown; one that goes on beyond this ends the connection.
_MORE = 1024 * 1024
# Of complaints, and of lines on one file; what is more helps nobody.
_LINE, _MOST_LINES = 64 * 1024, 20


class Reading:
    """What comes of one file; ``size`` is what was listed."""

    def __init__(self, size: int) -> None:
        """Begin with nothing."""
        self.size, self.count = size, 0

    def take(self, piece: bytes) -> None:
        """Take what came next."""
        self.count += len(piece)

    def end(self, came: bool) -> bytes:
        """Return the line that tells its fate, without the number; ``came``: lftp says that it is all."""
        raise NotImplementedError


class Marked(Manner):
    """Each file's content comes by lftp's stdout, with a mark behind it that nobody at the facility can foresee."""

    complaints = subprocess.PIPE

    def __init__(self, files: Sequence[Wanted]) -> None:
        """Take the files of the pass."""
        self._files = files
        self._mark = b"beamferry-" + secrets.token_hex(16).encode("ascii")
        self.entrance = b'echo "%b in"\n' % self._mark

    def line(self, number: int, file: Wanted) -> bytes:
        """See ``Manner``."""
        # What became of it is said where complaints go, so that these are known to be of this file.
        there = b' > "/proc/self/fd/2"'
        words = (word(b"./" + file.path), self._mark, there, self._mark, there, self._mark, number)
        return b'cat %b && echo "%b ok"%b || echo "%b no"%b\necho "%b %d"\n' % words

    def begin(self, number: int, reader: "Reader") -> Reading:
        """Begin with a file. ``reader`` is the connection's."""
        raise NotImplementedError

    def make_reader(self) -> "Reader":
        """Return what a connection needs for itself."""
        return Reader()

    def read(
        self, process: "subprocess.Popen[bytes]", share: Sequence[int], hear: Callable[[bytes], None]
    ) -> None:
        """See ``Manner``."""
        reader = self.make_reader()
        with opened(process.stdout) as content, opened(process.stderr) as words:
            os.set_blocking(words.fileno(), False)
            try:
                _Stream(self._mark, share, hear, lambda number: self.begin(number, reader), process).follow(
                    content.fileno(), words.fileno()
                )
            finally:
                reader.close()


class Reader:
    """What a connection needs for itself, e.g. open folders of the copy."""

    def close(self) -> None:
        """Close what is open."""


class _Stream:
    """One connection's stdout, cut at the marks, and its stderr."""

    def __init__(
        self,
        mark: bytes,
        share: Sequence[int],
        hear: Callable[[bytes], None],
        begin: Callable[[int], Reading],
        process: "subprocess.Popen[bytes]",
    ) -> None:
        self._mark, self._hear, self._begin, self._process = mark, hear, begin, process
        self._share = iter(share)
        self._held = self._line = b""
        # Of files whose marks are still to come by the other pipe, and of the one that is spoken of.
        self._told: Deque[Tuple[bool, List[bytes]]] = deque()
        self._of_file: List[bytes] = []
        self._reading: Optional[Reading] = None
        self._number = -1

    def follow(self, content: int, words: int) -> None:
        poll = select.poll()
        open_ones = {content, words}
        for handle in open_ones:
            poll.register(handle, select.POLLIN)
        while content in open_ones:
            for handle, _ in poll.poll():
                if handle == words:
                    is_open = self._hear_words(words)
                else:
                    chunk = os.read(content, _CHUNK)
                    is_open = bool(chunk)
                    self._take(chunk, words)
                if not is_open:
                    poll.unregister(handle)
                    open_ones.discard(handle)
        self._hear_words(words)
        self._hear(b"".join(self._of_file))

    def _hear_words(self, words: int) -> bool:
        """Take what lftp has complained of by now; return False at its end."""
        while True:
            try:
                chunk = os.read(words, _CHUNK)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            *lines, self._line = (self._line + chunk).split(b"\n")
            self._line = self._line[:_LINE]
            for line in lines:
                self._take_words(line)

    def _take_words(self, line: bytes) -> None:
        if line.startswith(self._mark):
            self._told.append((line == self._mark + b" ok", self._of_file))
            self._of_file = []
        elif not OF_A_FILE.match(line):
            # It may be the end of the connection.
            self._hear(line + b"\n")
        elif len(self._of_file) < _MOST_LINES:
            self._of_file.append(line + b"\n")

    def _next_told(self, words: int) -> Tuple[bool, List[bytes]]:
        """Return whether a file came, and what was said of it, once its mark is there: it was written before."""
        poll = select.poll()
        poll.register(words, select.POLLIN)
        while not self._told:
            poll.poll()
            if not self._hear_words(words) and not self._told:
                return False, []
        return self._told.popleft()

    def _take(self, chunk: bytes, words: int) -> None:
        self._held += chunk
        while True:
            at = self._held.find(self._mark)
            end = self._held.find(b"\n", at) if at >= 0 else -1
            if end < 0:
                break
            content, line = self._held[:at], self._held[at + len(self._mark) : end]
            self._held = self._held[end + 1 :]
            self._keep(content)
            self._tell(line.strip(), words)
        if at < 0:
            # The beginning of a mark may be at the end of it.
            rest = len(self._mark) - 1
            content, self._held = self._held[:-rest], self._held[-rest:]
            self._keep(content)
        elif at > 0:
            content, self._held = self._held[:at], self._held[at:]
            self._keep(content)

    def _keep(self, content: bytes) -> None:
        reading = self._reading
        if reading is None or not content:
            return
        reading.take(content)
        if reading.count > reading.size + _MORE:
            self._end(True)
            self._process.terminate()

    def _tell(self, line: bytes, words: int) -> None:
        if line == b"in":
            self._hear(b"in\n")
        else:
            came, said = self._next_told(words)
            self._hear(b"".join(said))
            self._end(came)
        self._next()

    def _end(self, came: bool) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            self._hear(b"%b %d\n" % (reading.end(came), self._number))

    def _next(self) -> None:
        self._number = next(self._share, -1)
        self._reading = self._begin(self._number) if self._number >= 0 else None
