"""How long a beamtime's whole chain takes when there is nothing to do: a real Airflow against the lab.

    python tests/bench/chain.py [RUNS]

Prints for each run and task what it took, from when it could begin, whether it waited in the triggerer, and the
machine's load. Exit 1 when the median of the runs misses its bar.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.demo import DAG_ID
from beamferry.lab import Lab
from beamferry.lab.settings import free_port
from beamferry.stack import Stack

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

if TYPE_CHECKING:
    from beamtime_runs import Runs

# Seconds from a run's start to its end.
BAR = 12.0
DEFERRED = "Pausing task as DEFERRED"


def main() -> int:
    from beamtime_runs import Runs  # noqa: PLC0415

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        lab, stack = Lab(Path(folder) / "lab"), None
        try:
            ended = datetime.now(ZoneInfo("Europe/London")).date() - timedelta(days=5)
            lab.up("8000000", ended=ended)
            lab.registry.write_text(lab.registry_text(ended))
            # Airflow's settings and ours as they are where nobody sets any.
            stack = Stack(
                home=lab.folder / "airflow",
                dags=TESTS.parent / "dags",
                port=free_port("127.0.0.1"),
                connections=lab.airflow_connections(),
                env={"BEAMFERRY_REGISTRY": str(lab.registry)},
            )
            stack.start()
            stack.wait_healthy(180)
            runs = Runs(lab, stack, None)  # type: ignore[arg-type]  # nobody is mailed
            # A new beamtime begins to come home by itself.
            runs.wait(lambda: _begun(runs), "the first run began")
            for run in _begun(runs):
                runs.end_of(run)
            took += [_one(runs, number) for number in range(1, count + 1)]
        finally:
            if stack is not None:
                stack.stop()
            lab.down()
    median = statistics.median(took)
    print(f"nothing to do: median {median:.1f} s of {count} runs, bar {BAR:.0f} s")
    return int(median > BAR)


def _begun(runs: Runs) -> list[str]:
    if DAG_ID not in runs.dags():
        return []
    return [run["dag_run_id"] for run in runs.stack.api("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]]


def _one(runs: Runs, number: int) -> float:
    """Run it once with nothing to do, and return how long that took."""
    run = runs.run()
    path = f"/dags/{DAG_ID}/dagRuns/{run}"
    whole = runs.stack.api("GET", path)
    tasks = runs.stack.api("GET", f"{path}/taskInstances")["task_instances"]
    if whole["state"] != "success" or runs.known()["plan"]["todo_files"] != 0:
        sys.exit(f"chain: run {run} ended as {whole['state']}: {runs.tasks(run)}")
    seconds = _between(whole["start_date"], whole["end_date"])
    print(f"run {number}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
    for task in sorted(tasks, key=lambda one: str(one["end_date"])):
        deferred, looks = _waited(runs, run, task["task_id"])
        print(
            f"  {task['task_id']:<14}{task['state']:<9}"
            f"begun {_between(whole['start_date'], task['start_date']):5.1f} s, "
            f"ended {_between(whole['start_date'], task['end_date']):5.1f} s after the run's start; "
            f"deferred {deferred} times, asked {looks} times in the task"
        )
    return seconds


def _between(began: str, ended: str) -> float:
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()


def _waited(runs: Runs, run: str, task: str) -> tuple[int, str]:
    """How often a task was handed to the triggerer, and how often it asked for its job itself, by its log."""
    deferred, looks = 0, "0"
    for file in (runs.stack.home / "logs").rglob("*"):
        if file.is_file() and f"run_id={run}" in str(file) and f"task_id={task}" in str(file):
            text = file.read_text(errors="replace")
            deferred += text.count(DEFERRED)
            _, _, rest = text.partition("ended while the task waited, asked ")
            looks = rest.split(" ", 1)[0] or looks
    return deferred, looks


if __name__ == "__main__":
    sys.exit(main())
