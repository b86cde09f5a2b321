"""RDS-SSH, Diamond and DESY for many short sequences: real servers that stay up, and connections that stay open."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from shortcuts import Here, WaitingAgent

from beamferry.errors import PermanentError
from beamferry.lab.authority import Authority
from beamferry.lab.ftps import FtpsServer
from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key
from beamferry.lab.settings import free_port
from beamferry.lab.sftp_host import SftpHost

if TYPE_CHECKING:
    from collections.abc import Iterator

DIAMOND, DESY = "ssh.diamond.ac.uk", "psftp.desy.de"
ADDRESS = "127.0.0.1"
ACCOUNT, PASSWORD = "cdaniel", "Strahl;zeit #07"
_PASSIVE = (32_000, 32_099)


def _room() -> str:
    """Return where the trees are kept: in memory where programs may run from there, as each run flushes its disk."""
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK) or os.statvfs(memory).f_flag & os.ST_NOEXEC:
        return "/tmp"
    return memory


class Servers:
    """The servers, in a folder of their own with a short name, as sockets have short names.

    Attributes:
        rds: RDS-SSH; its account's home holds ``.beamferry``.
        sources: what the facilities have, a folder for each sequence.
        shares: what RDS has, a folder for each sequence.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"truth-{os.getpid()}-", dir=_room()))
        self.sources, self.shares = self.folder / "sources", self.folder / "shares"
        user = getpass.getuser()

        def host(kind: type[Host], name: str, **further: object) -> Host:
            return kind(name, self.folder / name, ADDRESS, free_port(ADDRESS), user, None, **further)  # type: ignore[arg-type]

        self.rds = host(Host, "rds")
        # File modes bind the facilities' log-ins, even where the tests run as root.
        self.diamond = host(Host, "diamond", bound_by_modes=True)
        self.desy = host(SftpHost, "desy", bound_by_modes=True, shown=self.sources)
        self.authority = Authority(self.folder / "authority", "Beamferry tests")
        self.ftps: FtpsServer | None = None
        self.agent: WaitingAgent | None = None

    def up(self) -> None:
        self.sources.mkdir()
        self.shares.mkdir()
        key = self.folder / "key"
        make_key(key, "truth")
        for host in (self.rds, self.diamond, self.desy):
            host.prepare(public_key(key))
            try:
                host.start()
            except PermanentError:
                # Somebody else has taken the port meanwhile.
                host.port = free_port(ADDRESS)
                host.start()
        self.ftps = FtpsServer(
            self.folder / "ftps",
            self.sources,
            ADDRESS,
            free_port(ADDRESS),
            _PASSIVE,
            self.authority.issue((DESY, ADDRESS)),
            ACCOUNT,
            PASSWORD,
        )
        self.ftps.start()
        self._lead_ssh(key)
        self.agent = WaitingAgent(self.rds)

    def _lead_ssh(self, key: Path) -> None:
        """Lead RDS-SSH's ssh to the facilities, over connections that stay open: logging in takes the longest."""
        config, known = self.folder / "ssh_config", self.folder / "known_hosts"
        lines, pinned = [], []
        for name, host in ((DIAMOND, self.diamond), (DESY, self.desy)):
            lines.append(
                f"Host {name}\n HostName {ADDRESS}\n Port {host.port}\n HostKeyAlias {name}\n User {host.account}\n"
                f" IdentityFile {key}\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n"
            )
            pinned.append(f"{name} {host.pinned}\n")
        config.write_text("".join(lines))
        known.write_text("".join(pinned))
        # What ssh is told first holds: the scripts' own ControlPath=none comes later.
        way = f"-F {config} -o ControlPath={self.folder}/%n"
        shim = self.rds.shims / "ssh"
        shim.write_text(f'#!/bin/sh\nexec /usr/bin/ssh {way} "$@"\n')
        shim.chmod(0o755)
        for name in (DIAMOND, DESY):
            subprocess.run(
                (*f"/usr/bin/ssh {way}".split(), "-M", "-N", "-f", name),
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    @property
    def client(self) -> Here:
        """A log-in to RDS-SSH."""
        return Here(self.rds)

    @property
    def home(self) -> Path:
        """The home of the account on RDS-SSH."""
        return self.rds.home

    def down(self) -> None:
        if self.agent is not None:
            self.agent.end()
        for name in (DIAMOND, DESY):
            subprocess.run(
                ("/usr/bin/ssh", "-F", "none", "-o", f"ControlPath={self.folder}/%n", "-O", "exit", name),
                check=False,
                capture_output=True,
            )
        for host in (self.rds, self.diamond, self.desy):
            host.down()
        if self.ftps is not None:
            self.ftps.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def servers() -> Iterator[Servers]:
    found = Servers()
    try:
        found.up()
        yield found
    finally:
        found.down()
