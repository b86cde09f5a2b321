"""A fault that heals, in a real Airflow: it is tried again, told as that, and forgotten when its task succeeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamferry.lab import Faults

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


def told(runs: Runs) -> int:
    """How many mails told of a failure."""
    return sum("failed" in mail["subject"].lower() for mail in runs.lab.mail.messages())


def test_what_is_tried_again_is_no_failure_and_leaves_nothing_when_it_succeeds(runs: Runs) -> None:
    mode, before = {"mode": "dry run only"}, told(runs)
    with Faults(runs.lab).key_removed(runs.lab.diamond):
        runs.run(**mode)
    assert runs.known()["problem"]["task"] == "verify_access"
    assert (mails := told(runs)) > before
    with Faults(runs.lab).stopped(runs.lab.diamond):
        run = runs.begin(**mode)
        runs.wait(lambda: "retry" in runs.known(), "a try ended")
        retry, problem = runs.known()["retry"], runs.known()["problem"]
        assert (retry["task"], retry["run_id"], retry["of"]) == ("verify_access", run, 6)
        assert "Diamond" in retry["problem"]
        # What stopped the run before is another fault, and not over.
        assert problem["run_id"] != run
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert not {"retry", "problem"} & runs.known().keys()
    assert told(runs) == mails
