"""Fetches what the dry run listed of one folder, over several connections of lftp.

Each connection is an lftp of its own with its share of the files. A file arrives under a name made of its path, size
and time, in a folder that nothing lists, and is renamed into its place once it is whole and as it was listed: what a
kill leaves behind is continued by the next start, and never with bytes of another version. lftp's mirror is not used:
it lists once more, copies modes that lock us out, and continues files that have changed.

Appends to W/placed a line "BYTES FILES" whenever files were put into their places. Exit codes: 11 disk full or not
writable, or a place is taken by something else, 23 some files may not be read, 24 some are gone or have changed, 67 the
log-in failed, 68 the connection broke again and again, 69 the lists are gone, 75 nothing moved.
"""

import os
import shutil
import time
from contextlib import suppress
from itertools import islice
from tempfile import TemporaryFile
from typing import IO, Iterator, Optional, Sequence, Set, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.flushing import flush, note_unflushed
from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.lftp_connections import PASS_FILES, Passes, Way
from beamferry_agent.lftp_job import NAMES, Job, Opened, job_of, opened, placed_before, read_numbers
from beamferry_agent.lftp_lists import Wanted, folders_of, is_file_there, read_damaged, wanted_of
from beamferry_agent.lftp_login import LogIn
from beamferry_agent.lftp_manner import HERE, Fetch
from beamferry_agent.placing import Placer, Staging, make_folders, staged_name
from beamferry_agent.refusal import refusal_of
from beamferry_agent.refusals import Refusals
from beamferry_agent.step import AT_RDS, STALLED, STOPPED, Progress, Step, StepEnd
from beamferry_agent.ticker import Ticker
from beamferry_agent.tools import Tools

_UNREADABLE, _CHANGED = 23, 24
_MIB = 1048576
# What a trial of the destination writes at most.
_MOST_TRIED = 16384 * _MIB
_SETTLE_SECONDS = 1


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it. Raises StepEnd, AgentError."""
    step.name = step.phase = "transfer"
    arguments = Arguments("lftp_transfer", words, NAMES)
    job, log_in = job_of(arguments), LogIn(arguments)
    tools.require(("lftp", "ssh", "sync"))
    window, totals = read_numbers(step, job.work)
    with log_in, opened(step, job) as places, Folders(places.root) as folders:
        note_unflushed(step, job.work)
        transfer = _Transfer(step, tools, job, places, folders, window, totals)
        code = transfer.run(log_in)
        transfer.end(code)


class _Transfer:
    """The transfer of one folder into a destination that is ready."""

    def __init__(
        self,
        step: Step,
        tools: Tools,
        job: Job,
        places: Opened,
        folders: Folders,
        window: int,
        totals: Tuple[int, int],
    ) -> None:
        self._step, self._tools, self._job, self._places, self._folders = step, tools, job, places, folders
        self._staging = Staging(places.staging)
        self._window, (self._files_total, self._bytes_total) = window, totals
        placed = os.path.join(job.work, "placed")
        self._bytes_before, self._files_before = placed_before(placed)
        self._placer = Placer(self._staging, folders, window, placed)
        way = Way(job.streams, job.limit, places.staging, job.umask)
        self._passes = Passes(tools, way, self._beat)
        self._ticker: Optional[Ticker] = None
        self._settled, self._settled_at = 0, 0.0
        self._resumed, self._refusals = 0, Refusals()

    def run(self, log_in: LogIn) -> int:
        """Fetch; return the code of the job. Raises StepEnd."""
        self._make_folders()
        shutil.rmtree(os.path.join(self._job.work, "lftp"), ignore_errors=True)
        with TemporaryFile(dir=self._job.work) as pending:
            self._list_pending(pending)
            self._resumed = self._staging.size()
            # The rate is of what this folder brings from here on.
            self._step.counts_from(self._bytes_before + self._resumed)
            pending.seek(0)
            code = self._fetch(log_in, pending)
        return self._finished() if code is None else code

    def end(self, code: int) -> None:
        """Tell what came, and why not all did. Raises StepEnd."""
        self._hear(code)
        self._tell(0)
        placer, passes = self._placer, self._passes
        raise StepEnd(
            code,
            bytes=placer.bytes_placed,
            files=placer.files_placed,
            streams=self._job.streams,
            passes=passes.passes,
            lost=passes.lost,
            resumed_bytes=self._resumed,
            refused=self._refusals.count,
            changed=placer.changed.count,
        )

    # --- lists ------------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        census = os.path.join(self._job.work, "source.census")
        complaints = make_folders(self._folders, folders_of(census, self._job.folder), self._job.umask)
        if complaints.count:
            self._step.hear(complaints.told)
            raise StepEnd(AT_RDS)

    def _todo(self) -> Iterator[Tuple[bytes, Wanted]]:
        return wanted_of(os.path.join(self._job.work, "todo"), self._job.folder)

    def _list_pending(self, pending: IO[bytes]) -> None:
        """List what is still to come: not what an earlier start has put in its place.

        What differs is fetched again whatever size and time say, see the dry run.
        """
        damaged = read_damaged(os.path.join(self._job.work, "damaged"))
        staged = frozenset(self._staging.names())
        continued: Set[bytes] = set()
        for record, file in self._todo():
            if file.path not in damaged and is_file_there(self._folders, file, self._window):
                continue
            pending.write(record + b"\0")
            # Its name costs more than all else here.
            if staged:
                continued.update(staged & {staged_name(file)})
        try:
            self._staging.sweep(continued)
        except OSError as error:
            self._step.hear("rm: {}: {}".format(self._job.staging, error.strerror))
            raise StepEnd(AT_RDS)

    # --- what comes -------------------------------------------------------------------------------------------

    def _fetch(self, log_in: LogIn, pending: IO[bytes]) -> Optional[int]:
        """Have all files have their turn; return the code of the job where that cannot be."""
        coming = (file for _, file in wanted_of(pending, None))
        movers = frozenset({"lftp"})
        with Ticker(
            self._step, self._tools, self._tick, stall=self._job.stall, movers=movers
        ) as self._ticker:
            try:
                return self._run_passes(log_in, coming)
            except StepEnd as end:
                if end.code not in (STALLED, STOPPED):
                    raise
                self._passes.stop()
                self._settle()
                if end.code == STOPPED:
                    # Where it stood still nothing may be started any more.
                    self._ticker.check()
                    raise
                return end.code

    def _run_passes(self, log_in: LogIn, coming: Iterator[Wanted]) -> Optional[int]:
        files = list(islice(coming, PASS_FILES))
        while files:
            staged = self._staging.size()
            self._settled = 0
            self._passes.run(log_in, files, Fetch(staged_name))
            self._settle()
            self._refusals.add(self._passes)
            left = self._passes.left()
            files = left + list(islice(coming, PASS_FILES - len(left)))
            if not files:
                break
            code = self._passes.judge(len(left), self._staging.size() - staged)
            if code is not None:
                return code
            # A server counts a connection for a moment after its end.
            self._passes.pause(1)
        return None

    def _beat(self) -> None:
        if self._ticker is not None:
            self._ticker.check()
        # Few files wait, so that few have to be looked at again after a kill.
        if time.monotonic() - self._settled_at >= _SETTLE_SECONDS:
            self._settle()
            self._settled_at = time.monotonic()

    def _settle(self) -> None:
        fates = self._passes.fates[self._settled :]
        self._settled += len(fates)
        self._placer.settle([self._passes.files[fate.number] for fate in fates if fate.word == "ok"])

    def _tick(self) -> None:
        self._tell(self._staging.size())

    def _tell(self, staged: int) -> None:
        size = self._bytes_before + self._placer.bytes_placed
        files = self._files_before + self._placer.files_placed
        self._step.report(Progress(size + staged, self._bytes_total, files, self._files_total))

    # --- the end ----------------------------------------------------------------------------------------------

    def _finished(self) -> int:
        """Look whether all that was fetched is in its place, flush it, and clean up; return the job's code."""
        placer, step = self._placer, self._step
        # A file can be shorter than it was listed because RDS has lost its end: lftp does not look how closing went.
        if placer.longest_short >= 0:
            words = self._refusal(min(placer.longest_short + _MIB, _MOST_TRIED))
            if words:
                step.hear("beamferry: refused at RDS: " + words)
                return AT_RDS
        # What a failure kept from its place without a word is found here, before what was fetched is removed.
        with Folders(self._places.root) as anew:
            unplaced = sum(not is_file_there(anew, file, None) for _, file in self._todo())
        if not placer.misplaced.count and unplaced > self._refusals.count + placer.changed.count:
            told = "beamferry: unplaced: files were fetched that are not in their places at RDS ({})"
            step.hear(told.format(unplaced))
            return AT_RDS
        flush(step, self._tools, self._job.work, self._places.root)
        self._remove_staging()
        if placer.misplaced.count:
            return AT_RDS
        if self._refusals.count:
            return _UNREADABLE if self._refusals.forbidden.count else _CHANGED
        return _CHANGED if placer.changed.count else 0

    def _refusal(self, size: int) -> str:
        """Try to write that much where files arrive."""
        place = "/proc/self/fd/{}".format(self._staging.handle)
        return refusal_of(place, size).replace(place, self._places.place)

    def _remove_staging(self) -> None:
        """All have had their turn: what is left there is of files that may not be read or have changed."""
        try:
            for name in self._staging.names():
                self._staging.remove(name)
        except OSError as error:
            self._step.hear("rm: {}: {}".format(self._job.staging, error.strerror))
            raise StepEnd(AT_RDS)
        left = self._job.staging
        # What has something else in it stays.
        with suppress(OSError, BlockedError):
            while left:
                left, _, last = left.rpartition("/")
                os.rmdir(last, dir_fd=self._folders.enter(os.fsencode(left)))

    def _hear(self, code: int) -> None:
        """Keep what tells why; first what decides, as the middle of a long list is left out."""
        told = [self._refusals.words.told, self._placer.misplaced.told, self._placer.changed.told]
        if code == _UNREADABLE:
            told.insert(0, self._refusals.forbidden.told)
        if code not in (0, _UNREADABLE, _CHANGED):
            told.append(b"".join(line + b"\n" for line in self._passes.fatal()))
        for each in told:
            # lftp calls the folder by a name that nobody else knows it by.
            self._step.hear(each.replace(b": " + HERE, b": " + os.fsencode(self._places.place) + b"/"))
