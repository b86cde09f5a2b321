"""What a task makes of a job that has ended."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from beamferry.errors import PermanentError
from beamferry.remote import Completed, Job

DEAD = '{"state":"dead","exit_code":null,"heartbeat_age":99,"generation":"g","progress":null}\n'


def test_a_job_that_left_no_exit_code_is_not_called_killed_where_its_folder_takes_nothing() -> None:
    from beamferry.airflow.jobs import RemoteJobOperator

    proved = []

    def prove(folder: str) -> None:
        proved.append(folder)
        raise PermanentError("rds-home-full", "The home folder is full", "make room")

    session = SimpleNamespace(run=lambda *_, **__: Completed(0, DEAD, ""), prove=prove)
    task: Any = SimpleNamespace(
        job=Job("diamond_mg25682-2", "transfer"),
        part="transfer",
        reaches_out=False,
        telling=lambda _: nullcontext(),
        rds=lambda: nullcontext(session),
    )
    context: Any = {"ti": None}
    with pytest.raises(PermanentError) as caught:
        RemoteJobOperator.execute_complete(task, context, {"exit_code": 137}, "g")
    assert caught.value.code == "rds-home-full"
    assert proved == [".beamferry/jobs/diamond_mg25682-2/transfer"]
