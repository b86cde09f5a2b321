"""When a job on RDS-SSH is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry import looks
from beamferry.looks import in_the_task, until_next_look


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


def test_a_task_looks_early_first_and_then_every_two_seconds() -> None:
    assert list(in_the_task(15)) == pytest.approx([*[0.2] * 5, *[0.4] * 5, 1, *[2] * 5, 1])
    assert list(in_the_task(0.5)) == pytest.approx([0.2, 0.2, 0.1])
    assert list(in_the_task(0)) == []


@given(st.integers(0, 600))
def test_a_task_waits_as_long_as_it_may(seconds: int) -> None:
    assert sum(in_the_task(seconds)) == pytest.approx(seconds)
    assert all(pause > 0 for pause in in_the_task(seconds))


def test_a_pause_ends_when_what_is_waited_for_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(looks, "monotonic", lambda: now[0])
    monkeypatch.setattr(looks, "sleep", sleep)
    looks.pause(0.5, lambda: False)
    assert slept == pytest.approx([0.2, 0.2, 0.1])
    looks.pause(100, lambda: now[0] > 1)
    assert 1 < now[0] < 1.5
    slept.clear()
    looks.pause(100, lambda: True)
    assert slept == []
