"""Start and stop of the lab's FTPS server, its faults, and what clients did."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beamferry.lab.background import Background

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class FtpsServer(Background):
    """An FTPS server of pyftpdlib, in the background; explicit TLS, read-only.

    Args:
        folder: the server's own folder: configuration, events, faults, log.
        root: what clients see as ``/``.
        address: loopback address.
        port: TCP port of the control connection.
        passive: first and last TCP port of data connections.
        certificate: PEM file with key and certificate.
        account: log-in name.
        password: its password.
        verbose: whether the log holds every command.
    """

    folder: Path
    root: Path
    address: str
    port: int
    passive: tuple[int, int]
    certificate: Path
    account: str
    password: str
    verbose: bool = False

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "FTPS (pyftpdlib)"

    def _command(self, config: Path) -> tuple[str, ...]:
        return (sys.executable, "-m", "beamferry.lab.ftps_server", str(config))

    def _config(self) -> dict[str, Any]:
        return {
            "root": str(self.root),
            "certificate": str(self.certificate),
            "address": self.address,
            "port": self.port,
            "passive": list(self.passive),
            "account": self.account,
            "password": self.password,
            "verbose": self.verbose,
        }
