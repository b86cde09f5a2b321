from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import beamtime, before_tape, fetched, fetching, home, moving, plan, problem, rate, verdict

from beamferry.beamtime import Frozen, Level
from beamferry.course import Course
from beamferry.fetched import Brought, Fetched
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
        ("transfer", moving(NOW, 5)),
        ("fetched", fetching(plan(OF, NOW))),
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


def test_after_transfers_that_ended_well_nothing_is_left_until_a_comparison_says_otherwise() -> None:
    ended, later = NOW + timedelta(hours=2), NOW + timedelta(hours=3)
    comparing = moving(later, 1).model_copy(update={"part": "verify"})
    known = replace(fetched(OF, NOW, ended), moving=comparing)
    assert known.all_fetched
    assert known.bytes_left == 0
    assert known.bytes_done == 100_000_000_000
    # The ends that another plan's transfers kept say nothing of this one.
    assert replace(known, plan=plan(OF, NOW + timedelta(days=1))).bytes_left == 40_000_000_000
    different = replace(known, verification=verdict(later, outcome=Outcome.DIFFERENT))
    assert not different.all_fetched
    # What the comparison counted counts, and not what the plan had found.
    assert different.bytes_left == 0
    assert different.bytes_done == 99_999_999_999
    assert different.home is not None
    assert different.home.files_done == 19_999
    assert replace(known, verification=verdict(NOW - timedelta(days=1))).all_fetched


def test_a_rate_is_only_a_rate() -> None:
    made = plan(OF, NOW)
    known = Known(plan=made, rate=rate(NOW + timedelta(hours=2)), fetching=fetching(made, transfers=3))
    assert not known.all_fetched
    assert known.bytes_left == 40_000_000_000


@given(
    ended=st.lists(st.integers(0, 10**9), max_size=5),
    transfers=st.integers(0, 5),
    told=st.integers(0, 10**12),
)
def test_all_is_there_with_the_last_end_alone(ended: list[int], transfers: int, told: int) -> None:
    made = plan(OF, NOW)
    brought = [Brought(plan_made_at=NOW, bytes=size, files=1, at=NOW) for size in ended]
    kept = Fetched(plan_made_at=NOW, run_id="manual", transfers=transfers).with_ends(brought)
    known = Known(plan=made, coming=moving(NOW, told), fetching=kept)
    assert known.home is not None
    whole = len(ended) >= transfers
    assert known.all_fetched == whole
    assert (known.bytes_done == made.bytes, known.home.files_done == made.files) == (whole, whole)
    assert known.bytes_left is not None
    assert 0 <= known.bytes_left <= max(0, made.todo_bytes - told)


def test_a_transfer_is_told_of_by_its_run_whatever_the_clock_of_rds_ssh_says() -> None:
    made = plan(OF, NOW)
    for updated in (NOW - timedelta(minutes=20), NOW + timedelta(minutes=20)):
        known = Known(plan=made, fetching=fetching(made), coming=moving(updated, 1_000))
        assert known.bytes_left == 39_999_999_000
        assert known.last_moved == updated
        other = moving(updated, 1_000).model_copy(update={"run_id": "of the night before"})
        assert replace(known, coming=other).bytes_left == 40_000_000_000


def test_what_came_is_no_less_when_another_job_tells_of_itself() -> None:
    made, later = plan(OF, NOW), NOW + timedelta(hours=1)
    dry_run = moving(later, 0).model_copy(update={"part": "dry_run", "run_id": "next"})
    known = Known(plan=made, fetching=fetching(made), coming=moving(NOW, 1_000), moving=dry_run)
    assert known.bytes_left == 39_999_999_000
    assert known.transferring is None


def test_ends_are_read_from_a_key_for_each_transfer_of_the_plan() -> None:
    made = plan(OF, NOW)
    brought = Brought(plan_made_at=NOW, bytes=1, files=1, at=NOW).model_dump(mode="json")
    kept = fetching(made, transfers=2).model_dump(mode="json")
    state = {"plan": made.model_dump(mode="json"), "fetched": kept, "fetched/0": brought}
    assert not Known.read(state).all_fetched
    # A larger plan of another night left this.
    assert not Known.read(state | {"fetched/2": brought}).all_fetched
    assert Known.read(state | {"fetched/1": brought}).all_fetched
    damaged = Known.read(state | {"fetched/1": {"bytes": "many"}})
    assert (damaged.all_fetched, damaged.unreadable) == (False, ("fetched/1",))
    # No version of ours writes the ends there.
    assert not Known.read(
        {"plan": state["plan"], "fetched": {**kept, "ended": [brought, brought]}}
    ).all_fetched
    assert Known.read({"fetched": {**kept, "transfers": 10**12}}).unreadable == ("fetched",)
