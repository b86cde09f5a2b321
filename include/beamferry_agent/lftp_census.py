"""Censuses of a facility that is reached by lftp, and of the copy of what an entry wants of it."""

import re
from typing import FrozenSet, NamedTuple, Optional, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.lftp_login import LogIn
from beamferry_agent.listing import Lister
from beamferry_agent.listing_answers import Scope
from beamferry_agent.records import encode_name
from beamferry_agent.sessions import Facility
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

    def __init__(self, tools: Tools, scratch: str) -> None:
        """Take an empty folder for what is on its way."""
        self._tools, self._scratch = tools, scratch
        self._lister: Optional[Lister] = None

    @property
    def entries(self) -> int:
        """How many entries were listed so far."""
        return 0 if self._lister is None else self._lister.entries

    def make(self, log_in: LogIn, wish: Wish, streams: int, output: str) -> Source:
        """Write the census, unsorted. Raises SourceError, DamagedListsError, StepEnd."""
        scope = Scope(frozenset(wish.exclude), wish.folders, wish.tokens)
        self._lister = lister = Lister(Facility(self._tools, log_in), scope, self._scratch, streams)
        with open(output, "wb") as file:
            return Source(*lister.list_all(file))
