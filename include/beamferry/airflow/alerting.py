"""Alerts in Airflow: look whether anything is due, mail it, and leave a sign that the alerts are alive."""

from __future__ import annotations

import os
import smtplib
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
from airflow.providers.common.compat.sdk import AirflowException, conf
from airflow.providers.smtp.hooks.smtp import SmtpHook
from airflow.sdk import BaseOperator, BaseSensorOperator

from beamferry import mail
from beamferry.airflow.state import BeamtimeState
from beamferry.digest import Watched, deliver, quiet, recipients
from beamferry.errors import PermanentError, TransientError
from beamferry.plan import count
from beamferry.watch import Sign, leave, status_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow.sdk import Context

    from beamferry.airflow.state import Memory
    from beamferry.beamtime import Beamtime, Site
    from beamferry.mail import Message
    from beamferry.registry import Registry

# Holds what concerns no single beamtime: when alerts last ran, and the weekly summary's own memory.
ALERTS_ASSET = "beamferry/alerts"
_MONDAY = 0
# Tries of a morning's mails reach into the night, and end before the next morning's run is kept waiting.
RETRIES = 12
RETRY_DELAY = timedelta(seconds=conf.getint("beamferry", "mail_retry_delay_seconds", fallback=300))
MAX_RETRY_DELAY = timedelta(minutes=90)
LOOK_SECONDS = conf.getint("beamferry", "alerts_look_seconds", fallback=900)
_HEALTH_SECONDS = 10.0


def link(beamtime: Beamtime) -> str:
    """Return the address of a beamtime's DAG in the web interface, '' where Airflow does not know its own."""
    base = board()
    return f"{base}/dags/{beamtime.dag_id}" if base else ""


def board() -> str:
    """Return the address of the web interface, '' where Airflow does not know it."""
    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def watched(registry: Registry, memory: Memory, now: datetime) -> list[Watched]:
    """Return every beamtime with what its asset says; ``memory`` is the key of the ledger."""
    found = []
    for beamtime in registry.beamtimes:
        if beamtime.archived:
            continue
        state = BeamtimeState(beamtime.asset_name)
        before = state.ledger(memory)
        ledger = before.seen(now)
        if ledger is not before:
            state.set(memory, ledger.stored())
        found.append(Watched(beamtime, state.known(), ledger, link(beamtime)))
    return found


def keeper(memory: Memory) -> Callable[[Watched], None]:
    """Return what stores the ledger of a beamtime."""

    def keep(one: Watched) -> None:
        BeamtimeState(one.beamtime.asset_name).set(memory, one.ledger.stored())

    return keep


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
                "put the present password into that connection in Airflow; it is not tried again by itself, so that "
                "the account is not locked",
            ) from error
        except AirflowException as error:
            raise PermanentError(
                "mail-no-connection",
                f"Airflow cannot use its connection {self.connection} for mails ({error})",
                "add it under Admin, Connections: type SMTP, the mail server's name, and from_email in the extras",
            ) from error
        except (smtplib.SMTPException, OSError) as error:
            raise TransientError(
                "mail-refused",
                f"The mail server of connection {self.connection} took no mail ({error})",
                "this is tried again; if it stays, ask who runs the mail server",
            ) from error

    def send(self, message: Message) -> None:
        """Hand one mail to the server; returns when the server took it.

        Raises:
            PermanentError: there is no such connection, it names no sender, or the log-in is refused.
            TransientError: the server cannot be reached or took nothing.
        """
        with self._client() as (hook, client):
            client.send_message(message.as_email(self._sender(hook), datetime.now(UTC)))

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


def rehearsed(context: Context) -> date | None:
    """Return the day whose morning is rehearsed, None for the real thing."""
    day = context["params"].get("as_of")
    return None if day is None else date.fromisoformat(str(day))


class _Alerting(BaseOperator):
    """What the sensor and the sender share."""

    def __init__(self, *, registry: Registry, site: Site, **kwargs: Any) -> None:
        """Keep the registry; it is read again each time the DAG is parsed."""
        super().__init__(**kwargs)
        self.registry = registry
        self.site = site

    def moment(self, context: Context) -> datetime:
        """Return the present, or the morning of the day that is rehearsed."""
        day = rehearsed(context)
        if day is None:
            return datetime.now(UTC)
        return datetime.combine(day, time(7), tzinfo=ZoneInfo(self.site.time_zone))

    def memory(self, context: Context) -> Memory:
        """Return the key of the ledger; a rehearsal has its own, so that it silences no real alert."""
        return "alerts" if rehearsed(context) is None else "rehearsal"

    @property
    def warning(self) -> str:
        """What keeps beamtimes from being watched."""
        problems = len(self.registry.problems)
        if not problems:
            return ""
        return f"{count(problems, 'problem')} in the registry: those beamtimes are not watched. Run 'beamferry check'."

    def day(self, now: datetime) -> date:
        """Return the day at the site."""
        return now.astimezone(ZoneInfo(self.site.time_zone)).date()

    def summary_due(self, now: datetime) -> bool:
        """Say whether the weekly summary is wanted, it is Monday, and it was not sent today."""
        if not self.site.weekly_summary:
            return False
        day = self.day(now)
        sent = (BeamtimeState(ALERTS_ASSET).get("alerts") or {}).get("summary")
        return day.weekday() == _MONDAY and sent != day.isoformat()

    def sign(self, *, mails: int, told: int) -> None:
        """Leave the sign of life on disk, in the asset, and where a health check listens."""
        sign = Sign(at=datetime.now(UTC), mails=mails, recipients=told)
        leave(status_file(os.environ), sign)
        BeamtimeState(ALERTS_ASSET).set("alerts_ran", sign.model_dump(mode="json"))
        address = conf.get("beamferry", "health_check_url", fallback="")
        if not address:
            return
        try:
            httpx.get(address, timeout=_HEALTH_SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            # Whoever listens there notices by himself that nothing came. The address may hold a key: not logged.
            self.log.warning("The health check could not be told: %s", type(error).__name__)


class AlertsDue(_Alerting, BaseSensorOperator):
    """Fire when anybody has anything to be told; while nobody has, prove that the mail server would take it."""

    def poke(self, context: Context) -> bool:
        """Look once.

        Raises:
            PermanentError: the registry names nobody to be told.
        """
        now = self.moment(context)
        everything = watched(self.registry, self.memory(context), now)
        people = recipients(everything, self.site)
        if everything and not people:
            raise PermanentError(
                "alerts-nobody",
                "The registry names nobody who is told of deadlines",
                "write mail addresses under site: notify:",
            )
        if rehearsed(context) is not None or self.summary_due(now):
            return True
        if any(one.ripe(self.site, person, now) for one in everything for person in people):
            return True
        try:
            Post(self.site).prove()
        except (PermanentError, TransientError) as error:
            self.log.warning("Nothing is due, but a mail could not be sent: %s", error)
        else:
            self.log.info("Nothing is due; the mail server answers")
            self.sign(mails=0, told=len(people))
        return False


class SendDigests(_Alerting):
    """Mail to everybody what is outstanding, one digest each, most urgent first."""

    def execute(self, context: Context) -> int:
        """Send; returns how many mails the server took.

        Raises:
            TransientError: somebody's mail was not taken; the others have theirs, and the next try sends the rest.
        """
        now, memory = self.moment(context), self.memory(context)
        rehearsal, post = rehearsed(context) is not None, Post(self.site)
        everything = watched(self.registry, memory, now)
        people = recipients(everything, self.site)
        sent, summary = 0, self.summary_due(now) and not rehearsal
        failed: TransientError | None = None
        for person in people:
            try:
                made = deliver(
                    person,
                    everything,
                    self.site,
                    now,
                    board=board(),
                    warning=self.warning,
                    keep=keeper(memory),
                    send=lambda found: post.send(mail.digest(found, rehearsal=rehearsal)),
                )
                if made is None and summary:
                    week = quiet(person, everything, self.site, now, board=board(), warning=self.warning)
                    post.send(mail.all_well(week))
                sent += made is not None or summary
            except TransientError as error:
                self.log.warning("%s was not told: %s", person, error)
                failed = error
            # The next person's mail must see what this one's changed; what is known stays that of the morning.
            everything = [
                replace(one, ledger=BeamtimeState(one.beamtime.asset_name).ledger(memory))
                for one in everything
            ]
        if failed is not None:
            raise failed
        if summary:
            BeamtimeState(ALERTS_ASSET).set(
                "alerts", {"schema_version": 1, "summary": self.day(now).isoformat()}
            )
        self.log.info("%d of %d people were told", sent, len(people))
        if not rehearsal:
            self.sign(mails=sent, told=len(people))
        return sent
