"""The lab's mail server: takes every message and keeps it as one line of JSON.

Run as ``python -m beamferry.lab.mail ADDRESS PORT MAILBOX RECORD MARK [CERTIFICATE LOGIN [implicit]]``; the record
names the process when it listens. With a certificate it takes mail after TLS and a log-in only: after STARTTLS, or
with ``implicit`` TLS from the first byte. LOGIN is a file with name and password, one a line. While the file MARK is
there it takes nothing; the file beside it that ends in ``.recipients`` holds as JSON what it answers to single ones.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import ssl
import sys
import warnings
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from beamferry.lab.process import Process

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, LoginPassword, Session


def record_of(
    sender: str | None, recipients: list[str], content: bytes, received: datetime
) -> dict[str, Any]:
    """Return what is kept of a message: envelope, subject, plain and HTML text, decoded."""
    message = message_from_bytes(content, policy=policy.default)
    plain, html = (message.get_body(preferencelist=(kind,)) for kind in ("plain", "html"))
    return {
        "received": received.isoformat(),
        "sender": sender,
        "recipients": recipients,
        "subject": str(message.get("Subject", "")),
        "text": plain.get_content() if plain else "",
        "html": html.get_content() if html else "",
    }


class Mailbox:
    """aiosmtpd handler that appends to the mailbox file."""

    def __init__(self, mailbox: Path, mark: Path) -> None:
        """Keep messages in ``mailbox``, unless ``mark`` is there."""
        self.mailbox = mailbox
        self.mark = mark

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take a recipient, or answer what the file says of this one; the name is aiosmtpd's."""
        file = self.mark.with_suffix(".recipients")
        answers: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if address in answers:
            return answers[address]
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep one message; the name is aiosmtpd's."""
        if self.mark.exists():
            return "451 not now"
        content = envelope.content
        raw = content if isinstance(content, bytes) else (content or "").encode()
        record = record_of(envelope.mail_from, list(envelope.rcpt_tos), raw, datetime.now(UTC))
        with self.mailbox.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return "250 kept"


def _security(
    certificate: str | None = None, login: str | None = None, way: str = "starttls"
) -> dict[str, Any]:
    """Return what makes the controller ask for TLS and a log-in, nothing without a certificate."""
    if certificate is None or login is None:
        return {}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    name, password = Path(login).read_text().split()

    def check(
        _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword
    ) -> AuthResult:
        good = (data.login, data.password) == (name.encode(), password.encode())
        # A failure that counts as handled would get no answer at all.
        return AuthResult(success=good, handled=good)

    asked = {"auth_required": True, "authenticator": check}
    if way == "implicit":
        # aiosmtpd knows no other TLS than STARTTLS when it judges whether a log-in is safe, and warns of this one.
        logging.getLogger("mail.log").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="aiosmtpd")
        return {**asked, "ssl_context": context, "auth_require_tls": False}
    return {**asked, "tls_context": context, "require_starttls": True, "auth_require_tls": True}


def main() -> None:
    """Serve until told to end."""
    address, port, mailbox, record, mark, *secure = sys.argv[1:]
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    controller = Controller(
        Mailbox(Path(mailbox), Path(mark)), hostname=address, port=int(port), **_security(*secure)
    )
    controller.start()
    if (process := Process.of(os.getpid())) is not None:
        process.save(Path(record))
    signal.sigwait(signals)
    controller.stop()


if __name__ == "__main__":
    main()
