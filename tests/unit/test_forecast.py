from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import utc

from beamferry.forecast import (
    KEPT_SAMPLES,
    Sample,
    clock,
    forecast,
    next_nightly,
    nightly_at,
    rate_of,
    recorded,
    span,
)

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


def test_what_does_not_run_begins_with_its_own_next_run() -> None:
    begins = NOON + timedelta(hours=9)
    fixed = {"bytes_left": 3600, "rate": 1, "measured": True, "deadline": DEADLINE, "now": NOON}
    running = forecast(**fixed, running=True, next_run=begins)  # type: ignore[arg-type]
    waiting = forecast(**fixed, running=False, next_run=begins)  # type: ignore[arg-type]
    assert running.ends_at == NOON + timedelta(hours=1)
    assert waiting.ends_at == begins + timedelta(hours=1)
    # Where no run comes by itself, only one that a person starts can be reckoned with.
    assert forecast(**fixed, running=False, next_run=None).ends_at == running.ends_at  # type: ignore[arg-type]


LAST_DAY = date(2026, 4, 20)


@given(
    st.text("abcdefghij0123456789_-", min_size=1, max_size=20),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 4, 25), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_next_nightly_run_is_at_the_beamtimes_own_minute_and_never_past(key: str, now: datetime) -> None:
    found, at = next_nightly(key, LAST_DAY, now), nightly_at(key)
    assert at.hour >= 22 or at.hour < 6
    # Minute by minute, as the scheduler goes.
    minute = now.replace(second=0, microsecond=0)
    steps = (minute + timedelta(minutes=number) for number in range(1, 24 * 60 + 2))
    expected = next(one for one in steps if (one.hour, one.minute) == (at.hour, at.minute) and one > now)
    assert found == (expected if expected.date() <= LAST_DAY else None)


def test_at_three_in_the_night_nothing_is_promised_for_a_minute_that_has_passed() -> None:
    keys = [f"diamond_mg{number}-1" for number in range(1000)]
    now = utc(2026, 4, 2, 3)
    passed = [key for key in keys if nightly_at(key) <= time(3)]
    assert len(passed) > 300
    assert all(
        next_nightly(key, LAST_DAY, now) == datetime.combine(date(2026, 4, 3), nightly_at(key), UTC)
        for key in passed
    )


@pytest.mark.parametrize(
    ("moment", "zone", "said"),
    [
        (utc(2026, 4, 1, 22, 41), "Europe/London", "tonight at 23:41"),
        (utc(2026, 4, 2, 3, 5), "Europe/London", "tomorrow at 04:05"),
        (utc(2026, 4, 1, 22, 41), "Australia/Sydney", "tomorrow at 09:41"),
        (utc(2026, 4, 1, 22, 41), "America/Los_Angeles", "today at 15:41"),
    ],
)
def test_a_moment_is_said_with_its_day_and_hour(moment: datetime, zone: str, said: str) -> None:
    assert clock(moment, NOON, zone) == said


def test_after_midnight_tonight_is_still_tonight() -> None:
    assert clock(utc(2026, 4, 2, 3, 5), utc(2026, 4, 2, 1), "Europe/London") == "tonight at 04:05"


def test_the_sentence_says_how_late_and_by_when_to_start() -> None:
    def told(hours: float, days: float, *, running: bool = False) -> str:
        made = forecast(
            bytes_left=int(hours * 3600),
            rate=1,
            measured=True,
            running=running,
            deadline=NOON + timedelta(days=days),
            now=NOON,
            next_run=utc(2026, 4, 2, 6),
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
        next_run=utc(2026, 4, 2, 6),
    )
    assert late.must_start_by < NOON
    assert "start by" not in late.sentence("Europe/London")


def test_a_rate_of_next_to_nothing_is_late_and_no_error() -> None:
    made = forecast(
        bytes_left=40 * 10**12,
        rate=1,
        measured=True,
        running=True,
        deadline=DEADLINE,
        now=NOON,
        next_run=None,
    )
    assert made.late
    assert "late" in made.sentence("Europe/London")


def test_a_forecast_without_a_rate_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs a rate"):
        forecast(
            bytes_left=1, rate=0, measured=False, running=True, deadline=DEADLINE, now=NOON, next_run=None
        )


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
    found = next_nightly("diamond_mg1-1", LAST_DAY, NOON)
    assert found is not None
    assert found.tzinfo is UTC
