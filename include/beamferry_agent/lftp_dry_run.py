"""The step "lftp_dry_run": lists the facility's folders and finds what the destination lacks; fetches nothing.

Leaves W/source.census (all that was listed), W/damaged (paths whose content differed when it was compared), W/closed
(records of what is there and does not let the group do what the entry wants), W/todo (records
PATH//f//SIZE//MTIME// of the files to fetch), W/todo.totals and W/modify_window. Ends with 72 if the destination cannot
hold a name: W/names_refused has a line for each of them. The job's ``stats`` has a line "total" and one for each
folder, "." being the files in the beamtime's own folder: KIND FILES BYTES FILES-TO-FETCH BYTES-TO-FETCH
FOLDERS-TO-MAKE-AND-ENTRIES-TO-OPEN NAME.

Other codes: 23 what cannot be listed, 65 what cannot be read, 66 what is proven incomplete or could not be checked, 67
a log-in that failed, 68 a broken connection. The words then have lines of ours:
  beamferry: unlisted: FOLDER
  beamferry: unseen: PATH             (FTP: only NLST names it: a cut listing, a broken link, a hard name)
  beamferry: cut: FOLDER: N names, M listed         (SFTP: the two clients disagree)
  beamferry: unchecked: FOLDER (REASON)             (there was no second look, or one that is cut itself)
  beamferry: unreadable-line: FOLDER: LINE
"""

import os
import shutil
import time
from contextlib import ExitStack, suppress
from typing import Optional, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Listing, sort_records
from beamferry_agent.census_script import Unless, copy_script
from beamferry_agent.copy_reading import can_enter, open_copy
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.flushing import suspect_unflushed
from beamferry_agent.lftp_census import MOVERS, SCOPE_NAMES, Source, SourceCensus, wish_of
from beamferry_agent.lftp_job import group_of
from beamferry_agent.lftp_lists import read_damaged
from beamferry_agent.lftp_login import NAMES, LogIn
from beamferry_agent.mismatches import recall
from beamferry_agent.missing import Lists, Missing, find_missing
from beamferry_agent.reading_words import OF_RDS, UNREAD, hear_lines
from beamferry_agent.records import encode_name
from beamferry_agent.step import Progress, Step, StepEnd
from beamferry_agent.step_destination import at_rds, real_destination
from beamferry_agent.ticker import Ticker
from beamferry_agent.together import together
from beamferry_agent.tools import Tools
from beamferry_agent.trial import NewNames, refuse_names

_NAMES = (
    *(
        "work",
        "streams",
        "destination-root",
        "destination",
        "modify-window",
        "stall",
        "group-access",
        "group",
    ),
    *SCOPE_NAMES,
    *NAMES,
)
# Of an earlier run; its list must never be taken for this one's, nor its progress.
_OLD = ("todo", "todo.totals", "source.census", "modify_window", "placed", "names_refused", "closed")


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it. Raises StepEnd, AgentError."""
    step.name = step.phase = "dry_run"
    asked = Arguments("lftp_dry_run", words, _NAMES)
    for name in ("work", "destination-root", "destination"):
        asked.needed(name)
    asked.matching("streams", "[1-9][0-9]?")
    group_of(asked)
    for name in ("modify-window", "stall"):
        asked.number(name)
    log_in = LogIn(asked)
    tools.require(("lftp", "ssh", "sftp", "find", "sort"))
    with log_in:
        _DryRun(step, tools, asked, log_in).run()


class _DryRun:
    def __init__(self, step: Step, tools: Tools, asked: Arguments, log_in: LogIn) -> None:
        self._step, self._tools, self._asked, self._log_in = step, tools, asked, log_in
        self._work = os.path.abspath(asked.text("work"))
        self._scratch = os.path.join(self._work, "dry_run")
        shutil.rmtree(self._scratch, ignore_errors=True)
        os.makedirs(self._scratch)
        for name in _OLD:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._work, name))
        self._destination = real_destination(step, asked.text("destination"))
        self._source = SourceCensus(tools, self._scratch)

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    def _tick(self) -> None:
        self._step.report(Progress(0, 0, self._source.entries, self._source.entries))

    def run(self) -> None:
        """List, and find what is to do."""
        self._recall()
        began = int(time.time())
        wish, stall = wish_of(self._asked), self._asked.number("stall")
        with Ticker(self._step, self._tools, self._tick, stall=stall, movers=MOVERS) as ticker:
            streams = self._asked.number("streams")
            raw = self._path("source.raw")
            (source,) = together(ticker.check, [lambda: self._source.make(self._log_in, wish, streams, raw)])
            self._sort("source.raw", "source.census")
            self._list_copy(wish.exclude)
            window = max(source.window, self._asked.number("modify-window"))
            missing = self._find_missing(window)
            self._leave(missing, window)
            ticker.check()
        self._step.report(Progress(missing.size, missing.size, missing.files, missing.files))
        shutil.rmtree(self._scratch)
        self._end(source, missing, window, began)

    def _recall(self) -> None:
        """Find what is known to differ: it is to be fetched, whatever its size and time say.

        The comparison finds what a damaged memory held.
        """
        source = "{}:{}".format(self._log_in.host, self._asked.text("source").rstrip("/"))
        suspect_unflushed(self._step, self._tools, self._work, source, self._destination)
        damaged = os.path.join(self._work, "damaged")
        with open(damaged, "wb"):
            pass
        with suppress(DamagedListsError):
            recall(source, self._destination, damaged)

    def _list_copy(self, exclude: Sequence[bytes]) -> None:
        with at_rds(self._step):
            copy = open_copy(self._destination)
        closed = self._path("closed")
        with open(closed, "wb"):
            pass
        listing, reason = Listing(self._path("destination.raw"), self._path("destination.errors")), None
        if copy is None:
            listing.of_nothing()
        else:
            reason = can_enter(copy)
            if reason is None and listing.of_copy(
                self._tools, copy_script(exclude, os.devnull.encode(), self._unless(closed)), copy
            ):
                hear_lines(self._step, listing.complaints, OF_RDS)
                raise StepEnd(UNREAD)
        if reason is not None:
            self._step.hear(OF_RDS + encode_name("find: {}: {}".format(self._destination, reason)))
            raise StepEnd(UNREAD)
        self._sort("destination.raw", "destination")
        self._sort("closed", "closed.sorted")

    def _sort(self, name: str, output: str) -> None:
        sort_records(self._step, self._tools, self._path(name), self._path(output), self._scratch)

    def _unless(self, place: str) -> Optional[Unless]:
        access, group = self._asked.text("group-access"), self._asked.text("group")
        if not access:
            return None
        return Unless(encode_name(place), well(b"f", access, group), well(b"d", access, group))

    def _find_missing(self, window: int) -> Missing:
        with ExitStack() as opened:
            source, copy, closed = (
                opened.enter_context(open(self._path(name), "rb"))
                for name in ("source.census", "destination", "closed.sorted")
            )
            todo, to_open = (opened.enter_context(open(self._path(name), "wb")) for name in ("todo", "open"))
            damaged = read_damaged(os.path.join(self._work, "damaged"))
            return find_missing(Lists(source, copy, closed), damaged, window, todo, to_open)

    def _leave(self, missing: Missing, window: int) -> None:
        """Put what was found where others look for it; the list of files comes last."""
        if missing.files:
            new = NewNames(records=self._path("source.census"))
            refused = os.path.join(self._work, "names_refused")
            refuse_names(self._destination, self._asked.text("destination-root"), new, refused)
        self._step.put(os.path.join(self._work, "modify_window"), "{}\n".format(window))
        self._step.put("stats", missing.stats)
        with open(self._path("totals"), "w") as file:
            file.write("{} {}\n".format(missing.files, missing.size))
        places = {"source.census": "source.census", "open": "closed", "totals": "todo.totals", "todo": "todo"}
        for name, kept in places.items():
            os.replace(self._path(name), os.path.join(self._work, kept))

    def _end(self, source: Source, missing: Missing, window: int, began: int) -> None:
        self._step.say("The listing found {} files, {} bytes to fetch.".format(missing.files, missing.size))
        if source.round_folders:
            self._step.say(
                "{} folders have exactly 1,000 entries: two listings agree, yet servers cut theirs at such "
                "numbers.".format(source.round_folders)
            )
        raise StepEnd(0, modify_window=window, round_folders=source.round_folders, began=began)


def well(kind: bytes, access: str, group: str) -> bytes:
    """Return find's words for what is as the entry wants it, or is not this account's alone to change."""
    own, bits = os.geteuid(), 4 if access == "read" else 6
    if kind == b"f":
        words = b"! -uid %d -o -links +1 -o -perm -00%d0 " % (own, bits)
    else:
        words = b"! -uid %d -o -perm -%d0%d0 " % (own, 0 if group == "own" else 2, bits + 1)
    if access != "write":
        words += b"! -perm -0020 "
    return words if group == "own" else words + b"-gid %d " % int(group)
