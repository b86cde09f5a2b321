"""When a job on RDS-SSH is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.looks import IN_THE_TASK, until_next_look


@pytest.mark.parametrize(
    ("waited", "shortest", "seconds"),
    [(0, 5, 5), (599.9, 5, 5), (600, 5, 30), (100_000, 5, 30), (599.9, 60, 60), (600, 60, 60), (0, 0, 0)],
)
def test_the_triggerer_asks_less_often_after_ten_minutes(waited: float, shortest: int, seconds: int) -> None:
    assert until_next_look(waited, shortest) == seconds


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 3600))
def test_nobody_is_asked_more_often_than_the_setting_says_or_more_often_later(
    one: float, other: float, shortest: int
) -> None:
    earlier, later = sorted((one, other))
    assert shortest <= until_next_look(earlier, shortest) <= until_next_look(later, shortest)


def test_a_task_waits_itself_for_some_fifteen_seconds_and_looks_early_first() -> None:
    assert IN_THE_TASK[:4] == (0.3, 0.5, 1.0, 2.0)
    assert list(IN_THE_TASK) == sorted(IN_THE_TASK)
    assert 12 <= sum(IN_THE_TASK) <= 15
