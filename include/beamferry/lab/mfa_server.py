"""The lab's ssh server that asks for a password and a second factor, or for a password alone.

Run as ``python -m beamferry.lab.mfa_server CONFIG``; CONFIG is the JSON that ``mfa.MfaServer`` writes. It serves
SFTP, read-only, and, where the configuration allows it, commands as a usual sshd does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncssh

from beamferry.lab.process import Process
from beamferry.lab.serving import State

if TYPE_CHECKING:
    from collections.abc import Sequence

    # Title, instructions, language, and questions with whether the answer is shown.
    _Challenge = tuple[str, str, str, Sequence[tuple[str, bool]]]

_WRITES = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC


class Connection(asyncssh.SSHServer):
    """One connection with its log-in.

    Args:
        state: shared state.
    """

    def __init__(self, state: State) -> None:
        """Know nobody yet."""
        self.state = state
        self._password: str | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Count the connection, or end it when it is one too many."""
        self.state.open += 1
        faults = self.state.faults()
        limit = faults.get("max_connections")
        if limit is not None and self.state.open > limit:
            self.state.note("turned-away")
            conn.abort()
            return
        self.state.note("connected")
        if (seconds := faults.get("drop_after_seconds")) is not None:
            asyncio.get_running_loop().call_later(seconds, conn.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection out."""
        self.state.open -= 1
        self.state.note("disconnected", why=str(exc) if exc else None)

    def _login(self, account: str, accepted: bool) -> bool:
        accepted = accepted and account == self.state.config["account"]
        self.state.note("login", account=account, accepted=accepted)
        return accepted

    def _is_password(self, password: str) -> bool:
        return password == self.state.config["password"] and not self.state.faults().get("refuse_password")

    def password_auth_supported(self) -> bool:
        """Take a password by itself only where there is no second factor."""
        return self.state.config["code"] is None

    def validate_password(self, username: str, password: str) -> bool:
        """Check the password."""
        return self._login(username, self._is_password(password))

    def kbdint_auth_supported(self) -> bool:
        """Ask for both factors where there is a second one."""
        return self.state.config["code"] is not None

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> _Challenge:  # noqa: ARG002
        """Ask for the password."""
        self._password = None
        return "", "", "", [("Password: ", False)]

    def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> bool | _Challenge:
        """Take the password, then the code; which of them was wrong is not said, as with the real one."""
        if self._password is None:
            self._password = responses[0] if responses else ""
            return "", "", "", [("Enter your OTP: ", False)]
        code = responses[0] if responses else ""
        right = code == self.state.config["code"] and not self.state.faults().get("refuse_code")
        return self._login(username, self._is_password(self._password) and right)


class Files(asyncssh.SFTPServer):
    """SFTP that shows one folder and changes nothing."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open a file for reading."""
        if pflags & _WRITES:
            raise asyncssh.SFTPPermissionDenied("read-only")
        return super().open(path, pflags, attrs)

    def _refuse(self, *_words: object, **_options: object) -> None:
        raise asyncssh.SFTPPermissionDenied("read-only")

    setstat = lsetstat = fsetstat = remove = mkdir = rmdir = rename = posix_rename = symlink = link = _refuse


async def run_command(process: asyncssh.SSHServerProcess[bytes], state: State) -> None:
    """Run what the client asks for, as sshd does: in the account's shell, its exit code handed back."""
    command = process.command or "exec bash -l"
    state.note("command")
    child = await asyncio.create_subprocess_exec(
        *state.config["shell"],
        command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    code = await child.wait()
    await process.stdout.drain()
    if code < 0:
        process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
    else:
        process.exit(code)


async def serve(config: dict[str, Any]) -> None:
    """Serve until told to end."""
    state = State(config)

    def files(channel: asyncssh.SSHServerChannel[bytes]) -> Files:
        state.note("sftp")
        return Files(channel, chroot=os.fsencode(config["root"]))

    async def command(process: asyncssh.SSHServerProcess[bytes]) -> None:
        await run_command(process, state)

    await asyncssh.create_server(
        lambda: Connection(state),
        config["address"],
        config["port"],
        server_host_keys=[config["host_key"]],
        sftp_factory=files,
        process_factory=command if config["shell"] else None,
        encoding=None,
        allow_scp=False,
        agent_forwarding=False,
    )
    if (process := Process.of(os.getpid())) is not None:
        process.save(Path(config["record"]))
    await asyncio.Event().wait()


def main() -> None:
    """Serve what the configuration says."""
    asyncio.run(serve(json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
