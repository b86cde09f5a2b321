"""The content of many files as it comes by the stdout of one lftp, cut at marks that nobody can foresee."""

import os
import secrets
import select
import subprocess
from typing import Callable, Optional, Sequence

from beamferry_agent.facility_shell import opened
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import word
from beamferry_agent.lftp_manner import Manner

_CHUNK = 256 * 1024
# A file may have grown; one that goes on beyond this ends the connection.
_MORE = 1024 * 1024


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
        words = (word(b"./" + file.path), self._mark, number, self._mark, number)
        return b'cat %b && echo "%b ok %d" || echo "%b no %d"\n' % words

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
        self._held = b""
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

    def _hear_words(self, words: int) -> bool:
        """Hear what lftp has complained of by now; return False at its end."""
        while True:
            try:
                chunk = os.read(words, _CHUNK)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            self._hear(chunk)

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
            # What lftp has said of this file stands in its other pipe by now.
            self._hear_words(words)
            self._tell(line.strip())
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

    def _tell(self, line: bytes) -> None:
        if line == b"in":
            self._hear(b"in\n")
            self._next()
            return
        self._end(line.startswith(b"ok "))
        self._next()

    def _end(self, came: bool) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            self._hear(b"%b %d\n" % (reading.end(came), self._number))

    def _next(self) -> None:
        self._number = next(self._share, -1)
        self._reading = self._begin(self._number) if self._number >= 0 else None
