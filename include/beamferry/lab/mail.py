"""The lab's mail server: takes every message and keeps it as one line of JSON.

Run as ``python -m beamferry.lab.mail ADDRESS PORT MAILBOX RECORD``; the record names the process when
it listens.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller

from beamferry.lab.process import Process

if TYPE_CHECKING:
    from aiosmtpd.smtp import SMTP, Envelope, Session


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

    def __init__(self, mailbox: Path) -> None:
        """Keep messages in ``mailbox``."""
        self.mailbox = mailbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep one message; the name is aiosmtpd's."""
        content = envelope.content
        raw = content if isinstance(content, bytes) else (content or "").encode()
        record = record_of(envelope.mail_from, list(envelope.rcpt_tos), raw, datetime.now(UTC))
        with self.mailbox.open("a") as file:
            file.write(json.dumps(record) + "\n")
        return "250 kept"


def main() -> None:
    """Serve until told to end."""
    address, port, mailbox, record = sys.argv[1:]
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    controller = Controller(Mailbox(Path(mailbox)), hostname=address, port=int(port))
    controller.start()
    if (process := Process.of(os.getpid())) is not None:
        process.save(Path(record))
    signal.sigwait(signals)
    controller.stop()


if __name__ == "__main__":
    main()
