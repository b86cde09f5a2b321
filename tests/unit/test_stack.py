"""Airflow really started and stopped on this machine, without any DAG."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from beamferry.errors import PermanentError
from beamferry.keeping import Keeper
from beamferry.stack import COMPONENTS, POOL, Stack
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# How long is waited at the most; nothing is asserted about how long anything takes.
PATIENCE = 180.0
pytestmark = pytest.mark.timeout(2 * PATIENCE)

# Starts a component, says so, and waits to be killed.
STARTER = """
import pathlib, sys, time
from beamferry.stack import Stack
home, dags = map(pathlib.Path, sys.argv[1:])
Stack(home, dags).start_component("dag-processor")
print("started", flush=True)
time.sleep(600)
"""


def make_stack(folder: Path) -> Stack:
    dags = folder / "dags"
    dags.mkdir(parents=True, exist_ok=True)
    connection = {"conn_type": "ssh", "host": "rds.example", "extra": {"key_file": "key"}}
    return Stack(folder / "home", dags, connections={POOL: connection}, env={"BEAMFERRY_REGISTRY": "none"})


def processes(stack: Stack) -> list[psutil.Process]:
    """All processes that work in this Airflow's folder: found without its own records."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(stack.home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait(look: Callable[[], object], what: str) -> None:
    wait_for(look, what, PATIENCE)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = make_stack(tmp_path_factory.mktemp("stack"))
    try:
        running.start()
        running.wait_healthy(PATIENCE)
        yield running
    finally:
        running.stop()
    assert processes(running) == []


def test_all_components_run_and_the_pool_counts_deferred_tasks(stack: Stack) -> None:
    assert len(processes(stack)) >= len(COMPONENTS)
    pool = stack.api("GET", f"/pools/{POOL}")
    assert pool["include_deferred"] is True
    assert stack.api("GET", "/dags")["dags"] == []


def test_making_the_pool_again_keeps_it(stack: Stack) -> None:
    stack.api("PATCH", f"/pools/{POOL}", {"pool": POOL, "slots": 2, "include_deferred": True})
    stack.wait_healthy(PATIENCE)
    assert stack.api("GET", f"/pools/{POOL}")["slots"] == 2


def test_nothing_listens_beyond_this_machine(stack: Stack) -> None:
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in processes(stack)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert ("127.0.0.1", stack.port) in listening
    assert {address for address, _port in listening} <= {"127.0.0.1", "::1"}


def test_only_the_password_opens_it(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/api/v2/pools").status_code == 401
    wrong = {"username": "admin", "password": stack.password + "x"}
    assert httpx.post(f"{stack.url}/auth/token", json=wrong).status_code == 401


def test_secrets_are_for_the_owner_alone_and_in_no_command(stack: Stack) -> None:
    assert stat.S_IMODE(stack.home.stat().st_mode) == 0o700
    secrets = []
    for name in ("passwords.json", "jwt_secret", "fernet_key"):
        file = stack.home / name
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, name
        secrets.append(file.read_text())
    secrets.append(json.loads(secrets[0])["admin"])
    words = "\n".join(word for process in processes(stack) for word in process.cmdline())
    assert not [secret for secret in secrets if secret in words]


def test_a_second_start_in_the_same_folder_is_refused_and_harms_nothing(stack: Stack) -> None:
    before = {name: stack.pid(name) for name in COMPONENTS}
    second = Stack(stack.home, stack.dags)
    with pytest.raises(PermanentError) as caught:
        second.start()
    assert caught.value.code == "airflow-runs"
    second.stop()
    assert {name: stack.pid(name) for name in COMPONENTS} == before


@pytest.mark.parametrize("name", ["triggerer", "scheduler", "dag-processor"])
def test_a_part_that_ends_comes_back_with_a_word_and_the_others_stay(stack: Stack, name: str) -> None:
    before = {name: stack.pid(name) for name in COMPONENTS}
    said: list[str] = []
    keeper = Keeper(stack, said.append)
    keeper.look()
    assert said == []
    # Its children outlive it for a while.
    number = before[name]
    assert number is not None
    children = psutil.Process(number).children(recursive=True)
    os.kill(number, signal.SIGKILL)

    def comes_back() -> bool:
        keeper.look()
        return stack.pid(name) not in {None, number}

    wait(comes_back, f"the {name} runs again")
    assert said == [
        f"Airflow's {name} ended by itself; it is started again in 1 s. Its log: {stack.home / name}.log",
        f"Airflow's {name} was started again.",
    ]
    after = {name: stack.pid(name) for name in COMPONENTS}
    assert [name for name in COMPONENTS if before[name] != after[name]] == [name]
    wait(lambda: not any(child.is_running() for child in children), "nothing of the old one is left")
    stack.wait_healthy(PATIENCE)


def test_nothing_outlives_a_killed_starter(stack: Stack, tmp_path: Path) -> None:
    other = make_stack(tmp_path)
    with (
        sqlite3.connect(stack.home / "airflow.db") as filled,
        sqlite3.connect(other.home / "airflow.db") as empty,
    ):
        filled.backup(empty)
    command = (sys.executable, "-c", STARTER, str(other.home), str(other.dags))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        # It works, that is: it would go on if nobody stopped it.
        wait(lambda: (other.home / "dag-processor.log").stat().st_size, "the component writes its log")
        assert processes(other)
        starter.send_signal(signal.SIGKILL)
    wait(lambda: not processes(other), "the component has ended too")


def test_what_is_left_of_a_dead_component_is_stopped_too(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    # Stands for a scheduler that was killed alone, while a task of it runs in a group of its own.
    program = (
        "import os, time\n"
        "if os.fork():\n    os._exit(0)\n"
        "os.setpgid(0, 0)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(
        (sys.executable, "-c", program),
        stdout=subprocess.PIPE,
        cwd=stack.home,
        start_new_session=True,
    ) as leader:
        assert leader.stdout is not None
        # The kernel counts from boot in ticks (proc_pid_stat(5)); this is what a start would have noted.
        with open(f"/proc/{leader.pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            ticks = file.read().rpartition(")")[2].split()[19]
        (stack.home / "scheduler.pid").write_text(f"{leader.pid} {ticks}")
        assert leader.stdout.readline() == b"ready\n"
        leader.wait()
    assert stack.pid("scheduler") is None
    assert len(processes(stack)) == 1
    stack.kill_component("scheduler")
    wait(lambda: not processes(stack), "the task has ended too")


def test_a_process_that_got_a_recorded_number_later_is_left_alone(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with subprocess.Popen(("sleep", "600"), start_new_session=True) as stranger:
        (stack.home / "scheduler.pid").write_text(f"{stranger.pid} 1")
        assert stack.pid("scheduler") is None
        stack.stop()
        assert stranger.poll() is None
        stranger.kill()
    assert not (stack.home / "scheduler.pid").exists()


def test_the_next_free_port_is_taken(tmp_path: Path) -> None:
    first = make_stack(tmp_path / "a")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.port))
        taken.listen()
        assert make_stack(tmp_path / "b").port != first.port


def test_a_database_from_outside_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    assert make_stack(tmp_path).environment()[name] == f"sqlite:///{tmp_path}/home/airflow.db"
    monkeypatch.setenv(name, "postgresql://somewhere")
    assert make_stack(tmp_path).environment()[name] == "postgresql://somewhere"


def test_a_set_up_that_fails_names_the_remedy_and_leaves_the_folder_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////nowhere/at/all.db")
    stack = make_stack(tmp_path)
    with pytest.raises(PermanentError) as caught:
        stack.start()
    assert caught.value.code == "airflow-setup"
    stack.stop()
    assert processes(stack) == []
