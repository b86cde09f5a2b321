"""The agent's jobs, as they are asked for: one at a time, whatever is started, killed or left behind."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.errors import TransientError
from beamferry.remote import (
    BIN,
    Job,
    Question,
    Status,
    agent_command,
    answer_of,
    bundle,
    bundle_folder,
    parse_status,
)
from beamferry.remote.starts import Busy, Owner, parse_start
from refusing import refusing_library
from waiting import remove_under_a_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = Job("diamond_mg25682-2", "transfer")
OTHER = Job("diamond_mg25682-2", "verify")
ELSEWHERE = Job("diamond_mg99999-1", "transfer")
OURS = Owner("1111111111111111", "https://ours.example.ac.uk")
THEIRS = Owner("2222222222222222", "https://theirs.example.ac.uk")

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

    def run(asked: Question | tuple[str, ...], *, check: bool = True) -> str:
        question = asked if isinstance(asked, Question) else Question(asked, "")
        done = subprocess.run(
            ["bash", "-c", shlex.join(question.command)],
            cwd=tmp_path,
            input=question.request,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if check:
            assert done.returncode == 0, done.stderr
        # An earlier version has no mark.
        return (
            (answer_of(done.stdout) or done.stdout).strip() if check else f"{done.returncode} {done.stderr}"
        )

    yield run
    for job in (JOB, OTHER, ELSEWHERE):
        run(job.stop(), check=False)


def start(
    job: Job,
    *arguments: str,
    key: str = "run-1",
    owner: Owner = OURS,
    destination: str = "rds/visit",
    scripts: str | None = None,
) -> Question:
    """The question that starts work.sh; ``scripts`` is the folder of another version."""
    script = f"{bundle_folder()}/work.sh"
    question = job.start(key, script, arguments, destination=destination, owner=owner)
    return of_version(question, scripts or bundle_folder())


def of_version(question: Question, scripts: str) -> Question:
    own = bundle_folder()
    command = tuple(word.replace(own, scripts) for word in question.command)
    return Question(command, question.request.replace(own, scripts))


def how(said: str) -> str:
    """The first word of what a start says."""
    return said.partition(" ")[0]


def busy(said: str) -> Busy:
    answer = parse_start(said)
    assert isinstance(answer, Busy), said
    return answer


def process(tmp_path: Path, job: Job) -> int:
    """The job's leader."""
    return int((tmp_path / job.folder / "pid").read_text().split()[0])


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.05)


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
    assert how(rds(start(JOB, "3"))) == "started"
    assert how(rds(start(JOB, "3"))) == "attached"
    assert how(rds(start(JOB, "3", key="run-2"))) == "attached"
    assert wait_for(rds, JOB, "finished").exit_code == 0
    assert how(rds(start(JOB, "3"))) == "finished"
    rds(JOB.verb("acknowledge"))
    assert parse_status(rds(JOB.verb("status"))).state == "absent"
    assert how(rds(start(JOB, "3"))) == "started"


def test_a_finished_job_does_not_answer_for_another_run(rds: Callable[..., str]) -> None:
    rds(start(JOB, "0"))
    wait_for(rds, JOB, "finished")
    assert how(rds(start(JOB, "0", key="run-2"))) == "started"


def test_a_failed_job_starts_again_for_the_same_run(rds: Callable[..., str]) -> None:
    rds(start(JOB, "0", "24"))
    assert wait_for(rds, JOB, "finished").exit_code == 24
    assert how(rds(start(JOB, "0", "24"))) == "started"


def test_stop_ends_the_children_too(rds: Callable[..., str]) -> None:
    rds(start(JOB, "301.5"))
    while not sleepers("301.5"):
        time.sleep(0.05)
    stopped = parse_status(rds(JOB.stop()))
    assert (stopped.state, stopped.exit_code) == ("finished", 143)
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
    assert how(rds(start(JOB, "302.5"))) == "started"
    while not sleepers("302.5"):
        time.sleep(0.05)
    assert sleepers("302.5") == 1


def test_another_part_of_the_same_beamtime_never_runs_beside_it(rds: Callable[..., str]) -> None:
    rds(start(JOB, "303.5"))
    while not sleepers("303.5"):
        time.sleep(0.05)
    assert how(rds(start(OTHER, "0.2"))) == "started"
    assert sleepers("303.5") == 0
    assert wait_for(rds, OTHER, "finished").exit_code == 0
    assert parse_status(rds(JOB.verb("status"))).exit_code == 143


def test_other_arguments_replace_what_runs(rds: Callable[..., str]) -> None:
    rds(start(JOB, "304.5"))
    while not sleepers("304.5"):
        time.sleep(0.05)
    assert how(rds(start(JOB, "0.1"))) == "started"
    assert sleepers("304.5") == 0


@pytest.fixture
def foreign() -> Iterator[subprocess.Popen[bytes]]:
    """A process of somebody else's, leader of a group of its own; the tests' own is never named anywhere."""
    running = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def born(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def left_behind(tmp_path: Path, pid: int, start_time: str, **mark: str) -> None:
    """A job's folder with this process number in it, as an earlier start left it."""
    folder = tmp_path / JOB.folder
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{pid} {start_time} {os.uname().nodename}\n")
    if mark:
        (folder / "mark").write_text("".join(f"{name}={value}\n" for name, value in mark.items()))


def boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("reused", ["number", "number and start time"])
def test_a_process_number_that_was_given_out_again_is_never_signalled(
    rds: Callable[..., str],
    tmp_path: Path,
    foreign: subprocess.Popen[bytes],
    reused: str,
    legacy: bool,
) -> None:
    started = "1" if reused == "number" else born(foreign.pid)
    mark = {} if legacy else {"generation": "g", "boot": boot(), "owner": OURS.id, "folder": JOB.folder}
    left_behind(tmp_path, foreign.pid, started, **mark)
    rds(JOB.stop(), check=False)
    rds(start(JOB, "0.1"), check=False)
    rds(start(OTHER, "0.1"), check=False)
    assert foreign.poll() is None
    if reused == "number":
        assert wait_for(rds, JOB, "finished").exit_code in {0, 143}


def test_a_job_of_another_boot_is_never_signalled_here(
    rds: Callable[..., str], tmp_path: Path, foreign: subprocess.Popen[bytes]
) -> None:
    """Two nodes may have one name, one number and one start time."""
    mark = {"generation": "g", "boot": "another", "owner": OURS.id, "folder": JOB.folder, "run": "run-1"}
    left_behind(tmp_path, foreign.pid, born(foreign.pid), **mark)
    assert parse_status(rds(JOB.verb("status"))).state == "dead"
    (tmp_path / JOB.folder / "heartbeat").touch()
    assert parse_status(rds(JOB.verb("status"))).state == "running"
    refused = rds(JOB.stop(), check=False)
    assert refused.startswith("75 agent: the job runs on another host that is called")
    assert "boot id another" in refused
    said = busy(rds(start(JOB, "0.1")))
    assert (said.reason, said.job) == ("host", f"{JOB.beamtime}/{JOB.part}")
    assert f"boot id another; this one is {boot()[:8]}" in said.sentence(JOB.beamtime, ZoneInfo("UTC"))
    assert foreign.poll() is None


@pytest.mark.parametrize(("age", "state"), [(0, "running"), (600, "dead")])
def test_on_another_node_the_heartbeat_decides_and_nothing_is_signalled_here(
    rds: Callable[..., str], tmp_path: Path, foreign: subprocess.Popen[bytes], age: int, state: str
) -> None:
    folder = tmp_path / JOB.folder
    folder.mkdir(parents=True)
    (folder / "pid").write_text(f"{foreign.pid} {born(foreign.pid)} another-node\n")
    heartbeat = folder / "heartbeat"
    heartbeat.touch()
    os.utime(heartbeat, (time.time() - age, time.time() - age))
    assert parse_status(rds(JOB.verb("status"))).state == state
    said = rds(JOB.stop(), check=False)
    assert ("another-node" in said) == (state == "running")
    rds(start(JOB, "0.1"), check=False)
    assert foreign.poll() is None


# --- two copies at once -----------------------------------------------------------------------------------

# Goes on when its folder is gone, as rsync does in its finishing pass, and counts those that run at the same time.
WRITER = """
mkdir "$2/copy" 2>/dev/null || touch "$2/two-at-once"
until [ -e "$2/enough" ]; do sleep 0.05; done
rmdir "$2/copy"
exit "${3:-0}"
"""


@pytest.fixture
def place(rds: Callable[..., str], tmp_path: Path) -> Iterator[Path]:
    """The destination that work.sh writes to, as its second argument."""
    (tmp_path / bundle_folder() / "work.sh").write_text(WRITER)
    folder = tmp_path / "rds" / "visit"
    folder.mkdir(parents=True)
    yield folder
    # Also for a job whose folder a test has removed.
    (folder / "enough").touch()


def writing(place: Path) -> None:
    wait_until((place / "copy").exists)


def test_a_job_whose_folder_was_removed_is_found_again_and_nothing_runs_beside_it(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    command = start(JOB, "x", str(place))
    first = rds(command)
    writing(place)
    remove_under_a_job(tmp_path / JOB.folder.rpartition("/")[0])
    assert parse_status(rds(JOB.verb("status"))).state == "absent"
    assert rds(command) == first.replace("started", "attached")
    assert parse_status(rds(JOB.verb("status"))).state == "running"
    (place / "enough").touch()
    assert wait_for(rds, JOB, "finished").exit_code == 0
    assert not (place / "two-at-once").exists()


def test_a_job_whose_folder_was_removed_ends_before_another_one_begins(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    rds(start(JOB, "x", str(place)))
    writing(place)
    remove_under_a_job(tmp_path / JOB.folder)
    # Other arguments: it is stopped, and its own end is not told in the folder of the second one.
    (place / "copy").rmdir()
    second = rds(start(JOB, "y", str(place)))
    assert how(second) == "started"
    writing(place)
    status = parse_status(rds(JOB.verb("status")))
    assert (status.state, status.exit_code, status.generation) == ("running", None, second.split()[1])
    assert not (place / "two-at-once").exists()


def test_a_first_job_that_dies_writes_nothing_into_the_folder_of_a_second_one(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    rds(start(JOB, "x", str(place), "9"))
    writing(place)
    folder = tmp_path / JOB.folder
    # As if a second start had made the folder anew while the first one cannot be seen.
    remove_under_a_job(folder)
    folder.mkdir()
    (folder / "mark").write_text("generation=another\n")
    (place / "enough").touch()
    wait_until(lambda: not (place / "copy").exists() and not (folder / "heartbeat").exists())
    wait_until(lambda: not holds(tmp_path / JOB.lock))
    assert {path.name for path in folder.iterdir()} == {"mark"}


def holds(lock: Path) -> bool:
    return subprocess.run(["flock", "-n", str(lock), "true"], check=False).returncode != 0


def test_two_entries_with_one_destination_do_not_write_to_it_at_once(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    (tmp_path / "rds" / "link").symlink_to(place)
    rds(start(JOB, "x", str(place), destination="rds/visit"))
    writing(place)
    said = busy(rds(start(ELSEWHERE, "x", str(place), destination="rds/link")))
    assert (said.reason, said.job, said.run) == ("beamtime", f"{JOB.beamtime}/{JOB.part}", "run-1")
    assert f"run run-1 is transferring {JOB.beamtime}, to the same destination, since" in said.sentence(
        ELSEWHERE.beamtime, ZoneInfo("UTC")
    )
    (place / "enough").touch()
    wait_for(rds, JOB, "finished")
    assert how(rds(start(ELSEWHERE, "x", str(place), destination="rds/link"))) == "started"
    assert not (place / "two-at-once").exists()


def test_what_still_writes_is_seen_when_even_the_locks_were_removed(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    rds(start(JOB, "x", str(place)))
    writing(place)
    for name in ("jobs", "locks"):
        remove_under_a_job(tmp_path / ".beamferry" / name)
    said = busy(rds(start(JOB, "y", str(place))))
    assert (said.reason, said.job) == ("leftover", "")
    assert "look for them" in said.error(JOB.beamtime, ZoneInfo("UTC")).remedy
    (place / "enough").touch()
    wait_until(lambda: not (place / "copy").exists())
    assert not (place / "two-at-once").exists()


# --- two Airflow installations ----------------------------------------------------------------------------


def test_the_job_of_another_installation_is_waited_for_and_never_stopped(
    rds: Callable[..., str], place: Path
) -> None:
    rds(start(JOB, "x", str(place)))
    writing(place)
    for job in (JOB, OTHER):
        for arguments in ("x", "y"):
            said = busy(rds(start(job, arguments, str(place), key="run-7", owner=THEIRS)))
            assert (said.reason, said.job) == ("installation", f"{JOB.beamtime}/{JOB.part}")
    sentence = said.sentence(JOB.beamtime, ZoneInfo("UTC"))
    assert sentence.startswith(
        f"another Airflow installation ({OURS.name}, run run-1) is transferring this beamtime since "
    )
    assert "of another Airflow installation" in rds(JOB.stop(owner=THEIRS.id), check=False)
    assert parse_status(rds(JOB.verb("status"))).state == "running"
    (place / "enough").touch()
    wait_for(rds, JOB, "finished")
    # Whoever started it has not read yet how it ended.
    said = busy(rds(start(JOB, "y", str(place), key="run-7", owner=THEIRS)))
    assert "has not yet read" in str(said.error(JOB.beamtime, ZoneInfo("UTC")))
    rds(JOB.verb("acknowledge"))
    assert how(rds(start(JOB, "y", str(place), key="run-7", owner=THEIRS))) == "started"
    wait_for(rds, JOB, "finished")


def test_orphans_of_another_installation_are_waited_for(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    rds(start(JOB, "x", str(place)))
    writing(place)
    os.kill(process(tmp_path, JOB), signal.SIGKILL)
    wait_for(rds, JOB, "dead")
    assert busy(rds(start(OTHER, "x", str(place), owner=THEIRS))).reason == "installation"
    assert (place / "copy").exists()


def test_only_the_start_that_is_meant_is_stopped(rds: Callable[..., str], place: Path) -> None:
    first = rds(start(JOB, "x", str(place))).split()[1]
    writing(place)
    (place / "enough").touch()
    wait_for(rds, JOB, "finished")
    (place / "enough").unlink()
    rds(JOB.verb("acknowledge"))
    rds(start(JOB, "x", str(place)))
    writing(place)
    assert parse_status(rds(JOB.stop(generation=first))).state == "running"


# --- upgrades ---------------------------------------------------------------------------------------------

NEW = f"{BIN}/0123456789abcdef"


DATA = Path(__file__).parents[1] / "data/remote"


def another_version(tmp_path: Path, *scripts: Path) -> str:
    """The folder of another version's scripts, those of an older one with its own for jobs."""
    folder = tmp_path / NEW
    shutil.copytree(tmp_path / bundle_folder(), folder)
    if not scripts:
        with (folder / "agent.sh").open("ab") as script:
            script.write(b"# another version\n")
    for path in scripts:
        (folder / path.name.replace("earlier_", "")).write_bytes(path.read_bytes())
    return NEW


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
def test_another_version_asks_for_attaches_to_and_stops_what_runs(
    rds: Callable[..., str], tmp_path: Path, place: Path, direction: str
) -> None:
    old, new = bundle_folder(), another_version(tmp_path)
    if direction == "downgrade":
        old, new = new, old
    secret = f"{JOB.folder}/secret-"
    first = rds(start(JOB, "x", str(place), "0", "--stall", "600", "--secret", f"{secret}1", scripts=old))
    writing(place)
    second = rds(start(JOB, "x", str(place), "0", "--stall", "900", "--secret", f"{secret}2", scripts=new))
    assert (how(first), second) == ("started", first.replace("started", "attached"))
    assert parse_status(rds(of_version(JOB.verb("status"), new))).state == "running"
    stop = of_version(JOB.stop(generation=first.split()[1]), new)
    assert parse_status(rds(stop)).exit_code == 143
    wait_until(lambda: not holds(tmp_path / JOB.lock))
    assert not (place / "two-at-once").exists()


def earlier(*arguments: str) -> tuple[str, ...]:
    """The command by which the version before locks lay outside started a job."""
    return (
        *("bash", f"{NEW}/job.sh", "start", "--job", JOB.folder),
        *("--lock", f"{JOB.folder.rpartition('/')[0]}/lock", "--key", "run-1"),
        *("--", f"{NEW}/work.sh", *arguments),
    )


@pytest.fixture
def by_earlier(rds: Callable[..., str], tmp_path: Path, place: Path) -> Path:
    """A job that the version before has started, and that writes."""
    another_version(tmp_path, DATA / "earlier_job.sh")
    assert rds(earlier("x", str(place))) == "started"
    writing(place)
    return place


def test_a_job_of_the_version_before_is_attached_to_and_finished(
    rds: Callable[..., str], tmp_path: Path, by_earlier: Path
) -> None:
    assert parse_status(rds(JOB.verb("status"))).state == "running"
    assert rds(start(JOB, "x", str(by_earlier))) == "attached"
    assert not (by_earlier / "two-at-once").exists()
    (by_earlier / "enough").touch()
    assert wait_for(rds, JOB, "finished").exit_code == 0


def test_a_job_of_the_version_before_is_waited_for_by_another_one(
    rds: Callable[..., str], by_earlier: Path
) -> None:
    for job, argument in ((JOB, "y"), (OTHER, "x")):
        said = busy(rds(start(job, argument, str(by_earlier))))
        assert (said.reason, said.job) == ("version", f"{JOB.beamtime}/{JOB.part}")
    assert parse_status(rds(JOB.verb("status"))).state == "running"


def test_a_job_of_the_version_before_is_stopped_by_a_person(
    rds: Callable[..., str], tmp_path: Path, by_earlier: Path
) -> None:
    assert parse_status(rds(JOB.stop())).exit_code == 143
    wait_until(lambda: not holds(tmp_path / JOB.folder.rpartition("/")[0] / "lock"))


def test_an_orphan_of_the_version_before_ends_before_a_new_start(
    rds: Callable[..., str], tmp_path: Path, by_earlier: Path
) -> None:
    os.kill(process(tmp_path, JOB), signal.SIGKILL)
    wait_for(rds, JOB, "dead")
    (by_earlier / "copy").rmdir()
    assert how(rds(start(JOB, "y", str(by_earlier)))) == "started"
    writing(by_earlier)
    assert not (by_earlier / "two-at-once").exists()


def test_the_version_before_does_not_run_beside_a_job_of_this_one(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    another_version(tmp_path, DATA / "earlier_job.sh")
    rds(start(JOB, "x", str(place)))
    writing(place)
    (place / "copy").rmdir()
    rds(earlier("x", str(place)))
    writing(place)
    assert not (place / "two-at-once").exists()


def in_bash(*arguments: str, job: Job = JOB, owner: Owner = OURS, key: str = "run-1") -> tuple[str, ...]:
    """The command by which the version whose jobs were kept in bash started one."""
    return (
        *("bash", f"{NEW}/job.sh", "start", "--job", job.folder, "--lock", job.lock),
        *("--destination", "rds/visit", "--key", key, "--owner", owner.id, "--name", owner.name),
        *("--", f"{NEW}/work.sh", *arguments),
    )


@pytest.fixture
def by_bash(rds: Callable[..., str], tmp_path: Path, place: Path) -> Iterator[str]:
    """The generation of a job that the version in bash has started, and that writes."""
    another_version(tmp_path, *(DATA / "in_bash").iterdir())
    answer = rds(in_bash("x", str(place)))
    assert how(answer) == "started"
    writing(place)
    yield answer.split()[1]
    assert not (place / "two-at-once").exists()


def test_a_job_in_bash_is_read_attached_to_and_finished(
    rds: Callable[..., str], tmp_path: Path, place: Path, by_bash: str
) -> None:
    assert rds(start(JOB, "x", str(place))) == f"attached {by_bash}"
    status = parse_status(rds(JOB.verb("status")))
    assert (status.state, status.generation) == ("running", by_bash)
    (place / "enough").touch()
    status = wait_for(rds, JOB, "finished")
    assert (status.exit_code, status.generation) == (0, by_bash)
    assert rds(start(JOB, "x", str(place))) == f"finished {by_bash}"


def test_a_job_in_bash_is_stopped(rds: Callable[..., str], tmp_path: Path, by_bash: str) -> None:
    assert parse_status(rds(JOB.stop(generation="another"))).state == "running"
    assert parse_status(rds(JOB.stop(generation=by_bash))).exit_code == 143
    wait_until(lambda: not holds(tmp_path / JOB.lock))


def test_a_job_in_bash_of_another_installation_is_waited_for(
    rds: Callable[..., str], place: Path, by_bash: str
) -> None:
    for job in (JOB, OTHER, ELSEWHERE):
        said = busy(rds(start(job, "x", str(place), owner=THEIRS)))
        assert (said.reason, said.installation) == ("installation", OURS.name)


def test_an_orphan_in_bash_ends_before_a_new_start(
    rds: Callable[..., str], tmp_path: Path, place: Path, by_bash: str
) -> None:
    os.kill(process(tmp_path, JOB), signal.SIGKILL)
    wait_for(rds, JOB, "dead")
    (place / "copy").rmdir()
    assert how(rds(start(OTHER, "y", str(place)))) == "started"
    writing(place)


@pytest.mark.parametrize("lost", ["pid", "mark", "all"])
def test_a_job_in_bash_whose_files_were_removed_is_attached_to(
    rds: Callable[..., str], tmp_path: Path, place: Path, by_bash: str, lost: str
) -> None:
    for path in (tmp_path / JOB.folder).iterdir():
        if lost in {"all", path.name}:
            path.unlink()
    assert rds(start(JOB, "x", str(place))) == f"attached {by_bash}"
    assert parse_status(rds(JOB.verb("status"))).state == "running"


def test_the_version_in_bash_attaches_to_a_job_of_this_one_and_reads_it(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    """After a downgrade."""
    another_version(tmp_path, *(DATA / "in_bash").iterdir())
    first = rds(start(JOB, "x", str(place)))
    writing(place)
    assert rds(in_bash("x", str(place))) == first.replace("started", "attached")
    assert busy(rds(in_bash("x", str(place), owner=THEIRS))).reason == "installation"
    assert busy(rds(in_bash("x", str(place), job=ELSEWHERE))).reason == "beamtime"
    (place / "enough").touch()
    wait_for(rds, JOB, "finished")
    assert rds(in_bash("x", str(place))) == first.replace("started", "finished")
    assert not (place / "two-at-once").exists()


# --- passwords --------------------------------------------------------------------------------------------


def hand_over(tmp_path: Path, job: Job = JOB) -> str:
    name = job.new_secret()
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("a password")
    return name


def test_each_password_has_a_file_of_its_own_that_its_job_alone_removes(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    mine = hand_over(tmp_path)
    assert how(rds(start(JOB, "x", str(place), "0", "--secret", mine))) == "started"
    writing(place)
    probes = hand_over(tmp_path, Job(JOB.beamtime, "probe"))
    for second in (
        start(JOB, "x", str(place), "0", "--secret", again := hand_over(tmp_path)),
        start(JOB, "x", str(place), "0", "--secret", theirs := hand_over(tmp_path), owner=THEIRS),
    ):
        assert how(rds(second)) in {"attached", "busy"}
    assert not (tmp_path / again).exists()
    assert not (tmp_path / theirs).exists()
    assert (tmp_path / mine).exists()
    (place / "enough").touch()
    wait_for(rds, JOB, "finished")
    assert not (tmp_path / mine).exists()
    assert (tmp_path / probes).exists()


def test_a_start_that_fails_leaves_no_password(rds: Callable[..., str], tmp_path: Path, place: Path) -> None:
    """Home folders on some file systems give no locks."""
    library = refusing_library(tmp_path)
    mine = hand_over(tmp_path)
    question = start(JOB, "x", str(place), "0", "--secret", mine)
    refused = (f"LD_PRELOAD={library}", f"REFUSE=flock {errno.ENOLCK} /locks/")
    # By way of own.sh nothing of that would reach the agent.
    said = rds(
        question._replace(command=("env", *refused, "sh", f"{bundle_folder()}/agent.sh", "job")), check=False
    )
    assert said == "71 agent: .beamferry/locks cannot be locked: No locks available\n"
    assert not (tmp_path / mine).exists()
    assert not (place / "copy").exists()


def test_the_password_of_a_job_that_was_killed_goes_with_the_next_start(
    rds: Callable[..., str], tmp_path: Path, place: Path
) -> None:
    left = hand_over(tmp_path)
    rds(start(JOB, "x", str(place), "0", "--secret", left))
    writing(place)
    os.killpg(process(tmp_path, JOB), signal.SIGKILL)
    wait_until(lambda: not holds(tmp_path / JOB.lock))
    assert (tmp_path / left).exists()
    other = hand_over(tmp_path, OTHER)
    forgotten = hand_over(tmp_path, Job(JOB.beamtime, "probe"))
    os.utime(tmp_path / forgotten, (1, 1))
    (place / "copy").rmdir()
    rds(start(OTHER, "x", str(place), "0", "--secret", other))
    assert [(tmp_path / name).exists() for name in (left, forgotten, other)] == [False, False, True]


# --- its files and its calls ------------------------------------------------------------------------------


def test_the_job_keeps_its_files_and_its_scripts_to_itself(rds: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / bundle_folder() / "work.sh").write_text('umask > "$BEAMFERRY_JOB/umask"')
    rds(start(JOB, "0"))
    wait_for(rds, JOB, "finished")
    folder = tmp_path / JOB.folder
    assert (folder / "umask").read_text().strip() == "0077"
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("pid", "key", "log", "exit_code", "result.json"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name


def test_habits_of_the_account_do_not_reach_the_script(rds: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / bundle_folder() / "work.sh").write_text('env -0 >"$BEAMFERRY_JOB/stats" && mktemp')
    (tmp_path / "start_file").write_text("set -C\n")
    habits = (
        *("POSIXLY_CORRECT=1", "SHELLOPTS=noclobber", f"TMPDIR={tmp_path}/nowhere", "RSYNC_RSH=false"),
        *(f"BASH_ENV={tmp_path}/start_file", "LC_ALL=de_DE.UTF-8", "SSH_AUTH_SOCK=/agent"),
    )
    question = start(JOB)
    answer = rds(question._replace(command=("env", *habits, *question.command)))
    assert how(answer) == "started"
    assert wait_for(rds, JOB, "finished").exit_code == 0
    found = dict(
        item.split("=", 1) for item in (tmp_path / JOB.folder / "stats").read_text().split("\0") if item
    )
    assert set(found).isdisjoint({"POSIXLY_CORRECT", "SHELLOPTS", "TMPDIR", "RSYNC_RSH", "BASH_ENV"})
    assert (found["LC_ALL"], found["SSH_AUTH_SOCK"]) == ("C", "/agent")
    assert found["BEAMFERRY_JOB"] == str(tmp_path / JOB.folder)
    assert found["BEAMFERRY_GENERATION"] == answer.split()[1]


@pytest.mark.parametrize(
    "change",
    [
        {"verb": "nonsense"},
        {"job": ""},
        {"lock": ""},
        {"owner": ""},
        {"key": "\0"},
        {"arguments": "x"},
        {"version": 1},
        {"more": ""},
    ],
)
def test_a_wrong_call_is_refused(rds: Callable[..., str], tmp_path: Path, change: dict[str, object]) -> None:
    request = json.dumps(json.loads(start(JOB, "0").request) | change)
    assert rds(Question(agent_command("job"), request), check=False).startswith("78 agent: ")
    assert not (tmp_path / JOB.folder).exists()


@given(st.text())
def test_a_status_line_that_is_not_ours_is_an_error_to_try_again(line: str) -> None:
    with pytest.raises(TransientError):
        parse_status(line)
