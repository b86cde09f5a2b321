"""A task waits itself for a short job, and hands only a longer one to the triggerer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from test_progress import PARAMS, SITE, Store
from test_triggers import JOB, Rds, work

from beamferry.errors import PermanentError, TransientError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.looks import in_the_task
from beamferry.remote import Question
from beamferry.remote.home_files import Completed
from beamferry.remote.starts import parse_start
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROGRESS = {
    "phase": "transfer",
    "bytes_done": 7,
    "bytes_total": 7,
    "files_done": 1,
    "files_total": 1,
    "rate": 1,
    "updated": 1_800_000_000,
}


class Session:
    """Runs commands and reads files in a home folder."""

    def __init__(self, rds: Rds) -> None:
        self.rds = rds
        self.asked = 0
        self.lost_after: int | None = None

    def run(self, command: tuple[str, ...], *, timeout: float, request: str) -> Completed:  # noqa: ARG002
        question = Question(command, request)
        if question == JOB.verb("status"):
            self.asked += 1
            if self.lost_after is not None and self.asked > self.lost_after:
                raise TransientError("rds-ssh-lost", "The connection broke", "nothing to do")
        return Completed(0, self.rds.said(question), "")

    def read(self, path: str) -> str:
        file = self.rds.home / path
        return file.read_text() if file.exists() else ""

    def prove(self, folder: str) -> None:
        pass


class Chain:
    """One task of a beamtime, tried again and again over one home folder."""

    def __init__(self, rds: Rds) -> None:
        self.rds = rds
        self.session = Session(rds)
        self.beamtime = DiamondBeamtime(
            id="mg25682-2", facility="diamond", instrument="i22", account="mbcx9cd4", ended=date(2026, 11, 1)
        )

    def work(self, script: str) -> None:
        self.rds.write("work.sh", script)

    def task(self) -> Any:
        from beamferry.airflow.jobs import RemoteJobOperator

        chain = self

        class Task(RemoteJobOperator):
            part = "transfer"

            def start(self, context: Any, session: Any) -> Any:  # noqa: ARG002
                return parse_start(chain.rds.started())

            def finish(self, context: Any, session: Any, ended: Any) -> Any:  # noqa: ARG002
                if ended.exit_code:
                    raise PermanentError("broken", f"It ended with {ended.exit_code}", "mend it")
                return dict(ended.result)

        return Task(task_id="transfer", beamtime=self.beamtime, site=SITE)

    def context(self) -> Any:
        ti = SimpleNamespace(
            dag_id="beamtime", task_id="transfer", run_id="run-1", map_index=-1, try_number=9, max_tries=0
        )
        return {
            "params": PARAMS,
            "run_id": "run-1",
            "ti": ti,
            "dag_run": SimpleNamespace(run_type="manual", logical_date=None),
        }


class Home(Rds):
    """A home folder whose work a test chooses."""

    def write(self, name: str, text: str) -> None:
        from beamferry.remote import bundle_folder

        (self.home / bundle_folder() / name).write_text(text)

    def started(self) -> str:
        return self.said(work())


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    from beamferry.airflow import state
    from beamferry.airflow.task import BeamtimeTask

    monkeypatch.setattr(Store, "kept", {})
    monkeypatch.setattr(state, "AssetStateStoreAccessor", Store)
    made = Chain(Home(tmp_path))
    killed(monkeypatch, None, "running")

    @contextmanager
    def rds(_: BeamtimeTask) -> Iterator[Session]:
        yield made.session

    monkeypatch.setattr(BeamtimeTask, "rds", rds)
    yield made
    made.rds.said(JOB.stop())


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], list[float]]:
    """Takes the place of a task's sleep: calls a function with the coming look's number, notes the time."""
    from beamferry.airflow import jobs

    def instead(do: Callable[[int], None]) -> list[float]:
        seconds: list[float] = []

        def pause(time: float, _: Callable[[], bool]) -> None:
            seconds.append(time)
            do(len(seconds))

        monkeypatch.setattr(jobs, "pause", pause)
        return seconds

    return instead


def ended(chain: Chain) -> Callable[[int], None]:
    """Waits for the job's end in place of the time that a test does not measure."""
    return lambda _: wait_for(lambda: chain.rds.status().state == "finished", "the job ended", 30)


def test_a_job_that_ends_soon_ends_its_task_too(
    chain: Chain, slept: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.work(
        f"echo said by the job\necho '{json.dumps(PROGRESS)}' >$BEAMFERRY_JOB/progress.json\n"
        "echo '{\"files\": 1}' >$BEAMFERRY_JOB/result.json\n"
    )
    slept(ended(chain))
    task = chain.task()
    assert task.begin(chain.context()) == {"files": 1}
    assert "said by the job" in capsys.readouterr().out
    assert chain.session.asked == 1
    # A board that is looked at sees what the triggerer would have told.
    for key in ("progress", "transfer"):
        assert json.loads(Store.kept[key])["bytes_done"] == 7
        assert json.loads(Store.kept[key])["history"] == [[1_800_000_000, 7]]
    # Whoever clears the task now means a new job.
    assert chain.rds.status().state == "absent"


def test_a_job_that_ends_soon_and_badly_says_why_at_once(chain: Chain, slept: Any) -> None:
    chain.work("exit 3\n")
    slept(ended(chain))
    with pytest.raises(PermanentError, match="It ended with 3"):
        chain.task().begin(chain.context())
    assert json.loads(Store.kept["problem"])["code"] == "broken"


def test_a_job_that_goes_on_is_handed_to_the_triggerer_with_its_generation(chain: Chain, slept: Any) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    from beamferry.airflow.policy import WAIT_SECONDS

    seconds = slept(lambda _: None)
    task = chain.task()
    with pytest.raises(TaskDeferred) as deferred:
        task.begin(chain.context())
    assert seconds == list(in_the_task(WAIT_SECONDS))
    assert chain.rds.status().state == "running"
    assert deferred.value.trigger.generation == chain.rds.status().generation == task.generation


def test_a_connection_that_breaks_meanwhile_costs_no_try(
    chain: Chain, slept: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    slept(lambda _: None)
    chain.session.lost_after = 2
    with pytest.raises(TaskDeferred):
        chain.task().begin(chain.context())
    assert chain.session.asked == 3
    assert "The triggerer connects anew: the job could not be asked for: " in capsys.readouterr().out
    assert chain.rds.status().state == "running"


def test_a_job_in_the_place_of_this_one_is_not_taken_for_it(chain: Chain, slept: Any) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    def replace(look: int) -> None:
        if look == 2:
            chain.rds.said(JOB.stop())
            chain.rds.said(JOB.verb("acknowledge"))
            chain.work("exit 0\n")
            chain.rds.started()

    slept(replace)
    with pytest.raises(TaskDeferred):
        chain.task().begin(chain.context())
    assert chain.session.asked == 2


@pytest.mark.parametrize(("state", "goes_on"), [("failed", False), ("running", True), ("unknown", True)])
def test_a_person_who_ends_a_task_in_its_last_moment_ends_its_job_too(
    chain: Chain, slept: Any, monkeypatch: pytest.MonkeyPatch, state: str, goes_on: bool
) -> None:
    """Airflow looks every five seconds whether a task is to end, and says nothing to one that defers meanwhile."""
    from airflow.sdk.exceptions import TaskDeferred

    killed(monkeypatch, chain.task(), state)
    slept(lambda _: None)
    with pytest.raises(TaskDeferred):
        chain.task().begin(chain.context())
    assert (chain.rds.status().state == "running") == goes_on


def test_a_task_that_is_ended_while_it_talks_to_airflow_takes_its_job_along(
    chain: Chain, slept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question at a time: that for the task's state cannot be asked before the one under way is answered."""
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    asking = threading.Lock()
    task = chain.task()
    chain.work(f"echo '{json.dumps(PROGRESS)}' >$BEAMFERRY_JOB/progress.json\nsleep 600\n")

    def states(**_: Any) -> dict[str, Any]:
        with asking:
            return {"run-1": {"transfer": "failed"}}

    keep = Store.set

    def interrupted(store: Store, key: str, value: Any) -> None:
        if key == "progress":
            with asking:
                task.on_kill()
        keep(store, key, value)

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
    monkeypatch.setattr(Store, "set", interrupted)
    progress = chain.rds.home / JOB.folder / "progress.json"
    slept(lambda _: wait_for(progress.exists, "progress is told", 30))
    with pytest.raises(TaskDeferred):
        task.begin(chain.context())
    assert (chain.rds.status().state, chain.rds.status().exit_code) == ("finished", 143)


def killed(monkeypatch: pytest.MonkeyPatch, task: Any, state: str) -> Callable[[int], None]:
    """Has Airflow end a task, of which it then says this, while it waits for the second time."""
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    monkeypatch.setattr(
        RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: {"run-1": {"transfer": state}})
    )
    return lambda look: task.on_kill() if look == 2 else None


@pytest.mark.parametrize("state", ["restarting", "running"])
def test_a_task_that_is_cleared_while_it_waits_attaches_again(
    chain: Chain, slept: Any, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    go = chain.rds.home / "go"
    chain.work(
        f"while [ ! -e '{go}' ]; do sleep 0.1; done\necho '{{\"files\": 1}}' >$BEAMFERRY_JOB/result.json\n"
    )
    task = chain.task()
    seconds = slept(killed(monkeypatch, task, state))
    with pytest.raises(TaskDeferred):
        task.begin(chain.context())
    assert len(seconds) == 2, "it waits no longer once it is asked to end"
    first = chain.rds.status()
    assert first.state == "running"
    go.touch()
    slept(ended(chain))
    again = chain.task()
    assert again.begin(chain.context()) == {"files": 1}
    assert again.generation == first.generation == task.generation


def test_a_task_that_a_person_ends_while_it_waits_takes_its_job_along_and_is_no_fault(
    chain: Chain, slept: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    task = chain.task()
    slept(killed(monkeypatch, task, "failed"))
    with pytest.raises(TaskDeferred):
        task.begin(chain.context())
    assert (chain.rds.status().state, chain.rds.status().exit_code) == ("finished", 143)
    assert "problem" not in Store.kept
    assert "retry" not in Store.kept
