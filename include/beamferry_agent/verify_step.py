"""The step "verify": compares the destination with its source over ssh; see ``verifying.py``."""

from typing import Dict, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Listing
from beamferry_agent.census_script import source_script
from beamferry_agent.content import Content, OverSsh
from beamferry_agent.facility_shell import FacilityShell
from beamferry_agent.records import encode_name
from beamferry_agent.step import Step
from beamferry_agent.tools import Tools
from beamferry_agent.verifying import ARGUMENTS, TOOLS, Verification, check_arguments


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it; the words are those of ``census.verify_arguments``."""
    asked = Arguments("verify", words, (*ARGUMENTS, "ssh"))
    check_arguments(asked)
    asked.needed("source")
    tools.require((*TOOLS, "ssh"))
    _Verification(step, tools, asked).run()


class _Verification(Verification):
    def __init__(self, step: Step, tools: Tools, asked: Arguments) -> None:
        source = asked.text("source")
        source = source[:-1] if source.endswith("/") else source
        super().__init__(step, tools, asked, "{}:{}".format(asked.text("host"), source))
        self._folder, self._unsafe = encode_name(source), 0
        self._shell = FacilityShell(
            tools, asked.text("ssh", "ssh").split(), asked.text("account"), asked.text("host")
        )

    def list_source(self, listing: Listing) -> int:
        code = listing.of_source(self._shell, source_script(self._folder, self.exclude))
        self._unsafe = listing.unsafe
        return code

    def make_content(self, chosen: str, copy: int) -> Content:
        source = self._shell, self._folder
        return OverSsh(self.tools, source, copy, chosen, self.asked.number("streams", 1), self.lists)

    def facts(self) -> Dict[str, int]:
        return {"unsafe_modes": self._unsafe}
