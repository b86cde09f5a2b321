"""Scripts on RDS-SSH: brought by several at once, by whoever needs them first, and gone when nobody needs them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import asyncssh
import pytest

from beamferry import remote
from beamferry.airflow.triggers import RemoteJobTrigger
from beamferry.remote import Job, Session, bundle, bundle_folder
from beamferry.remote.installing import install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.lab import Lab

pytestmark = pytest.mark.timeout(300)
JOB = Job("diamond_mg25682-2", "transfer")


@pytest.fixture
def scripts(lab: Lab) -> Iterator[Path]:
    """This version's scripts on RDS-SSH, not there yet."""
    folder = lab.rds_home / bundle_folder()
    shutil.rmtree(folder, ignore_errors=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_several_bring_the_scripts_at_once_and_no_half_of_one_is_ever_in_place(
    lab: Lab, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [lab.rds_client() for _ in range(4)]
    # All of them see that nothing is there before the first one writes.
    together = threading.Barrier(len(clients))
    make_folder = Session.make_folder

    def late(session: Session, path: str, *, mode: int) -> None:
        together.wait(30)
        make_folder(session, path, mode=mode)

    monkeypatch.setattr(Session, "make_folder", late)
    halves: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            for name, content in bundle().items():
                try:
                    found = (scripts / name).read_bytes()
                except FileNotFoundError:
                    continue
                if found != content:
                    halves.add(name)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        with ThreadPoolExecutor(len(clients)) as pool:
            list(pool.map(lambda client: Session(client).install(), clients))
    finally:
        done.set()
        watch.join()
        for client in clients:
            client.close()
    assert halves == set()
    assert {path.name for path in scripts.iterdir()} == {*bundle(), "complete"}


async def connected(lab: Lab) -> asyncssh.SSHClientConnection:
    known = lab.airflow_connections()["rds_ssh"]
    return await asyncssh.connect(
        known["host"],
        known["port"],
        username=known["login"],
        client_keys=[known["extra"]["key_file"]],
        known_hosts=None,
        config=[],
    )


def test_the_triggerer_brings_what_no_task_has_brought_yet(
    lab: Lab, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an upgrade it is the first of the new version that asks for a job of the old one."""
    trigger = RemoteJobTrigger(
        beamtime=JOB.beamtime,
        part=JOB.part,
        asset="rds/diamond/mg25682-2",
        run_id="run-1",
        ssh_conn_id="rds_ssh",
        remote_host=None,
        job_id="transfer",
        job_dir=JOB.folder,
        log_file=f"{JOB.folder}/log",
        exit_code_file=f"{JOB.folder}/exit_code",
        remote_os="posix",
    )

    class Hook:
        async def get_conn(self) -> asyncssh.SSHClientConnection:
            return await connected(lab)

    monkeypatch.setattr(trigger, "_get_hook", Hook)

    async def ask() -> Any:
        conn = await trigger._connect()
        try:
            return await trigger._status(conn)
        finally:
            conn.close()

    assert asyncio.run(ask()).state in {"absent", "dead", "finished"}
    assert {path.name for path in scripts.iterdir()} == {*bundle(), "complete"}
    assert {path.stat().st_mode & 0o777 for path in scripts.iterdir()} == {0o600}
    assert scripts.stat().st_mode & 0o777 == 0o700


def test_several_triggerers_bring_them_at_once(lab: Lab, scripts: Path) -> None:
    async def all_at_once() -> None:
        connections = [await connected(lab) for _ in range(3)]
        await asyncio.gather(*(install(conn) for conn in connections))
        for conn in connections:
            conn.close()

    asyncio.run(all_at_once())
    assert {path.name for path in scripts.iterdir()} == {*bundle(), "complete"}


# --- what nobody needs any more ---------------------------------------------------------------------------

DAY = 86400


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """~/.beamferry of an account that has been used for long."""
    home = tmp_path / ".beamferry"
    for name in ("locks", "s", "mismatches", "jobs", remote.BIN.partition("/")[2]):
        (home / name).mkdir(parents=True)
    (home / "s" / "socket.opened").write_text("1")
    (home / "mismatches" / "diamond_mg1-1").write_text("a file")
    current = tmp_path / bundle_folder()
    current.mkdir()
    for name, content in bundle().items():
        (current / name).write_bytes(content)
    (current / "complete").touch()
    return home


def prune(home: Path) -> None:
    folder = f".beamferry/bin/{bundle_folder().rpartition('/')[2]}"
    order = json.dumps({"home": ".beamferry", "scripts": folder})
    subprocess.run(
        ["bash", f"{folder}/agent.sh", "prune"], cwd=home.parent, check=True, input=order, text=True
    )


def age(folder: Path, days: int) -> None:
    at = time.time() - days * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (at, at))


def beamtime(home: Path, name: str, outcome: str = "verified") -> Path:
    folder = home / "jobs" / name
    for below in ("transfer", "work/verify", "work/plan", "run"):
        (folder / below).mkdir(parents=True)
    for file in ("todo", "source.census", "damaged", "verify/source.census", "verify/mismatches"):
        (folder / "work" / file).write_text("x")
    (folder / "run" / "verdict.json").write_text(json.dumps({"value": {"outcome": outcome}}))
    return folder


@pytest.mark.parametrize(
    ("days", "outcome", "lists", "there"),
    [
        (1, "verified", True, True),
        (10, "verified", False, True),
        (10, "different", True, True),
        (100, "verified", False, False),
        (100, "different", False, False),
    ],
)
def test_lists_go_when_all_is_verified_and_folders_that_nobody_touches(
    home: Path, days: int, outcome: str, lists: bool, there: bool
) -> None:
    folder = beamtime(home, "diamond_mg1-1", outcome)
    age(folder, days)
    prune(home)
    assert folder.exists() == there
    assert [(folder / "work" / name).exists() for name in ("todo", "verify/source.census")] == [lists, lists]
    assert (folder / "work" / "damaged").exists() == there
    assert (home / "mismatches" / "diamond_mg1-1").exists()
    assert (home / "s" / "socket.opened").exists()


def test_a_run_that_has_listed_and_waits_for_a_yes_keeps_its_lists(home: Path) -> None:
    folder = beamtime(home, "diamond_mg1-1")
    age(folder, 20)
    at = time.time() - 15 * DAY
    os.utime(folder / "work" / "todo", (at, at))
    prune(home)
    assert (folder / "work" / "todo").exists()


@pytest.mark.parametrize(
    "lock", ["locks/diamond_mg1-1", "locks/diamond_mg1-1.start", "jobs/diamond_mg1-1/lock"]
)
def test_a_beamtime_whose_lock_is_held_is_left_alone(home: Path, lock: str) -> None:
    folder = beamtime(home, "diamond_mg1-1")
    (home / lock).touch()
    age(folder, 100)
    holder = subprocess.Popen(["flock", str(home / lock), "sh", "-c", "echo held; exec sleep 600"], stdout=-1)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        age(folder, 100)
        prune(home)
        assert (folder / "work" / "todo").exists()
    finally:
        subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
        holder.kill()
        holder.wait()


def old_scripts(home: Path, name: str) -> Path:
    folder = home / "bin" / name
    folder.mkdir()
    (folder / "job.sh").write_text("sleep 600\n")
    (folder / "complete").touch()
    age(folder, 40)
    return folder


def test_scripts_of_versions_that_nobody_uses_go(home: Path) -> None:
    unused, running, told, young = (old_scripts(home, digit * 16) for digit in "abcd")
    (young / "complete").touch()
    folder = beamtime(home, "diamond_mg1-1")
    (folder / "transfer" / "mark").write_text(f"generation=g\nscripts=.beamferry/bin/{told.name}\n")
    (folder / "transfer" / "heartbeat").touch()
    process = subprocess.Popen(["bash", f"{running}/job.sh"], start_new_session=True)
    try:
        prune(home)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
    assert [path.exists() for path in (unused, running, told, young)] == [False, True, True, True]
    assert (home.parent / bundle_folder() / "complete").exists()


def test_it_looks_once_a_day(home: Path) -> None:
    prune(home)
    folder = beamtime(home, "diamond_mg1-1")
    age(folder, 100)
    prune(home)
    assert folder.exists()
    age(home / "locks", 2)
    prune(home)
    assert not folder.exists()
