from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from watching import (
    ENDED,
    SITE,
    beamtime,
    before_tape,
    certificate,
    fetched,
    fetching,
    home,
    moving,
    plan,
    problem,
    rate,
    utc,
    verdict,
)

from beamferry.alerts import Alert, Kind, Urgency
from beamferry.deadlines import due
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.known import Known, LogIn
from beamferry.outlook import foretell, outlook
from beamferry.plan import deadline
from beamferry.verification import Outcome

if TYPE_CHECKING:
    from beamferry.beamtime import Site

OF = beamtime()


def found(known: Known, now: datetime, of: DiamondBeamtime = OF, site: Site = SITE) -> dict[Kind, Alert]:
    return {alert.kind: alert for alert in due(of, site, known, now)}


def on(days: int) -> datetime:
    return datetime.combine(
        OF.tape_day - timedelta(days=days), time(7), tzinfo=ZoneInfo(SITE.time_zone)
    ).astimezone(UTC)


@pytest.mark.parametrize(
    ("days", "threshold"),
    [
        (22, None),
        (21, 21),
        (20, 21),
        (15, 21),
        (14, 14),
        (8, 14),
        (7, 7),
        (4, 7),
        (3, 3),
        (2, 3),
        (1, 1),
        (0, 0),
        (-1, -1),
    ],
)
def test_the_most_urgent_threshold_that_has_passed_is_due(days: int, threshold: int | None) -> None:
    known = Known(plan=plan(OF, on(days)), moving=moving(on(days), 1))
    alert = found(known, on(days)).get(Kind.TAPE)
    assert (None if alert is None else alert.threshold) == threshold
    if alert is not None:
        assert alert.deadline == deadline(OF, SITE)


@pytest.mark.parametrize(
    "zone", ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Pacific/Kiritimati"]
)
@pytest.mark.parametrize("ended", [date(2026, 2, 17), date(2026, 9, 15), date(2026, 10, 1)])
def test_days_are_calendar_days_of_the_site_whatever_its_clocks_do(zone: str, ended: date) -> None:
    site, of = SITE.model_copy(update={"time_zone": zone}), beamtime(ended=ended)
    where = ZoneInfo(zone)
    for days in (21, 14, 7, 3, 1):
        first = datetime.combine(of.tape_day - timedelta(days=days), time(0, 0, 1), tzinfo=where)
        known = Known(plan=plan(of, first.astimezone(UTC), site=site))
        assert found(known, first.astimezone(UTC), of, site)[Kind.TAPE].threshold == days
        before = first.astimezone(UTC) - timedelta(seconds=2)
        alert = found(known, before, of, site).get(Kind.TAPE)
        assert alert is None or alert.threshold != days


def test_a_whole_copy_is_silent_but_for_its_certificate() -> None:
    for days in (21, 3, 0, -5):
        now = on(days)
        assert list(found(home(now - timedelta(days=1)), now)) == [Kind.CERTIFICATE]
        assert due(OF, SITE, Known(verification=verdict(now)), now) == ()
        hidden = Known(verification=verdict(now), problem=problem(now - timedelta(hours=1)))
        assert due(OF, SITE, hidden, now) == ()


def test_a_certificate_is_one_alert_however_often_it_is_written() -> None:
    one = found(home(on(9)), on(8))[Kind.CERTIFICATE]
    assert found(home(on(7)), on(6))[Kind.CERTIFICATE].deadline == one.deadline


def test_new_data_ends_the_silence() -> None:
    now = on(5)
    known = Known(verification=verdict(on(6)), plan=plan(OF, now), certificate=certificate(on(6)))
    alerts = found(known, now)
    assert alerts[Kind.NEW_DATA].deadline == known.verification.checked_at  # type: ignore[union-attr]
    assert Kind.TAPE in alerts
    assert Kind.CERTIFICATE not in alerts


def test_a_copy_that_differs_is_not_silent() -> None:
    known = Known(verification=verdict(on(6), outcome=Outcome.DIFFERENT), plan=plan(OF, on(6), todo=0))
    assert Kind.TAPE in found(known, on(5))


def test_after_the_tape_day_it_is_said_what_can_still_be_done() -> None:
    alert = due(OF, SITE, Known(plan=plan(OF, on(1))), on(-3))[0]
    assert alert.urgency is Urgency.LOST
    assert "3 days ago" in alert.headline
    assert "restore_requested" in alert.todo


def test_a_restoring_that_was_asked_for_pauses_what_counts_days() -> None:
    asked = beamtime(restore_requested=date(2026, 4, 12))
    known = Known(plan=plan(asked, on(1)), problem=problem(on(1)))
    assert list(found(known, on(-3), asked)) == [Kind.PROBLEM]


def test_an_archived_beamtime_is_silent() -> None:
    assert due(beamtime(archived=True), SITE, Known(), on(0)) == ()


def test_the_published_minimum_counts_from_the_oldest_file() -> None:
    oldest = utc(2026, 2, 20, 12)
    known = Known(
        verification=verdict(on(16), outcome=Outcome.DIFFERENT, oldest=int(oldest.timestamp())),
        plan=plan(OF, on(16)),
        moving=moving(on(16), 5),
    )
    moment = oldest + timedelta(days=30)
    assert Kind.MAY_MOVE not in found(known, moment - timedelta(seconds=1))
    alert = found(known, moment)[Kind.MAY_MOVE]
    assert alert.deadline == moment
    assert "30 days" in alert.detail
    # Without a listing the last day is what is known.
    unknown = Known(plan=plan(OF, on(16)))
    assert found(unknown, on(10))[Kind.MAY_MOVE].deadline.date() == ENDED + timedelta(days=30)


def test_a_forecast_that_is_late_is_an_alert_and_one_that_becomes_late_another() -> None:
    def at(rate_now: int) -> Alert | None:
        return found(Known(plan=plan(OF, on(6)), rate=rate(on(6), rate_now)), on(6)).get(Kind.FORECAST)

    assert at(10_000_000) is None
    close, late = at(110_000), at(50_000)
    assert close is not None
    assert late is not None
    assert (close.threshold, late.threshold) == (1, 0)
    assert late.urgency is Urgency.URGENT
    assert "late" in late.headline


def test_a_running_transfer_is_foretold_from_its_own_series() -> None:
    now = on(6)
    stamp = int(now.timestamp())
    history = ((stamp - 1000, 0), (stamp - 500, 500_000_000), (stamp, 1_000_000_000))
    known = Known(plan=plan(OF, on(7)), moving=moving(now, 1_000_000_000, history=history))
    coming = foretell(OF, SITE, known, now)
    assert coming is not None
    assert coming.measured
    assert coming.ends_at == now + timedelta(seconds=39_000)


def test_nothing_moving_is_told_at_the_second_day_the_fourth_and_the_eighth() -> None:
    since = on(20)
    known = Known(plan=plan(OF, since), rate=rate(since))
    told = {}
    for days in range(1, 18):
        alert = found(known, since + timedelta(days=days)).get(Kind.STANDSTILL)
        if alert is not None and alert.threshold not in told:
            told[alert.threshold] = days
    assert list(told.values()) == [2, 4, 8, 16]


def test_a_beamtime_that_was_never_looked_at_is_told_of() -> None:
    alert = found(Known(), on(30))[Kind.STANDSTILL]
    assert alert.headline == "Nothing was fetched yet"
    assert "paused" in alert.todo


def test_a_new_entry_has_two_nights_before_it_is_told_of() -> None:
    seen = on(30)
    for days, told in ((1, False), (2, True)):
        alerts = due(OF, SITE, Known(), seen + timedelta(days=days), first_seen=seen)
        assert (Kind.STANDSTILL in {alert.kind for alert in alerts}) is told


def test_a_problem_is_one_alert_while_it_lasts() -> None:
    began = on(9)
    first = found(Known(problem=problem(began, since=began)), on(9))[Kind.PROBLEM]
    later = found(Known(problem=problem(on(4), since=began)), on(4))[Kind.PROBLEM]
    assert first.deadline == later.deadline
    assert later.todo.startswith("Add ~/.ssh")
    assert later.detail.endswith("mbcx9cd4.")


def test_what_to_do_at_a_threshold_is_the_problems_remedy() -> None:
    known = Known(plan=plan(OF, on(4)), problem=problem(on(4)))
    assert "authorized_keys" in found(known, on(3))[Kind.TAPE].todo


def test_a_log_in_that_is_wanted_shows_the_command() -> None:
    known = Known(plan=plan(OF, on(9)), log_in=LogIn(command="ssh -M x", at=on(9)))
    assert found(known, on(9))[Kind.LOG_IN].todo == "On RDS-SSH type: ssh -M x"


def test_a_state_that_cannot_be_read_is_told_of_and_silences_nothing() -> None:
    alerts = found(Known(unreadable=("verification",)), on(3))
    assert "verification" in alerts[Kind.PROBLEM].detail
    assert Kind.TAPE in alerts


class Registered(DiamondBeamtime):
    """A beamtime whose facility wants a registration."""

    @property
    def registration_ends(self) -> date:
        return date(2026, 3, 10)


@pytest.mark.parametrize(("day", "threshold"), [(7, None), (8, 2), (9, 1), (10, 0), (11, -1), (20, -1)])
def test_a_registration_is_told_of_before_it_ends(day: int, threshold: int | None) -> None:
    of = Registered(**OF.model_dump())
    alert = found(Known(), utc(2026, 3, day, 7), of).get(Kind.REGISTRATION)
    assert (None if alert is None else alert.threshold) == threshold


def test_the_most_urgent_comes_first() -> None:
    known = Known(plan=plan(OF, on(8)), problem=problem(on(8)))
    urgencies = [alert.urgency for alert in due(OF, SITE, known, on(8))]
    assert urgencies == sorted(urgencies, reverse=True)


def test_the_outlook_never_takes_unknown_for_nothing() -> None:
    assert "not known" in outlook(OF, SITE, Known(), on(9))
    assert "not verified" in outlook(OF, SITE, Known(plan=plan(OF, on(9), todo=0)), on(9))
    assert "40.0 GB in 8,000 files left" in outlook(OF, SITE, Known(plan=plan(OF, on(9))), before_tape(OF, 9))


def test_a_rate_of_a_few_bytes_silences_nothing() -> None:
    known = Known(plan=plan(OF, on(6), todo=40 * 10**12), rate=rate(on(9), 100))
    alerts = found(known, on(6))
    assert alerts[Kind.FORECAST].threshold == 0
    assert Kind.TAPE in alerts


def test_a_verified_copy_with_an_unreadable_plan_is_told_of() -> None:
    known = Known(verification=verdict(on(6)), certificate=certificate(on(6)), unreadable=("plan",))
    assert {Kind.PROBLEM, Kind.TAPE} <= found(known, on(5)).keys()


def test_a_job_that_hangs_is_told_of_though_it_tells_of_itself() -> None:
    now, stamp = on(25), int(on(25).timestamp())
    history = ((stamp - 5 * 86_400, 0), (stamp - 4 * 86_400, 7), (stamp, 7))
    known = Known(plan=plan(OF, on(31)), moving=moving(now, 7, history=history))
    assert found(known, now)[Kind.STANDSTILL].headline == "Nothing has moved for 4 days"


def test_a_log_in_that_nobody_answers_does_not_hide_for_ever_that_nothing_moves() -> None:
    known = Known(plan=plan(OF, on(35)), log_in=LogIn(command="ssh -M x", at=on(30)))
    assert Kind.STANDSTILL not in found(known, on(29))
    assert Kind.STANDSTILL in found(known, on(28))


def test_a_copy_that_was_fetched_and_is_never_compared_is_told_of() -> None:
    known = fetched(OF, on(31), on(30))
    alert = found(known, on(25))[Kind.STANDSTILL]
    assert "not verified yet" in alert.detail
    assert Kind.FORECAST not in found(known, on(1))


def test_what_differs_is_not_told_as_nothing_left() -> None:
    known = replace(fetched(OF, on(31), on(30)), verification=verdict(on(29), outcome=Outcome.DIFFERENT))
    told = [f"{alert.detail} {alert.todo}" for alert in due(OF, SITE, known, on(20))]
    assert any("the last comparison did not find a whole copy" in one for one in told)
    assert not any("0 bytes" in one or "verify only" in one for one in told)


def test_new_data_is_what_the_plan_found_however_much_of_it_has_come() -> None:
    made = plan(OF, on(8))
    for kept in (fetching(made), fetching(made, on(7))):
        known = Known(
            plan=made, verification=verdict(on(9)), fetching=kept, coming=moving(on(7), made.todo_bytes)
        )
        assert found(known, on(6))[Kind.NEW_DATA].detail.startswith("40.0 GB in 8,000 files came after")


@pytest.mark.parametrize("oldest", [10**15, int(utc(2030, 1, 1).timestamp())])
def test_a_file_from_the_future_counts_as_one_without_a_time(oldest: int) -> None:
    known = Known(
        plan=plan(OF, on(10)), verification=verdict(on(10), outcome=Outcome.DIFFERENT, oldest=oldest)
    )
    assert found(known, on(9))[Kind.MAY_MOVE].deadline.date() == ENDED + timedelta(days=30)


def test_nobody_is_told_to_wait_for_a_run_whose_minute_has_passed_or_that_never_comes() -> None:
    known = Known(plan=plan(OF, on(3)))
    # This beamtime's minute is 03:06 UTC.
    midnight = on(3).replace(hour=0, minute=30)
    for now, said in (
        (midnight, "rather than wait for the next one, tonight at 04:06."),
        (midnight.replace(hour=4), "rather than wait for the next one, tomorrow at 04:06."),
        (on(0), "as no nightly run comes any more."),
    ):
        assert found(known, now)[Kind.TAPE].todo == f"Start a run in mode sync now {said}"
