"""What can go wrong at DESY: each fault is a context manager that breaks one thing and mends it on the way out."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from beamferry.lab.settings import DESY_ADDRESS, DESY_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.lab.desy import Desy
    from beamferry.lab.pure_ftpd import PureFtpd

OTHER_NAME = "ftp.example.org"
# What pure-ftpd lists of a folder unless it is told otherwise, and lftp takes for all there is.
LISTED = 1_000


class Server(Protocol):
    """Any server of the lab that can be stopped and started."""

    def start(self) -> None:
        """Start it."""

    def stop(self) -> None:
        """Stop it."""


class DesyFaults:
    """What can go wrong at a DESY that runs.

    Args:
        desy: the lab's DESY.
    """

    def __init__(self, desy: Desy) -> None:
        """Break ``desy``."""
        self.desy = desy

    @contextmanager
    def stopped(self, server: Server) -> Iterator[None]:
        """Nobody answers on the server's port."""
        server.stop()
        try:
            yield
        finally:
            server.start()

    # Certificates: both FTPS servers.

    @contextmanager
    def _showing(self, issued: Path) -> Iterator[None]:
        before = self.desy.certificate.read_bytes()
        servers: list[Server] = [self.desy.ftps, *([] if self.desy.pure.refused else [self.desy.pure])]

        def restart() -> None:
            for server in servers:
                server.stop()
                server.start()

        try:
            self.desy.install(issued)
            restart()
            yield
        finally:
            self.desy.certificate.write_bytes(before)
            restart()

    @contextmanager
    def certificate_expired(self) -> Iterator[None]:
        """The certificate's time is over."""
        with self._showing(self.desy.authority().issue((DESY_NAME, DESY_ADDRESS), expired=True)):
            yield

    @contextmanager
    def certificate_of_another_host(self) -> Iterator[None]:
        """The certificate is good, and another host's."""
        with self._showing(self.desy.authority().issue((OTHER_NAME,))):
            yield

    @contextmanager
    def issuer_unknown(self) -> Iterator[None]:
        """The certificate is of an authority that nobody trusts."""
        with self._showing(self.desy.authority("stranger").issue((DESY_NAME, DESY_ADDRESS))):
            yield

    # Log-in.

    @contextmanager
    def password_refused(self) -> Iterator[None]:
        """No password is right any more, at any server that takes one."""
        with ExitStack() as stack:
            for server in (self.desy.ftps, self.desy.sftp_password, self.desy.mfa):
                stack.enter_context(server.break_with(refuse_password=True))
            stack.enter_context(self._pure(password="changed meanwhile"))  # noqa: S106 - a wrong one
            yield

    @contextmanager
    def code_refused(self) -> Iterator[None]:
        """No second factor is right any more."""
        with self.desy.mfa.break_with(refuse_code=True):
            yield

    @contextmanager
    def connections_limited(self, most: int = 1) -> Iterator[None]:
        """The servers, sshd left out, turn away more connections at a time than this."""
        with ExitStack() as stack:
            for server in (self.desy.ftps, self.desy.sftp_password, self.desy.mfa):
                stack.enter_context(server.break_with(max_connections=most))
            stack.enter_context(self._pure(clients=most))
            yield

    # Connections that break; pyftpdlib only.

    @contextmanager
    def control_dropped(self, *, commands: int | None = None, seconds: float | None = None) -> Iterator[None]:
        """Control connections break off after so many commands, or this long after they began."""
        faults = {"drop_control_after_commands": commands, "drop_control_after_seconds": seconds}
        with self.desy.ftps.break_with(**faults):
            yield

    @contextmanager
    def data_dropped(self, after: int, *, once: bool = False) -> Iterator[None]:
        """Data connections break off after so many bytes: all that get so far, or the first one alone."""
        with self.desy.ftps.break_with(drop_data_after=after, once=once):
            yield

    @contextmanager
    def data_hangs(self, after: int = 0) -> Iterator[None]:
        """Data connections fall silent after so many bytes, and stay open."""
        with self.desy.ftps.break_with(hang_after=after):
            yield

    @contextmanager
    def data_slow(self, bytes_per_second: int) -> Iterator[None]:
        """Data connections carry no more than this, each."""
        with self.desy.ftps.break_with(bytes_per_second=bytes_per_second):
            yield

    # Listings and files.

    @contextmanager
    def listing_cut(self, limit: int = LISTED, *, names_too: bool = False) -> Iterator[None]:
        """pyftpdlib lists no more than this of a folder and does not say so.

        Args:
            limit: entries.
            names_too: whether NLST is cut as MLSD and LIST are; else it tells the truth.
        """
        commands = ["LIST", "MLSD", *(["NLST"] if names_too else [])]
        with self.desy.ftps.break_with(list_limit=limit, list_commands=commands):
            yield

    @contextmanager
    def names_cut(self, limit: int = LISTED) -> Iterator[None]:
        """pyftpdlib names no more than this of a folder by NLST; MLSD and LIST tell the truth."""
        with self.desy.ftps.break_with(list_limit=limit, list_commands=["NLST"]):
            yield

    @contextmanager
    def pure_listing_cut(self, limit: int = LISTED) -> Iterator[None]:
        """pure-ftpd lists no more than this of a folder, as it does by default."""
        with self._pure(list_limit=limit):
            yield

    @contextmanager
    def file_changes(
        self, path: bytes, after: int, how: Literal["append", "rewrite"] = "rewrite"
    ) -> Iterator[None]:
        """A file changes on the server while pyftpdlib sends it; as it was at the end.

        Args:
            path: the file, relative to the beamtime.
            after: bytes that are sent before it changes; what is read ahead, some 128 kB, comes as it was.
            how: whether it grows, or gets other bytes of the same number.
        """
        file = self.desy.tree / os.fsdecode(path)
        content, kept = file.read_bytes(), file.stat()
        try:
            change = {"path": os.fsdecode(path), "after": after, "how": how}
            with self.desy.ftps.break_with(change=change):
                yield
        finally:
            file.chmod(0o600)
            file.write_bytes(content)
            file.chmod(kept.st_mode)
            os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))

    @contextmanager
    def file_read_differently(self, path: bytes) -> Iterator[None]:
        """The first bytes of a file are other ones each time that pyftpdlib sends it."""
        with self.desy.ftps.break_with(unstable=os.fsdecode(path)):
            yield

    @contextmanager
    def _pure(self, **other: Any) -> Iterator[None]:
        """Run pure-ftpd with other settings, where it can run at all."""
        pure: PureFtpd = self.desy.pure
        if pure.refused:
            yield
            return
        before = {name: getattr(pure, name) for name in other}
        try:
            for name, value in other.items():
                setattr(pure, name, value)
            pure.start()
            yield
        finally:
            for name, value in before.items():
                setattr(pure, name, value)
            pure.start()
