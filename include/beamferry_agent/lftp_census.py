"""Censuses of a facility that is reached by lftp, and of the copy of what an entry wants of it."""

import os
import re
from typing import Callable, FrozenSet, NamedTuple, Optional, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Listing, sort_records
from beamferry_agent.census_script import NOT_ENTERED, SOME_UNREAD, Unless, copy_script
from beamferry_agent.copy_reading import can_enter
from beamferry_agent.lftp_login import LogIn
from beamferry_agent.listing import Lister
from beamferry_agent.listing_answers import Scope
from beamferry_agent.records import encode_name, read_names
from beamferry_agent.sessions import Facility
from beamferry_agent.step import Step
from beamferry_agent.together import together
from beamferry_agent.tools import Tools

SCOPE_NAMES = ("exclude", "folder", "tokens")
# Tools that move bytes of a listing.
MOVERS = frozenset({"lftp", "sftp", "find"})
# The tokens open the beamtime's live data streams.
_TOKEN = re.compile(rb"shared/asapo-token[^/]*\.txt\Z")
_ITSELF = b"."


class Wish(NamedTuple):
    """What an entry wants of a source: paths to leave out, folders to take (all where there are none), and tokens."""

    exclude: Sequence[bytes]
    folders: FrozenSet[bytes]
    tokens: bool

    def has(self, record: bytes) -> bool:
        """Say whether a record of the copy is of what is wanted.

        What the entry leaves out by choosing folders, or by a rule, is nothing extra when an earlier run has brought
        it. The dot is the destination itself.
        """
        path, _, rest = record.partition(b"//")
        first = path.split(b"/", 1)[0]
        is_folder = first != path or rest.startswith(b"d//")
        if self.folders and is_folder and path != _ITSELF and first not in self.folders:
            return False
        return self.tokens or _TOKEN.match(path) is None


def wish_of(arguments: Arguments) -> Wish:
    """Return what a step's arguments want."""
    exclude = [encode_name(path) for path in arguments.all_of("exclude")]
    folders = frozenset(encode_name(name) for name in arguments.all_of("folder"))
    return Wish(exclude, folders, arguments.text("tokens") == "yes")


class Source(NamedTuple):
    """What was listed of a source: seconds to which its times are exact, and folders of exactly 1000 entries.

    Of the latter both looks agree: no error, but worth a word.
    """

    window: int
    round_folders: int


class SourceCensus:
    """Lists a source; ``entries`` came so far."""

    def __init__(self, step: Step, tools: Tools, scratch: str) -> None:
        """Take an empty folder for what is on its way."""
        self._step, self._tools, self._scratch = step, tools, scratch
        self._lister: Optional[Lister] = None

    @property
    def entries(self) -> int:
        """How many entries were listed so far."""
        return 0 if self._lister is None else self._lister.entries

    def make(self, log_in: LogIn, wish: Wish, streams: int, output: str, check: Callable[[], None]) -> Source:
        """Write the census. Raises SourceError, DamagedListsError, StepEnd; ``check``: see ``together``."""
        scope = Scope(frozenset(wish.exclude), wish.folders, wish.tokens)
        self._lister = lister = Lister(Facility(self._tools, log_in), scope, self._scratch, streams)
        raw = os.path.join(self._scratch, "source.raw")

        def listed() -> Source:
            with open(raw, "wb") as file:
                return Source(*lister.list_all(file))

        (source,) = together(check, [listed])
        sort_records(self._step, self._tools, raw, output, self._scratch)
        os.unlink(raw)
        return source


class CopyCensus:
    """Lists a copy, ``copy`` being the folder, open to be passed, None where nothing was ever fetched."""

    def __init__(self, step: Step, tools: Tools, copy: Optional[int], destination: str, scratch: str) -> None:
        """Take it, its path, and a folder for what is on its way."""
        self._step, self._tools, self._copy, self._destination = step, tools, copy, destination
        self._scratch = scratch
        self.complaints = os.path.join(scratch, "destination.errors")

    def make(
        self,
        exclude: Sequence[bytes],
        partials: str,
        unless: Optional[Unless],
        output: str,
        has: Optional[Callable[[bytes], bool]] = None,
    ) -> int:
        """Write the census; return the exit code of what lists it. Raises StepEnd.

        ``partials``: the file that gets the transfer's own folders. ``has``: which records are kept.
        """
        raw = os.path.join(self._scratch, "destination.raw")
        listing, code = Listing(raw, self.complaints), 0
        reason = None if self._copy is None else can_enter(self._copy)
        if self._copy is None:
            listing.of_nothing()
        elif reason is not None:
            with open(self.complaints, "wb") as file:
                file.write(encode_name("find: {}: {}\n".format(self._destination, reason)))
            return NOT_ENTERED
        else:
            code = listing.of_copy(
                self._tools, copy_script(exclude, encode_name(partials), unless), self._copy
            )
        if code in (0, SOME_UNREAD):
            self.keep(raw, output, has)
        return code

    def keep(self, raw: str, output: str, has: Optional[Callable[[bytes], bool]] = None) -> None:
        """Sort what is kept of a list. Raises StepEnd."""
        kept = raw
        if has is not None:
            kept = raw + ".kept"
            with open(raw, "rb") as records, open(kept, "wb") as file:
                file.writelines(record + b"\0" for record in read_names(records) if has(record))
        sort_records(self._step, self._tools, kept, output, self._scratch)
        for path in {raw, kept}:
            os.unlink(path)
