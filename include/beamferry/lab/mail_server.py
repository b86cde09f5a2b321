"""Start and stop of the lab's mail server, and what it got."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beamferry.errors import PermanentError
from beamferry.lab.keys import write_private
from beamferry.lab.process import Process, stop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.lab.authority import Authority

SENDER = "beamferry@example.ac.uk"

_START_SECONDS = 15.0


@dataclass(frozen=True)
class MailServer:
    """The mail server, in the background.

    Args:
        folder: where it keeps its mailbox, record and log.
        address: loopback address.
        port: TCP port.
        authority: signs its certificate; without one it speaks in clear and asks for no log-in.
        implicit: whether it speaks TLS from the first byte, as on port 465, rather than after STARTTLS.
    """

    folder: Path
    address: str
    port: int
    authority: Authority | None = None
    implicit: bool = False

    @property
    def mailbox(self) -> Path:
        """One line of JSON for each message: received, sender, recipients, subject, text, html."""
        return self.folder / "mail.jsonl"

    @property
    def login(self) -> tuple[str, str]:
        """Name and password that it asks for where it has a certificate, made once."""
        file = self.folder / "mail.login"
        if not file.exists():
            write_private(file, f"beamferry\n{secrets.token_urlsafe(12)}\n")
        name, password = file.read_text().split()
        return name, password

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to it, as ``AIRFLOW_CONN_<ID>`` takes it in JSON."""
        extra: dict[str, Any] = {
            "disable_ssl": not self.implicit,
            "from_email": SENDER,
            "retry_limit": 1,
            "timeout": 5,
        }
        found: dict[str, Any] = {"conn_type": "smtp", "host": self.address, "port": self.port}
        if self.authority is None:
            return {**found, "extra": {**extra, "disable_tls": True}}
        name, password = self.login
        return {
            **found,
            "login": name,
            "password": password,
            "extra": {**extra, "disable_tls": self.implicit},
        }

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Let it take no mail for a while, as a server does that is down for work."""
        self._mark.touch()
        try:
            yield
        finally:
            self._mark.unlink(missing_ok=True)

    @contextmanager
    def refusing_recipient(self, address: str, answer: str = "550 5.1.1 no such user") -> Iterator[None]:
        """Let it answer this to one recipient for a while, and take all others."""
        file = self._mark.with_suffix(".recipients")
        file.write_text(json.dumps({address: answer}))
        try:
            yield
        finally:
            file.unlink(missing_ok=True)

    @property
    def _mark(self) -> Path:
        return self.folder / "mail.refuse"

    @property
    def _record(self) -> Path:
        return self.folder / "mail.json"

    @property
    def process(self) -> Process | None:
        """The server, if it runs."""
        return Process.load(self._record)

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages it got, oldest first."""
        if not self.mailbox.exists():
            return []
        return [json.loads(line) for line in self.mailbox.read_text().splitlines()]

    def start(self) -> None:
        """Start the server unless it runs; returns when it listens.

        Raises:
            PermanentError: it does not start.
        """
        if self.process is not None:
            return
        self._record.unlink(missing_ok=True)
        log = self.folder / "mail.log"
        server = (sys.executable, "-m", "beamferry.lab.mail", self.address, str(self.port))
        secure: tuple[str, ...] = ()
        if self.authority is not None:
            _ = self.login
            secure = (str(self.authority.issue((self.address, "localhost"))), str(self.folder / "mail.login"))
            if self.implicit:
                secure = (*secure, "implicit")
        with log.open("wb") as output:
            # With a session and a parent of its own it outlives this command.
            subprocess.run(
                ("setsid", "--fork", *server, str(self.mailbox), str(self._record), str(self._mark), *secure),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=True,
            )
        end = time.monotonic() + _START_SECONDS
        # It writes its record once it listens; words in the log mean that it has failed.
        while time.monotonic() < end and not log.stat().st_size:
            if self.process is not None:
                return
            time.sleep(0.02)
        said = log.read_text(errors="replace").strip().splitlines()[-1:]
        raise PermanentError(
            "lab-mail",
            f"the mail server does not start on {self.address}:{self.port}: {' '.join(said)}",
            "free the port, or remove the lab's folder so that it chooses another",
        )

    def stop(self) -> None:
        """Stop the server; the messages stay."""
        if (server := self.process) is not None:
            stop([server])
        self._record.unlink(missing_ok=True)
