"""Compares the content of chosen files of a copy with what comes once more over lftp, and again what differs."""

import os
from itertools import islice
from typing import IO, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from beamferry_agent.census import sort_records
from beamferry_agent.content import Content, Lists
from beamferry_agent.copy_reading import OTHER
from beamferry_agent.lftp_connections import PASS_FILES, Passes, Way
from beamferry_agent.lftp_content import Compare, Digest
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import LogIn
from beamferry_agent.places import ForeignError
from beamferry_agent.reading_words import UNREAD, VANISHED
from beamferry_agent.records import decode_name, read_names, size_of
from beamferry_agent.step import Progress, Step
from beamferry_agent.tools import Tools

_READINGS, _TRIES = 2, 3
_COMPARED = ("same", "differs")
_GONE = b"No such file"


class OverLftp(Content):
    """Content that is fetched once more, and compared as it comes."""

    def __init__(
        self,
        step: Step,
        tools: Tools,
        log_in: LogIn,
        copy: int,
        chosen: str,
        streams: int,
        limit: int,
        lists: Lists,
    ) -> None:
        """``limit``: bytes per second of all connections, 0 for none. Raises DamagedListsError."""
        super().__init__(tools, copy, chosen, streams, lists)
        self._step, self._log_in, self._open_copy = step, log_in, copy
        self._check: Callable[[], None] = lambda: None
        self._passes = Passes(tools, Way(streams, limit), self._beat)
        self._seen, self._is_counted = 0, True
        self._differing: List[Wanted] = []
        self._cached = self._code = 0
        self._led_away: Optional[bytes] = None

    @property
    def lost(self) -> int:
        """How many passes ended before all files had their turn."""
        return self._passes.lost

    @property
    def progress(self) -> Progress:
        """How many files and bytes are compared."""
        return Progress(self.compared_bytes, self.chosen.bytes, self.compared, self.chosen.files)

    @property
    def complaints(self) -> Tuple[Sequence[str], Sequence[str]]:
        """None lie in files: they are heard as they come."""
        return (), ()

    @property
    def cached(self) -> int:
        """See ``Content``."""
        return self._cached

    @property
    def led_away(self) -> Optional[ForeignError]:
        """See ``Content``."""
        if self._led_away is None:
            return None
        return ForeignError("{}: {}".format(decode_name(self._led_away), OTHER))

    def _beat(self) -> None:
        self._check()
        fates = self._passes.fates[self._seen :]
        self._seen += len(fates)
        for fate in fates:
            if self._is_counted and fate.word in _COMPARED:
                self.compared += 1
                self.compared_bytes += self._passes.files[fate.number].size

    def run(self, check: Callable[[], None]) -> int:
        """See ``Content``."""
        self._check = check
        lists = {name: self.path(name + ".raw") for name in ("sampled", "mismatches")}
        with open(self.list, "rb") as records, open(lists["sampled"], "wb") as sampled, open(
            lists["mismatches"], "wb"
        ) as mismatches:
            code = self._run_passes(_wanted(records), sampled, mismatches)
        for name, raw in lists.items():
            sort_records(self._step, self.tools, raw, os.path.join(self.lists.out, name), self.lists.scratch)
        if code is not None:
            return code
        self.mismatches = len(self._differing)
        self._read_again()
        return self._code

    def _run_passes(
        self, coming: Iterator[Wanted], sampled: IO[bytes], mismatches: IO[bytes]
    ) -> Optional[int]:
        passes = self._passes
        files = list(islice(coming, PASS_FILES))
        while files:
            self._seen = 0
            manner = Compare(files, self._open_copy)
            passes.run(self._log_in, files, manner)
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
        self._cached += manner.cached
        self._led_away = self._led_away or manner.led_away
        unread = [line + b"\n" for line in manner.unread]
        for lines in (unread, changed, passes.refused_words):
            self._step.hear(b"".join(lines))
        # The name stands behind the reason, and may look like one.
        reasons = (line.split(b" (./", 1)[0] for words in passes.refused_words for line in words.splitlines())
        if unread or any(_GONE not in reason for reason in reasons):
            self._code = UNREAD
        elif passes.refused_words or changed:
            self._code = self._code or VANISHED

    def _read_again(self) -> None:
        """Read at the source twice more what differs: bytes that come out differently each time are no fault of RDS.

        A file that could not be read both times stays a plain difference.
        """
        self._is_counted = False
        sums: List[Dict[bytes, bytes]] = []
        for _ in range(_READINGS):
            sums.append({})
            self._read_once(sums[-1])
        first, second = sums
        found = sorted(path for path in first if second.get(path, first[path]) != first[path])
        self.unstable = len(found)
        with open(os.path.join(self.lists.out, "unstable"), "wb") as unstable:
            unstable.writelines(path + b"\0" for path in found)

    def _read_once(self, sums: Dict[bytes, bytes]) -> None:
        left: List[Wanted] = self._differing
        for attempt in range(_TRIES):
            wanted, left = left, []
            for begin in range(0, len(wanted), PASS_FILES):
                files = wanted[begin : begin + PASS_FILES]
                self._passes.pause(attempt)
                self._seen = 0
                self._passes.run(self._log_in, files, Digest(files, sums))
                left += self._passes.left()


def _wanted(records: IO[bytes]) -> Iterator[Wanted]:
    for record in read_names(records):
        path, size = size_of(record)
        yield Wanted(path, size, 0)
