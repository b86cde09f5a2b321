"""Two Airflows with one account on RDS-SSH, and scripts that vanish under a job, in a real Airflow."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from beamferry.agent import ask_job
from beamferry.demo import DAG_ID
from beamferry.registry import load
from beamferry.remote import Job, Session, parse_status
from beamferry.remote.starts import Owner, Started, parse_start

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.usefixtures("empty_destination"),
]
THEIRS = Owner("2222222222222222", "https://theirs.example.ac.uk")


def log(runs: Runs, run: str, task: str) -> str:
    answer: Any = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/{task}/logs/1")
    return str(answer)


def test_a_run_waits_for_the_job_of_another_installation_and_then_begins(runs: Runs) -> None:
    site = load(runs.lab.registry).site
    assert site is not None
    client = runs.lab.rds_client()
    try:
        session, job = Session(client), Job(runs.beamtime.key, "transfer")
        session.install()
        # The other one's transfer: it does not end by itself.
        folder = runs.lab.rds_home / ".beamferry" / "other"
        folder.mkdir(exist_ok=True)
        (folder / "work.sh").write_text("sleep 600\n")
        question = job.start(
            "manual__theirs",
            ".beamferry/other/work.sh",
            (),
            destination=runs.beamtime.destination_path(site),
            owner=THEIRS,
        )
        assert isinstance(parse_start(ask_job(session, question, timeout=60)), Started)

        run = runs.begin()
        runs.wait(lambda: runs.tasks(run).get("dry_run") == "deferred", "the run waits")
        runs.wait(
            lambda: (
                f"another Airflow installation ({THEIRS.name}, run manual__theirs) is transferring this beamtime"
                in log(runs, run, "dry_run")
            ),
            "its log names the other one",
        )
        status = parse_status(ask_job(session, job.verb("status"), timeout=60))
        assert status.state == "running"
        ask_job(session, job.stop(owner=THEIRS.id), timeout=60)
        ask_job(session, job.verb("acknowledge"), timeout=60)
    finally:
        client.close()
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert runs.certificate()["run"] == run
    task = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/dry_run")
    assert task["try_number"] == 1


def test_a_transfer_goes_on_when_the_scripts_are_not_there_any_more(runs: Runs) -> None:
    """As after an upgrade: the trigger asks for scripts that nobody has brought yet."""
    run = runs.begin(bandwidth_limit=1)
    runs.wait(lambda: runs.tasks(run).get("transfer") == "deferred", "the transfer is under way")
    before = (runs.job_folder / "transfer" / "mark").read_text()
    scripts = runs.lab.rds_home / ".beamferry" / "bin"
    for folder in scripts.iterdir():
        # The job reads its own to the end; those that only answer questions go.
        for name in ("agent.sh", "complete"):
            (folder / name).unlink()
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert runs.certificate()["run"] == run
    task = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/transfer")
    assert task["try_number"] == 1
    assert before


def test_a_run_goes_on_when_the_job_s_folder_is_removed(runs: Runs) -> None:
    run = runs.begin(bandwidth_limit=1)
    runs.wait(lambda: runs.tasks(run).get("transfer") == "deferred", "the transfer is under way")
    shutil.rmtree(runs.job_folder / "transfer", ignore_errors=True)
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert runs.certificate()["run"] == run
