"""Fresh censuses of a source and of its copy, made at the same time, and what only one of them has."""

import os
from contextlib import ExitStack
from typing import Callable, Optional, Sequence, Tuple

from beamferry_agent.census import Compared, Listing, compare_censuses, keep_records, sort_records
from beamferry_agent.census_script import NOT_ENTERED, copy_script, readable
from beamferry_agent.copy_reading import can_enter, count_files
from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.reading_words import OF_RDS, UNREAD
from beamferry_agent.records import count_records, decode_name, encode_name, read_names
from beamferry_agent.step import Step, StepEnd
from beamferry_agent.together import together
from beamferry_agent.tools import Tools


class BothCensuses:
    """Lists both ends into ``out``: source.census, destination.census, only_source, only_destination, closed, partials.

    ``scratch``: folder for what is on its way; ``common`` in it gets the files that can be compared.
    """

    def __init__(
        self, step: Step, tools: Tools, copy: Optional[int], destination: str, *, out: str, scratch: str
    ) -> None:
        """List nothing yet.

        ``copy``: the destination, open to be passed, None where nothing was ever fetched.
        """
        self._step, self._tools, self._folder, self._destination = step, tools, copy, destination
        self._out, self._scratch = out, scratch
        # Which records of the copy count, where not all do.
        self.has: Optional[Callable[[bytes], bool]] = None
        self._source = Listing(self._path("source.raw"), self._path("source.errors"))
        self._copy = Listing(self._path("destination.raw"), self._path("destination.errors"))

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    @property
    def complaints(self) -> Tuple[Sequence[str], Sequence[str]]:
        """Files with what was complained of at the facility, and here."""
        return (self._source.complaints,), (self._copy.complaints,)

    def tell_source(self, entries: int) -> None:
        """Take how many entries of the source were listed, where it is not listed by a script."""
        self._source.entries = entries

    def count(self) -> int:
        """Return how many entries were listed; both ends together, halved: each has about as many as the other."""
        self._copy.look()
        return (self._source.entries + self._copy.entries) // 2

    def make(
        self,
        check: Callable[[], None],
        list_source: Callable[[Listing], int],
        *,
        exclude: Sequence[bytes],
        group: str,
    ) -> Tuple[int, int]:
        """List both ends; return the exit codes of their scripts. ``check``: see ``together``."""
        codes = together(check, (lambda: list_source(self._source), lambda: self._list_copy(exclude, group)))
        return codes[0], codes[1]

    def _list_copy(self, exclude: Sequence[bytes], group: str) -> int:
        partials, closed = os.path.join(self._out, "partials"), self._path("closed")
        for path in (partials, closed):
            with open(path, "wb"):
                pass
        copy = self._folder
        if copy is None:
            # An empty census says so file by file.
            return self._copy.of_nothing()
        reason = can_enter(copy)
        if reason is not None:
            with open(self._copy.complaints, "wb") as file:
                file.write(encode_name("find: {}: {}\n".format(self._destination, reason)))
            return NOT_ENTERED
        unless = readable(encode_name(closed), group) if group else None
        return self._copy.of_copy(self._tools, copy_script(exclude, encode_name(partials), unless), copy)

    def compare(self, check: Callable[[], None]) -> Compared:
        """Sort what was listed, and find what only one end has. Raises DamagedListsError, StepEnd."""
        lists = {"source.raw": "source.census", "destination.raw": "destination.census", "closed": "closed"}
        if self.has is not None:
            for name in ("destination.raw", "closed"):
                keep_records(self._path(name), self.has)
        together(check, [self._sorting(raw, name) for raw, name in lists.items()])
        for raw in lists:
            os.unlink(self._path(raw))
        with ExitStack() as opened:
            source, copy = (
                opened.enter_context(open(os.path.join(self._out, name), "rb"))
                for name in ("source.census", "destination.census")
            )
            only_source, only_copy = (
                opened.enter_context(open(os.path.join(self._out, name), "wb"))
                for name in ("only_source", "only_destination")
            )
            common = opened.enter_context(open(self._path("common"), "wb"))
            return compare_censuses(source, copy, only_source, only_copy, common)

    def _sorting(self, raw: str, name: str) -> Callable[[], None]:
        output = os.path.join(self._out, name)
        return lambda: sort_records(self._step, self._tools, self._path(raw), output, self._scratch)

    def count_closed(self) -> int:
        """Return how many entries the group cannot read."""
        return count_records(os.path.join(self._out, "closed"))

    def count_partials(self) -> int:
        """Return how many files the transfer's own folders have. Raises StepEnd."""
        if self._folder is None:
            return 0
        with open(os.path.join(self._out, "partials"), "rb") as partials, Folders(self._folder) as folders:
            # As find has them, below the folder it began in.
            return sum(self._count_below(folders, path[len(b"./") :]) for path in read_names(partials))

    def _count_below(self, folders: Folders, path: bytes) -> int:
        try:
            return count_files(folders.enter(path))
        except (BlockedError, FileNotFoundError):
            # It went away meanwhile.
            return 0
        except OSError as error:
            words = "find: {}: {}".format(decode_name(path), os.strerror(error.errno or 0))
            self._step.hear(OF_RDS + encode_name(words))
            raise StepEnd(UNREAD)
