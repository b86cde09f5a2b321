"""The units of work of a transfer by rsync, and the connections that do them side by side."""

import os
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import Callable, Deque, Optional, Sequence, Set, Union

from beamferry_agent.destination import open_partial, write_at
from beamferry_agent.facility_shell import NO_CONNECTION
from beamferry_agent.places import ForeignError, PlaceError
from beamferry_agent.range_connection import GONE_CODES, RangeConnection
from beamferry_agent.ranges import RangedFile
from beamferry_agent.rsync_runs import run_rsync
from beamferry_agent.step import AT_RDS, UNEXPECTED, Step, StepEnd
from beamferry_agent.tools import DATA_UMASK, Tools
from beamferry_agent.transfer_units import Counts, Range, Shard, Unit, Way

# Far sshds refuse some of many connections that arrive together (MaxStartups 10:30:100 is OpenSSH's default): the
# streams start a little apart, and each tries again by itself before the job gives up.
_SPREAD = 0.05
RETRY_DELAYS = (1, 4, 12)
# rsync's codes of a connection that broke.
_BROKEN = frozenset((5, 10, 12, 30, 35, NO_CONNECTION))
# Some files vanished or could not be read: the finishing pass meets them again and says so.
_OF_FILES = frozenset((0, 23, 24))
_FOREIGN = 70


class Streams:
    """Does units of work over several connections, first come, first served."""

    def __init__(self, step: Step, tools: Tools, way: Way, count: int, counts: Counts) -> None:
        """Take how files come, and how many connections there are."""
        self._step, self._tools, self.way, self._count, self.counts = step, tools, way, count, counts
        self._units: Deque[Unit] = deque()
        self._filled = threading.Event()
        self._guard = threading.Lock()
        self._proved: Set[bytes] = set()
        self.failure: Optional[int] = None

    def run(self, fill: Callable[[], Sequence[Unit]], with_ranges: bool) -> None:
        """Start the connections, fill the queue while they begin, and wait until all is done or something failed.

        ``with_ranges``: connections for ranges are opened at once.
        """
        threads = [
            threading.Thread(target=self._work, args=(number, with_ranges), daemon=True)
            for number in range(self._count)
        ]
        for thread in threads:
            thread.start()
        try:
            self._units.extend(fill())
        finally:
            self._filled.set()
            for thread in threads:
                thread.join()

    def fail(self, code: int, words: Union[bytes, str]) -> None:
        """Note the first failure that ends the job, with what the tool said of it."""
        with self._guard:
            if self.failure is not None:
                return
            self.failure = code
        self._step.hear(words)

    def _next(self) -> Optional[Unit]:
        self._filled.wait()
        with self._guard:
            return self._units.popleft() if self._units and self.failure is None else None

    def _is_mine_to_prove(self, file: RangedFile) -> bool:
        """Say whether nobody has begun with it; once, whoever comes first."""
        with self._guard:
            if file.name in self._proved:
                return False
            self._proved.add(file.name)
            return True

    def _work(self, number: int, with_ranges: bool) -> None:
        try:
            _Stream(self._step, self._tools, self, number).work(
                self._next, self._is_mine_to_prove, with_ranges
            )
        except StepEnd:
            # All tools were ended, and the step tells why.
            return
        except Exception as error:  # noqa: BLE001
            traceback.print_exc(file=sys.stdout)
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            self.fail(UNEXPECTED, "agent: {}".format(reason))


class _Stream:
    """One connection after the other."""

    def __init__(self, step: Step, tools: Tools, streams: Streams, number: int) -> None:
        self._step, self._tools, self._streams, self._number = step, tools, streams, number
        self._way, self._counts = streams.way, streams.counts
        self._ranges: Optional[RangeConnection] = None
        self._words = os.path.join(self._way.live, "{}.errors".format(number))
        self._far_words = os.path.join(self._way.live, "{}.far".format(number))
        self._below = "{}/{}".format(self._way.temporary, number)

    def work(
        self,
        take: Callable[[], Optional[Unit]],
        is_mine_to_prove: Callable[[RangedFile], bool],
        with_ranges: bool,
    ) -> None:
        self._is_mine_to_prove = is_mine_to_prove
        # Nobody else can write in there.
        with suppress(FileExistsError):
            os.mkdir(self._below, 0o700, dir_fd=self._way.folder)
        time.sleep(self._number * _SPREAD)
        if with_ranges:
            # The handshake goes on while the facility is asked about the large files.
            self._open()
        try:
            while True:
                unit = take()
                if not isinstance(unit, Range) or unit.offset is None:
                    self._close()
                if unit is None or not self._done(unit):
                    return
        finally:
            self._close()

    def _done(self, unit: Unit) -> bool:
        if isinstance(unit, Shard):
            return self._fetch_shard(unit)
        if unit.offset is None:
            return self._prove(unit.file)
        return self._fetch_range(unit.file, unit.offset)

    # --- shards -----------------------------------------------------------------------------------------------

    def _fetch_shard(self, shard: Shard) -> bool:
        if not self._fetch(
            shard.path, self._count_line, "--outbuf=L", "--out-format=%i %l %b", *shard.options
        ):
            return False
        os.unlink(shard.path)
        return True

    def _count_line(self, line: bytes) -> None:
        if line.startswith(b">f"):
            _, size, received = line.split(b" ")
            self._counts.add(bytes=int(size), received=int(received), files=1)

    def _fetch(self, files: str, hear: Callable[[bytes], None], *options: str) -> bool:
        """Have one rsync fetch the files of a list, again when its connection breaks; False when the job has to end."""
        words = (
            *self._way.rsync,
            # The finishing pass sets the folders' times; doing it here would let the streams undo each other's.
            "--omit-dir-times",
            "--no-inc-recursive",
            "--temp-dir=" + self._below,
            "--files-from=" + files,
            "--from0",
            *options,
            "--",
            self._way.source,
            "./",
        )
        for delay in (*RETRY_DELAYS, None):
            with open(self._words, "wb"):
                pass
            code = run_rsync(self._tools, words, hear, self._words, folder=self._way.folder, umask=DATA_UMASK)
            if code in _OF_FILES:
                return True
            if code not in _BROKEN or delay is None:
                break
            if self._streams.failure is not None:
                return False
            self._pause(delay)
        with open(self._words, "rb") as file:
            self._streams.fail(code, file.read())
        return False

    def _pause(self, seconds: int) -> None:
        # And a little more for each stream, so that they do not come back together.
        self._counts.add(retries=1)
        time.sleep(seconds + self._number % 10 / 10)

    # --- ranges -----------------------------------------------------------------------------------------------

    def _open(self) -> RangeConnection:
        if self._ranges is None:
            self._ranges = RangeConnection(
                self._tools, self._way.shell, self._way.far_folder, self._far_words
            )
        return self._ranges

    def _close(self) -> int:
        connection, self._ranges = self._ranges, None
        return 0 if connection is None else connection.close()

    def _fetch_range(self, file: RangedFile, offset: int) -> bool:
        count = file.size_of(offset)
        code = 0
        for delay in RETRY_DELAYS:
            if file.plain:
                return True
            connection = self._open()
            connection.ask(file.name, file.version, offset, count)
            come, is_lost = 0, not connection.is_greeted
            if not is_lost:
                try:
                    come = self._receive(connection, file, offset, count)
                except FileNotFoundError:
                    # rsync removes an empty partial folder behind it.
                    is_lost = True
                except PlaceError as error:
                    if isinstance(error, ForeignError):
                        self._streams.fail(_FOREIGN, error.told())
                    else:
                        self._streams.fail(AT_RDS, "beamferry: refused at RDS: {}".format(error))
                    return False
            if come == count:
                file.add(offset)
                self._counts.add(ranges=1, range_bytes=count, flying=-count)
                return self._prove(file) if file.is_whole else True
            self._counts.add(flying=-come)
            code = self._close()
            if not is_lost and code in GONE_CODES:
                # Changed, vanished or unreadable by now: rsync's own words on that are the best ones.
                file.plain = True
                return self._prove(file)
            self._pause(delay)
        with open(self._far_words, "rb") as words:
            self._streams.fail(NO_CONNECTION if code == NO_CONNECTION else UNEXPECTED, words.read())
        return False

    def _receive(self, connection: RangeConnection, file: RangedFile, offset: int, count: int) -> int:
        """Write a range into the file's partial; return how much of it came. Raises PlaceError, FileNotFoundError."""
        come = 0
        with open_partial(self._way.destination, file.name) as partial:
            for piece in connection.read(count):
                write_at(partial, piece, offset + come, self._way.destination)
                come += len(piece)
                self._counts.add(flying=len(piece))
                self._tools.moved(len(piece))
        return come

    def _prove(self, file: RangedFile) -> bool:
        """Let rsync fetch a file with its partial as the basis."""
        if not (file.is_whole or file.plain) or not self._is_mine_to_prove(file):
            return True
        self._close()
        path = os.path.join(self._way.live, "proof.{}".format(self._number))
        with open(path, "wb") as files:
            files.write(file.name + b"\0")
        # Most of the file's bytes are there: --stats says how many had to come again.
        if not self._fetch(path, self._count_resent, "--no-whole-file", "--stats"):
            return False
        self._counts.add(proofs=1)
        file.forget()
        return True

    def _count_resent(self, line: bytes) -> None:
        if line.startswith(b"Literal data: "):
            self._counts.add(resent=int(line.split(b" ")[2]))
