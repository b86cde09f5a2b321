"""A task that is cleared or ended finds its job on RDS-SSH, whatever Airflow has forgotten meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)

TASKS = ("verify_access", "dry_run", "parse_totals", "approve", "transfer")


def mark(runs: Runs) -> str:
    """What names the transfer's job that was started last, of all that there were."""
    try:
        return (runs.job_folder / "transfer" / "mark").read_text()
    except FileNotFoundError:
        return ""


def begun(runs: Runs, before: str, *states: str) -> tuple[str, str]:
    """Begin a transfer that takes some ten seconds, wait until its task is in a state; the run and the job's mark."""
    run = runs.begin(bandwidth_limit=1)
    runs.wait(
        lambda: mark(runs) not in {"", before} and runs.tasks(run).get("transfer") in states,
        lambda: f"the transfer is under way; {runs.tasks(run)}",
    )
    return run, mark(runs)


def forget(runs: Runs, run: str) -> None:
    """Airflow knows neither a value nor a state that a task of this run has kept."""
    for task in TASKS:
        path = f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/{task}"
        for entry in runs.stack.api("GET", f"{path}/xcomEntries")["xcom_entries"]:
            runs.stack.api("DELETE", f"{path}/xcomEntries/{entry['key']}")
        runs.stack.api("DELETE", f"{path}/state-store")
        assert runs.stack.api("GET", f"{path}/xcomEntries")["xcom_entries"] == []
        assert runs.stack.api("GET", f"{path}/state-store")["task_state_store"] == []


def clear(runs: Runs, run: str) -> None:
    asked: dict[str, Any] = {"dry_run": False, "dag_run_id": run, "only_failed": False}
    runs.stack.api("POST", f"/dags/{runs.dag_id}/clearTaskInstances", asked | {"task_ids": ["transfer"]})


def said(runs: Runs, run: str) -> str:
    """What the transfer's task wrote into its log, in all of its tries."""
    files = (runs.stack.home / "logs").rglob("*")
    return "".join(
        file.read_text(errors="replace")
        for file in files
        if file.is_file() and run in str(file) and "task_id=transfer" in str(file)
    )


@pytest.mark.usefixtures("empty_destination")
@pytest.mark.parametrize("state", ["deferred", "running"])
def test_a_cleared_transfer_goes_on_with_its_job_when_airflow_has_forgotten_all(
    runs: Runs, state: str
) -> None:
    """Airflow is about to discard what a task has kept when it is cleared (apache/airflow#72100)."""
    run, job = begun(runs, mark(runs), state)
    forget(runs, run)
    clear(runs, run)
    runs.wait(
        lambda: any(f"on RDS-SSH: {how}" in said(runs, run) for how in ("attached", "finished")),
        lambda: f"the next try finds the job; {runs.tasks(run)}",
    )
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert said(runs, run).count("on RDS-SSH: started") == 1
    assert mark(runs) == job
    assert runs.certificate()["run"] == run


@pytest.mark.usefixtures("empty_destination")
def test_a_transfer_that_is_ended_while_its_task_waits_itself_leaves_no_job(runs: Runs) -> None:
    run, job = begun(runs, mark(runs), "running")
    runs.stack.api(
        "PATCH", f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/transfer", {"new_state": "failed"}
    )
    runs.wait(
        lambda: (
            (runs.job_folder / "transfer" / "exit_code").exists()
            and (runs.job_folder / "transfer" / "exit_code").read_text().strip() == "143"
        ),
        "the job was stopped",
    )
    assert mark(runs) == job
    assert runs.end_of(run) == "failed"
    # Nobody has to mend what a person wanted.
    assert "problem" not in runs.known()
    assert runs.state(runs.run()) == "success"
