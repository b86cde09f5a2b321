"""A DESY beamtime in a real Airflow: it comes home folder by folder, and what stops it is said once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import BEAMTIME, README, TOKEN, UNREADABLE
from beamferry.lab.visit import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)
FOLDERS = ("files beside the folders", "processed", "raw", "scratch_cc", "shared")


def write(runs: Runs, transport: str = "ftps", **fields: Any) -> None:
    """Put DESY's beamtime, as the lab has it or with other fields, into the registry."""
    found = yaml.safe_load(runs.lab.registry_text(desy=transport))
    entry = next(one for one in found["beamtimes"] if one["facility"] == "desy")
    today = datetime.now(UTC).date()
    # Over for so long that Airflow starts no run by itself.
    entry |= {"ended": today - timedelta(days=400)} | fields
    ours = yaml.safe_load(runs.lab.registry.read_text())
    others = [one for one in ours["beamtimes"] if one["facility"] != "desy"]
    new = runs.lab.registry.with_suffix(".new")
    new.write_text(yaml.safe_dump(ours | {"beamtimes": [*others, entry]}, sort_keys=False))
    new.replace(runs.lab.registry)


@pytest.fixture(scope="module")
def desy(runs: Runs) -> Iterator[Runs]:
    """The runs of DESY's beamtime, which is in the registry as long as these tests run."""
    before = runs.lab.registry.read_text()
    write(runs)
    ours = replace(runs, dag_id=f"beamtime_desy_{BEAMTIME}")
    try:
        yield ours
    finally:
        runs.lab.registry.write_text(before)


def home(desy: Runs) -> set[bytes]:
    return {path for path, is_folder in walk(desy.destination) if not is_folder}


def expected(desy: Runs) -> set[bytes]:
    found = {path for path, is_folder in walk(desy.lab.desy.tree) if not is_folder}
    return found - {UNREADABLE, TOKEN}


def texts(desy: Runs, run: str) -> Iterator[str]:
    """All that Airflow keeps of a run: values, rendered fields and logs."""
    path = f"/dags/{desy.dag_id}/dagRuns/{run}/taskInstances"
    yield json.dumps(desy.known())
    for task in desy.stack.api("GET", path)["task_instances"]:
        place = f"{path}/{task['task_id']}"
        yield json.dumps(task["rendered_fields"])
        at = task["map_index"]
        for entry in desy.stack.api("GET", f"{place}/xcomEntries?map_index={at}")["xcom_entries"]:
            value = desy.stack.api("GET", f"{place}/xcomEntries/{entry['key']}?map_index={at}")["value"]
            assert len(json.dumps(value)) <= 4096, (task["task_id"], entry["key"])
            yield json.dumps(value)
    for log in (desy.stack.home / "logs").rglob("*attempt*"):
        yield log.read_text(errors="replace")


def test_it_comes_home_over_ftps_folder_by_folder(desy: Runs) -> None:
    run = desy.run()
    assert desy.state(run) == "success", desy.tasks(run)
    assert desy.tasks(run) == dict.fromkeys(
        ("verify_access", "dry_run", "parse_totals", "approve", "verify_sizes", "certify"), "success"
    ) | {f"transfer {folder}": "success" for folder in FOLDERS}
    assert home(desy) == expected(desy)
    certificate = desy.certificate()
    assert (certificate["outcome"], certificate["moved"]["files"]) == ("verified", len(expected(desy)))
    assert certificate["excluded"] == [UNREADABLE.decode(), "shared/asapo-token*.txt"]
    assert certificate["metadata"]["title"] == "Ti-64, two-phase, in situ – Prüfung"
    assert certificate["metadata"]["pi"] is None
    assert README.split(".", maxsplit=1)[0] not in desy.known()["metadata"]["readme"]
    assert "host:colon" in desy.known()["metadata"]["readme"]
    assert not any(desy.lab.desy.password in text for text in texts(desy, run))
    assert not list(desy.job_folder.glob("secret*"))

    again = desy.run(verification="full")
    assert desy.state(again) == "success"
    assert desy.tasks(again)["transfer"] == "skipped"
    verdict = desy.certificate()["verdict"]
    assert (verdict["outcome"], verdict["level"]) == ("verified", "full")


# In CI the run that waits for a person comes over SFTP, see test_attended.py.
@pytest.mark.long
def test_it_comes_home_over_sftp(desy: Runs) -> None:
    shutil.rmtree(desy.destination, ignore_errors=True)
    write(desy, "sftp")
    desy.wait(lambda: desy.beamtime.host == "psftp.desy.de", "the registry says so")
    try:
        run = desy.run()
        assert desy.state(run) == "success", desy.tasks(run)
        assert desy.certificate()["source"] == f"cdaniel@psftp.desy.de:/{BEAMTIME}"
        assert home(desy) == expected(desy)
    finally:
        write(desy)


def stopped(desy: Runs) -> dict[str, Any]:
    """Run, and return what stopped the run in its first task."""
    run = desy.run()
    assert desy.tasks(run)["verify_access"] == "failed"
    return dict(desy.known()["problem"])


def test_a_wrong_password_is_one_try_a_run(desy: Runs) -> None:
    server = desy.lab.desy.ftps
    with DesyFaults(desy.lab.desy).password_refused():
        before = server.attempts(accepted=False)
        problem = stopped(desy)
        assert server.attempts(accepted=False) == before + 1
    assert problem["code"] == "facility-password-refused"
    assert "DESY refused the password of cdaniel" in problem["problem"]
    assert "the Airflow connection 'desy_ftps'" in problem["remedy"]


def test_a_registration_that_is_over_is_no_log_in(desy: Runs) -> None:
    over = datetime.now(UTC).date() - timedelta(days=7)
    write(desy, registered=over)
    server = desy.lab.desy.ftps
    before = server.attempts()
    try:
        problem = stopped(desy)
    finally:
        write(desy)
    assert server.attempts() == before
    assert problem["code"] == "registration-expired"
    assert f"expired on {over + timedelta(days=7)}" in problem["problem"]
    assert "Gamma Portal" in problem["remedy"]


def test_a_folder_that_is_not_there_is_named_with_the_one_that_is(desy: Runs) -> None:
    write(desy, folders=["raw", "processing"])
    try:
        problem = stopped(desy)
    finally:
        write(desy)
    assert problem["code"] == "folder-missing"
    assert problem["remedy"].startswith("did you mean 'processed'?")
