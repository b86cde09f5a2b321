"""The step "lftp_verify": compares the destination with its source, freshly listed both.

Leaves in W/verify what the step "verify" does. FTP knows no checksum that all servers have: content is fetched once
more and compared as it comes, without touching the disk. Ends with 0 when the comparison could be made, whatever it
found; 23 when something could not be read; 24 when files went away or changed meanwhile; the codes of the dry run and
of the transfer otherwise. The words then are lftp's own, and lines of ours:
  beamferry: changed: PATH          (its content ends elsewhere than the listing said)
  beamferry: unread: PATH (REASON)  (the copy at the destination)
"""

import json
import os
import shutil
from contextlib import ExitStack
from typing import Dict, NoReturn, Optional, Sequence, Set

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Compared, compare_censuses
from beamferry_agent.census_script import NOT_ENTERED, SOME_UNREAD, readable
from beamferry_agent.copy_reading import count_partials, open_copy
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.flushing import flush, suspect_unflushed
from beamferry_agent.lftp_census import (
    MOVERS,
    SCOPE_NAMES,
    CopyCensus,
    Source,
    SourceCensus,
    wish_of,
)
from beamferry_agent.lftp_comparison import Contents
from beamferry_agent.lftp_login import NAMES, LogIn
from beamferry_agent.mismatches import recall, remember
from beamferry_agent.reading_words import UNREAD, VANISHED, hear_lines, reading_code
from beamferry_agent.records import count_records, encode_name, read_names
from beamferry_agent.sampling import choose, random_sample
from beamferry_agent.step import Progress, Step, StepEnd
from beamferry_agent.step_destination import at_rds, real_destination
from beamferry_agent.ticker import Ticker
from beamferry_agent.tools import Tools

_NAMES = (
    *(
        "work",
        "streams",
        "level",
        "samples",
        "sample-bytes",
        "seed",
        "stall",
        "limit",
        "destination",
        "group",
    ),
    *SCOPE_NAMES,
    *NAMES,
)


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it. Raises StepEnd, AgentError."""
    step.name, step.phase = "verify", "census"
    asked = Arguments("lftp_verify", words, _NAMES)
    for name in ("work", "destination"):
        asked.needed(name)
    asked.matching("level", "sizes|sampled|full")
    asked.matching("group", "[0-9]+|own|")
    asked.matching("streams", "[1-9][0-9]?")
    asked.number("samples", 1, least=1)
    for name in ("sample-bytes", "stall", "limit"):
        asked.number(name)
    if asked.text("level") == "sampled":
        asked.matching("seed", "[0-9]+")
    log_in = LogIn(asked)
    tools.require(("lftp", "ssh", "sftp", "find", "sort", "shuf", "sync"))
    with log_in:
        _Verification(step, tools, asked, log_in).run()


class _Verification:
    def __init__(self, step: Step, tools: Tools, asked: Arguments, log_in: LogIn) -> None:
        self._step, self._tools, self._asked, self._log_in = step, tools, asked, log_in
        self._level, self._wish = asked.text("level"), wish_of(asked)
        self._work = os.path.abspath(asked.text("work"))
        self._out = os.path.join(self._work, "verify")
        self._scratch = os.path.join(self._out, "scratch")
        self._destination = real_destination(step, asked.text("destination"))
        with at_rds(step):
            self._copy = open_copy(self._destination)
        shutil.rmtree(self._out, ignore_errors=True)
        os.makedirs(self._scratch)
        self._pair = {
            "source": "{}:{}".format(log_in.host, asked.text("source").rstrip("/")),
            "destination": self._destination,
        }
        self._source = SourceCensus(step, tools, self._scratch)
        self._contents: Optional[Contents] = None
        self._remembered: Set[bytes] = set()
        self._is_all_suspect = False
        self._again = 0

    def run(self) -> None:
        """Compare, and end with what was found."""
        self._recall()
        stall = self._asked.number("stall")
        with Ticker(self._step, self._tools, self._tick, stall=stall, movers=MOVERS) as ticker:
            source = self._source.make(
                self._log_in,
                self._wish,
                self._asked.number("streams"),
                self._place("source.census"),
                ticker.check,
            )
            code = self._list_copy()
            ticker.check()
            compared = self._compare_lists()
        self._choose()
        if os.path.getsize(self._path("chosen")):
            content = self._compare_content(stall)
            code = max(code, content, key=(0, VANISHED, UNREAD).index)
        unresolved = json.loads(remember(json.dumps(dict(self._pair, folder=self._out))))["unresolved"]
        self._end(code, source, compared, unresolved)

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    def _place(self, name: str) -> str:
        return os.path.join(self._out, name)

    def _tick(self) -> None:
        if self._contents is None:
            self._step.report(Progress(0, 0, self._source.entries, 0))
        else:
            self._step.report(self._contents.progress)

    def _end_badly(self, code: int) -> NoReturn:
        self._step.say("The comparison ended with code {}.".format(code))
        raise StepEnd(code)

    # --- lists ------------------------------------------------------------------------------------------------

    def _recall(self) -> None:
        suspect_unflushed(self._step, self._tools, self._work, self._pair["source"], self._destination)
        path = self._path("remembered")
        try:
            recall(json.dumps(dict(self._pair, output=path)))
        except DamagedListsError as error:
            # What a damaged memory held is found by comparing everything.
            self._step.hear(error.told())
            self._is_all_suspect = True
            return
        with open(path, "rb") as file:
            self._remembered = set(read_names(file))

    def _list_copy(self) -> int:
        """List the copy; return 0, or 23 or 24 where something could not be read. Raises StepEnd."""
        for path in (self._place("partials"), self._path("closed")):
            with open(path, "wb"):
                pass
        group = self._asked.text("group")
        unless = readable(encode_name(self._path("closed")), group) if group else None
        census = CopyCensus(self._step, self._tools, self._copy, self._destination, self._scratch)
        has = self._wish.has
        code = census.make(
            self._wish.exclude, self._place("partials"), unless, self._place("destination.census"), has
        )
        if code:
            hear_lines(self._step, census.complaints)
        if code not in (0, SOME_UNREAD):
            self._end_badly(UNREAD if code == NOT_ENTERED else code)
        census.keep(self._path("closed"), self._place("closed"), has)
        # What could be seen is compared all the same.
        return reading_code([census.complaints]) if code else 0

    def _compare_lists(self) -> Compared:
        for name in ("sampled", "mismatches", "unstable"):
            with open(self._place(name), "wb"):
                pass
        with ExitStack() as opened:
            source, copy = (
                opened.enter_context(open(self._place(name), "rb"))
                for name in ("source.census", "destination.census")
            )
            only_source, only_copy, common = (
                opened.enter_context(open(path, "wb"))
                for path in (
                    self._place("only_source"),
                    self._place("only_destination"),
                    self._path("common"),
                )
            )
            return compare_censuses(source, copy, only_source, only_copy, common)

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
                self._tools,
                common,
                seed=self._asked.number("seed"),
                samples=self._asked.number("samples", 1),
                limit=self._asked.number("sample-bytes"),
            )
        self._again = choose(common, chosen, sample, self._remembered)

    # --- content ----------------------------------------------------------------------------------------------

    def _compare_content(self, stall: int) -> int:
        """Compare the content of what was chosen; return as ``_list_copy`` does. Raises StepEnd."""
        if self._copy is None:
            raise DamagedListsError("there is nothing to read at RDS")
        # What comes next has to come from the storage, not from this machine's memory.
        flush(self._step, self._tools, self._work, self._copy)
        contents = Contents(
            self._step,
            self._tools,
            self._copy,
            self._path("chosen"),
            streams=self._asked.number("streams"),
            limit=self._asked.number("limit"),
        )
        self._contents, self._step.phase = contents, "compare"
        with Ticker(self._step, self._tools, self._tick, stall=stall, movers=MOVERS) as ticker:
            code = contents.compare(self._log_in, ticker.check, self._out, self._scratch)
            if code is not None:
                self._end_badly(code)
            contents.read_again(self._log_in, ticker.check, self._out)
        return contents.code

    # --- result -----------------------------------------------------------------------------------------------

    def _end(self, code: int, source: Source, compared: Compared, unresolved: int) -> NoReturn:
        found: Dict[str, int] = {}
        for end, counted in (("source", compared.source), ("destination", compared.copy)):
            found.update((end + "_" + name, number) for name, number in counted.facts().items())
        contents = self._contents
        progress = Progress(0, 0, 0, 0) if contents is None else contents.progress
        found.update(
            destination_partials=count_partials(self._copy, self._place("partials")),
            sampled_files=progress.files_done,
            sampled_bytes=progress.bytes_done,
            content_mismatches=count_records(self._place("mismatches")),
            unstable=count_records(self._place("unstable")),
            unresolved=unresolved,
            again_files=self._again,
            cached=0 if contents is None else contents.cached,
            only_source=compared.only_source,
            only_destination=compared.only_copy,
            closed=count_records(self._place("closed")),
            modify_window=source.window,
            round_folders=source.round_folders,
            lost=0 if contents is None else contents.lost,
        )
        self._step.report(progress)
        shutil.rmtree(self._scratch)
        self._step.say("The comparison at level {} is made.".format(self._level))
        raise StepEnd(code, **found)
