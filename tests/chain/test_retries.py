"""A fault that heals, in a real Airflow: it is tried again, told as that, and forgotten when its task succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamferry.lab import Faults

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


def test_what_is_tried_again_is_no_failure_and_leaves_nothing_when_it_succeeds(runs: Runs) -> None:
    mode = {"mode": "dry run only"}
    with Faults(runs.lab).key_removed(runs.lab.diamond):
        runs.run(**mode)
    assert runs.known()["problem"]["task"] == "verify_access"
    with Faults(runs.lab).stopped(runs.lab.diamond):
        run = runs.begin(**mode)
        runs.wait(lambda: "retry" in runs.known(), "a try ended")
        retry, problem = runs.known()["retry"], runs.known()["problem"]
        assert (retry["task"], retry["run_id"], retry["of"]) == ("verify_access", run, 6)
        assert "cannot reach ssh.diamond.ac.uk" in retry["problem"]
        # What stopped the run before is another fault, and not over.
        assert problem["run_id"] != run
    assert runs.end_of(run) == "success", runs.tasks(run)
    # Airflow calls back after it has written down that the task ended.
    runs.wait(lambda: not {"retry", "problem"} & runs.known().keys(), "both are forgotten")
