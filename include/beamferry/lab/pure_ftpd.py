"""Start and stop of the lab's second FTPS server: pure-ftpd, which by its words is what DESY runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.lab.background import Recorded
from beamferry.lab.keys import write_private
from beamferry.lab.process import Process
from beamferry.lab.root import is_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 10.0
# The numbers in the listing on the group's transfer page.
_UID, _GID = 26666, 6666
_FILES, _DEPTH = 200_000, 20
_MOST_CLIENTS = 50


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if found is None:
        raise PermanentError(
            "lab-needs-package", f"{name} is not installed", "sudo apt install lftp pure-ftpd openssl"
        )
    return found


@contextmanager
def _accounts() -> Iterator[Process]:
    """Keep a user namespace where the lab's files belong to the account's number, and 0 to another.

    pure-ftpd begins as 0, refuses to serve an account of that number, and changes into the account: so it is
    bound by file modes as DESY's is, whoever owns the lab.
    """
    keeper = subprocess.Popen(
        ("unshare", "--user", "--", "sleep", "60"), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        own = Path("/proc/self/ns/user").readlink()
        end = time.monotonic() + _START_SECONDS
        theirs = Path(f"/proc/{keeper.pid}/ns/user")
        while theirs.readlink() == own and keeper.poll() is None and time.monotonic() < end:
            time.sleep(0.005)
        for kind, number in (("uid", _UID), ("gid", _GID)):
            Path(f"/proc/{keeper.pid}/{kind}_map").write_text(f"0 {number} 1\n{number} 0 1\n")
        found = Process.of(keeper.pid)
        if found is None:
            raise OSError("unshare ended")
        yield found
    except OSError as error:
        raise PermanentError(
            "lab-needs-namespaces",
            f"this machine allows no user namespace for pure-ftpd: {error}",
            "use the lab's other FTPS server",
        ) from error
    finally:
        keeper.kill()
        keeper.wait()


@dataclass
class PureFtpd(Recorded):
    """pure-ftpd with explicit TLS and one virtual account; needs root.

    Args:
        folder: the server's own folder: accounts, log.
        root: what clients see as ``/``.
        address: loopback address.
        port: TCP port of the control connection.
        passive: first and last TCP port of data connections.
        certificate: PEM file with key and certificate.
        account: log-in name.
        password: its password.
        list_limit: most files that it lists of a folder.
        clients: most connections at a time.
    """

    folder: Path
    root: Path
    address: str
    port: int
    passive: tuple[int, int]
    certificate: Path
    account: str
    password: str
    list_limit: int = _FILES
    clients: int = _MOST_CLIENTS

    name = "FTPS (pure-ftpd)"

    @property
    def refused(self) -> str | None:
        """Why it cannot run here, or nothing if it can."""
        return None if is_root() else "pure-ftpd needs root for its accounts"

    def start(self) -> None:
        """Start the server unless it runs with these settings; returns when it listens.

        Raises:
            PermanentError: it is not installed, not allowed, or does not start.
        """
        if self.refused:
            raise PermanentError(
                "lab-needs-root", self.refused, "run the lab as root, or use its other server"
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        database, file = self.folder / "accounts.pdb", self.folder / "words.txt"
        words = self._words(database)
        wanted = "\n".join((*words, self.password))
        if self.process is not None:
            if file.exists() and file.read_text() == wanted:
                return
            self.stop()
        self._write_accounts(database)
        write_private(file, wanted)
        pid_file = self.folder / "pid"
        pid_file.unlink(missing_ok=True)
        with _accounts() as keeper, (self.folder / "server.log").open("ab") as log:
            inside = ("nsenter", f"--target={keeper.pid}", "--user", "--setuid=0", "--setgid=0", "--")
            # Its own way into the background tells nobody its number.
            script = ("sh", "-c", 'echo $$ >"$0"; exec "$@"', str(pid_file), *inside, *words)
            subprocess.run(
                ("setsid", "--fork", *script), stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True
            )
            process = self._wait(pid_file)
        if process is None:
            raise PermanentError(
                "lab-desy",
                f"pure-ftpd does not start on {self.address}:{self.port}",
                "free the port, or remove the lab's folder so that it chooses another",
            )
        process.save(self._record)

    def _words(self, database: Path) -> tuple[str, ...]:
        first, last = self.passive
        return (
            _program("pure-ftpd"),
            *("-S", f"{self.address},{self.port}"),
            *("-l", f"puredb:{database}"),
            # 3: neither log-in nor data in clear.
            *("-Y", "3"),
            *("-2", str(self.certificate)),
            *("-p", f"{first}:{last}"),
            *("-L", f"{self.list_limit}:{_DEPTH}"),
            *("-c", str(self.clients)),
            *("-C", str(self.clients)),
            *("-u", "1"),
            *("-f", "none"),
            # No anonymous log-in, all in their folder, no look-up of names, hidden files shown.
            *("-E", "-A", "-H", "-D"),
        )

    def _write_accounts(self, database: Path) -> None:
        # pure-pw's own hash takes seconds, at every log-in again.
        hashed = subprocess.run(
            (_program("openssl"), "passwd", "-6", "-stdin"),
            input=f"{self.password}\n",
            text=True,
            capture_output=True,
            check=True,
        ).stdout.strip()
        accounts = self.folder / "accounts"
        write_private(accounts, f"{self.account}:{hashed}:{_UID}:{_GID}::{self.root}/./::::::::::::\n")
        mkdb = (_program("pure-pw"), "mkdb", str(database), "-f", str(accounts))
        subprocess.run(mkdb, capture_output=True, check=True)

    def _wait(self, pid_file: Path) -> Process | None:
        """Return the server when it greets, or nothing if it has ended."""
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            time.sleep(0.02)
            if not pid_file.exists() or not (text := pid_file.read_text().strip()):
                continue
            if (process := Process.of(int(text))) is None:
                return None
            greeted = False
            with (
                suppress(OSError),
                socket.create_connection((self.address, self.port), timeout=2) as connection,
            ):
                greeted = connection.recv(3) == b"220"
            if greeted:
                # It counts this look among its clients until it has noticed that it is over.
                while process.descendants() and time.monotonic() < end:
                    time.sleep(0.02)
                return process
        return None
