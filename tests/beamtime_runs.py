"""A beamtime's runs in a real Airflow, for the tests that need the whole chain."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beamferry.certificate import certificate_folder
from beamferry.demo import DAG_ID
from beamferry.registry import load
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamferry.beamtime import Beamtime
    from beamferry.lab import Lab
    from beamferry.lab.mail_server import MailServer
    from beamferry.stack import Stack

# What the tests wait for at the most; nothing is asserted about how long anything takes.
PATIENCE = 240.0

# Seconds for which a task itself waits for its job.
WAIT_SECONDS = 3

# Airflow notices what was killed within seconds rather than minutes.
WATCHFUL = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__BEAMFERRY__POLL_SECONDS": "1",
    # Transfers of these tests take some ten seconds, and are to be the triggerer's all the same.
    "AIRFLOW__BEAMFERRY__WAIT_SECONDS": str(WAIT_SECONDS),
    "AIRFLOW__BEAMFERRY__RETRY_DELAY_SECONDS": "2",
    "AIRFLOW__BEAMFERRY__MAIL_RETRY_DELAY_SECONDS": "2",
    "AIRFLOW__BEAMFERRY__ALERTS_LOOK_SECONDS": "5",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
}


def asset_state(api: Callable[[str, str], Any], name: str) -> dict[str, Any]:
    """Return what Airflow's public API tells of the asset of a name, or of a part of it."""
    for asset in api("GET", f"/assets?name_pattern={name}")["assets"]:
        stored = api("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
        return {entry["key"]: entry["value"] for entry in stored}
    return {}


@dataclass(frozen=True)
class Runs:
    """The lab, an Airflow that runs its beamtime, and what a test asks of the two."""

    lab: Lab
    stack: Stack
    secure: MailServer
    dag_id: str = DAG_ID

    @property
    def beamtime(self) -> Beamtime:
        (found,) = (one for one in load(self.lab.registry).beamtimes if one.dag_id == self.dag_id)
        return found

    @property
    def destination(self) -> Path:
        registry = load(self.lab.registry)
        assert registry.site is not None
        return self.lab.on_rds(self.beamtime.destination_path(registry.site))

    @property
    def job_folder(self) -> Path:
        return self.lab.rds_home / ".beamferry" / "jobs" / self.beamtime.key

    def begin(self, **choices: Any) -> str:
        """Start a run with these choices in its form and return its id."""
        self.wait(lambda: self.dag_id in self.dags(), f"Airflow shows {self.dag_id}")
        answer = self.stack.api(
            "POST", f"/dags/{self.dag_id}/dagRuns", {"logical_date": None, "conf": choices}
        )
        return str(answer["dag_run_id"])

    def run(self, **choices: Any) -> str:
        """Start a run, wait for its end, and return its id."""
        run = self.begin(**choices)
        self.end_of(run)
        return run

    def end_of(self, run: str) -> str:
        """Wait for a run's end and return its state."""
        return str(self.wait(lambda: self._end(run), lambda: f"run ended; tasks are {self.tasks(run)}"))

    def dags(self) -> list[str]:
        return [dag["dag_id"] for dag in self.stack.api("GET", "/dags?limit=100")["dags"]]

    def waits(self, run: str, task: str) -> bool:
        """Whether a task waits for a person."""
        return self.tasks(run).get(task) == "awaiting_input"

    def question(self, run: str, task: str) -> str:
        """What a person is asked."""
        return str(self.stack.api("GET", self._detail(run, task))["body"])

    def say(self, run: str, task: str, chosen: str) -> None:
        """Answer, if the task waits; to be called until the run has ended.

        An answer within the moment in which the task is parked is lost, costs a try, and Airflow asks once more; so
        this lets that moment pass.
        """
        if self.waits(run, task):
            time.sleep(1)
            self.stack.api("PATCH", self._detail(run, task), {"chosen_options": [chosen]})

    def answer(self, run: str, task: str, chosen: str) -> str:
        """Answer until the run has ended, and return its state."""

        def ended() -> str | None:
            self.say(run, task, chosen)
            return self._end(run)

        return str(self.wait(ended, lambda: f"the run ended after '{chosen}'; tasks are {self.tasks(run)}"))

    def _detail(self, run: str, task: str) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"

    def _end(self, run: str) -> str | None:
        return state if (state := self.state(run)) in {"success", "failed"} else None

    def state(self, run: str) -> str:
        return str(self.stack.api("GET", f"/dags/{self.dag_id}/dagRuns/{run}")["state"])

    def tasks(self, run: str) -> dict[str, str]:
        found = self.stack.api("GET", f"/dags/{self.dag_id}/dagRuns/{run}/taskInstances")["task_instances"]
        return {
            " ".join(filter(None, (task["task_id"], task["rendered_map_index"]))): task["state"]
            for task in found
        }

    def known(self, name: str | None = None) -> dict[str, Any]:
        """What Airflow knows of the beamtime, or of another asset."""
        return asset_state(self.stack.api, name or self.beamtime.asset_name)

    def certificate(self) -> dict[str, Any]:
        folder = certificate_folder(str(self.destination))
        with open(f"{folder}/certificate.json", encoding="utf-8") as file:  # noqa: PTH123
            return dict(json.load(file))

    def wait(self, look: Callable[[], Any], what: Callable[[], str] | str) -> Any:
        """Look until something is there."""
        return wait_for(look, what, PATIENCE)

    def judge(self, *options: str) -> list[str]:
        """What rsync itself still sees to do, run on RDS-SSH; without the folder that stays behind."""
        source = f"{self.lab.account}@ssh.diamond.ac.uk:{self.lab.source}/"
        target = str(self.beamtime.destination_path(load(self.lab.registry).site))  # type: ignore[arg-type]
        done = self.lab.run_on_rds(("rsync", "-rlnci", *options, source, f"{target}/"))
        assert done.returncode in {0, 23}, done.stderr
        return done.stdout.decode("utf-8", "replace").splitlines()
