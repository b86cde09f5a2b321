"""Files that a facility refused, and whether that was because they are not there any more."""

import re

from beamferry_agent.lftp_connections import Passes
from beamferry_agent.placing import Lines

# What lftp says of a file that it was refused; the name, which may hold any words, comes last.
_REFUSED = re.compile(rb"[a-z]*:? ?Access failed: ")


class Refusals:
    """What was refused in the passes of a transfer: how many files, all words, and lines on those that are there."""

    def __init__(self) -> None:
        """Begin with none."""
        self.count = 0
        self.words, self.forbidden = Lines(), Lines()

    def add(self, passes: Passes) -> None:
        """Add those of the latest pass."""
        self.count += sum(fate.word == "refused" for fate in passes.fates)
        for words in passes.refused_words:
            self.words.add(words.rstrip(b"\n"))
            for line in words.split(b"\n"):
                # When all that the server says is that they are not there, they went away while it was copied.
                if _REFUSED.match(line) and b"No such file" not in line.split(b" (./", 1)[0]:
                    self.forbidden.add(line)
