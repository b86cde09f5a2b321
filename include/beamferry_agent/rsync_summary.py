"""What rsync says beside what it does: remarks, the text of ``--stats``, and complaints that can be forgiven."""

import re

from beamferry_agent.facility_shell import WORDS_LIMIT

_MOST_NOTES = 200
_MOST_STATS = 64 * 1024
_SOME_NOT_TRANSFERRED = 23
_FOREIGN = re.compile(
    rb'rsync: (\[generator\] |\[receiver\] )?(failed to set permissions on|chgrp) ".*: Operation not permitted \(1\)\Z'
)
_OF_NO_FILE = b"rsync error: some files/attrs were not transferred"


class Summary:
    """Keeps a screenful of remarks (``notes``) and the text of ``--stats`` (``stats``)."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.notes, self.stats = b"", b""
        self._remarks = 0

    def hear(self, line: bytes) -> None:
        """Take one line."""
        if self.stats or line.startswith(b"Number of files: "):
            self.stats += (line + b"\n")[: _MOST_STATS - len(self.stats)]
        elif line and self._remarks < _MOST_NOTES:
            self._remarks += 1
            self.notes += line + b"\n"


def foreign_copies(code: int, words: bytes) -> int:
    """Return how many copies keep their permissions, as another account has made them, 0 where more is wrong.

    Such permissions are their owner's to change; the comparison tells what the group cannot read of it. Where nothing
    else was wrong nothing is missing; without a word, or where the words were cut, nobody knows that. Each of rsync's
    messages is one line, and begins before the name.
    """
    if code != _SOME_NOT_TRANSFERRED or len(words) >= WORDS_LIMIT:
        return 0
    lines = [line for line in words.split(b"\n") if line and not line.startswith(_OF_NO_FILE)]
    return len(lines) if all(map(_FOREIGN.match, lines)) else 0
