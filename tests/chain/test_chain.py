"""The whole chain in a real Airflow against the lab: what users see, and what they must never see."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamferry.demo import DAG_ID
from beamferry.lab import must_arrive

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


@pytest.mark.usefixtures("empty_destination")
def test_a_beamtime_comes_home_and_a_second_run_finds_nothing_to_do(runs: Runs) -> None:
    run = runs.run()
    assert runs.state(run) == "success", runs.tasks(run)
    certificate = runs.certificate()
    assert certificate["outcome"] == "verified"
    assert certificate["run"] == run
    assert certificate["verdict"]["level"] == "sampled"
    assert certificate["verdict"]["sampled_files"] == 32

    # rsync's own judge, without our flags or excludes, sees only what was declared to stay behind.
    left = [line for line in runs.judge() if " tmp/" not in line]
    assert left == []
    there = {os.fsencode(path) for path in _below(runs.destination)}
    missing = [path for path in must_arrive(runs.lab.visit_folder) if path not in there]
    assert missing == []
    assert not any(path.startswith(b"tmp/") for path in there)

    again = runs.run()
    assert runs.state(again) == "success"
    plan = runs.known()["plan"]
    assert (plan["todo_bytes"], plan["todo_files"]) == (0, 0)
    assert runs.certificate()["outcome"] == "verified"
    assert runs.certificate()["run"] == again


def _below(folder: Path) -> list[str]:
    found = subprocess.run(
        ["find", str(folder), "-mindepth", "1", "-printf", "%P\\0"], capture_output=True, check=True
    ).stdout
    return [os.fsdecode(name) for name in found.split(b"\0") if name]


def test_no_file_list_no_secret_and_nothing_large_is_in_airflow(runs: Runs) -> None:
    run = runs.run()
    assert runs.state(run) == "success"
    path = f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances"
    secret = runs.lab.client.key.read_text().splitlines()[1]
    names = [
        name
        for name in (os.fsdecode(path) for path in must_arrive(runs.lab.visit_folder))
        if "/" in name and name.isascii() and name.isprintable()
    ]
    assert len(names) > 100
    texts = [json.dumps(runs.known())]
    for task in runs.tasks(run):
        instance = runs.stack.api("GET", f"{path}/{task}")
        texts.append(json.dumps(instance["rendered_fields"]))
        for entry in runs.stack.api("GET", f"{path}/{task}/xcomEntries")["xcom_entries"]:
            value = json.dumps(runs.stack.api("GET", f"{path}/{task}/xcomEntries/{entry['key']}")["value"])
            assert len(value) <= 4096, (task, entry["key"])
            texts.append(value)
    logs = list((runs.stack.home / "logs").rglob("*attempt*"))
    assert len(logs) > 6
    texts += [log.read_text(errors="replace") for log in logs]
    for text in texts:
        assert secret not in text
        assert "PRIVATE KEY" not in text
        assert [name for name in names if name in text] == []


def test_no_secret_and_no_file_name_is_in_any_process_listing(runs: Runs) -> None:
    run = runs.begin(bandwidth_limit=1)
    names = {path for path in must_arrive(runs.lab.visit_folder) if b"/" in path and len(path) > 12}
    secret = runs.lab.client.key.read_bytes().splitlines()[1]
    seen = 0

    def look() -> bool:
        nonlocal seen
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                except OSError:
                    continue
                if b"BEAMFERRY_JOB=" in line:
                    seen += 1
                    assert secret not in line
                    assert not [name for name in names if name in line]
        return runs.state(run) in {"success", "failed"}

    runs.wait(look, "the run ended")
    assert seen > 0


@pytest.mark.usefixtures("empty_destination")
def test_a_dry_run_moves_nothing_and_a_verification_says_that_all_is_missing(runs: Runs) -> None:
    run = runs.run(mode="dry run only")
    assert runs.state(run) == "success"
    assert runs.tasks(run) == {
        **dict.fromkeys(("verify_access", "dry_run", "parse_totals"), "success"),
        **dict.fromkeys(("approve", "transfer", "verify_sizes", "certify"), "skipped"),
    }
    assert not runs.destination.exists()
    assert runs.known()["plan"]["todo_files"] == runs.known()["plan"]["files"]

    run = runs.run(mode="verify only")
    assert runs.state(run) == "failed"
    assert runs.tasks(run)["certify"] == "failed"
    assert runs.tasks(run)["transfer"] == "skipped"


# In the browser the same is in test_board_page.py.
@pytest.mark.long
@pytest.mark.parametrize(("answer", "transfer"), [("Reject", "skipped"), ("Approve", "success")])
def test_approval_waits_for_a_person_and_no_means_no(runs: Runs, answer: str, transfer: str) -> None:
    run = runs.begin(require_approval=True)
    runs.wait(lambda: runs.waits(run, "approve"), "the run waits for a person")
    assert "To move" in runs.question(run, "approve")
    assert runs.answer(run, "approve", answer) == "success", runs.tasks(run)
    tasks = runs.tasks(run)
    assert (tasks["transfer"], tasks["verify_sizes"], tasks["certify"]) == (transfer,) * 3


@pytest.mark.long
def test_a_flipped_byte_with_its_size_and_time_kept_is_found_and_the_certificate_says_so(runs: Runs) -> None:
    assert runs.state(runs.run()) == "success"
    victim = max((path for path in runs.destination.rglob("*.nxs")), key=lambda path: path.stat().st_size)
    before = victim.stat()
    good = victim.read_bytes()
    try:
        victim.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert runs.state(runs.run(mode="verify only", verification="sizes")) == "success", (
            "sizes cannot see it"
        )
        run = runs.run(mode="verify only", verification="full", manifest=True)
        assert runs.state(run) == "failed"
        assert runs.certificate()["outcome"] == "different"
        assert runs.certificate()["manifest"] is None
        assert runs.known()["problem"]["code"] == "not-verified"
        many = runs.run(mode="verify only", verification="sampled", samples=100_000)
        assert runs.state(many) == "failed"
    finally:
        victim.write_bytes(good)
        os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    run = runs.run(mode="verify only", verification="full", manifest=True)
    assert runs.state(run) == "success"
    assert runs.certificate()["verdict"]["level"] == "full"
    assert "problem" not in runs.known()
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", f"{runs.destination}.certificate/manifest.sha256"],
        cwd=runs.destination,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked


@pytest.mark.long
def test_a_source_that_became_smaller_freezes_the_sync_until_a_person_says_yes(runs: Runs) -> None:
    assert runs.state(runs.run()) == "success"
    victim = next(path for path in runs.lab.visit_folder.glob("raw*/*") if path.is_file())
    content, times = victim.read_bytes(), victim.stat()
    victim.parent.chmod(0o700)
    victim.unlink()
    try:
        run = runs.run()
        assert runs.tasks(run)["parse_totals"] == "failed"
        assert runs.known()["problem"]["code"] == "source-smaller"
        assert runs.state(runs.run(accept_smaller_source=True)) == "success"
        assert (runs.destination / victim.relative_to(runs.lab.visit_folder)).exists(), (
            "nothing is ever deleted"
        )
    finally:
        victim.write_bytes(content)
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.usefixtures("empty_destination")
def test_a_cancelled_task_leaves_no_process_on_rds_ssh_and_the_next_run_goes_on(runs: Runs) -> None:
    run = runs.begin(bandwidth_limit=1)
    pid_file = runs.job_folder / "transfer" / "pid"
    runs.wait(lambda: runs.tasks(run).get("transfer") == "deferred", "the transfer is under way")
    group = int(runs.wait(lambda: pid_file.exists() and pid_file.read_text().split(), "the job runs")[0])

    def some_came() -> bool:
        told = runs.known()["progress"]
        return (told["part"], told["run_id"]) == ("transfer", run) and told["bytes_done"] > 0

    runs.wait(some_came, "bytes came")
    todo = runs.known()["plan"]["todo_bytes"]
    runs.stack.api("PATCH", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/transfer", {"new_state": "failed"})
    runs.wait(lambda: not _group(group), "all processes of the job ended")
    cancelled = time.time()
    assert runs.end_of(run) == "failed"
    assert runs.state(runs.run()) == "success"
    assert runs.certificate()["outcome"] == "verified"
    # What it brought stays in the burn-down, though it never came to tell it.
    assert [left for at, left in runs.known()["course"]["left"] if at < cancelled and 0 < left < todo]


def _group(group: int) -> list[int]:
    """Processes of a group that still run; what waits to be reaped does not."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def test_a_refused_key_fails_at_once_with_its_remedy(runs: Runs) -> None:
    from beamferry.lab import Faults  # noqa: PLC0415

    with Faults(runs.lab).key_removed(runs.lab.diamond):
        run = runs.run()
    tasks = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances")["task_instances"]
    access = next(task for task in tasks if task["task_id"] == "verify_access")
    assert (access["state"], access["try_number"]) == ("failed", 1)
    problem = runs.known()["problem"]
    assert problem["code"] == "facility-key-refused"
    assert problem["problem"] == "Diamond refused the key of account mbcx9cd4"
