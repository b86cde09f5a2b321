"""What accidents make of a job's files on RDS-SSH: whatever single file they damage, the beamtime goes on.

The locks tell whether a job lives, its processes whose it is, and what cannot be read is put aside and said once.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamferry.airflow.decisive import RunRecords
from beamferry.remote import Job, Question, Session, Status, answer_of, bundle, bundle_folder, parse_status
from beamferry.remote.starts import Busy, Owner, Started, parse_start
from waiting import remove_under_a_job, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beamferry.lab import Lab

pytestmark = pytest.mark.timeout(300)
JOB = Job("diamond_mg25682-2", "transfer")
OURS = Owner("1111111111111111", "https://ours.example.ac.uk")
THEIRS = Owner("2222222222222222", "https://theirs.example.ac.uk")

# Writes to a destination, to which nobody else writes at the same time, until it may end.
WORK = """
mkdir "$1/copy" 2>/dev/null || touch "$1/two-at-once"
put() {
  cat >"$BEAMFERRY_JOB/$1.new" && mv -f "$BEAMFERRY_JOB/$1.new" "$BEAMFERRY_JOB/$1"
}
echo '{"phase":"transfer","bytes_done":1,"bytes_total":2,"files_done":1,"files_total":2,"rate":1,"updated":1}' \\
  | put progress.json
until [ -e "$1/enough" ]; do sleep 0.05; done
rmdir "$1/copy"
echo '{"phase":"transfer","exit_code":0,"seconds":1}' | put result.json
"""

_BEAMTIME = JOB.folder.rpartition("/")[0]
# Nothing hangs on what is in them: they are damaged all at once.
_OTHERS = tuple(
    f"{JOB.folder}/{name}" for name in ("key", "call", "heartbeat", "log", "errors", "stats", "notes")
)
FILES = {
    **{
        name: (f"{JOB.folder}/{name}",)
        for name in ("mark", "pid", "exit_code", "result.json", "progress.json", "status.json")
    },
    "the others": _OTHERS,
    "lock": (JOB.lock,),
    "lock of the start": (f"{JOB.lock}.start",),
    "lock of versions before": (f"{_BEAMTIME}/lock",),
    "lock of the destination": (".beamferry/locks/destination-*",),
}


def cut(path: Path) -> None:
    """Lose the last newline, or half of what there is."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] if path.name == "pid" else content[: len(content) // 2])


def replaced_by_a_folder(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "something").touch()


WAYS: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: path.write_bytes(b""),
    "NULs": lambda path: path.write_bytes(bytes(14)),
    "other text": lambda path: path.write_bytes(b"a note of somebody: {\n"),
    "removed": lambda path: path.unlink(),
    "a folder": replaced_by_a_folder,
}
# What tells which job it is, and whether it lives.
KEY_WAYS: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "a link": lambda path: (path.unlink(missing_ok=True), path.symlink_to("nowhere/at/all")),
}
if os.geteuid() != 0:
    # Keeps out who is not root.
    WAYS["mode 000"] = lambda path: path.chmod(0)
CASES = [(file, way) for file in FILES for way in WAYS] + [
    (file, way) for file in ("mark", "pid", "lock") for way in KEY_WAYS
]
each_case = pytest.mark.parametrize(("file", "way"), CASES, ids=lambda word: word.replace(" ", "-"))


@dataclass
class Rds:
    """A home folder as on RDS-SSH, asked as Airflow asks it."""

    home: Path

    @property
    def place(self) -> Path:
        return self.home / "rds" / "visit"

    @property
    def folder(self) -> Path:
        return self.home / JOB.folder

    def run(self, question: Question) -> str:
        done = subprocess.run(
            ["bash", "-c", shlex.join(question.command)],
            cwd=self.home,
            input=question.request,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return answer_of(done.stdout)

    def start(self, key: str = "run-1", owner: Owner = OURS) -> Started | Busy:
        script, place = f"{bundle_folder()}/work.sh", str(self.place)
        return parse_start(self.run(JOB.start(key, script, (place,), destination=place, owner=owner)))

    def begin(self, key: str = "run-1") -> str:
        """Start it, and return its generation once it writes."""
        answer = self.start(key)
        assert isinstance(answer, Started), answer
        assert answer.how == "started"
        wait_for((self.place / "copy").exists, "it writes", 60)
        return answer.generation or ""

    def status(self) -> Status:
        return parse_status(self.run(JOB.verb("status")))

    def finish(self) -> Status:
        (self.place / "enough").touch()
        wait_for(lambda: self.status().state != "running", "it ends", 60)
        (self.place / "enough").unlink()
        return self.status()

    def damage(self, file: str, way: str) -> None:
        for pattern in FILES[file]:
            (path,) = list(self.home.glob(pattern)) or [self.home / pattern]
            if path.is_symlink():
                path.unlink()
            # What this job does not make may lie there all the same.
            path.touch()
            (WAYS | KEY_WAYS)[way](path)


@pytest.fixture
def rds(tmp_path: Path) -> Iterator[Rds]:
    made = Rds(tmp_path)
    scripts = tmp_path / bundle_folder()
    scripts.mkdir(parents=True)
    for name, content in bundle().items():
        (scripts / name).write_bytes(content)
    (scripts / "work.sh").write_text(WORK)
    made.place.mkdir(parents=True)
    yield made
    assert not (made.place / "two-at-once").exists()
    made.place.mkdir(exist_ok=True)
    (made.place / "enough").touch()
    made.run(JOB.stop())


@each_case
def test_a_running_job_is_attached_to_and_ends_as_it_would_have(rds: Rds, file: str, way: str) -> None:
    generation = rds.begin()
    rds.damage(file, way)
    answer = rds.start()
    assert isinstance(answer, Started), answer
    assert (answer.how, answer.generation) == ("attached", generation)
    assert isinstance(rds.start(owner=THEIRS), Busy)
    if way == "a folder" and file == "result.json":
        wait_for((rds.folder / f"{file}.damaged").is_dir, "it is put aside", 30)
    ended = rds.finish()
    assert (ended.state, ended.exit_code, ended.generation) == ("finished", 0, generation)


@each_case
def test_after_a_job_that_ended_the_same_run_and_the_next_one_go_on(rds: Rds, file: str, way: str) -> None:
    rds.begin()
    rds.finish()
    rds.damage(file, way)
    answer = rds.start()
    assert isinstance(answer, Started), answer
    if answer.how == "started":
        assert rds.finish().exit_code == 0
    rds.damage(file, way)
    second = rds.begin("run-2")
    ended = rds.finish()
    assert (ended.state, ended.exit_code, ended.generation) == ("finished", 0, second)


@pytest.mark.parametrize("way", [*WAYS, *KEY_WAYS])
@pytest.mark.parametrize("file", ["mark", "pid", "lock"])
def test_what_a_killed_job_left_ends_before_the_next_one_begins(rds: Rds, file: str, way: str) -> None:
    rds.begin()
    leader = int((rds.folder / "pid").read_text().split()[0])
    os.kill(leader, signal.SIGKILL)
    wait_for(lambda: rds.status().state == "dead", "it is seen as dead", 30)
    (rds.place / "copy").rmdir()
    rds.damage(file, way)
    second = rds.begin()
    assert rds.finish().generation == second


def test_what_is_damaged_is_put_aside_and_said_once(rds: Rds) -> None:
    rds.begin()
    rds.finish()
    (rds.folder / "pid").write_bytes(bytes(14))
    answer = rds.start("run-2")
    assert answer.told == (f"~/{JOB.folder}/pid was damaged; it is kept as pid.damaged beside it.",)
    assert (rds.folder / "pid.damaged").read_bytes() == bytes(14)
    assert rds.start("run-2").told == ()
    assert rds.finish().exit_code == 0


def test_a_job_says_in_its_log_what_was_damaged_while_it_ran(rds: Rds) -> None:
    generation = rds.begin()
    (rds.folder / "mark").write_bytes(bytes(14))
    wait_for((rds.folder / "mark.damaged").exists, "it sees that", 30)
    wait_for(lambda: rds.status().generation == generation, "it says again which it is", 30)
    rds.finish()
    assert (rds.folder / "log").read_text().count("mark was damaged") == 1


@pytest.mark.parametrize("below", [JOB.folder, JOB.folder.rpartition("/")[0], ".beamferry/locks"])
@pytest.mark.parametrize("instead", ["nothing", "a file"])
def test_a_folder_that_is_lost_is_made_anew(rds: Rds, below: str, instead: str) -> None:
    generation = rds.begin()
    remove_under_a_job(rds.home / below)
    if instead == "a file":
        (rds.home / below).write_text("a file")
    answer = rds.start()
    assert isinstance(answer, Started), answer
    assert (answer.how, answer.generation) == ("attached", generation)
    ended = rds.finish()
    assert (ended.state, ended.exit_code, ended.generation) == ("finished", 0, generation)
    rds.begin("run-2")
    assert rds.finish().exit_code == 0


def test_a_result_that_a_job_cannot_have_written_is_no_success(rds: Rds) -> None:
    """Whoever reads it would go on with nothing."""
    work = rds.home / bundle_folder() / "work.sh"
    work.write_text(WORK + 'echo "{" | put result.json\n')
    rds.begin()
    assert rds.finish().exit_code == 76
    assert json.loads((rds.folder / "result.json").read_text())["exit_code"] == 76
    assert (rds.folder / "result.json.damaged").read_text() == "{\n"
    work.write_text(WORK)
    rds.begin()
    assert rds.finish().exit_code == 0


@pytest.mark.parametrize("name", ["progress.json", "result.json", "errors", "exit_code"])
def test_a_folder_in_the_place_of_what_a_script_writes_is_put_aside_while_it_runs(
    rds: Rds, name: str
) -> None:
    rds.begin()
    replaced_by_a_folder(rds.folder / name)
    wait_for((rds.folder / f"{name}.damaged").is_dir, "it is put aside", 30)
    ended = rds.finish()
    assert (ended.state, ended.exit_code) == ("finished", 0)


def test_nothing_is_said_to_live_for_long_without_a_lock(rds: Rds) -> None:
    """A process that has the number and the start time of a job by the pid file alone is none of ours."""
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        rds.begin()
        rds.finish()
        born = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()[19]
        (rds.folder / "exit_code").unlink()
        (rds.folder / "pid").write_text(f"{stranger.pid} {born} {os.uname().nodename}\n")
        assert rds.status().state == "dead"
        rds.begin()
        rds.finish()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_leaves_its_sign_of_life_anew(rds: Rds) -> None:
    rds.begin()
    (rds.folder / "heartbeat").unlink()
    wait_for((rds.folder / "heartbeat").exists, "a sign of life", 30)
    old = time.time() - 600
    os.utime(rds.folder / "heartbeat", (old, old))
    wait_for(lambda: rds.status().heartbeat_age < 60, "a sign of life", 30)
    assert rds.finish().exit_code == 0


@pytest.mark.parametrize("way", [*WAYS, *KEY_WAYS])
@pytest.mark.parametrize("name", ["plan", "moved"])
def test_what_a_run_decides_by_is_made_anew_when_it_is_damaged(lab: Lab, name: str, way: str) -> None:
    """The last plan is read by every run, before it writes its own."""
    records = RunRecords("diamond_mg1-1", "run-1")
    path = lab.rds_home / f".beamferry/jobs/diamond_mg1-1/run/{name}.json"
    shutil.rmtree(path.parent, ignore_errors=True)
    client = lab.rds_client()
    try:
        session = Session(client)
        records.add(session, name, "raw", {"bytes": 1})
        (WAYS | KEY_WAYS)[way](path)
        assert RunRecords("diamond_mg1-1", "run-2").last(session, name) is None
        records.add(session, name, "raw", {"bytes": 2})
        assert records.read(session, name) == {"raw": {"bytes": 2}}
    finally:
        client.close()
