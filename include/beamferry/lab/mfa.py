"""Start and stop of the lab's ssh server with a second factor, its faults, and what clients did."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beamferry.lab.background import Background
from beamferry.lab.keys import make_key, public_key

if TYPE_CHECKING:
    from pathlib import Path

CODE = "424242"


@dataclass
class MfaServer(Background):
    """An ssh server of asyncssh, in the background: SFTP, and commands if there is a shell.

    Args:
        folder: the server's own folder: configuration, events, faults, log.
        root: what clients see as ``/``; read-only.
        address: loopback address.
        port: TCP port.
        account: log-in name.
        password: its password.
        host_key: private host key; made when it is not there.
        code: the second factor; a password alone is enough when it is None.
        shell: words before a client's command, e.g. ``("bash", "-c")``; commands are refused when empty.
    """

    folder: Path
    root: Path
    address: str
    port: int
    account: str
    password: str
    host_key: Path
    code: str | None = CODE
    shell: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "SFTP with a second factor" if self.code else "SFTP with a password"

    @property
    def pinned(self) -> str:
        """The host's public key, ``type base64``."""
        return public_key(self.host_key)

    def _command(self, config: Path) -> tuple[str, ...]:
        make_key(self.host_key, "psftp.desy.de")
        return (sys.executable, "-m", "beamferry.lab.mfa_server", str(config))

    def _config(self) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "address": self.address,
            "port": self.port,
            "account": self.account,
            "password": self.password,
            "host_key": str(self.host_key),
            "code": self.code,
            "shell": list(self.shell),
        }
