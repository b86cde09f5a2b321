"""DESY in the lab: psftp.desy.de with FTPS and SFTP, and one beamtime behind all of them."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, TypeVar

from beamferry.errors import PermanentError
from beamferry.lab.desy_tree import BEAMTIME, INSTRUMENT, make_beamtime
from beamferry.lab.ftps import FtpsServer
from beamferry.lab.mfa import CODE, MfaServer
from beamferry.lab.pure_ftpd import PureFtpd
from beamferry.lab.root import Root
from beamferry.lab.settings import DESY_ACCOUNT, DESY_ADDRESS, DESY_NAME, PASSIVE_COUNT
from beamferry.lab.sftp_host import BEAMTIMES, SftpHost
from beamferry.lab.visit import remove_visit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from beamferry.lab.authority import Authority

_F = TypeVar("_F", FtpsServer, PureFtpd)
# Special to shells, to URLs and to lftp's own language.
PASSWORD = "Strahl;zeit #07"  # noqa: S105 - the lab's own
_RENEW_SECONDS = 20 * 86_400


class Desy:
    """DESY's servers in one folder.

    Args:
        folder: holds everything.
        ports: TCP port by service, as ``Settings`` names them.
        namespaces: whether the SFTP host has a file system of its own.
    """

    name = DESY_NAME
    account = DESY_ACCOUNT
    password = PASSWORD
    code = CODE
    beamtime = BEAMTIME
    instrument = INSTRUMENT

    def __init__(self, folder: Path, ports: Mapping[str, int], *, namespaces: bool) -> None:
        """Know the servers; start nothing."""
        self.folder = folder
        address, account, password, beamtimes = DESY_ADDRESS, DESY_ACCOUNT, PASSWORD, folder / "beamtimes"

        def ftps(kind: type[_F], key: str) -> _F:
            port, passive = ports[f"desy-{key}"], ports[f"desy-{key}-passive"]
            return kind(
                folder / key,
                beamtimes / BEAMTIME,
                address,
                port,
                (passive, passive + PASSIVE_COUNT - 1),
                folder / "server.pem",
                account,
                password,
            )

        self.ftps, self.pure = ftps(FtpsServer, "ftps"), ftps(PureFtpd, "pure")
        host = folder / "sftp"
        root = Root(host, {f"/home/{account}": host / "home", BEAMTIMES: beamtimes}) if namespaces else None
        port = ports["desy-sftp"]
        self.sftp = SftpHost(
            DESY_NAME, host, address, port, account, root, bound_by_modes=True, shown=beamtimes
        )

        def asking(key: str, code: str | None) -> MfaServer:
            # All show one host key, as servers behind one name do.
            shown, port = self.sftp.host_key, ports[f"desy-{key}"]
            return MfaServer(folder / key, beamtimes, address, port, account, password, shown, code)

        self.sftp_password, self.mfa = asking("password", None), asking("mfa", CODE)

    @property
    def beamtimes(self) -> Path:
        """What SFTP shows as ``/``: a folder for each of the account's beamtimes."""
        return self.folder / "beamtimes"

    @property
    def tree(self) -> Path:
        """What FTPS shows as ``/``: the beamtime that is registered."""
        return self.beamtimes / BEAMTIME

    @property
    def certificate(self) -> Path:
        """PEM file with key and certificate of the FTPS servers."""
        return self.folder / "server.pem"

    def authority(self, name: str = "authority") -> Authority:
        """Return the lab's certificate authority, or another one that nobody trusts."""
        from beamferry.lab.authority import Authority  # noqa: PLC0415 - cryptography takes its time to load

        return Authority(self.folder / name, f"Beamferry lab {name}")

    @property
    def ca_file(self) -> Path:
        """Certificate that vouches for the FTPS servers."""
        return self.authority().ca_file

    def up(self, allowed: str, made: tuple[int, int], *, anew: bool) -> None:
        """Start what does not run, and make what is not there.

        Args:
            allowed: the public key that may log in by SFTP.
            made: size in bytes and seed of the beamtime.
            anew: whether a beamtime that is there is replaced.

        Raises:
            PermanentError: a program is missing or something does not start.
        """
        if shutil.which("lftp") is None:
            raise PermanentError(
                "lab-needs-package", "lftp is not installed", "sudo apt install lftp pure-ftpd"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.tree.exists() and anew:
            remove_visit(self.tree)
        if not self.tree.exists():
            self.beamtimes.mkdir(mode=0o755, exist_ok=True)
            make_beamtime(self.tree, *made)
        if not self.certificate.exists() or time.time() - self.certificate.stat().st_mtime > _RENEW_SECONDS:
            self.ftps.stop()
            self.pure.stop()
            self.install(self.authority().issue((DESY_NAME, DESY_ADDRESS)))
        self.sftp.prepare(allowed)
        for server in self.servers:
            server.start()

    def install(self, issued: Path) -> None:
        """Let the FTPS servers show this certificate from their next start on."""
        new = self.certificate.with_name(".server.pem.new")
        shutil.copyfile(issued, new)
        new.chmod(0o600)
        new.rename(self.certificate)

    @property
    def servers(self) -> tuple[FtpsServer | PureFtpd | SftpHost | MfaServer, ...]:
        """All servers that can run here."""
        pure = () if self.pure.refused else (self.pure,)
        return (self.ftps, *pure, self.sftp, self.sftp_password, self.mfa)

    def down(self) -> None:
        """Stop everything; files stay."""
        self.ftps.stop()
        self.pure.stop()
        self.sftp.down()
        self.sftp_password.stop()
        self.mfa.stop()

    @property
    def running(self) -> bool:
        """Whether all of it runs."""
        return all(_process(server) for server in self.servers)

    def status(self) -> list[str]:
        """Return in plain words what listens where."""
        lines = []
        for server in (self.ftps, self.pure, self.sftp, self.sftp_password, self.mfa):
            what = "SFTP with a key" if isinstance(server, SftpHost) else server.name
            place = f"{server.address} port {server.port}, account {server.account}"
            state = "listens on" if _process(server) else "is stopped:"
            lines.append(f"DESY ({DESY_NAME}): {what} {state} {place}")
        if self.pure.refused:
            lines.append(f"DESY: {self.pure.refused}")
        lines.append(f"Beamtime: {BEAMTIME} at DESY, files in {self.tree}")
        return lines


def _process(server: FtpsServer | PureFtpd | SftpHost | MfaServer) -> object:
    return server.sshd if isinstance(server, SftpHost) else server.process
