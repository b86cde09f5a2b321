"""The watchdog's own mails: it must speak when Airflow cannot, from a connection as Airflow's provider reads it."""

from __future__ import annotations

import json
import smtplib
import ssl
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from beamferry.errors import PermanentError
from beamferry.mail import addressed, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from beamferry.watch import Trouble

# What Airflow's provider takes where a connection says nothing.
_TIMEOUT = 30
_RETRIES = 5


@dataclass(frozen=True)
class MailSettings:
    """A mail server as a connection describes it; a password is never shown.

    Args:
        host: of the server.
        port: of the server, 0 for the usual one of its kind.
        login: name, '' for no log-in.
        password: of the log-in.
        implicit: whether TLS begins with the first byte, as on port 465.
        starttls: whether TLS is asked for afterwards, as on port 587.
        verified: whether the server's certificate is verified.
        timeout: seconds to wait for each answer.
        retries: further tries where the server ends the connection before its first word.
        sender: of the mails.
    """

    host: str
    port: int
    login: str
    password: str = field(repr=False)
    implicit: bool
    starttls: bool
    verified: bool
    timeout: int
    retries: int
    sender: str

    @classmethod
    def read(cls, text: str) -> MailSettings:
        """Return the settings from a connection, as JSON or as URI, as ``AIRFLOW_CONN_SMTP_DEFAULT`` holds it.

        Raises:
            PermanentError: it is no such text, or asks for a log-in that the watchdog does not know.
        """
        try:
            found = json.loads(text) if text.lstrip().startswith("{") else _from_uri(text)
            extra = found.get("extra") or {}
            extra = json.loads(extra) if isinstance(extra, str) else extra
            settings = cls(
                host=str(found["host"]),
                port=int(found.get("port") or 0),
                login=str(found.get("login") or ""),
                password=str(found.get("password") or ""),
                implicit=not extra.get("disable_ssl", False),
                starttls=not extra.get("disable_tls", False),
                verified=extra.get("ssl_context") != "none",
                timeout=int(extra.get("timeout", _TIMEOUT)),
                retries=int(extra.get("retry_limit", _RETRIES)),
                sender=str(extra["from_email"]),
            )
            way = extra.get("auth_type", "basic")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # The text holds a password: nothing of it is shown.
            raise PermanentError(
                "watchdog-mail-settings",
                f"The watchdog's mail settings cannot be read ({type(error).__name__})",
                "write them as JSON like an Airflow connection: host, port, login, password, extra with from_email",
            ) from None
        if way != "basic":
            raise PermanentError(
                "watchdog-mail-settings",
                f"The watchdog's mail settings ask for a log-in of the type {one_line(str(way))}",
                "give the watchdog a mail server that takes name and password, or let cron mail its output",
            )
        return settings

    @property
    def _context(self) -> ssl.SSLContext | None:
        return ssl.create_default_context() if self.verified else None

    def open(self) -> smtplib.SMTP:
        """Return the server's connection, logged in.

        Raises:
            OSError: it cannot be reached, or speaks another kind of TLS.
            smtplib.SMTPException: it refuses.
        """
        server = self._connect()
        try:
            # What is under TLS already needs no second one.
            if self.starttls and not self.implicit:
                server.starttls(context=self._context)
            if self.login and self.password:
                server.login(self.login, self.password)
        except (OSError, smtplib.SMTPException):
            server.close()
            raise
        return server

    def _connect(self) -> smtplib.SMTP:
        for tries_left in range(self.retries, -1, -1):
            try:
                if self.implicit:
                    return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout, context=self._context)
                return smtplib.SMTP(self.host, self.port, timeout=self.timeout)
            except smtplib.SMTPServerDisconnected:
                if not tries_left:
                    raise
        raise smtplib.SMTPServerDisconnected("no try is allowed")


def _from_uri(text: str) -> dict[str, Any]:
    parts = urlsplit(text)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {
        "host": unquote(parts.hostname or "") or None,
        "port": parts.port,
        "login": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "extra": query.get("__extra__", query),
    }


def settings_from(environment: Mapping[str, str], file: Path | None) -> MailSettings | None:
    """Return the mail settings from a file, or from ``AIRFLOW_CONN_SMTP_DEFAULT``; None where there are none."""
    if file is not None:
        return MailSettings.read(file.read_text())
    text = environment.get("AIRFLOW_CONN_SMTP_DEFAULT", "")
    return MailSettings.read(text) if text.strip() else None


def send(
    settings: MailSettings, people: tuple[str, ...], found: tuple[Trouble, ...], now: datetime
) -> dict[str, str]:
    """Mail each person what was found; returns whom the server did not take a mail for, and its words.

    Raises:
        PermanentError: it took none.
    """
    refused: dict[str, str] = {}
    try:
        with settings.open() as server:
            for person in people:
                try:
                    server.send_message(_mail(settings.sender, person, found, now))
                except smtplib.SMTPRecipientsRefused as error:
                    (code, words), *_ = error.recipients.values()
                    refused[person] = _answer(code, words)
                except smtplib.SMTPDataError as error:
                    refused[person] = _answer(error.smtp_code, error.smtp_error)
    except (OSError, smtplib.SMTPException) as error:
        raise _none_taken(found, f"{type(error).__name__}: {error}") from error
    if len(refused) == len(people):
        raise _none_taken(found, "; ".join(f"{person}: {words}" for person, words in refused.items()))
    return refused


def _mail(sender: str, person: str, found: tuple[Trouble, ...], now: datetime) -> Any:
    subject = f"Beamferry's alerts are not well: {found[0].problem}"
    mail = addressed(sender, person, subject, now.astimezone(UTC))
    lines = "\n".join(f"- {trouble.problem}.\n  What to do: {trouble.remedy}." for trouble in found)
    mail.set_content(
        f"Until this is repaired, nobody is told of deadlines: look at the beamtimes yourself.\n\n{lines}\n\n"
        "This is Beamferry's watchdog. It repeats itself once a day.\n"
    )
    return mail


def _answer(code: int, words: bytes | str) -> str:
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    return one_line(f"{code} {text}")


def _none_taken(found: tuple[Trouble, ...], reason: str) -> PermanentError:
    return PermanentError(
        "watchdog-mail",
        f"The watchdog could not mail what it found ({one_line(reason)}): "
        + "; ".join(trouble.problem for trouble in found),
        "see that its extras ask for the TLS that the server speaks (disable_ssl: true for STARTTLS, as on port 587), "
        "give it a mail server that does not depend on the one of the alerts, or let cron mail its output",
    )
