"""Alerts in a real Airflow, to a real mail server: who is told, once, of what, and what if the server is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from beamferry.watch import Sign, last_sign, leave, status_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)
LATE = "mg99999-1"
GROUP = "group-data@example.ac.uk"


class Mails:
    """What the group got since a moment."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.seen = len(server.messages())

    def new(self, *words: str) -> list[dict[str, Any]]:
        """Mails since then whose subject holds all these words."""
        found = self.server.messages()[self.seen :]
        return [mail for mail in found if all(word in mail["subject"] for word in words)]


def today() -> date:
    return datetime.now(ZoneInfo("Europe/London")).date()


def change(runs: Runs, **site: Any) -> None:
    """Rewrite the site's part of the registry; Airflow reads it within seconds."""
    _write(runs, lambda found: found["site"].update(site))


def change_late(runs: Runs, **fields: Any) -> None:
    """Rewrite the second beamtime's entry."""
    _write(runs, lambda found: found["beamtimes"][1].update(fields))


def _write(runs: Runs, edit: Any) -> None:
    found = yaml.safe_load(runs.lab.registry.read_text())
    edit(found)
    new = runs.lab.registry.with_suffix(".new")
    new.write_text(yaml.safe_dump(found, sort_keys=False))
    new.replace(runs.lab.registry)


@pytest.fixture(scope="module")
def late(runs: Runs) -> Iterator[Mails]:
    """A second beamtime, three days before tape, whose data is not where its entry says."""
    before = runs.lab.registry.read_text()
    mails = Mails(runs.lab.mail)
    entry = {
        "id": LATE,
        "facility": "diamond",
        "instrument": "i12",
        "account": runs.lab.account,
        "ended": today() - timedelta(days=37),
    }
    _write(runs, lambda found: found["beamtimes"].append(entry))
    try:
        yield mails
    finally:
        runs.lab.registry.write_text(before)


def rehearse(runs: Runs, day: date) -> str:
    """Run the rehearsal of a day's morning and return the state in which it ended."""
    path = "/dags/deadlines_rehearsal/dagRuns"
    run = runs.stack.api("POST", path, {"logical_date": None, "conf": {"as_of": day.isoformat()}})[
        "dag_run_id"
    ]

    def ended() -> str | None:
        state = str(runs.stack.api("GET", f"{path}/{run}")["state"])
        return state if state in {"success", "failed"} else None

    return str(runs.wait(ended, f"the rehearsal of {day} ended"))


def test_while_nothing_is_due_the_alerts_prove_that_they_are_alive(runs: Runs) -> None:
    sign = runs.wait(
        lambda: last_sign(status_file(runs.stack.environment())), "the alerts left a sign of life"
    )
    assert sign.recipients == 1
    assert runs.wait(lambda: runs.known("beamferry/alerts").get("alerts_ran"), "the board can tell so too")


def test_a_failure_is_told_at_once_and_once_and_the_morning_tells_the_deadline(
    runs: Runs, late: Mails
) -> None:
    told = runs.wait(lambda: late.new("The transfer failed", LATE), "the failure is told")
    assert told[0]["recipients"] == [GROUP]
    assert "There is no folder /dls/i12/data" in told[0]["text"]
    assert "What to do: Check instrument, year and id of the entry" in " ".join(told[0]["text"].split())
    assert f"/dags/beamtime_diamond_{LATE}" in told[0]["html"]

    digest = runs.wait(lambda: late.new("Goes to tape in 3 days", LATE), "the digest of the morning")
    assert len(digest) == 1
    assert "not known" in digest[0]["subject"]

    # The same fault again is the same fault.
    run = runs.stack.api("POST", f"/dags/beamtime_diamond_{LATE}/dagRuns", {"logical_date": None})[
        "dag_run_id"
    ]
    runs.wait(
        lambda: (
            runs.stack.api("GET", f"/dags/beamtime_diamond_{LATE}/dagRuns/{run}")["state"]
            in {"success", "failed"}
        ),
        "a second failure",
    )
    assert len(late.new("The transfer failed", LATE)) == 1


@pytest.mark.usefixtures("late")
def test_four_mornings_are_told_each_once_and_a_fifth_over_tls_with_a_password(runs: Runs) -> None:
    tape = today() + timedelta(days=3)
    mornings = {15: "in 15 days", 7: "in 7 days", 1: "tomorrow", -2: "2 days ago"}
    for days, words in mornings.items():
        mails = Mails(runs.lab.mail)
        assert rehearse(runs, tape - timedelta(days=days)) == "success"
        found = mails.new("Rehearsal", LATE)
        assert len(found) == 1, [mail["subject"] for mail in found]
        assert words in found[0]["text"]
        assert "REHEARSAL" in found[0]["text"]
        assert found[0]["recipients"] == [GROUP]
        # The same morning again has nothing new to tell.
        assert rehearse(runs, tape - timedelta(days=days)) == "success"
        assert len(mails.new("Rehearsal", LATE)) == 1

    secure = Mails(runs.secure)
    change(runs, smtp_connection="smtp_secure")
    change_late(runs, deadline=today() + timedelta(days=6), deadline_reason="the local contact, by mail")
    try:
        runs.wait(
            lambda: rehearse(runs, today()) == "success" and secure.new("Rehearsal", LATE),
            "a mail over STARTTLS and a log-in",
        )
    finally:
        change(runs, smtp_connection="smtp_default")
    for dag in ("deadlines", "deadlines_rehearsal", f"beamtime_diamond_{LATE}"):
        assert runs.secure.login[1] not in json.dumps(runs.stack.api("GET", f"/dags/{dag}/details"))


def test_one_refused_recipient_is_a_fault_of_its_own(runs: Runs, late: Mails) -> None:
    path, mails, other = "/dags/deadlines/dagRuns", Mails(runs.lab.mail), "other@example.ac.uk"
    change(runs, notify=[other, GROUP])
    change_late(runs, deadline=today() + timedelta(days=2), deadline_reason="the local contact, by mail")
    try:
        with runs.lab.mail.refusing_recipient(other):
            run = runs.stack.api("POST", path, {"logical_date": None})["dag_run_id"]
            state = runs.wait(
                lambda: (
                    (found := str(runs.stack.api("GET", f"{path}/{run}")["state"])) in {"success", "failed"}
                    and mails.new(LATE)
                    and found
                ),
                "the others are told",
            )
            assert state == "success"
            assert [mail["recipients"] for mail in mails.new(LATE)] == [[GROUP]]
            sign = last_sign(status_file(runs.stack.environment()))
            assert sign is not None
            assert [one.recipient for one in sign.refused] == [other]
    finally:
        change(runs, notify=[GROUP])


def test_a_mail_server_that_is_down_loses_nothing_and_the_watchdog_speaks(runs: Runs, late: Mails) -> None:
    path = "/dags/deadlines/dagRuns"
    mails, secure = Mails(runs.lab.mail), Mails(runs.secure)
    environment = runs.stack.environment()
    sign = status_file(environment)
    with runs.lab.mail.refusing():
        # A later day is a new deadline, of which everybody has to hear.
        change_late(runs, deadline=today() + timedelta(days=1), deadline_reason="the local contact, by mail")
        run = runs.stack.api("POST", path, {"logical_date": None})["dag_run_id"]

        def tries() -> int:
            found = runs.stack.api("GET", f"{path}/{run}/taskInstances")["task_instances"]
            return next((int(one["try_number"]) for one in found if one["task_id"] == "send_digests"), 0)

        runs.wait(lambda: tries() >= 2, "the mail was tried twice")
        assert mails.new(LATE) == []

        # A day later, as the file on disk has it.
        leave(sign, Sign(at=datetime.now(UTC) - timedelta(hours=49), mails=1, recipients=1))
        done = _watchdog(runs, environment)
        assert done.returncode == 1, done.stdout + done.stderr
        assert "No alert could be sent for 49 hours" in done.stdout
        assert "missing or paused" not in done.stdout
        assert runs.secure.login[1] not in done.stdout + done.stderr
        assert len(secure.new("Beamferry's alerts are not well")) == 1
        # Asked again, it says so and mails nothing more.
        assert _watchdog(runs, environment).returncode == 1
        assert len(secure.new("Beamferry's alerts are not well")) == 1

    runs.wait(
        lambda: runs.stack.api("GET", f"{path}/{run}")["state"] == "success", "the mail went out at last"
    )
    assert len(mails.new("Goes to tape tomorrow", LATE)) == 1
    assert len(mails.new(LATE)) == 1
    done = _watchdog(runs, environment)
    assert (done.returncode, done.stdout) == (0, "The alerts are alive\n"), done.stdout + done.stderr


def _watchdog(runs: Runs, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Call it as cron would, with a mail server that is not the alerts'."""
    settings = Path(environment["AIRFLOW_HOME"]) / "watchdog-mail.json"
    settings.touch(mode=0o600)
    settings.write_text(json.dumps(runs.secure.connection))
    command = (str(Path(sys.executable).with_name("beamferry")), "watchdog", "--mail-settings", str(settings))
    return subprocess.run(
        (*command, "--airflow", runs.stack.url),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_beamtime_that_came_home_is_told_once(runs: Runs) -> None:
    """The first run of the session told it; the ones since then did not."""
    found = [
        mail
        for mail in runs.lab.mail.messages()
        if mail["subject"].startswith("Home and verified: mg25682-2")
    ]
    assert len(found) == 1
    assert ".certificate" in found[0]["text"]
