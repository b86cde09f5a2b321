"""The step "dry_run": asks rsync what is to do without doing it.

Leaves W/todo: a line for each regular file to fetch, its size, a space, its name with what is not printable as
``\\#ooo``, in rsync's order, and W/others, the same of folders and links to make. The text of ``--stats`` goes to the
job's ``stats`` for others to read. Ends with 72 if the destination cannot hold a name: W/names_refused has a line for
each of them.
"""

import os
import shutil
import time
from contextlib import suppress
from typing import IO, Callable, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.errors import AgentError, DamagedListsError
from beamferry_agent.facility_shell import known_words
from beamferry_agent.flushing import suspect_unflushed
from beamferry_agent.mismatches import mark_again, recall
from beamferry_agent.rsync_runs import Command, run_rsync
from beamferry_agent.step import Progress, Step, StepEnd
from beamferry_agent.step_destination import real_destination
from beamferry_agent.ticker import Ticker
from beamferry_agent.todo_list import FORMAT, TodoList
from beamferry_agent.tools import Tools
from beamferry_agent.trial import NewNames, refuse_names

_MOVERS = frozenset({"rsync"})
# Of an earlier run; its list must never be taken for this one's, nor its progress.
_OLD = ("todo", "todo.totals", "todo.count", "names_refused")


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it; ``words`` are pairs of a name and a text, then ``-- rsync ARGUMENT... -- SOURCE DESTINATION``."""
    own = words.index("--") if "--" in words else len(words)
    asked = Arguments("dry_run", words[:own], ("work", "destination-root", "destination", "stall"))
    work, root = os.path.realpath(asked.needed("work")), asked.needed("destination-root")
    command = Command(words[own + 1 :])
    stall = asked.number("stall")
    tools.require(("rsync", "ssh"))
    os.makedirs(work, exist_ok=True)
    for name in _OLD:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(work, name))
    shutil.rmtree(os.path.join(work, "live"), ignore_errors=True)
    destination = real_destination(step, asked.needed("destination"))
    _DryRun(step, tools, command, work, destination, stall).run(root)


class _DryRun:
    def __init__(
        self, step: Step, tools: Tools, command: Command, work: str, destination: str, stall: int
    ) -> None:
        self._step, self._tools, self._work, self._stall = step, tools, work, stall
        self._destination = destination
        # ACCOUNT@HOST:PATH/
        self._source = command.source.split("@", 1)[-1]
        self._program, *self._words = command.led(known_words(command.ssh))
        self._ends = ("--", command.source, destination + "/")
        self._list = TodoList(work)

    def run(self, root: str) -> None:
        """List what is to do."""
        suspect_unflushed(self._step, self._tools, self._work, self._source, self._destination)
        with Ticker(self._step, self._tools, self._tick, stall=self._stall, movers=_MOVERS) as ticker:
            self._mark_again(ticker)
            began = int(time.time())
            with self._list:
                code = self._ask(ticker, ("-n", "-i", "--stats", "--no-h", FORMAT), self._list.hear)
        self._step.put("stats", self._list.summary.stats)
        self._step.put("notes", self._list.summary.notes)
        if code == 0:
            code = self._refused_names(root)
        if code != 0:
            self._step.say("The dry run ended with code {}.".format(code))
            raise StepEnd(code, began=began)
        files, size = self._list.files, self._list.bytes
        with open(self._path("todo.count"), "w") as file:
            file.write("{} {}\n".format(files, size))
        os.replace(self._path("todo.count"), self._path("todo.totals"))
        os.replace(self._path("todo.new"), self._path("todo"))
        self._tick()
        self._step.say("The dry run found {} files, {} bytes to fetch.".format(files, size))
        raise StepEnd(0, began=began)

    def _path(self, name: str) -> str:
        return os.path.join(self._work, name)

    def _tick(self) -> None:
        files, size = self._list.files, self._list.bytes
        self._step.report(Progress(size, size, files, files))

    def _ask(self, ticker: Ticker, options: Sequence[str], hear: Callable[[bytes], None]) -> int:
        words = (self._program, *options, *self._words, *self._ends)
        complaints = self._path("rsync.words")
        with suppress(FileNotFoundError):
            os.unlink(complaints)
        code = run_rsync(self._tools, words, hear, complaints)
        with open(complaints, "rb") as file:
            self._step.hear(file.read())
        os.unlink(complaints)
        ticker.check()
        return code

    def _mark_again(self, ticker: Ticker) -> None:
        """Have what is known to differ fetched, whatever its size and time say.

        rsync itself tells what of it could be, if it took no file for equal. The comparison finds what a damaged
        memory held.
        """
        remembered = self._path("remembered")
        with open(remembered, "wb"):
            pass
        with suppress(DamagedListsError):
            recall(self._source, self._destination, remembered)
        if os.path.getsize(remembered) == 0:
            return
        lines = self._path("fetchable")
        with open(lines, "wb") as file:
            code = self._ask(
                ticker, ("-n", "-i", "-I", "--no-h", FORMAT), lambda line: _write_line(file, line)
            )
        if code != 0:
            raise StepEnd(code)
        mark_again(self._source, self._destination, lines)
        os.unlink(lines)

    def _refused_names(self, root: str) -> int:
        """Find what would get lost: what is new must have a name that the destination can hold. Returns a code."""
        new = NewNames(todo=self._path("todo.new"), others=self._path("others"))
        if not os.path.getsize(new.todo) and not os.path.getsize(new.others):
            return 0
        try:
            refuse_names(self._destination, root, new, self._path("names_refused"))
        except AgentError as error:
            self._step.hear(error.told())
            return error.exit_code
        return 0


def _write_line(file: IO[bytes], line: bytes) -> None:
    file.write(line + b"\n")
