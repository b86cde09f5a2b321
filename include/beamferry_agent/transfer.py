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
from typing import List, NoReturn, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.ciphers import prefer_aes
from beamferry_agent.facility_shell import NO_CONNECTION, FacilityShell, known_words
from beamferry_agent.flushing import flush, note_unflushed
from beamferry_agent.range_connection import LargeFiles
from beamferry_agent.rsync_runs import Command, run_rsync
from beamferry_agent.rsync_summary import Summary, foreign_copies
from beamferry_agent.step import STALLED, Progress, Step, StepEnd
from beamferry_agent.step_destination import opened, prepared_destination, still_there
from beamferry_agent.streams import RETRY_DELAYS, Streams
from beamferry_agent.swept import remove_below, remove_partials
from beamferry_agent.ticker import Ticker
from beamferry_agent.tools import DATA_UMASK, Tools
from beamferry_agent.transfer_plan import Totals, TransferPlan, read_counts, read_totals
from beamferry_agent.transfer_units import Counts, Unit, Way

_MOVERS = frozenset({"rsync"})
# rsync's unfinished files are kept in one folder of their own: what a kill -9 leaves there is found and removed, and
# the sizes of what is there show how far the streams are. It lies in the partial folder, which nothing lists. Each
# stream has its own below it: creating files in one folder, they would wait for each other.
_TEMPORARY = ".beamferry-partial/.beamferry-temporary"
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
    totals = read_totals(step, work)
    account, host = asked.needed("account"), asked.needed("host")
    ssh = prefer_aes(known_words(asked.text("ssh", "ssh").split()), host)
    destination = prepared_destination(step, place, _TEMPORARY, DATA_UMASK)
    note_unflushed(step, work)
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
        plan = TransferPlan(work, destination, totals, asked)
        _Transfer(step, tools, way, work, totals, plan, asked.number("stall")).run()


class _Transfer:
    def __init__(
        self, step: Step, tools: Tools, way: Way, work: str, totals: Totals, plan: TransferPlan, stall: int
    ) -> None:
        self._step, self._tools, self._way, self._work = step, tools, way, work
        self._totals, self._plan, self._stall = totals, plan, stall
        self._counts = Counts()

    def run(self) -> None:
        """Fetch everything."""
        size, files = read_counts(self._way.live)
        self._counts.add(bytes=size, files=files)
        self._plan.cut()
        self._write_counts()
        remove_below(self._step, self._way.folder, _TEMPORARY)
        # The rate is of what this start brings.
        self._step.counts_from(self._counts.bytes)
        with Ticker(self._step, self._tools, self._tick, stall=self._stall, movers=_MOVERS) as ticker:
            if self._plan.units or self._plan.large:
                self._stream(ticker)
            code = self._finish(ticker)
            self._see_that_it_is_there()
            flush(self._step, self._tools, self._work, self._way.folder)
        if code == 0:
            self._step.report(Progress(*(self._totals.bytes,) * 2, *(self._totals.files,) * 2))
        self._step.say("The finishing pass ended with code {}.".format(code))
        self._end(code, code)

    def _path(self, name: str) -> str:
        return os.path.join(self._work, name)

    # --- the streams, and the finishing pass ------------------------------------------------------------------

    def _stream(self, ticker: Ticker) -> None:
        with open(self._path("unswept"), "wb"):
            pass
        plan = self._plan
        streams = Streams(self._step, self._tools, self._way, plan.streams, self._counts)
        streams.run(lambda: self._units(streams), plan.with_ranges and bool(plan.large))
        self._check(ticker)
        if streams.failure is not None:
            code = streams.failure
            self._step.say("The streams ended with code {}.".format(code))
            self._end(code, code if code < STALLED or code == NO_CONNECTION else -1)
        self._see_that_it_is_there()
        self._step.say("The streams fetched what the dry run had found.")

    def _units(self, streams: Streams) -> List[Unit]:
        """Return all units of work, once the facility has told of the large files."""
        if self._plan.large:
            complaints = self._path("plan/large.errors")
            large = LargeFiles(self._way.shell, self._way.far_folder, complaints)
            for delay in (*RETRY_DELAYS, None):
                code = large.ask(self._plan.large)
                if code != NO_CONNECTION or delay is None:
                    break
                time.sleep(delay)
            if code == NO_CONNECTION:
                with open(complaints, "rb") as file:
                    streams.fail(code, file.read())
                return []
            self._plan.add_large(large.versions)
        return self._plan.units

    def _finish(self, ticker: Ticker) -> int:
        summary, words = Summary(), os.path.join(self._way.live, "finish.errors")
        code = run_rsync(
            self._tools,
            (*self._way.rsync, "--stats", "--temp-dir=" + _TEMPORARY, "--", self._way.source, "./"),
            summary.hear,
            words,
            folder=self._way.folder,
            umask=DATA_UMASK,
        )
        with open(words, "rb") as file:
            said = file.read()
        foreign = foreign_copies(code, said)
        if foreign:
            self._step.say("Copies of other accounts keep their permissions: {}".format(foreign))
            code, said = 0, b""
        self._step.hear(said)
        self._check(ticker)
        self._step.put("stats", summary.stats)
        self._step.put("notes", summary.notes)
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
        done = counts.bytes + counts.range_bytes + self._plan.there + counts.flying + self._flying()
        files = min(counts.files + counts.proofs, self._totals.files)
        self._step.report(Progress(done, self._totals.bytes, files, self._totals.files))

    def _flying(self) -> int:
        """Return the bytes of files that are on their way."""
        found = 0
        for number in range(self._plan.streams):
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

    def _see_that_it_is_there(self) -> None:
        try:
            still_there(self._step, self._way.folder, self._way.destination)
        except StepEnd as end:
            self._end(end.code, -1)

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
            streams=self._plan.streams,
            bytes=counts.bytes + counts.range_bytes,
            received=counts.received + counts.range_bytes,
            files=counts.files + counts.proofs,
            shards=self._plan.shards,
            ranges=counts.ranges,
            range_files=self._plan.range_files,
            retries=counts.retries,
            resent_bytes=counts.resent,
        )
