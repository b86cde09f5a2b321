"""What Airflow writes on its own machine, as docs/security.md says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from beamferry.watch import Sign, leave, status_file
from permissions import Watch

if TYPE_CHECKING:
    from beamtime_runs import Runs


def test_what_airflow_writes_on_its_own_machine_is_for_its_account_alone(runs: Runs) -> None:
    leave(status_file(runs.stack.environment()), Sign(at=datetime.now(UTC), mails=0, recipients=1))
    watch = Watch(runs.stack.home, ".airflow")
    watch.look()
    assert watch.wrong == set()
    expected = {"passwords.json", "jwt_secret", "fernet_key", "lock", "airflow.db", "scheduler.log"}
    expected |= {"beamferry/alerts.json", "logs/"}
    assert {f".airflow/{name}" for name in expected} <= watch.seen
