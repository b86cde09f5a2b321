"""Small files in the home folder of RDS-SSH, and why one cannot be used."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

from beamferry.connection import RDS_SSH, explain_connection
from beamferry.remote.refused import refused_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.errors import PermanentError, TransientError

# What is read back of a result or of an error listing; more than this is not for people or for Airflow.
READ_LIMIT = 256 * 1024
# Seconds for trying once more what SFTP refused.
TRIAL_TIMEOUT = 30.0
TRIAL_BYTES = 64 * 1024
# What paramiko raises.
BREAKS = (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError)
# A name that nobody else has, and as many bytes as there were to be.
_TRY_TO_WRITE = """dd status=none if=/dev/zero of="$1" bs="$2" count=1 conv=fsync
code=$?
rm -f -- "$1"
exit "$code\""""


@dataclass(frozen=True)
class Completed:
    """Exit code and output of a command that ran on RDS-SSH."""

    exit_code: int
    stdout: str
    stderr: str


class Files:
    """Small files over one open connection.

    Args:
        client: a connected paramiko client; the caller owns and closes it.
        name: of the host, as people know it.
        address: of the host.
    """

    def __init__(self, client: paramiko.SSHClient, name: str = RDS_SSH, address: str = "") -> None:
        """Keep the client; the SFTP channel opens with the first file."""
        self._client = client
        self._name = name
        self._address = address
        self._sftp: paramiko.SFTPClient | None = None

    @property
    def sftp(self) -> paramiko.SFTPClient:
        """The SFTP channel of this connection."""
        if self._sftp is None:
            try:
                self._sftp = self._client.open_sftp()
            except BREAKS as error:
                raise self._broken(error) from error
        return self._sftp

    def run(self, command: tuple[str, ...], *, timeout: float, request: str = "") -> Completed:
        """Run a command on the host, see ``Session.run``."""
        raise NotImplementedError

    def _broken(self, error: Exception) -> TransientError | PermanentError:
        return explain_connection(error, self._address, self._name)

    @contextmanager
    def _using(self, path: str, *trial: str) -> Iterator[None]:
        """Use a file; SFTP seldom says why it refuses, so a command then tries the same and its words are believed.

        Raises:
            PermanentError: the home folder refused it for good.
            TransientError: the connection broke, or the file system is unwell.
        """
        try:
            yield
        except BREAKS as error:
            done = self.run(("env", "LC_ALL=C", *trial), timeout=TRIAL_TIMEOUT)
            outcome = (done.exit_code, done.stderr)
            raise refused_file(path, str(error) or type(error).__name__, outcome, self._name) from error

    def prove(self, folder: str) -> None:
        """Try to write into a folder: what ended there without a word may have found the home folder full.

        Raises:
            PermanentError: it takes nothing.
            TransientError: its file system is unwell, or the connection broke.
        """
        trial = (
            "bash",
            "-c",
            _TRY_TO_WRITE,
            "bash",
            f"{folder}/trial-{secrets.token_hex(8)}",
            str(TRIAL_BYTES),
        )
        done = self.run(("env", "LC_ALL=C", *trial), timeout=TRIAL_TIMEOUT)
        if done.exit_code != 0:
            raise refused_file(folder, "a trial failed", (done.exit_code, done.stderr), self._name)

    def read(self, path: str) -> str:
        """Return up to ``READ_LIMIT`` bytes of a file on RDS-SSH as text, or '' where there is none."""
        sftp = self.sftp
        with self._using(path, "dd", "status=none", f"if={path}", "of=/dev/null"):
            try:
                with sftp.open(path, "rb") as file:
                    return file.read(READ_LIMIT).decode("utf-8", "replace")
            except FileNotFoundError:
                return ""

    def write(self, path: str, content: bytes, *, mode: int) -> None:
        """Write a file whole or not at all: under a name that nobody else has, then renamed over the old one."""
        new, sftp = f"{path}.{secrets.token_hex(8)}.new", self.sftp
        with self._using(path, "bash", "-c", _TRY_TO_WRITE, "bash", new, str(len(content) + 1)):
            try:
                with sftp.open(new, "wb") as file:
                    # Before there is anything in it that others should not read.
                    sftp.chmod(new, mode)
                    file.set_pipelined(True)
                    file.write(content)
                # What is refused at closing is not told.
                if sftp.stat(new).st_size != len(content):
                    raise OSError("Failure")
                sftp.posix_rename(new, path)
            except BREAKS:
                with suppress(*BREAKS):
                    sftp.remove(new)
                raise

    def put_aside(self, path: str) -> str:
        """Keep what is not what was written under another name, and return that."""
        aside, sftp = f"{path}.damaged", self.sftp
        if self.exists(aside):
            aside += f"-{secrets.token_hex(4)}"
        with self._using(path, "mv", "-T", "--", path, aside):
            sftp.posix_rename(path, aside)
        return aside.rpartition("/")[2]

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is as well."""
        sftp = self.sftp
        with self._using(path, "rm", "-f", "--", path), suppress(FileNotFoundError):
            sftp.remove(path)

    def make_folder(self, path: str, *, mode: int) -> None:
        """Make a folder and those above it where they are missing."""
        parts, sftp = path.split("/"), self.sftp
        for end in range(1, len(parts) + 1):
            folder = "/".join(parts[:end])
            if folder and not self.exists(folder):
                with self._using(folder, "mkdir", "--", folder):
                    try:
                        sftp.mkdir(folder, mode)
                    except OSError:
                        # Another task may have made it in this very moment.
                        if not self.exists(folder):
                            raise

    def exists(self, path: str) -> bool:
        """Say whether a path is there."""
        sftp = self.sftp
        with self._using(path, "stat", "--", path):
            try:
                sftp.stat(path)
            except FileNotFoundError:
                return False
        return True
