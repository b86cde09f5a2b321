"""Every check of an installation from a terminal: what a run would find, before it runs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from airflow.providers.ssh.hooks.ssh import SSHHook

from beamferry import access, agent
from beamferry.airflow import secret
from beamferry.airflow.post import Post
from beamferry.airflow.session import session_over
from beamferry.engine import engine
from beamferry.errors import BeamferryError
from beamferry.registry import load
from beamferry.watch import last_sign, status_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from beamferry.beamtime import Beamtime, Site
    from beamferry.remote import Session

# An Airflow command takes about ten seconds to start on a small machine.
AIRFLOW_TIMEOUT = 120
PROBE_TIMEOUT = 180


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: whether it is well, and a sentence that says so or says what to do."""

    ok: bool
    sentence: str


def examine(registry_file: Path, beamtime_id: str | None, airflow: Mapping[str, str]) -> Iterator[Check]:
    """Yield the checks of the installation, of RDS-SSH, and of one beamtime or all, as they are made.

    Args:
        registry_file: the registry.
        beamtime_id: the one beamtime to look at, or None for all that are not archived.
        airflow: environment of the Airflow whose connections are used.
    """
    # What the connection says of itself is for Airflow's logs; here each line is an answer.
    logging.getLogger("paramiko").setLevel(logging.WARNING)
    yield Check(ok=True, sentence=f"Beamferry {version('beamferry')} on Airflow {version('apache-airflow')}")
    registry = load(registry_file)
    yield from (Check(ok=False, sentence=str(problem)) for problem in registry.problems)
    chosen = [
        beamtime
        for beamtime in registry.beamtimes
        if (beamtime_id is None and not beamtime.archived) or beamtime.id == beamtime_id
    ]
    if registry.site is None:
        return
    yield Check(ok=True, sentence=f"{registry_file}: {len(registry.beamtimes)} valid beamtimes")
    if beamtime_id is not None and not chosen:
        yield Check(
            ok=False, sentence=f"{registry_file} has no valid beamtime {beamtime_id}: see beamferry list"
        )
        return
    yield _mails(registry.site, airflow)
    yield from _refused(airflow)
    connection = registry.site.rds_connection
    try:
        _borrow_connection(connection, airflow)
        hook = SSHHook(ssh_conn_id=connection, conn_retry_attempts=1)
        if hook.host_key is None and not hook.no_host_key_check:
            yield Check(
                ok=True,
                sentence=f"Connection {connection} pins no host key; known_hosts of this machine decides. "
                'Better: put "host_key" into its extras',
            )
        with session_over(hook) as session:
            yield Check(
                ok=True, sentence=f"RDS-SSH answers at {hook.remote_host}, logged in as {hook.username}"
            )
            for beamtime in chosen:
                if beamtime.secret_connection is not None:
                    _borrow_connection(beamtime.secret_connection, airflow)
                yield from _beamtime(session, beamtime, registry.site)
            if session.greeting:
                yield Check(ok=True, sentence=session.greeted())
    except BeamferryError as error:
        yield Check(ok=False, sentence=str(error))


def _mails(site: Site, airflow: Mapping[str, str]) -> Check:
    """Find out whether people can be told of deadlines; logs in to the mail server and sends nothing."""
    if not site.notify:
        return Check(
            ok=False,
            sentence="Nobody is told of deadlines: write addresses under site: notify: in the registry",
        )
    try:
        _borrow_connection(site.smtp_connection, airflow)
        Post(site).prove()
    except BeamferryError as error:
        return Check(ok=False, sentence=str(error))
    told = "1 address gets" if len(site.notify) == 1 else f"{len(site.notify)} addresses get"
    return Check(ok=True, sentence=f"The mail server of {site.smtp_connection} answers; {told} every alert")


def _refused(airflow: Mapping[str, str]) -> Iterator[Check]:
    """Yield whom the mail server refused when the alerts last had something to tell them."""
    sign = last_sign(status_file(airflow))
    for one in sign.refused if sign is not None else ():
        yield Check(ok=False, sentence=f"{one.at:%Y-%m-%d %H:%M} UTC: {one.error}")


def _beamtime(session: Session, beamtime: Beamtime, site: Site) -> Iterator[Check]:
    """Yield what the task verify_access would find."""
    tool, today = engine(beamtime, site), datetime.now(UTC).date()
    refusal = tool.refusal(today)
    if refusal is not None:
        yield Check(ok=False, sentence=f"{beamtime.id}: {refusal}")
        return
    with secret.handed_over(session, beamtime, "probe") as file:
        probe = engine(beamtime, site, file).probe()
        facts = access.parse_facts(agent.ask(session, "probe", probe, timeout=PROBE_TIMEOUT))
    for finding in tool.judge(facts, today):
        text = finding.sentence if finding.error is None else str(finding.error)
        yield Check(ok=finding.ok, sentence=f"{beamtime.id}: {text}")


def _borrow_connection(connection: str, airflow: Mapping[str, str]) -> None:
    """Make an Airflow connection known to this process, from the environment or from Airflow's database.

    Raises:
        BeamferryError: Airflow knows no such connection.
    """
    name = f"AIRFLOW_CONN_{connection.upper()}"
    if name in airflow:
        os.environ[name] = airflow[name]
        return
    command = (sys.executable, "-m", "airflow", "connections", "get", connection, "-o", "json")
    done = subprocess.run(  # noqa: S603 - the id has passed the registry's allow-list
        command, capture_output=True, text=True, timeout=AIRFLOW_TIMEOUT, check=False, env=dict(airflow)
    )
    start = done.stdout.find("[")
    if done.returncode != 0 or start < 0:
        raise BeamferryError(
            "connection-missing",
            f"Airflow knows no connection '{connection}'",
            "add it in the web interface under Admin, Connections, or set the variable " + name,
        )
    found = json.loads(done.stdout[start:])[0]
    extra = found.get("extra_dejson") or {}
    os.environ[name] = json.dumps(
        {
            "conn_type": found["conn_type"],
            "host": found["host"],
            "login": found["login"],
            "password": found.get("password"),
            "port": int(found["port"]) if found.get("port") else None,
            "extra": extra,
        }
    )
