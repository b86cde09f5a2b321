"""The ways into RDS-SSH and from there to Diamond: client configurations, pinned keys, connections."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import paramiko

from beamferry.errors import PermanentError
from beamferry.lab.keys import write_private

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.lab.host import Host


def _config(host: Host, address: str, port: int, key: str, known_hosts: str) -> str:
    """Return a client configuration for one host that asks nothing and uses no other key."""
    return (
        f"Host {host.name}\n"
        f"  HostName {address}\n"
        f"  Port {port}\n"
        f"  User {host.account}\n"
        f"  HostKeyAlias {host.name}\n"
        f'  IdentityFile "{key}"\n'
        "  IdentitiesOnly yes\n"
        f'  UserKnownHostsFile "{known_hosts}"\n'
        "  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n"
        "  BatchMode yes\n"
    )


@dataclass(frozen=True)
class Client:
    """Who logs in to RDS-SSH from outside: Airflow, the tests, a person at the terminal.

    Args:
        folder: holds the key, known_hosts and the configuration.
        rds: the host to log in to.
    """

    folder: Path
    rds: Host

    @property
    def key(self) -> Path:
        """Private key."""
        return self.folder / "id_ed25519"

    @property
    def config(self) -> Path:
        """Configuration for ``ssh -F`` that knows RDS-SSH by its real name."""
        return self.folder / "ssh_config"

    def pin(self) -> None:
        """Trust the key that RDS-SSH has now."""
        known_hosts = self.folder / "known_hosts"
        write_private(known_hosts, f"{self.rds.name} {self.rds.pinned}\n")
        write_private(
            self.config, _config(self.rds, self.rds.address, self.rds.port, str(self.key), str(known_hosts))
        )

    @property
    def pinned(self) -> str:
        """RDS-SSH's host key as it was pinned, ``type base64``."""
        return (self.folder / "known_hosts").read_text().split(maxsplit=1)[1].strip()

    def connect(self) -> paramiko.SSHClient:
        """Return a connection that checks the pinned host key; the caller closes it."""
        client = paramiko.SSHClient()
        entry = paramiko.hostkeys.HostKeyEntry.from_line(f"host {self.pinned}")
        if entry is None or entry.key is None:
            raise PermanentError(
                "lab-keys", "the pinned host key of RDS-SSH is damaged", "remove the lab's folder"
            )
        client.get_host_keys().add(f"[{self.rds.address}]:{self.rds.port}", entry.key.get_name(), entry.key)
        client.connect(
            self.rds.address,
            self.rds.port,
            self.rds.account,
            key_filename=str(self.key),
            look_for_keys=False,
            allow_agent=False,
        )
        return client

    def run(self, argv: tuple[str | bytes, ...], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        """Run a command on RDS-SSH and return its exit code and output, as ssh gives them."""
        texts = (word if isinstance(word, str) else word.decode("utf-8", "surrogateescape") for word in argv)
        words = shlex.join(texts).encode("utf-8", "surrogateescape")
        command = ("ssh", "-F", str(self.config), self.rds.name, "--", words)
        return subprocess.run(command, input=stdin, capture_output=True, check=False)


class SshServer(Protocol):
    """Where an ssh server of the lab listens, and for whom."""

    address: str
    port: int
    account: str

    @property
    def pinned(self) -> str:
        """The host's public key, ``type base64``."""


@dataclass(frozen=True)
class Onward:
    """How RDS-SSH logs in to Diamond: files in the account's ``~/.ssh`` there.

    Args:
        rds: the host that logs in.
        diamond: the host to log in to.
    """

    rds: Host
    diamond: Host

    @property
    def key(self) -> Path:
        """Private key."""
        return self.rds.home / ".ssh" / "id_ed25519"

    def route(self, address: str, port: int) -> None:
        """Reach Diamond through this address and port."""
        folder = f"{self.rds.home_inside}/.ssh"
        config = _config(self.diamond, address, port, f"{folder}/id_ed25519", f"{folder}/known_hosts")
        write_private(self.rds.home / ".ssh" / "config", f'Include "{folder}/more/*"\n{config}')
        if self.rds.root is None:
            # ssh reads the configuration of the account's real home, which is not the lab's to write.
            shim = self.rds.shims / "ssh"
            shim.parent.mkdir(exist_ok=True)
            shim.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(folder)}/config "$@"\n')
            shim.chmod(0o700)

    def pin(self, key: str | None) -> None:
        """Know this key, ``type base64``, as Diamond's, or none at all."""
        line = f"{self.diamond.name} {key}\n" if key else ""
        write_private(self.rds.home / ".ssh" / "known_hosts", line)

    def lead(self, name: str, server: SshServer, *, asks: bool) -> None:
        """Let RDS-SSH reach one more host, by the name of the real one.

        Args:
            name: the real host's name.
            server: where it is instead, with its account and host key.
            asks: whether the log-in asks a person; else it is done by RDS-SSH's key.
        """
        more, folder = self.rds.home / ".ssh" / "more", f"{self.rds.home_inside}/.ssh"
        write_private(more.with_name(f"known_hosts.{name}"), f"{name} {server.pinned}\n")
        how = (
            "  PubkeyAuthentication no\n  PreferredAuthentications keyboard-interactive,password\n"
            if asks
            else f'  IdentityFile "{folder}/id_ed25519"\n  IdentitiesOnly yes\n  BatchMode yes\n'
        )
        config = (
            f"Host {name}\n  HostName {server.address}\n  Port {server.port}\n  User {server.account}\n"
            f'  HostKeyAlias {name}\n  UserKnownHostsFile "{folder}/known_hosts.{name}"\n'
            f"  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n{how}"
        )
        write_private(more / name, config)
