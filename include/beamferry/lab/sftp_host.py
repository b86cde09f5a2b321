"""A real sshd that serves SFTP and nothing else, as DESY's does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from beamferry.lab.host import Host
from beamferry.lab.root import is_root

# Where the host's own file system has what clients see.
BEAMTIMES = "/beamtimes"


@dataclass
class SftpHost(Host):
    """A host of the lab without a shell; key log-in, read-only.

    Args:
        shown: the folder in which clients begin; with a file system of the host's own, as root, their ``/``.
    """

    shown: Path = field(default=Path("/"))

    def _config(self) -> str:
        place = BEAMTIMES if self.root else str(self.shown)
        first = [f'ForceCommand internal-sftp -R -d "{place}"']
        if self.root is not None and is_root():
            first = ["ForceCommand internal-sftp -R", f"ChrootDirectory {BEAMTIMES}"]
        # sshd takes the first word it is given on each matter.
        return "\n".join(first) + "\n" + super()._config()
