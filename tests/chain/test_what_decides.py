"""What an Airflow user may write decides nothing: XComs are changed in mid-run, and nothing false follows."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from beamferry.lab import must_arrive

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


def entries(runs: Runs, run: str) -> dict[tuple[str, str], Any]:
    """Value of each XCom of a run, by task and key."""
    found = {}
    for task in ("verify_access", "dry_run", "parse_totals", "transfer", "verify_sizes"):
        path = f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/{task}/xcomEntries"
        for entry in runs.stack.api("GET", path)["xcom_entries"]:
            found[task, entry["key"]] = runs.stack.api("GET", f"{path}/{entry['key']}")["value"]
    return found


def forge(runs: Runs, run: str, task: str, key: str, value: Any) -> None:
    path = f"/dags/{runs.dag_id}/dagRuns/{run}/taskInstances/{task}/xcomEntries"
    held = {entry["key"] for entry in runs.stack.api("GET", path)["xcom_entries"]}
    if key in held:
        runs.stack.api("PATCH", f"{path}/{key}", {"value": value, "map_index": -1})
    else:
        runs.stack.api("POST", path, {"key": key, "value": value, "map_index": -1})


@pytest.mark.usefixtures("empty_destination")
def test_facts_and_plan_that_were_forged_while_a_person_was_asked_change_nothing(runs: Runs) -> None:
    run = runs.begin(require_approval=True)
    runs.wait(lambda: runs.waits(run, "approve"), lambda: f"a person is asked; {runs.tasks(run)}")
    found = entries(runs, run)
    facts = found["verify_access", "return_value"]
    assert facts["keeps_links"] == "yes"
    lies = {"keeps_links": "no", "keeps_modes": "no", "keeps_times": "no", "bytes_free": "10"}
    forge(runs, run, "verify_access", "return_value", facts | lies)
    plan = json.loads(found["parse_totals", "plan"])
    forge(
        runs, run, "parse_totals", "plan", json.dumps(plan | {"files": 1, "todo_files": 0, "todo_bytes": 0})
    )
    forge(runs, run, "transfer", "return_value", {"bytes": 10**15, "files": 10**9, "seconds": 1})
    assert runs.answer(run, "approve", "Approve") == "success", runs.tasks(run)

    there = {os.fsencode(path.relative_to(runs.destination)) for path in runs.destination.rglob("*")}
    links = [
        path
        for path in must_arrive(runs.lab.visit_folder)
        if (runs.lab.visit_folder / os.fsdecode(path)).is_symlink()
    ]
    assert links
    assert [path for path in links if path not in there] == []
    certificate = runs.certificate()
    assert certificate["outcome"] == "verified"
    assert "uncopied" not in certificate["verdict"]["counts"]
    assert certificate["moved"]["bytes"] == plan["todo_bytes"]


@pytest.mark.usefixtures("empty_destination")
def test_a_verdict_that_was_forged_certifies_nothing(runs: Runs) -> None:
    good = runs.run()
    assert runs.state(good) == "success", runs.tasks(good)
    verified = entries(runs, good)["verify_sizes", "return_value"]
    victim = next(path for path in runs.destination.rglob("*.tif") if path.is_file())
    content = victim.read_bytes()
    victim.write_bytes(content[:-1])
    try:
        bad = runs.run(mode="verify only")
        assert runs.tasks(bad)["certify"] == "failed"
        forge(runs, bad, "verify_sizes", "return_value", verified)
        runs.stack.api(
            "POST",
            f"/dags/{runs.dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": bad, "task_ids": ["certify"], "only_failed": False},
        )
        assert runs.end_of(bad) == "failed"
        assert runs.certificate()["outcome"] == "different"
        assert runs.certificate()["run"] == bad
        # An earlier run's certify has no verdict of its own any more.
        runs.stack.api(
            "POST",
            f"/dags/{runs.dag_id}/clearTaskInstances",
            {"dry_run": False, "dag_run_id": good, "task_ids": ["certify"], "only_failed": False},
        )
        assert runs.end_of(good) == "failed"
        assert runs.known()["problem"]["code"] == "run-record-missing"
        assert runs.certificate()["outcome"] == "different"
    finally:
        victim.write_bytes(content)
