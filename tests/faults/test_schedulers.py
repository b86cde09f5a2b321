"""A scheduler that stands still around a deferral, as on a machine that is busy, costs no try."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from beamferry.demo import DAG_ID
from beamferry.lab import Faults
from beamtime_runs import WAIT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

# How often it stands still, and for how many seconds.
TIMES = int(os.environ.get("SCHEDULER_STOPS", "50"))
SECONDS = 10.0
# Diamond begins to list only once nobody holds it; it answers the probe all the same.
HELD = """
case ${BASH_EXECUTION_STRING-}${SSH_ORIGINAL_COMMAND-} in
  *"rsync --server"*) while [ -e ~/held ]; do sleep 0.1; done ;;
esac
"""

pytestmark = [pytest.mark.long, pytest.mark.timeout(max(600, 120 * TIMES))]


def generation(runs: Runs) -> str:
    """The start of the dry run's job that is the last one; empty while the next one begins."""
    try:
        mark = (runs.job_folder / "dry_run" / "mark").read_text()
    except FileNotFoundError:
        return ""
    return next((line for line in mark.splitlines() if line.startswith("generation=")), "")


def others_may_write(runs: Runs) -> bool:
    """Whether nobody holds the lock of the whole database, which stands for all tables where it is SQLite."""
    file = runs.stack.home / "airflow.db"
    if not file.exists():
        return True
    with closing(sqlite3.connect(file, timeout=0.5, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        database.execute("ROLLBACK")
    return True


@contextmanager
def scheduler_stopped(runs: Runs) -> Iterator[None]:
    """The scheduler stands still, and not in the middle of a write."""
    pid = runs.stack.pid("scheduler")
    assert pid is not None
    try:
        os.kill(pid, signal.SIGSTOP)
        while not others_may_write(runs):
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.05)
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def one_stop(runs: Runs, chance: random.Random) -> str:
    """Stop it around the deferral of a dry run whose job then ends as soon as it may; say when that was."""
    held = runs.lab.diamond.home / "held"
    before = generation(runs)
    held.touch()
    try:
        run = runs.begin(mode="dry run only")
        runs.wait(lambda: generation(runs) not in {"", before}, "the job runs")
        began = time.monotonic()
        time.sleep(chance.uniform(0.5, 1.1) * WAIT_SECONDS)
        with scheduler_stopped(runs):
            stopped = time.monotonic()
            if runs.tasks(run)["dry_run"] == "running":
                time.sleep(max(0.0, WAIT_SECONDS - (stopped - began)))
            runs.wait(
                lambda: runs.tasks(run)["dry_run"] == "deferred", lambda: f"deferral: {runs.tasks(run)}"
            )
            deferred = time.monotonic()
            held.unlink()
            time.sleep(max(0.0, SECONDS - (time.monotonic() - stopped)))
    finally:
        held.unlink(missing_ok=True)
    assert runs.end_of(run) == "success", runs.tasks(run)
    tries = runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances/dry_run")["try_number"]
    assert tries == 1, "a try was lost"
    return f"stopped {deferred - stopped:+.1f} s before the deferral, {time.monotonic() - began:.0f} s in all"


def test_a_scheduler_that_stands_still_around_a_deferral_costs_no_try(runs: Runs) -> None:
    chance = random.Random(67287)
    # The job's folder is there after the first run.
    assert runs.state(runs.run(mode="dry run only")) == "success"
    with Faults(runs.lab).log_ins_begin(runs.lab.diamond, HELD):
        for number in range(1, TIMES + 1):
            print(f"stop {number} of {TIMES}: {one_stop(runs, chance)}", flush=True)
