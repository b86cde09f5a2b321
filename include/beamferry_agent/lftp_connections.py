"""Many files over several connections of lftp, pass by pass until all have had their turn."""

import heapq
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from beamferry_agent.facility_shell import opened
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import LogIn, start_lftp
from beamferry_agent.lftp_manner import Manner
from beamferry_agent.lftp_words import BUSY, IS_FULL, LOG_IN_FAILED, Fate, Heard
from beamferry_agent.step import AT_RDS
from beamferry_agent.tools import Tools

if TYPE_CHECKING:
    import subprocess

# One pass has at most this many files, so that the lists in memory stay small.
PASS_FILES = 50000
# Servers log in slowly, or refuse connections that arrive together.
_START_SPREAD = 0.1
_TRIES_WITHOUT_PROGRESS = 3
_PAUSE = 0.1
# What is still in the pipe when lftp has ended is read soon; a child of it that holds the pipe is not waited for.
_LAST_WORDS_SECONDS = 5
# A file costs some round trips besides its bytes.
_FILE_COST = 65536
# Of what is said of refused files of a pass; what is more helps nobody.
_WORDS_LIMIT = 8 * 1024 * 1024
LOG_IN, BROKEN = 67, 68


class _Connection:
    """One lftp: told its commands and heard by threads of their own."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        commands: Iterator[bytes],
        heard: Heard,
        read: Callable[["subprocess.Popen[bytes]", Callable[[bytes], None]], None],
    ) -> None:
        self._process, self.heard = process, heard
        self._commands, self._read = commands, read
        self._reader = threading.Thread(target=self._listen, daemon=True)
        threading.Thread(target=self._write, daemon=True).start()
        self._reader.start()

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        self._process.terminate()

    def wait(self) -> None:
        self._process.wait()
        self._reader.join(_LAST_WORDS_SECONDS)

    def _write(self) -> None:
        # It may have ended, and its words tell why.
        with suppress(OSError), opened(self._process.stdin) as stream:
            for command in self._commands:
                stream.write(command)

    def _listen(self) -> None:
        self._read(self._process, self._hear)
        self.heard.end()

    def _hear(self, chunk: bytes) -> None:
        self.heard.take(chunk)
        # One that is lost for good would try and fail for each of its files.
        if self.heard.is_lost:
            self._process.terminate()


class Way(NamedTuple):
    """How connections are made: how many, with which limit in bytes per second of all, and where lftp begins.

    ``folder`` is a descriptor, ``umask`` is for what lftp creates.
    """

    streams: int
    limit: int
    folder: Optional[int] = None
    umask: Optional[int] = None


class Passes:
    """Has files come pass by pass; ``beat`` is called while one runs, several times in a second.

    ``passes``: how many there were, ``lost``: how many of them ended before all files had their turn.
    """

    def __init__(self, tools: Tools, way: Way, beat: Callable[[], None]) -> None:
        """Take what goes on beside it."""
        self._tools, self._way, self._beat = tools, way, beat
        self.passes = self.lost = 0
        self._idle, self._workers = 0, way.streams
        self._guard = threading.Lock()
        self.files: Sequence[Wanted] = ()
        self._connections: List[_Connection] = []
        self._words_size = 0
        # Of the pass that runs, or was the last one.
        self.fates: List[Fate] = []
        self.refused_words: List[bytes] = []

    def run(self, log_in: LogIn, files: Sequence[Wanted], manner: Manner) -> None:
        """Run one pass: the first connection logs in before the others try, so that a wrong password is tried once."""
        self.passes += 1
        self.files, self.fates, self.refused_words, self._words_size = files, [], [], 0
        self._connections = []
        self._workers = min(self._workers, len(files))
        shares = deal([file.size for file in files], self._workers)
        self._connect(log_in, shares[0], manner)
        first = self._connections[0]
        while first.is_alive and not first.heard.is_in:
            self.pause(_PAUSE)
        if first.heard.is_in:
            for share in shares[1:]:
                self.pause(_START_SPREAD)
                self._connect(log_in, share, manner)
        while any(connection.is_alive for connection in self._connections):
            self.pause(_PAUSE)
        for connection in self._connections:
            connection.wait()
        self._beat()

    def stop(self) -> None:
        """End the connections, and read what they have said."""
        for connection in self._connections:
            connection.end()
        for connection in self._connections:
            connection.wait()

    def left(self) -> List[Wanted]:
        """Return the files of the pass that had no turn."""
        over = {fate.number for fate in self.fates if fate.word not in ("failed", "silent")}
        return [file for number, file in enumerate(self.files) if number not in over]

    def fatal(self) -> List[bytes]:
        """Return what ended connections of the pass."""
        return [line for connection in self._connections for line in connection.heard.fatal]

    def judge(self, lost: int, moved: int) -> Optional[int]:
        """Look whether a job that has more to do can go on; return the code with which it cannot.

        ``lost``: files of the pass that had no turn. ``moved``: bytes of unfinished files that came in it.
        """
        got_in = sum(connection.heard.is_in for connection in self._connections)
        # More files than one pass has are no loss.
        self.lost += bool(lost)
        fatal = self.fatal()
        if any(map(IS_FULL.search, fatal)):
            return AT_RDS
        # With fewer connections it goes on.
        if not got_in and any(LOG_IN_FAILED.search(line) for line in fatal if not BUSY.search(line)):
            return LOG_IN
        self._workers = got_in or self._workers
        if moved > 0 or lost < len(self.files):
            self._idle = 0
            return None
        self._idle += 1
        if self._idle == _TRIES_WITHOUT_PROGRESS:
            return BROKEN
        self.pause(self._idle * 2)
        return None

    def pause(self, seconds: float) -> None:
        """Wait, with what goes on beside."""
        end = time.monotonic() + seconds
        while True:
            self._beat()
            left = end - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _PAUSE))

    def _connect(self, log_in: LogIn, share: Sequence[int], manner: Manner) -> None:
        way, files = self._way, self.files
        rate = max(way.limit // self._workers, 1) if way.limit else None
        process = start_lftp(self._tools, complaints=manner.complaints, umask=way.umask, folder=way.folder)

        def commands() -> Iterator[bytes]:
            yield log_in.opening(rate)
            # From here on a file that may not be read is no reason to end.
            yield manner.entrance + b"set cmd:fail-exit no\nset net:max-retries 3\n"
            for number in share:
                yield manner.line(number, files[number])

        def read(process: "subprocess.Popen[bytes]", hear: Callable[[bytes], None]) -> None:
            manner.read(process, share, hear)

        self._connections.append(_Connection(process, commands(), Heard(self._take), read))

    def _take(self, fate: Fate, words: bytes) -> None:
        with self._guard:
            self.fates.append(fate)
            if words and self._words_size < _WORDS_LIMIT:
                self.refused_words.append(words)
                self._words_size += len(words)


def deal(sizes: Sequence[int], workers: int) -> List[List[int]]:
    """Deal files out to connections by their numbers, the largest first and each to the one that has least to do."""
    shares: List[List[int]] = [[] for _ in range(workers)]
    loads: List[Tuple[int, int]] = [(0, worker) for worker in range(workers)]
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        load, worker = loads[0]
        shares[worker].append(number)
        heapq.heapreplace(loads, (load + sizes[number] + _FILE_COST, worker))
    return shares
