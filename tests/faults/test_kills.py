"""Killed at a random moment: each run ends verified, with one job at a time, and nothing whole is sent again."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from beamferry.demo import DAG_ID

if TYPE_CHECKING:
    from beamtime_runs import Runs

TARGETS = ("rsync", "ssh", "job", "sshd of Diamond", "sshd of RDS-SSH", "triggerer", "scheduler", "worker")
# MiB/s; the lab's visit then takes some ten seconds, so that there is something to kill.
LIMIT = 1


def _job(runs: Runs) -> int:
    try:
        return int((runs.job_folder / "transfer" / "pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return 0


def _in_group(group: int, name: str) -> list[int]:
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == name and os.getpgid(process.pid) == group:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def _kill(runs: Runs, target: str, chance: random.Random) -> str:
    """Kill one thing, start again what nobody else would, and say what it was."""
    if target in {"rsync", "ssh"}:
        alive = _in_group(_job(runs), target)
        if not alive:
            return "nothing"
        os.kill(chance.choice(alive), signal.SIGKILL)
    elif target == "job":
        group = _job(runs)
        if group <= 1 or not psutil.pid_exists(group):
            return "nothing"
        os.kill(group, signal.SIGKILL)
    elif target == "sshd of Diamond":
        runs.lab.diamond.kill()
        time.sleep(1)
        runs.lab.diamond.start()
    elif target == "sshd of RDS-SSH":
        runs.lab.rds.kill()
        time.sleep(1)
        runs.lab.rds.start()
    elif target == "worker":
        scheduler = runs.stack.pid("scheduler")
        workers = psutil.Process(scheduler).children(recursive=True) if scheduler else []
        if not workers:
            return "nothing"
        workers[-1].kill()
    else:
        runs.stack.kill_component(target)
        time.sleep(1)
        runs.stack.start_component(target)
    return target


def _whole(runs: Runs) -> dict[str, int]:
    """Files that are whole at the destination, with their inode: rsync gives a file that it sends a new one."""
    found = {}
    for folder, _, names in os.walk(runs.lab.visit_folder):
        for name in names:
            source = Path(folder) / name
            below = source.relative_to(runs.lab.visit_folder)
            there = runs.destination / below
            if source.is_symlink() or not there.is_file() or there.is_symlink():
                continue
            here, copy = source.stat(), there.stat()
            if (here.st_size, here.st_mtime_ns) == (copy.st_size, copy.st_mtime_ns):
                found[str(below)] = copy.st_ino
    return found


def _file_system(pid: int) -> str:
    """What a process sees as its file system: each host of each lab has its own."""
    try:
        return str(Path(f"/proc/{pid}/ns/mnt").readlink())
    except OSError:
        return "gone"


class _Watch(threading.Thread):
    """Counts the jobs of the beamtime that run at the same time, on this lab's RDS-SSH."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(daemon=True)
        self.rds = _file_system(runs.lab.rds.sshd.pid) if runs.lab.rds.sshd else ""
        self.most = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            groups = set()
            for process in psutil.process_iter(["cmdline"]):
                line = process.info["cmdline"] or []
                if _file_system(process.pid) != self.rds:
                    continue
                if "step" in line[4:5] and line[5] in {"transfer", "dry_run", "verify"}:
                    try:
                        groups.add(os.getpgid(process.pid))
                    except ProcessLookupError:
                        continue
            self.most = max(self.most, len(groups))


def _one_kill(runs: Runs, target: str, chance: random.Random) -> str:
    run = runs.begin(bandwidth_limit=LIMIT, streams=3)
    runs.wait(lambda: runs.tasks(run).get("transfer") in {"deferred", "success"}, "the transfer is under way")
    time.sleep(chance.uniform(0.2, 8.0))
    killed = _kill(runs, target, chance)
    before = _whole(runs)
    assert runs.end_of(run) == "success", (target, runs.tasks(run), runs.known().get("problem"))
    certificate = runs.certificate()
    assert (certificate["outcome"], certificate["run"]) == ("verified", run)
    after = _whole(runs)
    assert {path for path, inode in before.items() if after.get(path) != inode} == set(), "sent again"
    tries = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/transfer")["try_number"]
    return f"{killed}: {len(before)} whole files kept, {tries} tries"


def _remove(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
    import shutil  # noqa: PLC0415

    shutil.rmtree(folder, ignore_errors=True)


def _kills(runs: Runs, targets: list[str], seed: int) -> None:
    chance = random.Random(seed)
    watch = _Watch(runs)
    watch.start()
    ended = 0
    try:
        for number, target in enumerate(targets, 1):
            _remove(runs.destination)
            said = _one_kill(runs, target, chance)
            ended += 1
            print(f"kill {number}: {said}", flush=True)
    finally:
        watch.done.set()
        watch.join()
        print(
            f"kills: {ended}/{len(targets)} ended verified; jobs at the same time: {watch.most}; seed {seed}"
        )
    assert watch.most == 1


@pytest.mark.timeout(900)
def test_two_kills(runs: Runs) -> None:
    _kills(runs, ["rsync", "triggerer"], seed=2)


@pytest.mark.long
@pytest.mark.timeout(5400)
def test_twenty_kills(runs: Runs) -> None:
    chance = random.Random(20)
    targets = [*TARGETS, *TARGETS, *chance.sample(TARGETS, 4)]
    chance.shuffle(targets)
    _kills(runs, targets, seed=20)
