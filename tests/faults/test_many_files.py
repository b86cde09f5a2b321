"""A hundred thousand files: what Airflow holds of them in memory and in its database stays small."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import psutil
import pytest

from beamferry.demo import DAG_ID

if TYPE_CHECKING:
    from beamtime_runs import Runs

FILES = 100_000
MB = 1_000_000


class _Memory(threading.Thread):
    """The most resident memory that any task of Airflow had, in bytes."""

    def __init__(self, runs: Runs) -> None:
        super().__init__(daemon=True)
        self.scheduler = runs.stack.pid("scheduler")
        self.most = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.1):
            for process in psutil.Process(self.scheduler).children(recursive=True):
                try:
                    self.most = max(self.most, process.memory_full_info().uss)
                except psutil.Error:
                    continue


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_files_cost_airflow_no_more_than_a_few(runs: Runs) -> None:
    def most() -> int:
        memory = _Memory(runs)
        memory.start()
        run = runs.run()
        memory.done.set()
        memory.join()
        assert runs.state(run) == "success", (runs.tasks(run), runs.known().get("problem"))
        path = f"/dags/{DAG_ID}/dagRuns/{run}/taskInstances"
        for task in runs.tasks(run):
            for entry in runs.stack.api("GET", f"{path}/{task}/xcomEntries")["xcom_entries"]:
                value = runs.stack.api("GET", f"{path}/{task}/xcomEntries/{entry['key']}")["value"]
                assert len(json.dumps(value)) <= 4096, (task, entry["key"])
        return memory.most

    few = most()
    folder = runs.lab.visit_folder / "processing" / "many"
    for number in range(FILES):
        if number % 1000 == 0:
            (folder / f"{number // 1000:03}").mkdir(parents=True)
        (folder / f"{number // 1000:03}" / f"frame_{number:06}.txt").write_text(f"frame {number}\n")
    many = most()
    assert runs.known()["verification"]["destination"]["files"] > FILES
    print(f"memory of a task: {few / MB:.0f} MB for a few files, {many / MB:.0f} MB for {FILES:,}")
    assert many < 200 * MB
