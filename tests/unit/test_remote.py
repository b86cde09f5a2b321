"""job.sh under a real bash: one job at a time, whatever is started, killed or left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.errors import TransientError
from beamferry.remote import Job, Status, bundle, bundle_folder, parse_status, script_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = Job("diamond_mg25682-2", "transfer")
OTHER = Job("diamond_mg25682-2", "verify")

# Sleeps as long as told in a child of its own, and says how many of its kind ran at the same time.
WORK = """
echo $$ >> "$BEAMFERRY_JOB/../starts"
sleep "$1" &
wait $!
exit "${2:-0}"
"""


@pytest.fixture
def rds(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A home folder as on RDS-SSH, and a way to run a command in it."""
    folder = tmp_path / bundle_folder()
    folder.mkdir(parents=True)
    for name, content in bundle().items():
        (folder / name).write_bytes(content)
    (folder / "work.sh").write_text(WORK)

    def run(command: tuple[str, ...], *, check: bool = True) -> str:
        line = shlex.join(command)
        done = subprocess.run(
            ["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done.stdout.strip() if check else f"{done.returncode} {done.stderr}"

    yield run
    for job in (JOB, OTHER):
        run(job.verb("stop"), check=False)


def start(job: Job, *arguments: str, key: str = "run-1") -> tuple[str, ...]:
    command = job.start(key, "job.sh", ("x",))
    at = command.index("--")
    return (*command[: at + 1], f"{bundle_folder()}/work.sh", *arguments)


def wait_for(rds: Callable[..., str], job: Job, state: str) -> Status:
    for _ in range(200):
        status = parse_status(rds(job.verb("status")))
        if status.state == state:
            return status
        time.sleep(0.05)
    pytest.fail(f"job never became {state}: {status}")


def sleepers(seconds: str) -> int:
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                count += (entry / "cmdline").read_bytes() == f"sleep\0{seconds}\0".encode()
            except OSError:
                continue
    return count


def test_a_second_start_attaches_and_a_finished_job_answers_the_same_run(rds: Callable[..., str]) -> None:
    assert rds(start(JOB, "0.5")) == "started"
    assert rds(start(JOB, "0.5")) == "attached"
    assert rds(start(JOB, "0.5", key="run-2")) == "attached"
    assert wait_for(rds, JOB, "finished").exit_code == 0
    assert rds(start(JOB, "0.5")) == "finished"
    rds(JOB.verb("acknowledge"))
    assert parse_status(rds(JOB.verb("status"))).state == "absent"
    assert rds(start(JOB, "0.5")) == "started"


def test_a_finished_job_does_not_answer_for_another_run(rds: Callable[..., str]) -> None:
    rds(start(JOB, "0"))
    wait_for(rds, JOB, "finished")
    assert rds(start(JOB, "0", key="run-2")) == "started"


def test_a_failed_job_starts_again_for_the_same_run(rds: Callable[..., str]) -> None:
    rds(start(JOB, "0", "24"))
    assert wait_for(rds, JOB, "finished").exit_code == 24
    assert rds(start(JOB, "0", "24")) == "started"


def test_stop_ends_the_children_too(rds: Callable[..., str]) -> None:
    rds(start(JOB, "301.5"))
    while not sleepers("301.5"):
        time.sleep(0.05)
    assert parse_status(rds(JOB.verb("stop"))) == Status("finished", 143, pytest.approx(0, abs=30), None)
    assert sleepers("301.5") == 0


def test_a_killed_leader_is_seen_as_dead_and_its_orphan_is_stopped_before_a_new_start(
    rds: Callable[..., str], tmp_path: Path
) -> None:
    rds(start(JOB, "302.5"))
    while not sleepers("302.5"):
        time.sleep(0.05)
    os.kill(int((tmp_path / JOB.folder / "pid").read_text().split()[0]), signal.SIGKILL)
    assert wait_for(rds, JOB, "dead").exit_code is None
    assert sleepers("302.5") == 1, "the orphan goes on, as rsync does after its parent was killed"
    assert rds(start(JOB, "302.5")) == "started"
    while not sleepers("302.5"):
        time.sleep(0.05)
    assert sleepers("302.5") == 1


def test_another_part_of_the_same_beamtime_never_runs_beside_it(rds: Callable[..., str]) -> None:
    rds(start(JOB, "303.5"))
    while not sleepers("303.5"):
        time.sleep(0.05)
    assert rds(start(OTHER, "0.2")) == "started"
    assert sleepers("303.5") == 0
    assert wait_for(rds, OTHER, "finished").exit_code == 0
    assert parse_status(rds(JOB.verb("status"))).exit_code == 143


def test_other_arguments_replace_what_runs(rds: Callable[..., str]) -> None:
    rds(start(JOB, "304.5"))
    while not sleepers("304.5"):
        time.sleep(0.05)
    assert rds(start(JOB, "0.1")) == "started"
    assert sleepers("304.5") == 0


def test_a_process_number_that_was_given_out_again_is_not_taken_for_the_job(
    rds: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / JOB.folder
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{os.getpid()} 1 {os.uname().nodename}\n")
    assert parse_status(rds(JOB.verb("status"))).state == "dead"


@pytest.mark.parametrize(("age", "state"), [(0, "running"), (600, "dead")])
def test_on_another_node_the_heartbeat_decides(
    rds: Callable[..., str], tmp_path: Path, age: int, state: str
) -> None:
    folder = tmp_path / JOB.folder
    folder.mkdir(parents=True)
    (folder / "pid").write_text("4242 1 another-node\n")
    heartbeat = folder / "heartbeat"
    heartbeat.touch()
    os.utime(heartbeat, (time.time() - age, time.time() - age))
    assert parse_status(rds(JOB.verb("status"))).state == state


def test_the_job_keeps_its_files_and_its_scripts_to_itself(rds: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / bundle_folder() / "work.sh").write_text('umask > "$BEAMFERRY_JOB/umask"')
    rds(start(JOB, "0"))
    wait_for(rds, JOB, "finished")
    folder = tmp_path / JOB.folder
    assert (folder / "umask").read_text().strip() == "0077"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("pid", "key", "log", "exit_code", "result.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.parametrize("arguments", [("nonsense",), ("start", "--job", "j"), ("status",), ("start", "--x")])
def test_a_wrong_call_is_refused(rds: Callable[..., str], arguments: tuple[str, ...]) -> None:
    assert rds(script_command("job.sh", arguments), check=False).startswith("78 job.sh: ")


def test_an_unknown_script_is_refused() -> None:
    with pytest.raises(ValueError, match="no such script"):
        script_command("../../etc/passwd", ())


@given(st.text())
def test_a_status_line_that_is_not_ours_is_an_error_to_try_again(line: str) -> None:
    with pytest.raises(TransientError):
        parse_status(line)
