"""The watchdog: called by cron, outside Airflow, it looks whether the alerts are alive and speaks if not."""

from __future__ import annotations

import json
import smtplib
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING

import httpx

from beamferry.errors import PermanentError
from beamferry.mail import addressed
from beamferry.watch import (
    AGAIN_DAG,
    ALERTS_DAG,
    Spoken,
    judge,
    last_sign,
    last_spoken,
    leave,
    status_file,
    to_speak,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from beamferry.registry import Registry
    from beamferry.watch import Trouble

_ANSWER_SECONDS = 20.0
# An Airflow command line takes over ten seconds to start on two cores.
_COMMAND_SECONDS = 180.0
# Without these nothing begins and nothing that waits goes on.
_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


@dataclass(frozen=True)
class MailSettings:
    """A mail server of the watchdog's own, as it must speak when Airflow cannot; a password is never shown."""

    host: str
    port: int
    login: str | None
    password: str | None
    starttls: bool
    sender: str

    @classmethod
    def read(cls, text: str) -> MailSettings:
        """Return the settings from a connection's JSON, as ``AIRFLOW_CONN_SMTP_DEFAULT`` holds it.

        Raises:
            PermanentError: it is not such a text.
        """
        try:
            found = json.loads(text)
            extra = found.get("extra") or {}
            return cls(
                host=str(found["host"]),
                port=int(found.get("port") or 587),
                login=found.get("login"),
                password=found.get("password"),
                starttls=not extra.get("disable_tls", False),
                sender=str(extra["from_email"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # The text holds a password: nothing of it is shown.
            raise PermanentError(
                "watchdog-mail-settings",
                f"The watchdog's mail settings cannot be read ({type(error).__name__})",
                "write them as JSON like an Airflow connection: host, port, login, password, extra with from_email",
            ) from None


def watch(
    registry: Registry,
    *,
    airflow_url: str,
    settings: MailSettings | None,
    environment: Mapping[str, str],
    now: datetime,
) -> tuple[Trouble, ...]:
    """Look at everything and mail what is wrong; returns it.

    Args:
        registry: what must be watched.
        airflow_url: address of Airflow's web server.
        settings: mail server of the watchdog, None when it is only to print.
        environment: of Airflow: where its home and its database are.
        now: the present, aware.
    """
    path = status_file(environment)
    wanted = [ALERTS_DAG, AGAIN_DAG, *(one.dag_id for one in registry.beamtimes if not one.archived)]
    found = judge(
        sign=last_sign(path),
        path=path,
        now=now,
        wanted=wanted,
        active=_active_dags(environment),
        health=_health(airflow_url),
        registry_problems=len(registry.problems),
    )
    record = path.with_name("watchdog.json")
    people = registry.site.notify if registry.site is not None else ()
    if settings is not None and people and to_speak(last_spoken(record), found, now):
        _mail(settings, people, found, now)
        leave(record, Spoken(at=now, about=tuple(trouble.about for trouble in found)))
    if not found:
        record.unlink(missing_ok=True)
    return found


def _health(url: str) -> dict[str, str] | None:
    try:
        answer = httpx.get(f"{url.rstrip('/')}/api/v2/monitor/health", timeout=_ANSWER_SECONDS)
        answer.raise_for_status()
        told = answer.json()
        return {name: str(told[name]["status"]) for name in _COMPONENTS}
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def _active_dags(environment: Mapping[str, str]) -> set[str] | None:
    """Ask Airflow's own command line, which needs its database and nobody's log-in."""
    try:
        done = subprocess.run(
            (sys.executable, "-m", "airflow", "dags", "list", "--output", "json"),
            capture_output=True,
            check=True,
            timeout=_COMMAND_SECONDS,
            text=True,
            env=dict(environment),
        )
        # Warnings may come before the list.
        told = json.loads(done.stdout[done.stdout.index("[{") :])
        return {row["dag_id"] for row in told if str(row["is_paused"]) == "False"}
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None


def _mail(settings: MailSettings, people: tuple[str, ...], found: tuple[Trouble, ...], now: datetime) -> None:
    subject = f"Beamferry's alerts are not well: {found[0].problem}"
    mail = addressed(settings.sender, ", ".join(people), subject, now.astimezone(UTC))
    lines = "\n".join(f"- {trouble.problem}.\n  What to do: {trouble.remedy}." for trouble in found)
    mail.set_content(
        f"Until this is repaired, nobody is told of deadlines: look at the beamtimes yourself.\n\n{lines}\n\n"
        "This is Beamferry's watchdog. It repeats itself once a day.\n"
    )
    try:
        with smtplib.SMTP(settings.host, settings.port, timeout=_ANSWER_SECONDS) as server:
            if settings.starttls:
                server.starttls(context=ssl.create_default_context())
            if settings.login and settings.password:
                server.login(settings.login, settings.password)
            server.send_message(mail)
    except (OSError, smtplib.SMTPException) as error:
        raise PermanentError(
            "watchdog-mail",
            f"The watchdog could not mail what it found ({type(error).__name__}): {found[0].problem}",
            "give it a mail server that does not depend on the one of the alerts, or let cron mail its output",
        ) from error


def settings_from(environment: Mapping[str, str], file: Path | None) -> MailSettings | None:
    """Return the mail settings from a file, or from ``AIRFLOW_CONN_SMTP_DEFAULT``; None where there are none."""
    if file is not None:
        return MailSettings.read(file.read_text())
    text = environment.get("AIRFLOW_CONN_SMTP_DEFAULT", "")
    return MailSettings.read(text) if text.startswith("{") else None
