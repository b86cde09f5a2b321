"""The step "transfer": fetches what W/todo lists over several connections, then one plain rsync goes over everything.

The finishing pass brings folders, links, attributes and whatever changed since the dry run; its exit code is the
step's, its ``--stats`` text is in the job's ``stats``. Other codes: that of the rsync or ssh that did not get through
after retries, 11 disk full, 75 nothing moved for --stall seconds, 76 ranges or a stream failed. Stopped at any moment,
the next start goes on from the partial files and the ranges that are there.
"""

import os
import shutil
import time
from contextlib import suppress
from typing import List, NoReturn, Optional, Sequence, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.ciphers import prefer_aes
from beamferry_agent.facility_shell import NO_CONNECTION, FacilityShell, known_words
from beamferry_agent.finishing import Finish
from beamferry_agent.flushing import flush, note_unflushed
from beamferry_agent.range_connection import LargeFiles
from beamferry_agent.ranges import RangedFile, Version, plan
from beamferry_agent.rsync_runs import Command, run_rsync
from beamferry_agent.sharding import cut, large_from, read_todo
from beamferry_agent.step import STALLED, Progress, Step, StepEnd
from beamferry_agent.step_destination import opened, prepared_destination
from beamferry_agent.streams import RETRY_DELAYS, Streams
from beamferry_agent.swept import remove_below, remove_partials
from beamferry_agent.ticker import Ticker
from beamferry_agent.tools import DATA_UMASK, Tools
from beamferry_agent.transfer_units import Counts, Range, Shard, Unit, Way

_MIB = 1024 * 1024
_MOVERS = frozenset({"rsync"})
# rsync's unfinished files are kept in one folder of their own: what a kill -9 leaves there is found and removed, and
# the sizes of what is there show how far the streams are. It lies in the partial folder, which nothing lists. Each
# stream has its own below it: creating files in one folder, they would wait for each other.
_TEMPORARY = ".beamferry-partial/.beamferry-temporary"
_NO_LISTS = 69
# Files that are mostly holes take as little at RDS as at the facility, and as little of the wire.
_SPARSE = ("--sparse", "--compress")
_KNOWN = (
    *("work", "streams", "range-threshold", "range-bytes", "stall"),
    *("host", "account", "source", "destination", "ssh"),
)


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it; ``words`` are pairs of ``_KNOWN``, then ``-- rsync ARGUMENT... -- SOURCE DESTINATION``."""
    own = words.index("--") if "--" in words else len(words)
    asked = Arguments("transfer", words[:own], _KNOWN)
    command = Command(words[own + 1 :])
    tools.require(("rsync", "ssh", "find"))
    work, place = os.path.realpath(asked.needed("work")), asked.needed("destination")
    files, total = _totals(step, work)
    account, host = asked.needed("account"), asked.needed("host")
    ssh = prefer_aes(known_words(asked.text("ssh", "ssh").split()), host)
    destination = prepared_destination(step, place, _TEMPORARY, DATA_UMASK)
    note_unflushed(work, int(time.time()))
    with opened(step, destination) as folder:
        way = Way(
            command.led(ssh),
            command.source,
            FacilityShell(tools, ssh, account, host),
            asked.needed("source").rstrip("/"),
            destination,
            folder,
            _TEMPORARY,
            os.path.join(work, "live"),
        )
        _Transfer(step, tools, way, work, files, total, asked).run()


def _totals(step: Step, work: str) -> Tuple[int, int]:
    try:
        with open(os.path.join(work, "todo.totals")) as file:
            files, total = (int(word) for word in file.read(100).split())
        if os.path.exists(os.path.join(work, "todo")):
            return files, total
    except (FileNotFoundError, ValueError):
        pass
    # What an earlier job left there was removed.
    step.hear("no to-do list in {}: the dry run makes it".format(work))
    raise StepEnd(_NO_LISTS)


class _Transfer:
    def __init__(
        self, step: Step, tools: Tools, way: Way, work: str, files: int, total: int, asked: Arguments
    ) -> None:
        self._step, self._tools, self._way, self._work = step, tools, way, work
        self._files, self._total = files, total
        self._streams = asked.number("streams", 1, 1)
        least = asked.number("range-threshold")
        self._large_from = large_from(least, self._streams, total)
        self._with_ranges = least > 0 and self._streams > 1
        self._range_bytes = asked.number("range-bytes", 64 * _MIB, 1)
        self._stall = asked.number("stall")
        self._counts = Counts()
        self._shards = self._range_files = self._there = 0
        self._large: List[bytes] = []
        self._queue: List[Unit] = []

    def run(self) -> None:
        """Fetch everything."""
        self._cut()
        remove_below(self._step, self._way.folder, _TEMPORARY)
        # The rate is of what this start brings.
        self._step.counts_from(self._counts.bytes)
        with Ticker(self._step, self._tools, self._tick, stall=self._stall, movers=_MOVERS) as ticker:
            if self._queue or self._large:
                self._stream(ticker)
            code = self._finish(ticker)
            flush(self._step, self._tools, self._work, self._way.destination)
        if code == 0:
            self._step.report(Progress(self._total, self._total, self._files, self._files))
        self._step.say("The finishing pass ended with code {}.".format(code))
        self._end(code, code)

    # --- plan -------------------------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        return os.path.join(self._work, name)

    def _cut(self) -> None:
        """Cut the to-do list into shards and large files; what an earlier start of this same list fetched counts."""
        before = _read_counts(self._way.live)
        for name in ("plan", "live"):
            shutil.rmtree(self._path(name), ignore_errors=True)
            os.makedirs(self._path(name))
        os.makedirs(self._path("ranges"), exist_ok=True)
        self._counts.add(bytes=before[0], files=before[1])
        self._write_counts()
        with open(self._path("todo"), "rb") as todo:
            units = cut(
                read_todo(todo),
                streams=self._streams,
                count=self._files,
                total=self._total,
                large=self._large_from,
            )
            for unit in units:
                if unit.is_large:
                    self._large.append(unit.files[0].name)
                else:
                    self._queue.append(self._shard([file.name for file in unit.files]))

    def _shard(self, names: Sequence[bytes], *options: str) -> Shard:
        self._shards += 1
        path = self._path("plan/s{:06d}".format(self._shards))
        with open(path, "wb") as file:
            file.writelines(name + b"\0" for name in names)
        return Shard(path, options)

    def _plan_ranges(self, large: LargeFiles) -> List[Unit]:
        """Return the ranges that are missing; files that plain rsync does better get shards of their own."""
        units: List[Unit] = []
        # Eight ranges a stream, of all that there is to do, let the streams end together.
        length = self._total // (self._streams * 8)
        for name, version in zip(self._large, large.versions):
            if version and version.is_sparse:
                self._queue.append(self._shard([name], *_SPARSE))
                continue
            file = version and self._with_ranges and self._planned(name, version, length)
            if not file:
                self._queue.append(self._shard([name]))
                continue
            self._range_files += 1
            self._there += file.bytes_there
            units.extend(Range(file, offset) for offset in file.missing)
            # For the case that all ranges are there: nobody else would come to it.
            units.append(Range(file, None))
        return units

    def _planned(self, name: bytes, version: Version, length: int) -> Optional[RangedFile]:
        return plan(self._path("ranges"), self._way.destination, name, version, length, self._range_bytes)

    def _fill(self, streams: Streams) -> List[Unit]:
        """Return all units: ranges first, as the proof of their files then runs while others still have shards."""
        if not self._large:
            return self._queue
        large = LargeFiles(self._way.shell, self._way.far_folder, self._path("plan/large.errors"))
        for delay in (*RETRY_DELAYS, None):
            code = large.ask(self._large)
            if code != NO_CONNECTION or delay is None:
                break
            time.sleep(delay)
        if code == NO_CONNECTION:
            with open(self._path("plan/large.errors"), "rb") as file:
                streams.fail(code, file.read())
            return []
        return self._plan_ranges(large) + self._queue

    # --- the streams, and the finishing pass ------------------------------------------------------------------

    def _stream(self, ticker: Ticker) -> None:
        with open(self._path("unswept"), "wb"):
            pass
        streams = Streams(self._step, self._tools, self._way, self._streams, self._counts)
        streams.run(lambda: self._fill(streams), self._with_ranges and bool(self._large))
        self._check(ticker)
        if streams.failure is not None:
            code = streams.failure
            self._step.say("The streams ended with code {}.".format(code))
            self._end(code, code if code < STALLED or code == NO_CONNECTION else -1)
        self._step.say("The streams fetched what the dry run had found.")

    def _finish(self, ticker: Ticker) -> int:
        finish, words = Finish(), os.path.join(self._way.live, "finish.errors")
        code = run_rsync(
            self._tools,
            (*self._way.rsync, "--stats", "--temp-dir=" + _TEMPORARY, "--", self._way.source, "./"),
            finish.hear,
            words,
            folder=self._way.folder,
            umask=DATA_UMASK,
        )
        with open(words, "rb") as file:
            said = file.read()
        foreign = finish.foreign_copies(code, said)
        if foreign:
            self._step.say("Copies of other accounts keep their permissions: {}".format(foreign))
            code, said = 0, b""
        self._step.hear(said)
        self._check(ticker)
        self._step.put("stats", finish.stats)
        self._step.put("notes", finish.notes)
        remove_below(self._step, self._way.folder, _TEMPORARY, itself=True)
        # Everything is whole now, so no partial file is of use to anyone. A run that fetched nothing left none.
        if code == 0 and os.path.exists(self._path("unswept")):
            remove_partials(self._step, self._tools, self._way.folder, self._way.destination)
            os.unlink(self._path("unswept"))
            shutil.rmtree(self._path("ranges"), ignore_errors=True)
        return code

    # --- progress ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._write_counts()
        counts = self._counts
        done = counts.bytes + counts.range_bytes + self._there + counts.flying + self._flying()
        files = min(counts.files + counts.proofs, self._files)
        self._step.report(Progress(done, self._total, files, self._files))

    def _flying(self) -> int:
        """Return the bytes of files that are on their way."""
        found = 0
        for number in range(self._streams):
            with suppress(FileNotFoundError):
                folder = os.open(
                    "{}/{}".format(_TEMPORARY, number),
                    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                    dir_fd=self._way.folder,
                )
                try:
                    for name in os.listdir(folder):
                        with suppress(FileNotFoundError):
                            found += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                finally:
                    os.close(folder)
        return found

    def _write_counts(self) -> None:
        """Keep what shards have brought, for the next start; ranges are counted by what is there of them."""
        path = os.path.join(self._way.live, "log.total")
        with open(path + ".new", "w") as file:
            file.write("files {} {}\n".format(self._counts.bytes, self._counts.files))
        os.replace(path + ".new", path)

    # --- the end ----------------------------------------------------------------------------------------------

    def _check(self, ticker: Ticker) -> None:
        try:
            ticker.check()
        except StepEnd as end:
            self._end(end.code, -1)

    def _end(self, code: int, rsync_exit: int) -> NoReturn:
        counts = self._counts
        raise StepEnd(
            code,
            rsync_exit=rsync_exit,
            streams=self._streams,
            bytes=counts.bytes + counts.range_bytes,
            received=counts.received + counts.range_bytes,
            files=counts.files + counts.proofs,
            shards=self._shards,
            ranges=counts.ranges,
            range_files=self._range_files,
            retries=counts.retries,
            resent_bytes=counts.resent,
        )


def _read_counts(live: str) -> Tuple[int, int]:
    """Return bytes and files that earlier starts of this list fetched; versions before had a log for each stream."""
    size = files = 0
    try:
        names = sorted(name for name in os.listdir(live) if name.startswith(("log.", "shard.")))
    except FileNotFoundError:
        return 0, 0
    for name in names:
        with open(os.path.join(live, name), "rb") as file:
            for line in file:
                parts = line.split()
                if line.startswith(b">f") and len(parts) > 1 and parts[1].isdigit():
                    size, files = size + int(parts[1]), files + 1
                elif (
                    parts[:1] == [b"files"] and len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit()
                ):
                    size, files = size + int(parts[1]), files + int(parts[2])
    return size, files
