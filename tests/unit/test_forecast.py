from __future__ import annotations

import itertools
import json
from datetime import UTC, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import utc

from beamferry.forecast import KEPT_SAMPLES, Sample, forecast, rate_of, recorded, span, tonight

NOON = utc(2026, 4, 1, 12)
RECORDED = json.loads((Path(__file__).parents[1] / "data" / "varying_rate.json").read_text())
DEADLINE = NOON + timedelta(days=10)


@pytest.mark.parametrize("share", [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_on_a_recorded_transfer_the_end_is_foretold_within_a_fifth(share: float) -> None:
    samples, total = RECORDED["samples"], RECORDED["total"]
    began, ended = samples[0][0], samples[-1][0]
    history: tuple[Sample, ...] = ()
    for at, done in samples:
        if at > began + share * (ended - began):
            break
        history = recorded(history, Sample(at, done))
    rate = rate_of(history)
    assert rate is not None
    foretold = history[-1].at + (total - history[-1].done) / rate - began
    error = abs(foretold - (ended - began)) / (ended - began)
    print(f"after {share:.0%}: error {error:.1%}")
    assert error < 0.2


def test_the_recorded_rate_varies_by_a_factor_of_three_and_stalls() -> None:
    samples = RECORDED["samples"]
    rates = []
    for (at, done), (later, more) in zip(samples[::6], samples[6::6], strict=False):
        rates.append((more - done) / (later - at))
    moving = [rate for rate in rates if rate > 0]
    assert max(moving) > 3 * min(moving)
    assert any(later - at >= 20 or more == done for (at, done), (later, more) in itertools.pairwise(samples))


def test_a_series_says_nothing_before_it_has_moved() -> None:
    assert rate_of(()) is None
    assert rate_of((Sample(1, 5),)) is None
    assert rate_of((Sample(1, 5), Sample(9, 5))) is None
    assert rate_of((Sample(1, 0), Sample(11, 50))) == pytest.approx(5)


@given(st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 10**9)), min_size=1, max_size=400))
def test_a_series_stays_short_and_keeps_its_ends(steps: list[tuple[int, int]]) -> None:
    history: tuple[Sample, ...] = ()
    at = done = 0
    for seconds, moved in steps:
        at, done = at + seconds, done + moved
        history = recorded(history, Sample(at, done))
    assert len(history) <= KEPT_SAMPLES
    assert history[0].at == steps[0][0]
    assert history[-1] == Sample(at, done)
    assert list(history) == sorted(history, key=lambda sample: (sample.at, sample.done))


def test_a_short_pause_is_no_rate_and_a_long_one_is() -> None:
    moving = (Sample(0, 0), Sample(80, 800))
    assert rate_of((*moving, Sample(100, 800))) == pytest.approx(10)
    assert rate_of((*moving, Sample(800, 800))) == pytest.approx(1)


def test_a_transfer_that_begins_again_begins_its_series_again() -> None:
    history = recorded(recorded((), Sample(10, 500)), Sample(20, 900))
    assert recorded(history, Sample(30, 100)) == (Sample(30, 100),)


def test_what_does_not_run_begins_by_the_end_of_the_next_night() -> None:
    assert tonight(NOON) == utc(2026, 4, 2, 6)
    assert tonight(utc(2026, 4, 2, 1)) == utc(2026, 4, 2, 6)
    running = forecast(bytes_left=3600, rate=1, measured=True, running=True, deadline=DEADLINE, now=NOON)
    waiting = forecast(bytes_left=3600, rate=1, measured=True, running=False, deadline=DEADLINE, now=NOON)
    assert running.ends_at == NOON + timedelta(hours=1)
    assert waiting.ends_at == utc(2026, 4, 2, 7)


def test_the_sentence_says_how_late_and_by_when_to_start() -> None:
    def told(hours: float, days: float, *, running: bool = False) -> str:
        made = forecast(
            bytes_left=int(hours * 3600),
            rate=1,
            measured=True,
            running=running,
            deadline=NOON + timedelta(days=days),
            now=NOON,
        )
        return made.sentence("Europe/London")

    assert told(1, 10).startswith("Done 9 days before tape, on Thursday 2 April")
    assert told(72, 1, running=True).startswith("2 days late: ends on Saturday 4 April")
    # It would be in time if somebody started it now, but not if it waits for the night.
    assert "start by Wednesday 1 April, 23:00 to be in time" in told(14, 1)


def test_who_could_only_have_been_in_time_earlier_is_not_told_to_start_by_then() -> None:
    late = forecast(
        bytes_left=30 * 3600,
        rate=1,
        measured=True,
        running=False,
        deadline=NOON + timedelta(days=1),
        now=NOON,
    )
    assert late.must_start_by < NOON
    assert "start by" not in late.sentence("Europe/London")


def test_a_rate_of_next_to_nothing_is_late_and_no_error() -> None:
    made = forecast(bytes_left=40 * 10**12, rate=1, measured=True, running=True, deadline=DEADLINE, now=NOON)
    assert made.late
    assert "late" in made.sentence("Europe/London")


def test_a_forecast_without_a_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a rate"):
        forecast(bytes_left=1, rate=0, measured=False, running=True, deadline=DEADLINE, now=NOON)


@pytest.mark.parametrize(
    ("length", "said"),
    [
        (timedelta(minutes=5), "less than an hour"),
        (timedelta(hours=1), "1 hour"),
        (timedelta(hours=47), "47 hours"),
        (timedelta(days=2), "2 days"),
        (timedelta(days=6, hours=23), "6 days"),
    ],
)
def test_a_length_of_time_is_said_in_one_unit(length: timedelta, said: str) -> None:
    assert span(length) == said


def test_moments_are_utc() -> None:
    assert tonight(NOON).tzinfo is UTC
