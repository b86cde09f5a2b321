"""Which tasks run in which mode, until when, and at what minute of the night."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

pytest.importorskip("airflow")

from beamferry.airflow.params import Mode
from beamferry.airflow.policy import nightly, skip_reason

CHAIN = ("verify_access", "dry_run", "parse_totals", "approve", "transfer", "verify_sizes", "certify")
TAPE = date(2026, 12, 13)
BEFORE = datetime(2026, 12, 13, 23, 59, tzinfo=UTC)
AFTER = datetime(2026, 12, 14, 0, 0, tzinfo=UTC)


def runs(mode: Mode, *, scheduled: bool, now: datetime) -> list[str]:
    return [
        t for t in CHAIN if skip_reason(t, mode=mode, scheduled=scheduled, now=now, tape_day=TAPE) is None
    ]


@pytest.mark.parametrize(
    ("mode", "tasks"),
    [
        (Mode.SYNC, list(CHAIN)),
        (Mode.DRY_RUN, ["verify_access", "dry_run", "parse_totals"]),
        (Mode.VERIFY, ["verify_access", "verify_sizes", "certify"]),
    ],
)
def test_each_mode_runs_its_tasks(mode: Mode, tasks: list[str]) -> None:
    assert runs(mode, scheduled=False, now=BEFORE) == tasks


def test_the_nightly_run_ends_with_the_tape_day_and_a_persons_run_does_not() -> None:
    assert runs(Mode.SYNC, scheduled=True, now=BEFORE) == list(CHAIN)
    assert runs(Mode.SYNC, scheduled=True, now=AFTER) == []
    assert runs(Mode.SYNC, scheduled=False, now=AFTER) == list(CHAIN)


def test_the_nights_minutes_are_constant_and_spread() -> None:
    crons = [nightly(f"diamond_mg{number}-1") for number in range(1000)]
    assert crons == [nightly(f"diamond_mg{number}-1") for number in range(1000)]
    hours = [int(cron.split()[1]) for cron in crons]
    assert set(hours) == {22, 23, 0, 1, 2, 3, 4, 5}
    assert all(80 < hours.count(hour) < 180 for hour in set(hours))
    assert len(set(crons)) > 350
