"""What is kept and told of a task's fault: one that Airflow tries again, one that stopped the run, one that healed."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamferry.alerts import Kind
from beamferry.beamtime import Site
from beamferry.board import May, Paths, Seen, row
from beamferry.board.answers import Started
from beamferry.deadlines import due
from beamferry.errors import PermanentError, TransientError
from beamferry.facilities.desy import DesyBeamtime

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.dag_processing.dagbag import DagBag

    from beamferry.board.answers import Row
    from beamferry.known import Known

SITE = Site(destination_root="/mnt/rds/shared", time_zone="Europe/London")
OF = DesyBeamtime(
    id="11010750",
    facility="desy",
    instrument="p07",
    account="cdaniel",
    ended=datetime.now(UTC).date() - timedelta(days=9),
    transport="sftp",  # type: ignore[arg-type]
)
LOST = TransientError("rds-ssh-unreachable", "RDS-SSH cannot be reached", "nothing to do")
REFUSED = PermanentError("facility-key-refused", "DESY refused the key", "add it")
RETRIES = 6
PATHS = Paths(dag="/d", beamtime="/b", certificate="/c")


class Store:
    """The asset's values in this process."""

    kept: ClassVar[dict[str, Any]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> Any:
        return copy.deepcopy(self.kept.get(key))

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = copy.deepcopy(value)

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)


class Runs:
    """Tries of tasks, as Airflow makes them."""

    def __init__(self, mailed: list[Any]) -> None:
        self.mailed = mailed

    def task(self, task_id: str = "verify_access", folder: str | None = None) -> Any:
        from beamferry.airflow.operators import Transfer
        from beamferry.airflow.verify_access import VerifyAccess

        about: dict[str, Any] = {"beamtime": OF, "site": SITE, "retries": RETRIES}
        if folder is None:
            return VerifyAccess(task_id=task_id, **about)
        return Transfer(task_id=task_id, folder=folder, **about)

    def context(self, task: Any, run_id: str, number: int, error: BaseException | None = None) -> Any:
        ti = SimpleNamespace(dag_id=OF.dag_id, try_number=number, max_tries=RETRIES, map_index=-1)
        run = SimpleNamespace(logical_date=None, run_type="manual")
        return {"task": task, "run_id": run_id, "ti": ti, "dag_run": run, "exception": error}

    def end(self, task: Any, error: BaseException | None, *, number: int = 1, run_id: str = "first") -> None:
        """End a try as Airflow does: the task puts the error into words if it can, then Airflow calls back."""
        from beamferry.airflow import notices
        from beamferry.errors import BeamferryError

        context = self.context(task, run_id, number, error)
        if isinstance(error, BeamferryError):
            with pytest.raises(type(error)), task.telling(context):
                raise error
        if error is None:
            notices.after_success(context)
        elif isinstance(error, PermanentError) or number > RETRIES:
            notices.after_failure(context)
        else:
            notices.after_retry(context)

    def known(self) -> Known:
        from beamferry.airflow.state import BeamtimeState

        return BeamtimeState(OF.asset_name).known()

    def alerts(self) -> list[Kind]:
        now = datetime.now(UTC)
        return [alert.kind for alert in due(OF, SITE, self.known(), now, first_seen=now)]

    def look(self, run_id: str = "first", after: timedelta = timedelta(), state: str = "running") -> Row:
        now = datetime.now(UTC) + after
        run = Started(run_id=run_id, state=state, url="/r", start=now, end=None, mode="sync")
        return row(OF, SITE, self.known(), Seen(run=run, first_seen=now), PATHS, May(), now)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    from beamferry.airflow import notices, state

    mailed: list[Any] = []
    monkeypatch.setattr(Store, "kept", {})
    monkeypatch.setattr(state, "AssetStateStoreAccessor", Store)
    monkeypatch.setattr(notices, "tell", lambda beamtime, _: mailed.append(beamtime))
    return Runs(mailed)


def test_what_is_tried_again_is_no_failure_and_says_when(runs: Runs) -> None:
    runs.end(runs.task(), LOST, number=3)
    assert runs.known().problem is None
    assert Kind.PROBLEM not in runs.alerts()
    assert runs.mailed == []
    retry = runs.known().retry
    assert retry is not None
    assert timedelta(minutes=3) < retry.again_at - retry.at <= timedelta(minutes=8)
    found = runs.look()
    at = retry.again_at.astimezone(ZoneInfo(SITE.time_zone))
    assert found.state == "moving"
    assert found.headline == f"Tried again at {at:%H:%M} (3 of 6)"
    said = f"Nothing: RDS-SSH cannot be reached; this is tried again at {at:%H:%M} (3 of 6)."
    assert found.next_step.sentence.startswith(said)
    assert found.problem is None


def test_a_retry_is_told_while_its_run_waits_for_it_and_no_longer(runs: Runs) -> None:
    runs.end(runs.task(), LOST)
    assert "tried again" in runs.look().headline.lower()
    for found in (
        runs.look(after=timedelta(minutes=10)),
        runs.look("another"),
        runs.look(state="failed"),
    ):
        assert "tried again" not in f"{found.headline} {found.next_step.sentence}".lower()


def test_the_last_try_is_a_failure(runs: Runs) -> None:
    for number in range(1, RETRIES + 1):
        runs.end(runs.task(), LOST, number=number)
    assert runs.mailed == []
    runs.end(runs.task(), LOST, number=RETRIES + 1)
    assert runs.mailed == [OF]
    assert runs.known().problem is not None
    assert runs.known().retry is None
    assert Kind.PROBLEM in runs.alerts()


def test_what_a_person_has_to_see_to_is_a_failure_at_once(runs: Runs) -> None:
    runs.end(runs.task(), REFUSED)
    assert (runs.known().retry, runs.mailed) == (None, [OF])
    assert Kind.PROBLEM in runs.alerts()


def test_a_cleared_task_has_all_of_its_retries_again(runs: Runs) -> None:
    task = runs.task()
    context = runs.context(task, "first", 9)
    context["ti"].max_tries = 8 + RETRIES
    with pytest.raises(TransientError), task.telling(context):
        raise LOST
    retry = runs.known().retry
    assert retry is not None
    assert (retry.number, retry.of) == (1, 6)


def test_a_fault_is_over_when_its_own_task_and_folder_succeeds(runs: Runs) -> None:
    raw, processed = runs.task("transfer", "raw"), runs.task("transfer", "processed")
    for error in (LOST, REFUSED):
        runs.end(raw, error)
        before = runs.known()
        assert before.problem is not None or before.retry is not None
        # What of another task or folder goes well says nothing of this one.
        for other in (processed, runs.task("dry_run"), runs.task()):
            runs.end(other, None)
        assert runs.known() == before
        runs.end(raw, None, number=2, run_id="of the next night")
        assert (runs.known().problem, runs.known().retry) == (None, None)


@pytest.mark.parametrize("earlier", ["verify_access", "transfer", "transfer raw"])
def test_a_failure_that_no_task_can_name_is_not_masked_by_an_earlier_fault_of_the_run(
    runs: Runs, earlier: str
) -> None:
    task_id, _, folder = earlier.partition(" ")
    runs.end(runs.task(task_id, folder or ("processed" if task_id == "transfer" else None)), REFUSED)
    runs.mailed.clear()
    late = runs.task()
    runs.end(late, KeyError("x"), number=RETRIES + 1)
    problem = runs.known().problem
    assert problem is not None
    assert (problem.code, problem.task) == ("task-failed", "verify_access")
    assert "KeyError" in problem.problem
    assert runs.mailed == [OF]


def test_a_retry_that_no_task_can_name_is_told_too(runs: Runs) -> None:
    runs.end(runs.task(), LOST, number=1)
    runs.end(runs.task(), KeyError("x"), number=2)
    retry = runs.known().retry
    assert retry is not None
    assert (retry.code, retry.number) == ("task-failed", 2)
    # What the task put into words stays.
    runs.end(runs.task(), LOST, number=3)
    retry = runs.known().retry
    assert retry is not None
    assert (retry.code, retry.number) == (LOST.code, 3)


@pytest.mark.parametrize("callback", ["after_failure", "after_retry"])
def test_in_the_dag_processor_no_state_is_asked_for(runs: Runs, callback: str) -> None:
    """There an asset's state gives no answer, and all DAGs wait for it; a task of several is no operator of ours."""
    from beamferry.airflow import notices

    context = runs.context(SimpleNamespace(task_id="transfer"), "first", RETRIES + 1)
    context["ti"].task_id = "transfer"
    getattr(notices, callback)(context)
    assert (Store.kept, runs.mailed) == ({}, [])


def test_a_run_that_failed_without_a_word_is_told_on_the_board(runs: Runs) -> None:
    found = runs.look(state="failed")
    assert (found.state, found.headline) == ("action", "The last run failed")
    assert found.problem is not None
    assert (found.problem.code, found.problem.run_id) == ("task-failed", "first")
    assert "which task" in found.next_step.sentence
    # What a task could say is said.
    runs.end(runs.task(), REFUSED)
    found = runs.look(state="failed")
    assert found.problem is not None
    assert found.problem.code == REFUSED.code
    # A later run is told by itself.
    assert runs.look("second", state="success").headline != "The last run failed"


@settings(deadline=None)
@given(
    number=st.integers(1, 12),
    date_=st.none() | st.datetimes(timezones=st.just(UTC)),
    ended=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_time_of_the_next_try_is_airflows(number: int, date_: datetime | None, ended: datetime) -> None:
    from airflow.models.taskinstance import TaskInstance

    from beamferry.airflow import policy
    from beamferry.retry import next_try

    task = SimpleNamespace(**policy.retrying(RETRIES, policy.RETRY_DELAY, policy.MAX_RETRY_DELAY))
    ti: Any = SimpleNamespace(
        task=task,
        dag_id=OF.dag_id,
        task_id="transfer",
        logical_date=date_,
        try_number=number,
        end_date=ended,
        retry_delay_override=None,
    )
    assert TaskInstance.next_retry_datetime(ti) == next_try(
        dag_id=OF.dag_id,
        task_id="transfer",
        logical_date=date_,
        try_number=number,
        delay=policy.RETRY_DELAY,
        longest=policy.MAX_RETRY_DELAY,
        ended=ended,
    )


def test_every_task_heals_and_tells(dag_bag: Callable[[str], DagBag]) -> None:
    from beamferry.airflow import notices
    from beamferry.airflow.dag import beamtime_dag

    for task in beamtime_dag(OF, SITE).tasks:
        kept = task if hasattr(task, "beamtime") else SimpleNamespace(**task.partial_kwargs)
        assert notices.after_success in list(kept.on_success_callback), task.task_id
        assert notices.after_retry in list(kept.on_retry_callback), task.task_id
        assert notices.after_failure in list(kept.on_failure_callback), task.task_id
