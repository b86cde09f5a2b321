"""The course of a beamtime over all its runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from watching import beamtime, plan

from beamferry.course import KEPT, Course
from beamferry.known import Known, Moving

MADE = datetime(2026, 6, 8, 22, 5, tzinfo=UTC)
AT = int(MADE.timestamp())
OF = beamtime()
LEFT = st.integers(0, 10**13)


def moving(*history: tuple[int, int]) -> Moving:
    return Moving(
        phase="transfer",
        bytes_done=history[-1][1],
        bytes_total=900,
        files_done=1,
        files_total=9,
        rate=1,
        updated=history[-1][0],
        part="transfer",
        run_id="r",
        history=history,
    )


def test_nights_follow_one_another_and_nothing_is_told_twice() -> None:
    first = Known(plan=plan(OF, MADE, todo=900), moving=moving((AT + 10, 0), (AT + 20, 300)))
    kept = first.whole_course
    assert kept.left == ((AT, 900), (AT + 10, 900), (AT + 20, 600))
    assert kept.rates == ((AT + 10, 0), (AT + 20, 30))
    assert replace(first, course=kept).whole_course == kept

    night = datetime.fromtimestamp(AT + 86_400, UTC)
    second = Known(plan=plan(OF, night, todo=700), moving=first.moving, course=kept)
    assert second.whole_course.left == (*kept.left, (AT + 86_400, 700))
    assert second.whole_course.rates[-1] == (AT + 86_400, 0), "new data is no negative rate"


def test_nothing_is_known_before_the_first_plan() -> None:
    assert Known().whole_course == Course()
    assert Course().rates == ()


@given(st.lists(st.tuples(st.integers(0, 10**9), LEFT), max_size=2 * KEPT), st.integers(1, 700))
def test_it_stays_short_in_order_and_keeps_its_end(before: list[tuple[int, int]], more: int) -> None:
    steady = [(2 * 10**9 + number, 10**9 - number) for number in range(more)]
    found = Course().extended(before).extended(steady)
    assert len(found.left) <= KEPT
    assert all(earlier[0] < later[0] for earlier, later in pairwise(found.left))
    assert found.left[-1] == steady[-1]
    assert all(rate >= 0 for _, rate in found.rates)
    assert Course.model_validate_json(found.model_dump_json()) == found


def test_corners_stay_where_they_are() -> None:
    falls = [(number, 1_000_000 - number) for number in range(400)]
    stands = [(500_000, 999_000), (900_000, 999_000)]
    kept = Course().extended([*falls, *stands]).left
    assert kept[0] == falls[0]
    assert set(stands) <= set(kept)
