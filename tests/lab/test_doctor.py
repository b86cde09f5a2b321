"""The doctor, as a person calls it before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamferry.ledger import Refusal
from beamferry.registry import load
from beamferry.watch import Sign, leave, status_file

if TYPE_CHECKING:
    from beamferry.lab import Lab


def doctor(lab: Lab, home: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    known = {
        f"AIRFLOW_CONN_{name.upper()}": json.dumps(value) for name, value in lab.airflow_connections().items()
    }
    environment = {
        **os.environ,
        "BEAMFERRY_REGISTRY": str(lab.registry),
        "AIRFLOW_HOME": str(home),
        **known,
        **changed,
    }
    program = str(Path(sys.executable).with_name("beamferry"))
    return subprocess.run((program, "doctor"), env=environment, capture_output=True, text=True, check=False)


def test_a_lab_that_is_well_is_well_to_the_doctor(lab: Lab, tmp_path: Path) -> None:
    done = doctor(lab, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NO" not in done.stdout
    assert "The mail server of smtp_default answers; 1 address gets every alert" in done.stdout
    assert "mg25682-2: Diamond lets" in done.stdout
    assert lab.mails() == []


def test_whom_the_mail_server_refused_is_named(lab: Lab, tmp_path: Path) -> None:
    at = datetime(2026, 4, 1, 6, 0, tzinfo=UTC)
    refused = Refusal(recipient="b@x.uk", at=at, words="550 no such user")
    sign = Sign(at=at, mails=1, recipients=2, refused=(refused,))
    leave(status_file({"AIRFLOW_HOME": str(tmp_path)}), sign)
    done = doctor(lab, tmp_path)
    assert done.returncode == 1
    assert (
        "NO  2026-04-01 06:00 UTC: The mail server refuses mails to b@x.uk (550 no such user)" in done.stdout
    )


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ({"port": 1}, "took no mail"),
        ({"extra": {"disable_ssl": True, "disable_tls": True, "retry_limit": 0}}, "names no sender"),
    ],
)
def test_a_mail_server_that_takes_nothing_is_found_before_it_matters(
    lab: Lab, tmp_path: Path, connection: dict[str, object], said: str
) -> None:
    broken = json.dumps(lab.airflow_connections()["smtp_default"] | connection)
    done = doctor(lab, tmp_path, AIRFLOW_CONN_SMTP_DEFAULT=broken)
    assert done.returncode == 1
    assert any(line.startswith("NO") and said in line for line in done.stdout.splitlines()), done.stdout
    assert "mg25682-2: Diamond lets" in done.stdout


def test_the_password_of_a_job_that_runs_is_not_the_doctors_to_remove(own_lab: Lab, tmp_path: Path) -> None:
    own_lab.down()
    own_lab.up("small", desy=True)
    own_lab.registry.write_text(own_lab.registry_text(desy="ftps"))
    registry = load(own_lab.registry)
    beamtime = next(one for one in registry.beamtimes if one.secret_connection is not None)
    jobs = own_lab.rds_home / ".beamferry" / "jobs" / beamtime.key
    running = jobs / "transfer" / "secret-of-a-job"
    # Where versions before this one had it for all jobs of the beamtime.
    earlier = jobs / "secret"
    running.parent.mkdir(parents=True)
    for file in (running, earlier):
        file.write_text("x")
    done = doctor(own_lab, tmp_path)
    assert f"{beamtime.id}: " in done.stdout, done.stdout + done.stderr
    assert (running.exists(), earlier.exists()) == (True, True)
    assert list((jobs / "probe").iterdir()) == []
