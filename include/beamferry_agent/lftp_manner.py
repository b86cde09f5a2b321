"""How the files of a pass come over lftp, and how what it says of them is read."""

import os
import subprocess
from typing import Callable, Sequence

from beamferry_agent.facility_shell import opened
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.lftp_login import word

# The folder in which lftp began, whatever its path leads to by now.
HERE = b"/proc/self/cwd/"
_CHUNK = 65536


class Manner:
    """How the files of a pass come, and how what lftp says of them is read."""

    # Whether complaints have a pipe of their own.
    complaints = subprocess.STDOUT
    # Said as soon as lftp is logged in.
    entrance = b'echo "in"\n'

    def line(self, number: int, file: Wanted) -> bytes:
        """Return lftp's commands for a file, a line that ends with saying its fate."""
        raise NotImplementedError

    def read(
        self, process: "subprocess.Popen[bytes]", share: Sequence[int], hear: Callable[[bytes], None]
    ) -> None:
        """Read all that a connection says, and have lines of words and fates heard; ``share``: its files in order."""
        del share
        with opened(process.stdout) as stream:
            for chunk in iter(lambda: os.read(stream.fileno(), _CHUNK), b""):
                hear(chunk)


class Fetch(Manner):
    """Each file is fetched under a name in lftp's folder, or what is there of it is gone on with."""

    def __init__(self, name: Callable[[Wanted], bytes]) -> None:
        """``name`` is that of a file."""
        self._name = name

    def line(self, number: int, file: Wanted) -> bytes:
        """See ``Manner``."""
        # lftp makes the path of its folder a part of each name that is not absolute, and others can change that path.
        here = word(HERE + self._name(file))
        return b'get -c %b -o %b && echo "ok %d" || echo "no %d"\n' % (
            word(b"./" + file.path),
            here,
            number,
            number,
        )
