"""Preparing an account in a real Airflow: a person confirms fingerprints, and one table says what was done."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from beamferry import account
from beamferry.registry import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)

DIAMOND = "ssh.diamond.ac.uk"


@pytest.fixture
def preparing(runs: Runs) -> Iterator[Runs]:
    """The runs of the DAG, for an account that knows no host and has no links; afterwards it is as before."""
    site = load(runs.lab.registry).site
    assert site is not None
    home, known = runs.lab.rds_home, runs.lab.rds_home / ".ssh" / "known_hosts"
    before = known.read_bytes()
    known.unlink()
    usual = account.usual(site)
    own = runs.lab.on_rds(usual.group) / runs.lab.rds.account
    own.mkdir()
    try:
        yield replace(runs, dag_id="prepare_account")
    finally:
        known.write_bytes(before)
        own.rmdir()
        for name in (usual.own_link, usual.shared_link):
            (home / name).unlink(missing_ok=True)


def known_hosts(runs: Runs) -> Path:
    return runs.lab.rds_home / ".ssh" / "known_hosts"


def answer(runs: Runs, run: str, chosen: str) -> str:
    """Wait until a person is asked, answer, and return what was asked once the run has ended."""
    task = "confirm_fingerprints"
    runs.wait(
        lambda: runs.waits(run, task), lambda: f"the run waits for a person; tasks are {runs.tasks(run)}"
    )
    assert not known_hosts(runs).exists(), "nothing is pinned before the answer"
    body = runs.question(run, task)
    runs.answer(run, task, chosen)
    return body


def value(runs: Runs, run: str, task: str, key: str = "return_value") -> Any:
    path = f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/{task}/xcomEntries/{key}"
    return runs.stack.api("GET", path)["value"]


def ends(done: list[str], what: str = "") -> list[str]:
    """How the rows that begin so ended."""
    return [one.rpartition(": ")[2] for one in done if one.startswith(what)]


def test_a_no_pins_nothing_a_yes_pins_what_was_shown_and_all_the_rest_is_done_once(preparing: Runs) -> None:
    runs, key = preparing, preparing.lab.diamond.pinned
    run = runs.begin()
    answer(runs, run, "Reject")
    assert runs.state(run) == "success", runs.tasks(run)
    assert runs.tasks(run)["pin_host_keys"] == "skipped"
    assert not known_hosts(runs).exists()
    done = value(runs, run, "report")
    assert ends(done, "host key") == ["not confirmed"]
    assert ends(done, "link") == ["made", "made"]

    run = runs.begin()
    body = answer(runs, run, "Approve")
    assert runs.state(run) == "success", runs.tasks(run)
    assert f"| `{DIAMOND}` | ssh-ed25519 | `{account.fingerprint(key.split()[1])}` |" in body
    assert known_hosts(runs).read_text() == f"{DIAMOND} {key}\n"
    done = value(runs, run, "report")
    assert ends(done, "host key") == ["made"]
    assert set(ends(done)) - {"made"} == {"was there"}
    assert ends(done).count("made") == 1
    table = str(value(runs, run, "report", "table"))
    assert (runs.lab.rds_home / ".ssh" / "id_ed25519.pub").read_text().strip() in table
    assert "PRIVATE" not in table


def test_another_key_than_the_pinned_one_is_red_and_asks_nobody(preparing: Runs) -> None:
    line = f"{DIAMOND} {preparing.lab.rds.pinned}\n"
    known_hosts(preparing).write_text(line)
    run = preparing.run(steps=["host keys"])
    assert preparing.state(run) == "failed"
    assert known_hosts(preparing).read_text() == line
    assert "somebody may stand in between" in str(value(preparing, run, "report", "table"))
    tasks = preparing.tasks(run)
    assert (tasks["confirm_fingerprints"], tasks["pin_host_keys"]) == ("success", "skipped")


def test_icsf_has_a_connection_of_its_own_and_without_it_nothing_passes_for_done(preparing: Runs) -> None:
    runs, lab = preparing, preparing.lab
    run = runs.run(host="icsf", mode="unlink", icsf_connection="icsf_lab")
    assert runs.state(run) == "failed"
    tasks = runs.tasks(run)
    assert {tasks.pop("prepare"), tasks.pop("report")} == {"failed"}
    assert set(tasks.values()) == {"upstream_failed"}

    site = load(lab.registry).site
    assert site is not None
    usual = account.usual(site)
    link = lab.rds_home / usual.shared_link
    link.symlink_to(usual.shared_folder)
    ours = lab.airflow_connections()["rds_ssh"]
    # Here it leads to the same account.
    made = {**ours, "connection_id": "icsf_lab", "extra": json.dumps(ours["extra"])}
    runs.stack.api("POST", "/connections", made)
    try:
        run = runs.run(host="icsf", mode="unlink", icsf_connection="icsf_lab")
    finally:
        runs.stack.api("DELETE", "/connections/icsf_lab")
    assert runs.state(run) == "success", runs.tasks(run)
    assert sorted(ends(value(runs, run, "report"))) == ["removed", "was not there"]
    assert not link.is_symlink()


@pytest.mark.long
def test_silence_is_no_yes(preparing: Runs) -> None:
    runs = preparing
    run = runs.begin(steps=["host keys"])
    runs.wait(lambda: runs.tasks(run).get("confirm_fingerprints") == "awaiting_input", "a person is asked")
    # Nobody answered for as long as a person is waited for.
    with closing(sqlite3.connect(runs.stack.home / "airflow.db", timeout=30)) as database, database:
        database.execute(
            "UPDATE task_instance SET trigger_timeout = '2021-01-01 00:00:00' WHERE run_id = ? AND state = ?",
            (run, "awaiting_input"),
        )
    assert runs.end_of(run) == "failed"
    assert not known_hosts(runs).exists()
    assert runs.tasks(run)["pin_host_keys"] == "upstream_failed"
    assert "nobody said yes" in str(value(runs, run, "report", "table"))
    path = f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/confirm_fingerprints"
    assert runs.stack.api("GET", path)["try_number"] == 1, "nobody is asked again"


@pytest.mark.parametrize(
    "wrong",
    [
        {"own_link": "../evil"},
        {"own_link": ".ssh"},
        {"shared_folder": "/mnt/$(id)"},
        {"facilities": ["diamond; id"]},
        {"steps": ["rm"]},
        {"icsf_connection": "a b"},
        {"ca_certificate": "-----BEGIN PRIVATE KEY-----\n-----BEGIN CERTIFICATE-----"},
    ],
)
def test_the_form_refuses_what_is_no_choice(preparing: Runs, wrong: dict[str, object]) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        preparing.begin(**wrong)
