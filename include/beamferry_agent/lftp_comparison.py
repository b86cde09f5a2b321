"""Compares the content of chosen files of a copy with what comes once more over lftp, and again what differs."""

import os
from itertools import islice
from typing import IO, Callable, Dict, Iterator, List, Optional

from beamferry_agent.census import sort_records
from beamferry_agent.lftp_connections import PASS_FILES, Passes, Way
from beamferry_agent.lftp_content import Compare, Digest
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import LogIn
from beamferry_agent.reading_words import UNREAD, VANISHED
from beamferry_agent.records import read_names, size_of
from beamferry_agent.step import Progress, Step
from beamferry_agent.tools import Tools

_READINGS, _TRIES = 2, 3
_COMPARED = ("same", "differs")
_GONE = b"No such file"


class Contents:
    """The content of a list of records PATH//f//SIZE.

    ``code``: 23 where something could not be read, 24 where something went away or changed meanwhile, else 0.
    ``cached``: copies that may have come from this machine's memory.
    """

    def __init__(self, step: Step, tools: Tools, copy: int, chosen: str, *, streams: int, limit: int) -> None:
        """``copy``: the destination, open to be passed. Raises DamagedListsError."""
        self._step, self._tools, self._copy, self._chosen = step, tools, copy, chosen
        self._check: Callable[[], None] = lambda: None
        self._passes = Passes(tools, Way(streams, limit), self._beat)
        self._files = self._bytes = self._files_done = self._bytes_done = 0
        with open(chosen, "rb") as records:
            for file in _wanted(records):
                self._files, self._bytes = self._files + 1, self._bytes + file.size
        self._seen, self._is_counted = 0, True
        self._differing: List[Wanted] = []
        self.cached = self.code = 0

    @property
    def lost(self) -> int:
        """How many passes ended before all files had their turn."""
        return self._passes.lost

    @property
    def progress(self) -> Progress:
        """How many files and bytes are compared."""
        return Progress(self._bytes_done, self._bytes, self._files_done, self._files)

    def _beat(self) -> None:
        self._check()
        fates = self._passes.fates[self._seen :]
        self._seen += len(fates)
        for fate in fates:
            if self._is_counted and fate.word in _COMPARED:
                self._files_done += 1
                self._bytes_done += self._passes.files[fate.number].size

    def compare(self, log_in: LogIn, check: Callable[[], None], out: str, scratch: str) -> Optional[int]:
        """Write ``sampled`` and ``mismatches``; return the job's code where it cannot go on.

        Raises DamagedListsError, StepEnd; ``check``: see ``Ticker``.
        """
        self._check = check
        lists = {name: os.path.join(scratch, name + ".raw") for name in ("sampled", "mismatches")}
        with open(self._chosen, "rb") as records, open(lists["sampled"], "wb") as sampled, open(
            lists["mismatches"], "wb"
        ) as mismatches:
            code = self._run_passes(log_in, _wanted(records), sampled, mismatches)
        for name, raw in lists.items():
            sort_records(self._step, self._tools, raw, os.path.join(out, name), scratch)
        return code

    def _run_passes(
        self, log_in: LogIn, coming: Iterator[Wanted], sampled: IO[bytes], mismatches: IO[bytes]
    ) -> Optional[int]:
        passes = self._passes
        files = list(islice(coming, PASS_FILES))
        while files:
            self._seen = 0
            manner = Compare(files, self._copy)
            passes.run(log_in, files, manner)
            self._beat()
            self._keep(manner, sampled, mismatches)
            left = passes.left()
            files = left + list(islice(coming, PASS_FILES - len(left)))
            code = passes.judge(len(left), 0) if files else None
            if code is not None:
                self._step.hear(b"".join(line + b"\n" for line in passes.fatal()))
                return code
        return None

    def _keep(self, manner: Compare, sampled: IO[bytes], mismatches: IO[bytes]) -> None:
        """Keep what became of the files of a pass."""
        passes = self._passes
        changed: List[bytes] = []
        for fate in passes.fates:
            file = passes.files[fate.number]
            if fate.word in _COMPARED:
                sampled.write(file.path + b"\0")
            if fate.word == "differs":
                mismatches.write(file.path + b"\0")
                self._differing.append(file)
            elif fate.word == "changed":
                changed.append(b"beamferry: changed: " + file.path + b"\n")
        self.cached += manner.cached
        unread = [line + b"\n" for line in manner.unread]
        for lines in (unread, changed, passes.refused_words):
            self._step.hear(b"".join(lines))
        # The name stands behind the reason, and may look like one.
        reasons = (line.split(b" (./", 1)[0] for words in passes.refused_words for line in words.splitlines())
        if unread or any(_GONE not in reason for reason in reasons):
            self.code = UNREAD
        elif passes.refused_words or changed:
            self.code = self.code or VANISHED

    def read_again(self, log_in: LogIn, check: Callable[[], None], out: str) -> None:
        """Read at the source twice more what differs, and write ``unstable``.

        Bytes that come out differently each time are no fault of RDS. A file that could not be read both times stays a
        plain difference. Raises StepEnd.
        """
        self._check, self._is_counted = check, False
        sums: List[Dict[bytes, bytes]] = []
        for _ in range(_READINGS):
            sums.append({})
            self._read_once(log_in, sums[-1])
        first, second = sums
        with open(os.path.join(out, "unstable"), "wb") as unstable:
            for path in sorted(first):
                if second.get(path, first[path]) != first[path]:
                    unstable.write(path + b"\0")

    def _read_once(self, log_in: LogIn, sums: Dict[bytes, bytes]) -> None:
        left: List[Wanted] = self._differing
        for attempt in range(_TRIES):
            wanted, left = left, []
            for begin in range(0, len(wanted), PASS_FILES):
                files = wanted[begin : begin + PASS_FILES]
                self._passes.pause(attempt)
                self._seen = 0
                self._passes.run(log_in, files, Digest(files, sums))
                left += self._passes.left()


def _wanted(records: IO[bytes]) -> Iterator[Wanted]:
    for record in read_names(records):
        path, size = size_of(record)
        yield Wanted(path, size, 0)
