"""A triggerer stands still, as on a machine that was paused: another one takes its triggers, and no job is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from beamferry.demo import DAG_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beamtime_runs import Runs

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture
def second(runs: Runs) -> Iterator[Callable[[], None]]:
    """Starts another triggerer of the same Airflow."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (runs.stack.home / "second_triggerer.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "airflow", "triggerer", "-s"],
                    env=os.environ | runs.stack.environment(),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    yield start
    for process in started:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def triggerer(runs: Runs, run: str) -> Any:
    """The number of the triggerer that watches the transfer."""
    task = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/transfer")
    return (task["triggerer_job"] or {}).get("id")


def rsyncs(runs: Runs) -> list[psutil.Process]:
    """The job's own, which the facility's limit keeps from ending before the test does."""
    leader = int((runs.job_folder / "transfer" / "pid").read_text().split()[0])
    return [
        process
        for process in psutil.Process(leader).children(recursive=True)
        if process.name() in {"rsync", "ssh"}
    ]


def said(runs: Runs, run: str, words: str) -> bool:
    files = (runs.stack.home / "logs").rglob("*")
    return any(
        words in file.read_text(errors="replace")
        for file in files
        if file.is_file() and run in str(file) and "task_id=transfer" in str(file)
    )


@pytest.mark.usefixtures("empty_destination")
def test_a_triggerer_that_stood_still_stops_no_job_that_another_watches(
    runs: Runs, second: Callable[[], None]
) -> None:
    run = runs.begin(bandwidth_limit=1, streams=2)
    runs.wait(lambda: runs.tasks(run).get("transfer") == "deferred", "the transfer is under way")
    first = runs.wait(lambda: triggerer(runs, run), "a triggerer watches it")
    held: list[psutil.Process] = []
    job = runs.job_folder / "transfer"
    mark = (job / "mark").read_text()
    pid = runs.stack.pid("triggerer")
    assert pid is not None
    paused = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    try:
        held = runs.wait(lambda: rsyncs(runs), "rsync runs")
        for process in held:
            process.suspend()
        second()
        runs.wait(
            lambda: (
                "Starting the triggerer" in (runs.stack.home / "second_triggerer.log").read_text()
                or "triggers currently running" in (runs.stack.home / "second_triggerer.log").read_text()
            ),
            "the second triggerer runs",
        )
        for process in paused:
            process.suspend()
        runs.wait(lambda: triggerer(runs, run) not in {None, first}, "the second one has taken it over")
    finally:
        for process in paused:
            process.resume()
    try:
        runs.wait(
            lambda: said(runs, run, "goes on: the task is deferred") or (job / "exit_code").exists(),
            "the first one was told that it has lost the trigger",
        )
    finally:
        for process in held:
            if process.is_running():
                process.resume()
    assert (job / "mark").read_text() == mark
    assert not said(runs, run, "Stopped the job")
    assert runs.end_of(run) == "success", runs.tasks(run)
    task = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/transfer")
    assert task["try_number"] == 1
    assert runs.certificate()["run"] == run
