"""The lab's FTPS server at DESY: explicit TLS only, read-only, with faults on demand.

Run as ``python -m beamferry.lab.ftps_server CONFIG``; CONFIG is the JSON that ``ftps.FtpsServer`` writes. What
happens is appended to the file of events, one line of JSON each; faults are read from the control file at every
connection, command and transfer.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyftpdlib.authorizers import AuthenticationFailed, DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.servers import FTPServer

from beamferry.lab.process import Process
from beamferry.lab.serving import State

if TYPE_CHECKING:
    from collections.abc import Iterator

# The greeting on the group's transfer page.
_GREETING = ("220-***", "220-Welcome to psftp.desy.de", "220-***")
_LAST = "220 This is a private system - No anonymous login"
_SLICES_PER_SECOND = 20
_BACKLOG = 100


class FtpsState(State):
    """What all connections share, and which of the faults that come once have come."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Begin with no connection and no fault."""
        super().__init__(config)
        self._used: set[str] = set()

    def is_over(self, faults: dict[str, Any]) -> bool:
        """Return whether a fault that comes once has come."""
        return bool(faults.get("once")) and faults["serial"] in self._used

    def has_come(self, faults: dict[str, Any]) -> None:
        """Remember that a fault that comes once has come."""
        self._used.add(faults["serial"])


class Account(DummyAuthorizer):  # type: ignore[misc]
    """The one account, which may read and nothing else.

    Args:
        state: shared state.
    """

    def __init__(self, state: FtpsState) -> None:
        """Know the account of the configuration."""
        super().__init__()
        self.state = state
        config = state.config
        words = "OK. Current restricted directory is /"
        self.add_user(config["account"], config["password"], config["root"], perm="elr", msg_login=words)

    def validate_authentication(self, username: str, password: str, handler: Any) -> None:
        """Refuse a wrong password, or any while the fault says so."""
        if self.state.faults().get("refuse_password"):
            raise AuthenticationFailed("Login authentication failed")
        super().validate_authentication(username, password, handler)


class Files(AbstractedFS):  # type: ignore[misc]
    """The beamtime's files; listings can be cut short."""

    def listdir(self, path: str) -> list[str]:
        """Return the names in a folder, fewer of them while the fault says so."""
        names = sorted(super().listdir(path))
        session: Session = self.cmd_channel
        faults = session.state.faults()
        limit = faults.get("list_limit")
        return names[:limit] if limit and session.command in faults["list_commands"] else names

    def format_mlsx(self, *words: Any, **options: Any) -> Iterator[bytes]:
        """Yield lines of MLSD with modes as lftp reads them: pyftpdlib's own 0o644 is 0 to it."""
        for line in super().format_mlsx(*words, **options):
            yield line.replace(b"unix.mode=0o", b"unix.mode=0", 1)


class Transfer(TLS_DTPHandler):  # type: ignore[misc]
    """A data connection; it can break off, hang, crawl, or change the file that it sends."""

    def __init__(self, sock: Any, cmd_channel: Any) -> None:
        """Read the faults that are in force now."""
        self.state: FtpsState = cmd_channel.state
        self.faults = self.state.faults()
        self._changed = False
        super().__init__(sock, cmd_channel)

    def send(self, data: bytes) -> int:
        """Send some of the data, or do what the fault says."""
        faults, before = self.faults, self.tot_bytes_sent
        if self.file_obj is None:
            return int(super().send(data))
        if (limit := faults.get("drop_data_after")) is not None and not self.state.is_over(faults):
            if before >= limit:
                self.state.has_come(faults)
                self._drop()
                return 0
            data = data[: limit - before]
        if (limit := faults.get("hang_after")) is not None:
            if before >= limit:
                # Nothing is sent any more; the connection stays until the client has had enough.
                self.del_channel()
                return 0
            data = data[: limit - before]
        self._change()
        if before == 0 and (unstable := faults.get("unstable")) and self._sends(unstable):
            # As a disk that is about to fail: these bytes are other ones each time.
            data = os.urandom(8) + data[8:]
        if speed := faults.get("bytes_per_second"):
            return self._crawl(data, speed)
        return int(super().send(data))

    def _drop(self) -> None:
        # No orderly end: what the client sees is a reset, as from a firewall.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()

    def _crawl(self, data: bytes, speed: int) -> int:
        sent = int(super().send(data[: max(1, speed // _SLICES_PER_SECOND)]))
        if sent and not self._closed:
            self.del_channel()
            self.ioloop.call_later(
                sent / speed,
                lambda: None if self._closed else self.add_channel(events=self.ioloop.WRITE),
                _errback=self.handle_error,
            )
        return sent

    def _sends(self, path: str) -> bool:
        return Path(self.file_obj.name) == Path(self.state.config["root"]) / path

    def _change(self) -> None:
        """Rewrite or lengthen the file, once a transfer, when enough of it is sent."""
        change = self.faults.get("change")
        if not change or self._changed or self.tot_bytes_sent < change["after"]:
            return
        if not self._sends(change["path"]):
            return
        path = Path(self.file_obj.name)
        self._changed = True
        mode = path.stat().st_mode
        path.chmod(0o600)
        with path.open("r+b") as file:
            if change["how"] == "append":
                file.seek(0, os.SEEK_END)
                file.write(b"written while it was fetched")
            else:
                content = file.read()
                file.seek(0)
                file.write(bytes(value ^ 0xFF for value in content))
        path.chmod(mode)
        self.state.note("changed", path=change["path"])


class Session(TLS_FTPHandler):  # type: ignore[misc]
    """A control connection."""

    state: FtpsState
    command = ""
    counted = False
    commands = 0

    def handle(self) -> None:
        """Greet, or refuse one connection too many."""
        faults = self.state.faults()
        limit = faults.get("max_connections")
        if limit is not None and self.state.open >= limit:
            self.state.note("turned-away")
            self.handle_max_cons_per_ip()
            return
        self.counted = True
        self.state.open += 1
        self.state.note("connected")
        if (seconds := faults.get("drop_control_after_seconds")) is not None:
            self.ioloop.call_later(seconds, self._drop, _errback=self.handle_error)
        for line in _GREETING:
            self.push(f"{line}\r\n")
        self.respond(_LAST)

    def _drop(self) -> None:
        if not self._closed:
            self.state.note("dropped")
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    def process_command(self, cmd: str, *words: Any, **options: Any) -> None:
        """Do what the client wants, unless the connection is to break off now."""
        self.command = cmd
        self.commands += 1
        limit = self.state.faults().get("drop_control_after_commands")
        if limit is not None and self.commands > limit:
            self._drop()
            return
        super().process_command(cmd, *words, **options)

    def close(self) -> None:
        """End the connection; count it out."""
        if self.counted:
            self.counted = False
            self.state.open -= 1
            self.state.note("disconnected")
        super().close()

    def on_login(self, username: str) -> None:
        """Note a log-in."""
        self.state.note("login", account=username, accepted=True)

    def on_login_failed(self, username: str, password: str) -> None:  # noqa: ARG002 - passwords are kept nowhere
        """Note a log-in that was refused."""
        self.state.note("login", account=username, accepted=False)


def serve(config: dict[str, Any]) -> None:
    """Serve until told to end."""
    state = FtpsState(config)
    logging.basicConfig(
        filename=config["log"], level=logging.DEBUG if config.get("verbose") else logging.WARNING
    )
    Session.state = state
    Session.authorizer = Account(state)
    Session.abstracted_fs = Files
    Session.dtp_handler = Transfer
    Session.certfile = config["certificate"]
    Session.tls_control_required = Session.tls_data_required = True
    first, last = config["passive"]
    Session.passive_ports = list(range(first, last + 1))
    Session.use_gmt_times = True
    # Names are bytes on a beamline's file system; any of them comes through unchanged.
    Session.unicode_errors = "surrogateescape"
    Session.auth_failed_timeout = 0.2
    server = FTPServer((config["address"], config["port"]), Session, backlog=_BACKLOG)
    if (process := Process.of(os.getpid())) is not None:
        process.save(Path(config["record"]))
    server.serve_forever(handle_exit=True)


def main() -> None:
    """Serve what the configuration says."""
    serve(json.loads(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()
