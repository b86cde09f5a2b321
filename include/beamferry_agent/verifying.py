"""A comparison of the destination with its source, from fresh censuses of both ends, whatever the way to the source.

Leaves in W/verify: source.census, destination.census, only_source, only_destination, closed (records, see
census_script.py; the last ones of what the group cannot read, "own" being that of each entry), sampled and mismatches
(paths whose content was compared, and those that differ), unstable (those of the latter that the source reads
differently each time) and unresolved (paths that differed before and could not be compared). Ends with 0 when the
comparison could be made, whatever it found; with 23 when something could not be read, 24 when it went away meanwhile.
"""

import os
import shutil
from typing import Dict, FrozenSet, NoReturn, Optional, Sequence, Set

from beamferry_agent.arguments import Arguments
from beamferry_agent.both_censuses import BothCensuses
from beamferry_agent.census import Compared, Listing
from beamferry_agent.census_script import NOT_ENTERED, SOME_UNREAD
from beamferry_agent.content import Content, Lists
from beamferry_agent.copy_reading import open_copy
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.flushing import flush, suspect_unflushed
from beamferry_agent.mismatches import recall, remember
from beamferry_agent.reading_words import OF_RDS, UNREAD, VANISHED, hear_lines, reading_code
from beamferry_agent.records import encode_name, read_names
from beamferry_agent.sampling import choose, random_sample
from beamferry_agent.step import AT_HOME, Progress, Step, StepEnd
from beamferry_agent.step_destination import at_rds, real_destination
from beamferry_agent.ticker import Ticker
from beamferry_agent.tools import Tools

ARGUMENTS = (
    *("work", "streams", "level", "samples", "sample-bytes", "seed", "stall"),
    *("host", "account", "source", "destination", "group", "exclude"),
)
TOOLS = ("find", "sh", "shuf", "sort", "sync")
# Bytes in a second, of a facility that is slow and not away.
_SLOWEST = 20 * 1024 * 1024


def check_arguments(asked: Arguments) -> None:
    """Look at the arguments before anybody is asked. Raises AgentError."""
    for name in ("work", "host", "account", "destination"):
        asked.needed(name)
    asked.matching("level", "sizes|sampled|full")
    asked.matching("group", "[0-9]+|own|")
    asked.matching("streams", "[1-9][0-9]?")
    asked.number("samples", 1, least=1)
    for name in ("sample-bytes", "stall"):
        asked.number(name)
    if asked.text("level") == "sampled":
        asked.matching("seed", "[0-9]+")


class Verification:
    """One comparison; ``source`` is HOST:PATH.

    ``movers``: names of the tools that move bytes.
    """

    movers: FrozenSet[str] = frozenset({"find", "sort"})

    def __init__(self, step: Step, tools: Tools, asked: Arguments, source: str) -> None:
        """Find the destination. Raises StepEnd."""
        step.name, step.phase = "verify", "census"
        self._step, self.tools, self.asked = step, tools, asked
        self._level, self._stall = asked.text("level"), asked.number("stall")
        self._work = os.path.realpath(asked.text("work"))
        out = os.path.join(self._work, "verify")
        self.lists = Lists(out, os.path.join(out, "scratch"))
        self._destination = real_destination(step, asked.text("destination"))
        with at_rds(step):
            self._copy = open_copy(self._destination)
        self._compared_source = source
        shutil.rmtree(out, ignore_errors=True)
        os.makedirs(self.lists.scratch)
        self._censuses = BothCensuses(
            step, tools, self._copy, self._destination, out=out, scratch=self.lists.scratch
        )
        self._remembered: Set[bytes] = set()
        self._is_all_suspect = False
        self._again = 0
        self._content: Optional[Content] = None

    # --- what a way to the source does ------------------------------------------------------------------------

    @property
    def exclude(self) -> Sequence[bytes]:
        """Paths that the entry leaves out."""
        return [encode_name(path) for path in self.asked.all_of("exclude")]

    def list_source(self, listing: Listing) -> int:
        """List the source, unsorted; return 0, or as a script of ``census_script`` ends. Raises AgentError."""
        raise NotImplementedError

    def make_content(self, chosen: str, copy: int) -> Content:
        """Return what compares a list of chosen files, see ``content.py``."""
        raise NotImplementedError

    def facts(self) -> Dict[str, int]:
        """Return what else stands in the result."""
        return {}

    # --- how it goes ------------------------------------------------------------------------------------------

    def run(self) -> NoReturn:
        """Compare, and end with what was found. Raises StepEnd, AgentError."""
        try:
            self._run()
        except OSError as error:
            # What fails at RDS is told where it is read: this is of our own folder.
            self._step.hear_if_possible("agent: {}".format(os.strerror(error.errno or 0)))
            raise StepEnd(AT_HOME)

    def _run(self) -> NoReturn:
        self._recall()
        with Ticker(self._step, self.tools, self._tick, stall=self._stall, movers=self.movers) as ticker:
            code = self._list(ticker)
            compared = self._censuses.compare(ticker.check)
        self._choose()
        if os.path.getsize(self._path("chosen")) and self._copy is not None:
            code = max(code, self._compare_content(self._copy), key=(0, VANISHED, UNREAD).index)
        unresolved = remember(self._compared_source, self._destination, self.lists.out)
        self._end(code, compared, unresolved)

    def _path(self, name: str) -> str:
        return os.path.join(self.lists.scratch, name)

    def _tick(self) -> None:
        if self._content is not None:
            self._step.report(self._content.progress)
            return
        self._step.report(Progress(0, 0, self._censuses.count(), 0))

    def _end_badly(self, code: int, complaints: Sequence[str] = (), of_copy: Sequence[str] = ()) -> NoReturn:
        self._hear(complaints, of_copy)
        self._step.say("The comparison ended with code {}.".format(code))
        raise StepEnd(code)

    def _hear(self, complaints: Sequence[str], of_copy: Sequence[str]) -> None:
        for path in of_copy:
            hear_lines(self._step, path, OF_RDS)
        for path in complaints:
            hear_lines(self._step, path)

    # --- what is remembered -----------------------------------------------------------------------------------

    def _recall(self) -> None:
        suspect_unflushed(self._step, self.tools, self._work, self._compared_source, self._destination)
        path = self._path("remembered")
        try:
            recall(self._compared_source, self._destination, path)
        except DamagedListsError as error:
            # What a damaged memory held is found by comparing everything.
            self._step.hear(error.told())
            self._is_all_suspect = True
            return
        with open(path, "rb") as file:
            self._remembered = set(read_names(file))

    # --- censuses ---------------------------------------------------------------------------------------------

    def _list(self, ticker: Ticker) -> int:
        """List both ends; return 0, or 23 or 24 where something could not be read. Raises StepEnd."""
        codes = self._censuses.make(
            ticker.check, self.list_source, exclude=self.exclude, group=self.asked.text("group")
        )
        source, copy = self._censuses.complaints
        for code, complaints in ((codes[0], (source, ())), (codes[1], ((), copy))):
            if code not in (0, SOME_UNREAD):
                self._end_badly(UNREAD if code == NOT_ENTERED else code, *complaints)
        for name in ("sampled", "mismatches", "unstable"):
            with open(os.path.join(self.lists.out, name), "wb"):
                pass
        # What could be seen is compared all the same.
        return reading_code((*source, *copy)) if any(codes) else 0

    # --- content ----------------------------------------------------------------------------------------------

    def _choose(self) -> None:
        """Write which files' content is compared."""
        common, chosen = self._path("common"), self._path("chosen")
        if self._level == "full" or self._is_all_suspect:
            os.rename(common, chosen)
            return
        sample: Set[bytes] = set()
        if self._level == "sampled":
            sample = random_sample(
                self._step,
                self.tools,
                common,
                seed=self.asked.number("seed"),
                samples=self.asked.number("samples", 1),
                limit=self.asked.number("sample-bytes"),
            )
        self._again = choose(common, chosen, sample, self._remembered)

    def _compare_content(self, copy: int) -> int:
        """Compare the content of what was chosen; return as ``_list`` does. Raises StepEnd."""
        # What comes next has to come from the storage, not from this machine's memory.
        flush(self._step, self.tools, self._work, copy)
        content = self.make_content(self._path("chosen"), copy)
        self._content, self._step.phase = content, "compare"
        # A file's hash comes at its end, and the facility may take longer for one than this host.
        stall = self._stall + content.chosen.largest // _SLOWEST if self._stall else 0
        with Ticker(self._step, self.tools, self._tick, stall=stall, movers=self.movers) as ticker:
            try:
                code = content.run(ticker.check)
            except DamagedListsError as error:
                self._step.hear(error.told())
                code = error.exit_code
        if code not in (0, UNREAD, VANISHED):
            self.tools.end_all()
            self._end_badly(code, *content.complaints)
        return code

    # --- result -----------------------------------------------------------------------------------------------

    def _end(self, code: int, compared: Compared, unresolved: int) -> NoReturn:
        found: Dict[str, int] = {}
        for end, counted in (("source", compared.source), ("destination", compared.copy)):
            found.update((end + "_" + name, number) for name, number in counted.facts().items())
        content = self._content
        found.update(
            destination_partials=self._censuses.count_partials(),
            sampled_files=0 if content is None else content.compared,
            sampled_bytes=0 if content is None else content.compared_bytes,
            content_mismatches=0 if content is None else content.mismatches,
            unstable=0 if content is None else content.unstable,
            unresolved=unresolved,
            again_files=self._again,
            cached=0 if content is None else content.cached,
            only_source=compared.only_source,
            only_destination=compared.only_copy,
            closed=self._censuses.count_closed(),
            **self.facts(),
        )
        self._step.report(Progress(0, 0, 0, 0) if content is None else content.progress)
        far, near = ((), ()) if content is None else content.complaints
        source, copy = self._censuses.complaints
        self._hear((*source, *far), (*copy, *near))
        led_away = None if content is None else content.led_away
        if led_away is not None:
            self._step.hear(led_away.told())
            code = led_away.exit_code
        shutil.rmtree(self.lists.scratch)
        self._step.say("The comparison at level {} is made.".format(self._level))
        raise StepEnd(code, **found)
