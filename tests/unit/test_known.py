from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from watching import beamtime, before_tape, home, moving, plan, problem, rate, verdict

from beamferry.beamtime import Frozen, Level
from beamferry.course import Course
from beamferry.known import Issued, Known, LogIn
from beamferry.verification import Outcome

OF = beamtime()
NOW = before_tape(OF, 10)


def test_what_is_stored_is_read_back_and_nothing_is_lost() -> None:
    known = Known(plan=plan(OF, NOW), moving=moving(NOW, 5, history=((1, 2), (3, 4))), problem=problem(NOW))
    state = {
        "plan": known.plan.model_dump(mode="json"),  # type: ignore[union-attr]
        "progress": known.moving.model_dump(mode="json"),  # type: ignore[union-attr]
        "problem": known.problem.model_dump(mode="json"),  # type: ignore[union-attr]
        "rate": None,
    }
    assert Known.read(state) == known


@pytest.mark.parametrize("value", ["text", 7, [1], {}, {"schema_version": 7}, {"bytes": "many"}])
def test_a_value_that_cannot_be_read_is_unknown_and_named(value: dict[str, object]) -> None:
    known = Known.read({"plan": value, "rate": {"bytes_per_second": 5, "bytes": 1, "at": NOW.isoformat()}})
    assert known.plan is None
    assert known.unreadable == ("plan",)
    assert known.rate is not None


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        ("plan", plan(OF, NOW)),
        ("progress", moving(NOW, 5)),
        ("verification", verdict(NOW)),
        ("rate", rate(NOW)),
        ("problem", problem(NOW)),
        ("certificate", Issued(outcome=Outcome.VERIFIED, folder="/mnt", at=NOW, run_id="r")),
        ("log_in", LogIn(command="ssh", at=NOW)),
        ("course", Course(left=((1, 2),))),
    ],
)
def test_a_value_is_read_with_its_version_and_without_one_but_not_of_a_later_one(
    key: str, kept: Frozen
) -> None:
    value = kept.model_dump(mode="json")
    assert value["schema_version"] == 1
    without = {name: part for name, part in value.items() if name != "schema_version"}
    for stored in (value, without):
        known = Known.read({key: stored})
        assert known.unreadable == ()
        assert known != Known()
        assert known == Known.read({key: value})
    for later in (2, "1", None):
        known = Known.read({key: value | {"schema_version": later}})
        assert known == Known(unreadable=(key,))


def test_complete_is_a_good_comparison_that_no_later_dry_run_contradicts() -> None:
    later = NOW + timedelta(hours=1)
    assert not Known().complete
    assert not Known(plan=plan(OF, NOW)).complete
    assert Known(verification=verdict(NOW)).complete
    assert Known(verification=verdict(later), plan=plan(OF, NOW)).complete
    assert Known(verification=verdict(NOW), plan=plan(OF, later, todo=0)).complete
    assert not Known(verification=verdict(NOW), plan=plan(OF, later)).complete
    for outcome in (Outcome.CHANGING, Outcome.DIFFERENT):
        assert not Known(verification=verdict(NOW, outcome=outcome)).complete


def test_what_is_left_is_the_plan_less_what_its_transfer_did() -> None:
    made, later = plan(OF, NOW), NOW + timedelta(minutes=5)
    assert Known().bytes_left is None
    assert Known(plan=made).bytes_left == 40_000_000_000
    assert Known(plan=made, moving=moving(later, 1_000)).bytes_left == 39_999_999_000
    assert Known(plan=made, moving=moving(later, 1_000)).bytes_done == 60_000_001_000
    # A transfer of an earlier plan says nothing of this one.
    assert Known(plan=made, moving=moving(NOW - timedelta(days=1), 1_000)).bytes_left == 40_000_000_000
    assert home(NOW).bytes_left == 0


def test_a_problem_ends_with_a_later_good_comparison() -> None:
    earlier, later = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
    assert Known(problem=problem(NOW)).open_problem is not None
    assert Known(problem=problem(NOW), verification=verdict(earlier)).open_problem is not None
    assert Known(problem=problem(NOW), verification=verdict(later)).open_problem is None
    assert problem(NOW, since=earlier).first_seen == earlier


def test_a_listing_alone_is_no_whole_copy() -> None:
    listed = verdict(NOW).model_copy(update={"level": Level.LISTED})
    assert not Known(verification=listed).complete


def test_a_plan_that_cannot_be_read_may_have_found_new_data() -> None:
    assert not Known(verification=verdict(NOW), unreadable=("plan",)).complete
    assert Known(verification=verdict(NOW), unreadable=("rate",)).complete


@pytest.mark.parametrize("updated", [-1, 10**15])
def test_a_time_that_no_calendar_has_is_unreadable(updated: int) -> None:
    known = Known.read({"progress": moving(NOW, 5).model_dump(mode="json") | {"updated": updated}})
    assert known.unreadable == ("progress",)


def test_a_job_that_hangs_and_tells_of_itself_has_not_moved() -> None:
    stamp, last = int(NOW.timestamp()), NOW - timedelta(days=5)
    history = ((stamp - 6 * 86_400, 10), (stamp - 5 * 86_400, 50), (stamp - 9, 50))
    assert Known(moving=moving(NOW, 50, history=history)).last_moved == last
    # What came after the last sample of the series came now.
    assert Known(moving=moving(NOW, 51, history=history)).last_moved == NOW
    assert Known(moving=moving(NOW, 50)).last_moved == NOW


def test_after_a_transfer_that_ended_well_nothing_is_left_until_a_comparison_says_otherwise() -> None:
    fetched, later = NOW + timedelta(hours=2), NOW + timedelta(hours=3)
    comparing = moving(later, 1).model_copy(update={"part": "verify"})
    known = Known(plan=plan(OF, NOW), rate=rate(fetched), moving=comparing)
    assert known.bytes_left == 0
    assert known.bytes_done == 100_000_000_000
    assert replace(known, rate=rate(NOW - timedelta(hours=1))).bytes_left == 40_000_000_000
    different = verdict(later, outcome=Outcome.DIFFERENT)
    assert replace(known, verification=different).bytes_left == 40_000_000_000
