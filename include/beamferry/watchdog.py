"""The watchdog: called by cron, outside Airflow, it looks whether the alerts are alive and speaks if not."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from beamferry.watch import (
    AGAIN_DAG,
    ALERTS_DAG,
    Spoken,
    Trouble,
    judge,
    last_sign,
    last_spoken,
    leave,
    status_file,
    to_speak,
)
from beamferry.watchdog_mail import send

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from beamferry.registry import Registry
    from beamferry.watchdog_mail import MailSettings

_ANSWER_SECONDS = 20.0
# An Airflow command line takes over ten seconds to start on two cores.
_COMMAND_SECONDS = 180.0
# Without these nothing begins and nothing that waits goes on.
_COMPONENTS = ("metadatabase", "scheduler", "triggerer", "dag_processor")


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
        refused = send(settings, people, found, now)
        leave(record, Spoken(at=now, about=tuple(trouble.about for trouble in found)))
        found += tuple(
            Trouble(
                f"watchdog's recipient {person}",
                f"The watchdog's mail server refuses mails to {person} ({words})",
                "correct the address under notify: in the registry, or ask who runs that mailbox",
            )
            for person, words in refused.items()
        )
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
