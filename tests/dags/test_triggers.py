"""What the triggerer does with a job when Airflow takes its trigger away."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key
from beamferry.lab.settings import free_port
from beamferry.remote import Job, Question, Status, answer_of, bundle, bundle_folder, parse_status
from beamferry.remote.starts import Owner
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

JOB = Job("diamond_mg25682-2", "transfer")
OWNER = Owner("1111111111111111", "tests")


def work(*arguments: str) -> Question:
    """What starts the script work.sh as a job."""
    script = f"{bundle_folder()}/work.sh"
    return JOB.start("run-1", script, arguments, destination="rds", owner=OWNER)


class Connection:
    """Runs commands in a folder as RDS-SSH does in the home folder."""

    def __init__(self, home: Path) -> None:
        self.home = home

    async def run(self, command: str, *, input: str = "", **_: Any) -> Any:  # noqa: A002
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-c", command],
            cwd=self.home,
            input=input,
            capture_output=True,
            text=True,
            check=False,
        )
        return SimpleNamespace(stdout=done.stdout, stderr=done.stderr, exit_status=done.returncode)

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


class Rds:
    """A home folder as on RDS-SSH."""

    def __init__(self, home: Path) -> None:
        self.home = home
        folder = home / bundle_folder()
        folder.mkdir(parents=True)
        for name, content in bundle().items():
            (folder / name).write_bytes(content)
        (folder / "complete").touch()
        (folder / "work.sh").write_text("sleep 600\n")

    def said(self, question: Question) -> str:
        done = subprocess.run(
            question.command,
            cwd=self.home,
            input=question.request,
            capture_output=True,
            text=True,
            check=True,
        )
        return answer_of(done.stdout)

    def start(self, *arguments: str) -> str:
        """Start a job and return its generation."""
        return self.said(work(*arguments)).split()[1]

    def status(self) -> Status:
        return parse_status(self.said(JOB.verb("status")))


@pytest.fixture
def rds(tmp_path: Path) -> Iterator[Rds]:
    made = Rds(tmp_path)
    yield made
    made.said(JOB.stop())


@pytest.fixture
def cancelled(rds: Rds, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, str], None]:
    """Has Airflow cancel a trigger of a generation, while its task is in this state."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from beamferry.airflow import triggers

    def cancel(state: str | None, generation: str) -> None:
        trigger = triggers.RemoteJobTrigger(
            beamtime=JOB.beamtime,
            part=JOB.part,
            asset="rds/diamond/mg25682-2",
            run_id="run-1",
            generation=generation,
            ssh_conn_id="rds_ssh",
            remote_host=None,
            job_id=JOB.part,
            job_dir=JOB.folder,
            log_file=f"{JOB.folder}/log",
            exit_code_file=f"{JOB.folder}/exit_code",
            remote_os="posix",
        )
        asked = []

        def states(**of: Any) -> dict[str, Any]:
            asked.append(of)
            return {} if state == "no such run" else {"run-1": {"transfer_3": state}}

        async def connect() -> Connection:
            return Connection(rds.home)

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
        monkeypatch.setattr(trigger, "_connect", connect)
        # What Airflow sets is checked for more than is of interest here.
        trigger._task_instance = SimpleNamespace(  # type: ignore[assignment]
            dag_id="beamtime", task_id="transfer", run_id="run-1", map_index=3
        )
        asyncio.run(trigger.on_kill())
        assert asked == [
            {"dag_id": "beamtime", "task_ids": ["transfer"], "run_ids": ["run-1"], "map_index": 3}
        ]

    return cancel


@pytest.mark.parametrize("state", ["deferred", "scheduled", "queued", "running", None])
def test_a_job_goes_on_when_another_triggerer_or_another_try_has_it(
    rds: Rds, cancelled: Callable[[str | None, str], None], state: str | None
) -> None:
    cancelled(state, rds.start())
    assert rds.status().state == "running"


@pytest.mark.parametrize("state", ["failed", "success", "no such run"])
def test_a_job_ends_when_a_person_ends_its_task(
    rds: Rds, cancelled: Callable[[str | None, str], None], state: str
) -> None:
    cancelled(state, rds.start())
    assert (rds.status().state, rds.status().exit_code) == ("finished", 143)


def test_the_job_of_a_later_folder_is_not_stopped_for_an_earlier_one(
    rds: Rds, cancelled: Callable[[str | None, str], None]
) -> None:
    """A triggerer that stood still may be told late: the folder that it watched is long done, the next one moves."""
    earlier = rds.start("raw")
    rds.said(JOB.stop())
    rds.start("processed")
    cancelled("success", earlier)
    assert rds.status().state == "running"


@pytest.mark.parametrize(("state", "asks_on"), [("deferred", True), ("failed", False)])
def test_a_person_is_asked_to_log_in_for_as_long_as_a_task_waits(
    monkeypatch: pytest.MonkeyPatch, state: str, asks_on: bool
) -> None:
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    from beamferry.airflow import login

    forgotten = []

    class Store:
        def __init__(self, name: str) -> None:
            self.name = name

        async def adelete(self, key: str) -> None:
            forgotten.append((self.name, key))

    monkeypatch.setattr(login, "AssetStateStoreAccessor", Store)
    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: {"run-1": {"transfer": state}})
    )
    trigger = login.LogInTrigger(
        ssh_conn_id="rds_ssh", check=shlex.split("true"), asset="rds/x", until=0, look_seconds=1
    )
    trigger._task_instance = SimpleNamespace(  # type: ignore[assignment]
        dag_id="beamtime", task_id="transfer", run_id="run-1", map_index=-1
    )
    asyncio.run(trigger.on_kill())
    assert (forgotten == []) == asks_on


@pytest.fixture
def real_rds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """RDS-SSH with a real sshd, and Airflow's connection to it, which pins its host key."""
    port = free_port("127.0.0.1")
    host = Host("rds", tmp_path / "rds", "127.0.0.1", port, getpass.getuser(), None)
    key = tmp_path / "key"
    make_key(key, "airflow")
    host.prepare(public_key(key))
    host.start()
    extra = {"key_file": str(key), "host_key": host.pinned}
    connection = {
        "conn_type": "ssh",
        "host": host.address,
        "port": port,
        "login": host.account,
        "extra": extra,
    }
    monkeypatch.setenv("AIRFLOW_CONN_RDS_SSH", json.dumps(connection))
    try:
        yield host
    finally:
        host.down()


def watching() -> Any:
    from beamferry.airflow.triggers import OtherJobTrigger

    return OtherJobTrigger(
        beamtime=JOB.beamtime,
        part=JOB.part,
        ssh_conn_id="rds_ssh",
        remote_host=None,
        job_id=JOB.part,
        job_dir=JOB.folder,
        log_file=f"{JOB.folder}/log",
        exit_code_file=f"{JOB.folder}/exit_code",
        remote_os="posix",
        max_reconnect_attempts=3,
    )


def waiting() -> Any:
    from beamferry.airflow.login import LogInTrigger

    return LogInTrigger(
        ssh_conn_id="rds_ssh", check=["true"], asset="rds/x", until=time.time() + 60, look_seconds=0
    )


def outcome(trigger: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
    """How often a trigger connects, and what it says in the end."""
    from airflow.providers.ssh.hooks.ssh import SSHHookAsync

    from beamferry.airflow import triggers

    connects = []
    get_conn = SSHHookAsync.get_conn

    def counted(hook: SSHHookAsync) -> Any:
        connects.append(hook)
        return get_conn(hook)

    async def events() -> list[Any]:
        return [event async for event in trigger.run()]

    monkeypatch.setattr(triggers, "QUIET_SECONDS", 0)
    monkeypatch.setattr(SSHHookAsync, "get_conn", counted)
    monkeypatch.setattr(type(trigger), "_reconnect_delay", lambda *_: 0, raising=False)
    (event,) = asyncio.run(events())
    return len(connects), event.payload


class Watched:
    """A job that runs on RDS-SSH, and a trigger that looks for it."""

    def __init__(self, real: Host) -> None:
        made = Rds(real.home)
        self.generation = made.start()
        self.leader = int((real.home / JOB.folder / "pid").read_text().split()[0])
        self.status_file = real.home / JOB.status_file
        self.end = lambda: made.said(JOB.stop())

    async def looks(self, *before: Callable[[], object]) -> list[tuple[int | None, list[str]]]:
        """What the trigger makes of the job at each look, and which commands it has started for that."""
        from beamferry.airflow.triggers import RemoteJobTrigger

        trigger = RemoteJobTrigger(
            **{
                **watching().serialize()[1],
                "asset": "rds/x",
                "run_id": "run-1",
                "generation": self.generation,
            }
        )
        conn = await trigger._connect()
        run, started, found = conn.run, [], []

        def counted(command: str, **words: Any) -> Any:
            started.append(command)
            return run(command, **words)

        conn.run = counted
        for do in before:
            do()
            started.clear()
            code = await trigger._check_completion(conn)
            await trigger._read_log_chunk(conn)
            found.append((code, list(started)))
        conn.close()
        return found


@pytest.fixture
def watched(real_rds: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    from beamferry.airflow import triggers

    # The next look believes nothing that it has seen before.
    monkeypatch.setattr(triggers, "SILENCE_SECONDS", 0)
    job = Watched(real_rds)
    wait_for(job.status_file.exists, "it tells how it is", 60)
    yield job
    job.end()


def test_a_look_for_a_job_that_lives_starts_nothing_on_rds_ssh(watched: Watched) -> None:
    """It is taken every few seconds, for days."""

    def lives() -> None:
        before = watched.status_file.read_text()
        wait_for(lambda: watched.status_file.read_text() != before, "a sign of life", 60)

    looks = asyncio.run(watched.looks(lives, lives, lives))
    assert looks == [(None, [])] * 3


def test_a_job_that_tells_nothing_any_more_is_looked_for_by_the_agent(watched: Watched) -> None:
    def dies() -> None:
        os.kill(watched.leader, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{watched.leader}/exe").exists(), "it is dead", 60)

    (alive, _), (dead, asked) = asyncio.run(watched.looks(lambda: None, dies))
    assert (alive, dead, len(asked)) == (None, 137, 1)


@pytest.mark.parametrize("content", [None, b"", bytes(14), b'{"state":'])
def test_what_a_job_tells_in_a_damaged_file_is_asked_for(watched: Watched, content: bytes | None) -> None:
    def damage() -> None:
        # It would write it anew.
        os.kill(watched.leader, signal.SIGSTOP)
        watched.status_file.unlink()
        if content is not None:
            watched.status_file.write_bytes(content)

    try:
        ((code, asked),) = asyncio.run(watched.looks(damage))
        assert (code, len(asked)) == (None, 1)
    finally:
        os.kill(watched.leader, signal.SIGCONT)


@pytest.mark.parametrize("made", [watching, waiting])
def test_another_host_key_is_no_lost_connection(
    real_rds: Host, monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any]
) -> None:
    real_rds.host_key.unlink()
    make_key(real_rds.host_key, "impostor")
    real_rds.stop()
    real_rds.start()
    connects, told = outcome(made(), monkeypatch)
    assert connects == 1
    assert "ost key" in str(told)


@pytest.mark.parametrize("made", [watching, waiting])
def test_a_host_that_does_not_answer_is_asked_again(
    real_rds: Host, monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any]
) -> None:
    real_rds.stop()
    connects, told = outcome(made(), monkeypatch)
    assert connects > 3
    assert "Connect call failed" in str(told)


def test_a_home_that_takes_no_scripts_is_no_lost_connection(
    real_rds: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (real_rds.home / ".beamferry").write_text("a file where a folder has to be")
    connects, told = outcome(watching(), monkeypatch)
    assert connects == 1
    assert told["status"] == "error"


def test_a_trigger_is_made_again_in_another_triggerer_as_it_was() -> None:
    from airflow.sdk.module_loading import import_string

    from beamferry.airflow.login import AttendedJobTrigger
    from beamferry.airflow.triggers import OtherJobTrigger

    common = {
        "beamtime": JOB.beamtime,
        "part": JOB.part,
        "ssh_conn_id": "rds_ssh",
        "remote_host": None,
        "job_id": JOB.part,
        "job_dir": JOB.folder,
        "log_file": "log",
        "exit_code_file": "exit_code",
        "remote_os": "posix",
    }
    for trigger in (
        OtherJobTrigger(**common),
        AttendedJobTrigger(**common, asset="rds/x", run_id="run-1", generation="g", notice_at=None),
    ):
        path, kwargs = trigger.serialize()
        again = import_string(path)(**kwargs)
        assert type(again) is type(trigger)
        assert again.serialize() == (path, kwargs)


class Time:
    """Goes on only while somebody sleeps; also the far end of triggers that look there until a certain look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, looks: int) -> None:
        from airflow.providers.ssh.hooks.ssh import SSHHookAsync

        from beamferry.airflow import login, triggers

        self.now, self.looks = 0.0, looks
        self.asked: list[float] = []
        clock = SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now)
        monkeypatch.setattr(triggers, "time", clock)
        monkeypatch.setattr(login, "time", clock)
        monkeypatch.setattr(asyncio, "sleep", self.sleep)
        monkeypatch.setattr(SSHHookAsync, "get_conn", self.connect)
        monkeypatch.setattr(triggers, "install", self.install)
        # The job itself tells nothing: the agent is asked.
        monkeypatch.setattr(triggers._Watching, "_read", self.nothing)

    async def nothing(self, *_: Any) -> None:
        pass

    async def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def connect(self) -> Time:
        return self

    async def install(self, _: Any) -> None:
        pass

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass

    async def run(self, command: str, *, input: str = "", **_: Any) -> Any:  # noqa: A002
        """Answer for a job, for a log-in, and with 0 for the size of a log."""
        words = shlex.split(command)
        if words != ["true"] and Question(tuple(words), input) != JOB.verb("status"):
            return SimpleNamespace(stdout="0", stderr="", exit_status=0)
        self.asked.append(self.now)
        over = len(self.asked) >= self.looks
        state, code = ("finished", "0") if over else ("running", "null")
        job = f'{{"state":"{state}","exit_code":{code},"heartbeat_age":0,"generation":"","progress":null}}\n'
        log_in = f"open={'yes' if over else 'no'}\nnode=rds\nage=\nlives=\nreason=\nend=yes\n"
        answer = log_in if words == ["true"] else job
        return SimpleNamespace(stdout=f"beamferry-answer\n{answer}", stderr="", exit_status=0)

    def fires(self, trigger: Any) -> float:
        """When a trigger fires; nothing else happens."""
        began, at = self.now, []

        async def run() -> None:
            at.extend([self.now - began async for _ in trigger.run()])

        asyncio.run(run())
        (once,) = at
        return once


def watching_a_run() -> Any:
    from beamferry.airflow.login import AttendedJobTrigger

    _, kwargs = watching().serialize()
    return AttendedJobTrigger(**kwargs, asset="rds/x", run_id="run-1", notice_at=None)


def asked_to_log_in() -> Any:
    from beamferry.airflow.login import LogInTrigger

    return LogInTrigger(ssh_conn_id="rds_ssh", check=["true"], asset="rds/x", until=1e9, look_seconds=5)


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_RDS_SSH", json.dumps({"conn_type": "ssh", "host": "rds"}))


TRIGGERS = [watching, watching_a_run, asked_to_log_in]


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("made", TRIGGERS)
def test_no_trigger_fires_before_the_scheduler_knows_that_its_task_waits(
    monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any]
) -> None:
    """Airflow takes a task whose trigger was faster than that for one that was killed."""
    from beamferry.airflow.triggers import QUIET_SECONDS

    assert QUIET_SECONDS >= 5
    time = Time(monkeypatch, looks=1)
    assert time.fires(made()) == QUIET_SECONDS
    assert time.asked == [0]
    # One that has something to say later says it at once.
    late = Time(monkeypatch, looks=int(QUIET_SECONDS // 5) + 2)
    assert late.fires(made()) == late.asked[-1] > QUIET_SECONDS


@pytest.mark.usefixtures("connection")
def test_what_a_trigger_says_of_a_lost_connection_waits_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    from beamferry.airflow.triggers import QUIET_SECONDS, NotReachedError

    time = Time(monkeypatch, looks=1)

    async def refuse(_: Any) -> None:
        raise NotReachedError("no room")

    trigger = watching_a_run()
    monkeypatch.setattr(trigger, "_connect", refuse.__get__(trigger))
    assert time.fires(trigger) == QUIET_SECONDS


def test_those_are_all_triggers_that_there_are() -> None:
    """A new one that is missing here might fire at once."""
    import pkgutil
    from importlib import import_module

    from airflow.triggers.base import BaseTrigger

    from beamferry import airflow

    for module in pkgutil.walk_packages(airflow.__path__, "beamferry.airflow."):
        import_module(module.name)

    def below(kind: type) -> set[type]:
        return {kind, *(one for child in kind.__subclasses__() for one in below(child))}

    ours = {kind for kind in below(BaseTrigger) if kind.__module__.startswith("beamferry.")}
    tried = {kind for made in TRIGGERS for kind in type(made()).__mro__}
    assert ours
    assert ours <= tried


@pytest.mark.usefixtures("connection")
@pytest.mark.parametrize("made", TRIGGERS)
def test_a_job_that_takes_hours_is_asked_for_less_often(
    monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any]
) -> None:
    time = Time(monkeypatch, looks=150)
    trigger = made()
    time.fires(trigger)
    pauses = [after - before for before, after in zip(time.asked, time.asked[1:], strict=False)]
    assert pauses[:100] == [5] * 100
    assert set(pauses[125:]) == {30}
    # Another triggerer begins as this one did.
    assert trigger.serialize()[1] == made().serialize()[1]
