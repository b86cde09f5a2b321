"""The mail server of the site, as tasks hand mails to it."""

from __future__ import annotations

import smtplib
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowException
from airflow.providers.smtp.hooks.smtp import SmtpHook

from beamferry import mail
from beamferry.alerts import RecipientRefusedError
from beamferry.errors import PermanentError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.beamtime import Site
    from beamferry.mail import Message

# What OpenSSL says where the other side does not begin with TLS.
_NO_TLS = "WRONG_VERSION_NUMBER"
# Answers of a mail server (RFC 5321): it ends the connection; from here on trying again does not help.
_ENDS = 421
_FOR_GOOD = 500


class Post:
    """The mail server of the site, over one connection of the provider's hook.

    Args:
        site: names the Airflow connection.
    """

    def __init__(self, site: Site) -> None:
        """Open nothing yet."""
        self.connection = site.smtp_connection

    @contextmanager
    def _client(self) -> Iterator[tuple[SmtpHook, smtplib.SMTP]]:
        try:
            with SmtpHook(smtp_conn_id=self.connection) as hook:
                # The hook's own way of sending knows HTML alone; its client has TLS and log-in behind it.
                client = hook._smtp_client
                if not isinstance(client, smtplib.SMTP):
                    raise TransientError(
                        "mail-no-client", "The mail server gave no connection", "this is tried again"
                    )
                yield hook, client
        except smtplib.SMTPAuthenticationError as error:
            raise PermanentError(
                "mail-log-in-refused",
                f"The mail server refused the log-in of connection {self.connection} (code {error.smtp_code})",
                "put the present password into that connection in Airflow; this run does not try it again, so that the "
                "account is not locked",
            ) from error
        except AirflowException as error:
            raise PermanentError(
                "mail-no-connection",
                f"Airflow cannot use its connection {self.connection} for mails ({error})",
                "add it under Admin, Connections: type SMTP, the mail server's name, and from_email in the extras",
            ) from error
        except (smtplib.SMTPException, OSError) as error:
            if isinstance(error, smtplib.SMTPNotSupportedError) or getattr(error, "reason", "") == _NO_TLS:
                raise PermanentError(
                    "mail-tls-mismatch",
                    f"The mail server does not speak the TLS that connection {self.connection} asks for ({error})",
                    "write into the connection's extras disable_ssl: true for STARTTLS, as on port 587, or "
                    "disable_tls: true for TLS from the first byte, as on port 465",
                ) from error
            raise TransientError(
                "mail-refused",
                f"The mail server of connection {self.connection} took no mail ({error})",
                "this is tried again; if it stays, ask who runs the mail server",
            ) from error

    def send(self, message: Message) -> None:
        """Hand one mail to the server; returns when the server took it.

        Raises:
            RecipientRefusedError: it refuses this recipient; others may well be taken.
            PermanentError: there is no such connection, it names no sender, or the log-in is refused.
            TransientError: the server cannot be reached or took nothing.
        """
        with self._client() as (hook, client):
            sender = self._sender(hook)
            try:
                client.send_message(message.as_email(sender, datetime.now(UTC)))
            except smtplib.SMTPRecipientsRefused as error:
                (code, words), *_ = error.recipients.values()
                # With 421 it ends the connection, whoever was to get the mail.
                if code == _ENDS:
                    raise
                raise _refused(message.recipient, code, words) from error
            except smtplib.SMTPDataError as error:
                if error.smtp_code < _FOR_GOOD:
                    raise
                raise _refused(message.recipient, error.smtp_code, error.smtp_error) from error

    def _sender(self, hook: SmtpHook) -> str:
        sender = hook.from_email
        if not sender:
            raise PermanentError(
                "mail-no-sender",
                f"Airflow's connection {self.connection} names no sender",
                "write from_email into its extras",
            )
        return str(sender)

    def prove(self) -> None:
        """Log in and say nothing: shows that a mail could be sent; raises as ``send`` does."""
        with self._client() as (hook, client):
            self._sender(hook)
            code, words = client.noop()
            if code >= 400:  # noqa: PLR2004
                raise smtplib.SMTPResponseException(code, words)


def _refused(recipient: str, code: int, words: bytes | str) -> RecipientRefusedError:
    text = words.decode(errors="replace") if isinstance(words, bytes) else words
    return RecipientRefusedError(recipient, mail.one_line(f"{code} {text}"))
