"""The step "lftp_verify": compares the destination with its source, freshly listed both.

Leaves in W/verify what the step "verify" does. FTP knows no checksum that all servers have: content is fetched once
more and compared as it comes, without touching the disk. Ends with 0 when the comparison could be made, whatever it
found; 23 when something could not be read; 24 when files went away or changed meanwhile; the codes of the dry run and
of the transfer otherwise. The words then are lftp's own, and lines of ours:
  beamferry: changed: PATH          (its content ends elsewhere than the listing said)
  beamferry: unread: PATH (REASON)  (the copy at the destination)
"""

from typing import Dict, Optional, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Listing
from beamferry_agent.content import Content
from beamferry_agent.lftp_census import MOVERS, SCOPE_NAMES, Source, SourceCensus, wish_of
from beamferry_agent.lftp_comparison import OverLftp
from beamferry_agent.lftp_login import NAMES, LogIn
from beamferry_agent.step import Step
from beamferry_agent.tools import Tools
from beamferry_agent.verifying import ARGUMENTS, TOOLS, Verification, check_arguments


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it; the words are those of ``lftp.verify_arguments``."""
    asked = Arguments("lftp_verify", words, (*ARGUMENTS, *NAMES, *SCOPE_NAMES, "limit"))
    check_arguments(asked)
    asked.number("limit")
    log_in = LogIn(asked)
    tools.require((*TOOLS, "lftp", "ssh", "sftp"))
    with log_in:
        _Verification(step, tools, asked, log_in).run()


class _Verification(Verification):
    movers = MOVERS | {"sort"}

    def __init__(self, step: Step, tools: Tools, asked: Arguments, log_in: LogIn) -> None:
        source = asked.text("source").rstrip("/")
        super().__init__(step, tools, asked, "{}:{}".format(log_in.host, source))
        self._log_in, self._wish = log_in, wish_of(asked)
        self._source = SourceCensus(tools, self.lists.scratch)
        self._listed: Optional[Source] = None
        self._contents: Optional[OverLftp] = None
        self._censuses.has = self._wish.has

    def _tick(self) -> None:
        self._censuses.tell_source(self._source.entries)
        super()._tick()

    def list_source(self, listing: Listing) -> int:
        self._listed = self._source.make(self._log_in, self._wish, self.asked.number("streams"), listing.raw)
        return 0

    def make_content(self, chosen: str, copy: int) -> Content:
        streams, limit = self.asked.number("streams"), self.asked.number("limit")
        self._contents = OverLftp(
            self._step, self.tools, self._log_in, copy, chosen, streams, limit, self.lists
        )
        return self._contents

    def facts(self) -> Dict[str, int]:
        listed = self._listed or Source(0, 0)
        lost = 0 if self._contents is None else self._contents.lost
        return {"modify_window": listed.window, "round_folders": listed.round_folders, "lost": lost}
