from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watching import utc

from beamferry.alerts import Alert, Kind, Urgency
from beamferry.ledger import KEPT, KEPT_OF_A_KIND, Ledger

NOW, DEADLINE = utc(2026, 4, 1, 7), utc(2026, 4, 11)
ME, YOU = "me@example.ac.uk", "you@example.ac.uk"


def tape(threshold: int, *, moved: int = 0) -> Alert:
    return Alert("k", Kind.TAPE, threshold, DEADLINE + timedelta(days=moved), Urgency.SOON, "h", "d", "t")


def test_what_was_confirmed_settles_itself_and_what_is_less_urgent() -> None:
    ledger = Ledger().confirmed([tape(7)], ME, NOW)
    assert ledger.outstanding([tape(21), tape(14), tape(7)], ME) == ()
    assert ledger.outstanding([tape(3)], ME) == (tape(3),)
    assert ledger.outstanding([tape(7)], YOU) == (tape(7),)


def test_what_was_written_and_never_confirmed_is_told_again() -> None:
    ledger = Ledger().written([tape(7)], ME, NOW)
    assert ledger.outstanding([tape(7)], ME) == (tape(7),)
    assert ledger.entries[0].confirmed is None
    assert ledger.confirmed([tape(7)], ME, NOW).outstanding([tape(7)], ME) == ()


def test_a_deadline_that_moved_starts_anew() -> None:
    ledger = Ledger().confirmed([tape(0)], ME, NOW)
    assert ledger.outstanding([tape(21, moved=5)], ME) == (tape(21, moved=5),)


@given(
    st.lists(st.tuples(st.sampled_from([21, 14, 7, 3, 1, 0, -1]), st.sampled_from([ME, YOU]), st.booleans()))
)
def test_a_ledger_survives_its_storage(steps: list[tuple[int, str, bool]]) -> None:
    ledger = Ledger()
    for threshold, who, confirm in steps:
        act = ledger.confirmed if confirm else ledger.written
        ledger = act([tape(threshold)], who, NOW)
    assert Ledger.read(ledger.stored()) == ledger
    assert len(ledger.entries) <= 2


@pytest.mark.parametrize("stored", [None, {}, {"entries": "x"}, {"schema_version": 9, "entries": []}])
def test_a_ledger_that_cannot_be_read_is_empty_so_that_nobody_goes_untold(
    stored: dict[str, object] | None,
) -> None:
    assert Ledger.read(stored).outstanding([tape(7)], ME) == (tape(7),)


def test_deadlines_that_passed_make_room_and_the_newest_stays() -> None:
    ledger = Ledger()
    for day in range(40):
        ledger = ledger.confirmed([tape(7, moved=day)], ME, NOW)
    assert len(ledger.entries) == KEPT_OF_A_KIND
    newest = [tape(7, moved=day) for day in range(40 - KEPT_OF_A_KIND, 40)]
    assert ledger.outstanding(newest, ME) == ()


def test_what_is_still_due_is_never_pushed_out_so_that_nobody_is_told_every_day() -> None:
    people = [f"a.person.with.a.long.name.{number}@example.ac.uk" for number in range(30)]
    alerts = [Alert("k", kind, None, DEADLINE, Urgency.SOON, "h", "d", "t") for kind in Kind]
    ledger = Ledger()
    for person in people:
        ledger = ledger.confirmed(alerts, person, NOW)
        # Another alert of each kind comes and goes meanwhile.
        ledger = ledger.confirmed([tape(7, moved=1)], person, NOW)
    assert all(ledger.outstanding(alerts, person) == () for person in people)
    assert len(ledger.entries) <= KEPT


def test_a_ledger_stays_below_what_airflow_takes() -> None:
    ledger = Ledger()
    for number in range(KEPT + 30):
        ledger = ledger.confirmed([tape(7)], f"a.person.with.a.long.name.{number}@example.ac.uk", NOW)
    assert len(ledger.entries) == KEPT
    assert len(json.dumps(ledger.stored())) < 65_535
