from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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

from beamferry.beamtime import Level
from beamferry.board import May, Paths, Seen, alive, flaws, page, row, space, urgency
from beamferry.board.answers import Row, Started, State, Step
from beamferry.differences import Difference
from beamferry.known import Known, LogIn
from beamferry.metadata import Metadata
from beamferry.registry import Problem as Flaw
from beamferry.verification import Named, Outcome

OF = beamtime()
NOW = before_tape(OF, 25)
EARLIER = NOW - timedelta(hours=3)
PATHS = Paths(
    dag="/dags/d", beamtime="/dags/d/plugin/beamtime", certificate="/beamferry/c", approval="/dags/d/approve"
)
ALL = May(trigger=True, approve=True, unpause=True)
HOUR = timedelta(hours=1)


def run(state: str = "running", *, start: datetime = EARLIER, run_id: str = "manual") -> Started:
    return Started(
        run_id=run_id, state=state, url=f"/dags/d/runs/{run_id}", start=start, end=None, mode="sync"
    )


RUNNING, RESTING = Seen(run=run()), Seen(run=run("success"))


def of(known: Known, seen: Seen = RESTING, *, now: datetime = NOW, may: May = ALL, **changed: Any) -> Row:
    return row(beamtime(**changed), SITE, known, seen, PATHS, may, now)


def fresh_plan(**changed: Any) -> Known:
    return Known(plan=plan(OF, EARLIER, **changed), rate=rate(EARLIER - HOUR))


class TestState:
    def test_safe_is_only_what_a_comparison_has_shown(self) -> None:
        assert of(home(EARLIER)).state is State.SAFE
        assert of(home(EARLIER), RUNNING).state is State.SAFE
        assert of(home(EARLIER), now=before_tape(OF, -9)).state is State.SAFE

    @pytest.mark.parametrize("run_state", ["success", "failed", "running", "queued"])
    def test_no_run_however_green_makes_a_beamtime_safe(self, run_state: str) -> None:
        for known in (
            Known(),
            replace(fetched(OF, EARLIER, EARLIER + HOUR), certificate=certificate(EARLIER)),
            fresh_plan(todo=0),
            Known(verification=verdict(EARLIER, outcome=Outcome.CHANGING)),
            Known(verification=verdict(EARLIER, outcome=Outcome.DIFFERENT)),
            Known(verification=verdict(EARLIER).model_copy(update={"level": Level.LISTED})),
            replace(home(EARLIER), plan=plan(OF, EARLIER + HOUR)),
            replace(home(EARLIER), unreadable=("plan",)),
        ):
            found = of(known, Seen(run=run(run_state)))
            assert found.state is not State.SAFE
            assert found.next_step.kind is not Step.CERTIFICATE
            assert "verified" not in found.headline.lower().replace("not verified", "")

    def test_the_tape_day_has_passed_from_the_day_after_it_on(self) -> None:
        assert of(fresh_plan(), now=before_tape(OF, 0)).state is not State.OVERDUE
        late = of(fresh_plan(), now=before_tape(OF, -1))
        assert (late.state, late.days_left) == (State.OVERDUE, -1)
        assert late.headline == "The tape day has passed (yesterday)"
        assert "Ask Diamond today" in late.next_step.sentence

    def test_what_was_asked_back_from_tape_is_neither_overdue_nor_late(self) -> None:
        found = of(fresh_plan(), now=before_tape(OF, -60), restore_requested=date(2026, 5, 3))
        assert found.state is State.WAITING
        assert found.headline == "Asked back from tape on 3 May 2026"
        assert found.forecast is None
        assert found.next_step.kind is Step.TRIGGER

    def test_late_says_until_when_a_transfer_must_begin(self) -> None:
        # 24 days and 10 hours, six hours less than are left: its own minute, 03:06, is too late.
        slow = Known(plan=plan(OF, EARLIER, todo=84_384_000_000), rate=rate(EARLIER - HOUR, 40_000))
        found = of(slow)
        assert found.state is State.LATE
        assert found.headline == "14 hours late: start by Tuesday 17 March"
        assert found.forecast == "14 hours late: start by Tuesday 17 March"
        # Under way it is too late to start.
        begun = replace(slow, moving=moving(NOW, 1_000, history=((1, 0), (3, 100))))
        assert "late: ends on" in of(begun, RUNNING).headline

    @pytest.mark.parametrize(
        ("known", "seen", "headline"),
        [
            (Known(problem=problem(EARLIER)), RESTING, "The transfer failed"),
            (fresh_plan(), Seen(run=run(), approval=True), "Waits for your approval"),
            (
                replace(fresh_plan(), log_in=LogIn(command="ssh x", at=NOW)),
                RUNNING,
                "The run waits for you to log in",
            ),
            (fresh_plan(), Seen(run=run("success"), paused=True), "Paused: no run begins"),
            (Known(), Seen(paused=None, first_seen=NOW), "Airflow does not have it yet"),
            (Known(unreadable=("plan",)), RESTING, "What is known of it cannot be read"),
        ],
    )
    def test_what_waits_for_a_person_says_so(self, known: Known, seen: Seen, headline: str) -> None:
        found = of(known, seen)
        assert found.state is State.ACTION
        assert found.headline == headline

    def test_a_run_that_goes_on_after_a_failure_is_on_its_way_again(self) -> None:
        known = replace(fresh_plan(), problem=problem(EARLIER))
        assert of(known, RESTING).state is State.ACTION
        again = of(known, RUNNING)
        assert again.state is State.MOVING
        assert again.problem is not None, "what stopped the last one is still shown"

    def test_nothing_moved_for_days_waits_for_a_person_unless_a_run_has_just_begun(self) -> None:
        still = Known(plan=plan(OF, EARLIER), rate=rate(NOW - timedelta(days=5)))
        assert of(still, RESTING).headline == "Nothing has moved for 5 days"
        assert of(still, RUNNING).state is State.MOVING
        hangs = Seen(run=run(start=NOW - timedelta(days=4)))
        assert of(still, hangs).state is State.ACTION
        assert of(still, hangs).next_step.url == "/dags/d/runs/manual"

    def test_an_entry_that_is_new_today_does_not_stand_still(self) -> None:
        assert of(Known(), Seen(first_seen=NOW)).state is State.WAITING
        assert of(Known(), Seen(first_seen=NOW - timedelta(days=3))).state is State.ACTION

    @pytest.mark.parametrize(
        ("part", "words"),
        [
            ("dry_run", "The source is being listed"),
            ("transfer", "Data is coming home"),
            ("verify", "Both ends are being compared"),
            ("something", "A run is under way"),
        ],
    )
    def test_a_run_says_what_it_does(self, part: str, words: str) -> None:
        job = moving(NOW, 1_000).model_copy(update={"part": part})
        assert of(Known(moving=job), RUNNING).headline.startswith(words)
        assert of(Known(moving=job), Seen(run=run("queued"))).headline.startswith("A run is about to begin")
        # What an earlier run's job told, or one that has ended, is not what this run does.
        other = Seen(run=run(run_id="another"))
        assert of(Known(moving=job), other).headline == "A run is under way"
        old = moving(NOW - HOUR, 1_000).model_copy(update={"part": part})
        assert of(Known(moving=old), RUNNING).headline == "A run is under way"

    def test_new_data_after_a_good_comparison(self) -> None:
        known = replace(home(EARLIER - HOUR), plan=plan(OF, EARLIER), rate=rate(EARLIER - HOUR))
        found = of(known)
        assert (found.state, found.headline) == (State.NEW_DATA, "New data at the facility")
        assert found.next_step.kind is Step.NONE
        assert of(known, RUNNING).state is State.MOVING


class TestNextStep:
    @pytest.mark.parametrize("may", [ALL, May()])
    @pytest.mark.parametrize(
        ("known", "seen", "kind", "url"),
        [
            (Known(), Seen(first_seen=NOW), Step.TRIGGER, "/dags/d"),
            (Known(problem=problem(EARLIER)), RESTING, Step.FIX, "/dags/d"),
            (fresh_plan(), Seen(run=run(), approval=True), Step.APPROVE, "/dags/d/approve"),
            (fresh_plan(), Seen(run=run("success"), paused=True), Step.FIX, "/dags/d"),
        ],
    )
    def test_a_button_that_airflow_would_refuse_is_not_allowed(
        self, known: Known, seen: Seen, kind: Step, url: str, may: May
    ) -> None:
        step = of(known, seen, may=may).next_step
        assert (step.kind, step.url, step.allowed) == (kind, url, may == ALL)

    @pytest.mark.parametrize(
        ("may", "known", "seen"),
        [
            (May(trigger=True), Known(), Seen(first_seen=NOW)),
            (May(approve=True), fresh_plan(), Seen(run=run(), approval=True)),
            (May(unpause=True), fresh_plan(), Seen(run=run("success"), paused=True)),
        ],
    )
    def test_each_button_asks_for_its_own_permission(self, may: May, known: Known, seen: Seen) -> None:
        assert of(known, seen, may=may).next_step.allowed
        others = May(trigger=not may.trigger, approve=not may.approve, unpause=not may.unpause)
        assert not of(known, seen, may=others).next_step.allowed

    def test_the_remedy_of_a_failure_is_the_step(self) -> None:
        step = of(Known(problem=problem(EARLIER))).next_step
        assert step.sentence.startswith("Add ~/.ssh/id_ed25519.pub of RDS-SSH to")
        assert step.sentence.endswith("; then start a run.")
        unreadable = of(Known(unreadable=("plan",)), may=May()).next_step
        assert unreadable.sentence == "Start a run in mode sync: it writes them anew."

    def test_the_plan_is_shown_to_who_approves_it(self) -> None:
        step = of(fresh_plan(), Seen(run=run(), approval=True)).next_step
        assert "To move: 40,000,000,000 bytes (40.0 GB) in 8,000 files" in step.sentence

    def test_a_log_in_comes_with_its_command(self) -> None:
        step = of(Known(log_in=LogIn(command="ssh -M x", at=NOW)), RUNNING).next_step
        assert (step.kind, step.command, step.allowed) == (Step.LOG_IN, "ssh -M x", True)

    def test_a_registration_that_expired_is_told_even_while_a_run_tries(self) -> None:
        from beamferry.facilities.desy import DesyBeamtime  # noqa: PLC0415

        entry = DesyBeamtime(
            id="11010750",
            facility="desy",
            instrument="p07",
            account="cdaniel",
            ended=ENDED,
            transport="ftps",  # type: ignore[arg-type]
            registered=NOW.date() - timedelta(days=9),
        )
        for seen in (RUNNING, RESTING):
            found = row(entry, SITE, Known(), seen, PATHS, ALL, NOW)
            assert (found.state, found.headline) == (State.ACTION, "Its registration has expired")
            assert "Register the beamtime again" in found.next_step.sentence
            assert found.next_step.kind is Step.FIX

    def test_what_is_fetched_but_not_compared_asks_for_that(self) -> None:
        known = fetched(OF, EARLIER, EARLIER + HOUR)
        step = of(known, now=before_tape(OF, 2)).next_step
        assert (step.kind, step.label) == (Step.TRIGGER, "Verify the copy")
        waits = of(known, now=EARLIER + 2 * HOUR)
        assert waits.headline == "All bytes are at RDS, not verified yet"

    def test_what_waits_for_its_nightly_run_needs_nobody(self) -> None:
        found = of(fresh_plan())
        assert found.state is State.WAITING
        assert found.headline.startswith("The next run begins tomorrow at 03:06: done ")
        assert found.next_step.kind is Step.NONE
        assert found.next_step.sentence.startswith(
            "Nothing: the nightly runs go on. 40.0 GB in 8,000 files left."
        )


class TestFigures:
    def test_bytes_and_files_go_up_together(self) -> None:
        found = of(fresh_plan())
        assert (found.bytes_done, found.bytes_total) == (60_000_000_000, 100_000_000_000)
        assert (found.files_done, found.files_total, found.rate) == (12_000, 20_000, None)
        job = moving(NOW, 10_000_000_000).model_copy(update={"files_done": 3_000, "rate": 46_000_000})
        moves = of(replace(fresh_plan(), moving=job), RUNNING)
        assert (moves.bytes_done, moves.files_done, moves.rate) == (70_000_000_000, 15_000, 46_000_000)
        assert of(replace(fresh_plan(), moving=job), RESTING).rate is None
        assert of(replace(fresh_plan(), moving=job), RUNNING, now=NOW + HOUR).rate is None
        assert of(Known()).bytes_total is None

    def test_a_run_that_only_compared_has_counted_too(self) -> None:
        found = of(home(EARLIER))
        assert (found.bytes_done, found.bytes_total) == (100_000_000_000,) * 2
        assert (found.files_done, found.files_total) == (20_000, 20_000)
        assert of(Known(verification=verdict(EARLIER, outcome=Outcome.DIFFERENT))).bytes_done is None

    def test_the_last_sync_is_when_the_copy_came_nearer_or_was_compared(self) -> None:
        assert of(Known()).last_sync is None
        assert of(fresh_plan()).last_sync == EARLIER - HOUR
        assert of(fresh_plan(todo=0)).last_sync == EARLIER
        assert of(replace(fresh_plan(), verification=verdict(NOW))).last_sync == NOW

    def test_what_people_wrote_comes_as_it_is(self) -> None:
        hostile = "<img src=x onerror=alert(1)>"
        found = of(Known(metadata=Metadata(title=hostile, pi="O'Neil & Sons")))
        assert (found.title, found.pi) == (hostile, "O'Neil & Sons")

    def test_the_address_of_the_certificate_is_there_with_its_text_alone(self) -> None:
        assert of(home(EARLIER)).urls.certificate is None
        kept = certificate(EARLIER).model_copy(update={"text": "VERIFIED"})
        assert of(replace(home(EARLIER), certificate=kept)).urls.certificate == "/beamferry/c"
        assert the_page(replace(home(EARLIER), certificate=kept)).certificate.text == "VERIFIED"
        assert the_page(home(EARLIER)).certificate.text is None


MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
BYTES = st.integers(0, 2**62)


@st.composite
def jobs(draw: st.DrawFn) -> Any:
    found = moving(draw(MOMENTS), draw(BYTES), total=draw(BYTES))
    history = draw(st.lists(st.tuples(st.integers(0, 4_102_444_800), BYTES), max_size=6))
    part = draw(st.sampled_from(["transfer", "verify", "dry_run", "x"]))
    return found.model_copy(
        update={"history": tuple(history), "part": part, "files_done": draw(BYTES), "rate": draw(BYTES)}
    )


@st.composite
def all_known(draw: st.DrawFn) -> Known:
    made = st.builds(plan, st.just(OF), MOMENTS, todo=st.integers(0, 100_000_000_000))
    compared = st.builds(
        verdict, MOMENTS, outcome=st.sampled_from(list(Outcome)), oldest=st.integers(-(2**40), 2**40)
    )
    known_plan = draw(st.none() | made)
    ends = st.lists(MOMENTS, max_size=3)
    kept = st.builds(
        lambda to, ended, transfers, each: fetching(to, *ended, transfers=transfers, each=each),
        made if known_plan is None else st.just(known_plan) | made,
        ends,
        st.integers(0, 3),
        BYTES,
    )
    return Known(
        plan=known_plan,
        coming=draw(st.none() | jobs()),
        fetching=draw(st.none() | kept),
        moving=draw(st.none() | jobs()),
        verification=draw(st.none() | compared),
        rate=draw(st.none() | st.builds(rate, MOMENTS, st.integers(0, 2**62))),
        problem=draw(st.none() | st.builds(problem, MOMENTS)),
        certificate=draw(st.none() | st.builds(certificate, MOMENTS)),
        log_in=draw(st.none() | st.builds(LogIn, command=st.just("ssh"), at=MOMENTS)),
        unreadable=draw(st.sampled_from([(), ("plan",), ("verification", "rate")])),
    )


@st.composite
def all_seen(draw: st.DrawFn) -> Seen:
    states = st.sampled_from(["queued", "running", "success", "failed"])
    return Seen(
        run=draw(st.none() | st.builds(run, states, start=MOMENTS)),
        approval=draw(st.booleans()),
        paused=draw(st.sampled_from([True, False, None])),
        first_seen=draw(st.none() | MOMENTS),
    )


ENTRIES = st.builds(
    beamtime,
    st.integers(1, 9),
    ended=st.dates(date(2026, 1, 1), date(2026, 12, 31)),
    restore_requested=st.sampled_from([None, None, date(2026, 5, 3)]),
)
ROWS = st.builds(
    lambda entry, known, seen, now: row(entry, SITE, known, seen, PATHS, ALL, now),
    ENTRIES,
    all_known(),
    all_seen(),
    MOMENTS,
)


@given(entry=ENTRIES, known=all_known(), seen=all_seen(), now=MOMENTS)
@settings(max_examples=400, deadline=None)
def test_whatever_is_known_there_is_a_row_with_an_answer_and_a_page(
    entry: Any, known: Known, seen: Seen, now: datetime
) -> None:
    found = row(entry, SITE, known, seen, PATHS, ALL, now)
    assert found.headline
    assert found.next_step.sentence
    assert bool(found.next_step.label) == (found.next_step.kind is not Step.NONE)
    assert (found.state is State.SAFE) == known.complete
    if known.unreadable and not known.complete and known.problem is None:
        assert found.problem is not None
        assert known.unreadable[0] in found.problem.problem
    if found.bytes_total is not None:
        assert found.bytes_done is not None
        assert 0 <= found.bytes_done <= found.bytes_total
        assert found.files_done is not None
        assert 0 <= found.files_done <= (found.files_total or 0)
    whole = page(found, entry, SITE, known, folders=None, runs=(), commands=(), now=now)
    assert type(whole).model_validate_json(whole.model_dump_json()) == whole
    times = [at for at, _ in whole.left]
    assert times == sorted(set(times))


@given(st.lists(ROWS, max_size=6))
@settings(max_examples=100, deadline=None)
def test_the_order_is_the_same_whatever_came_first_and_ends_with_what_is_safe(rows: list[Row]) -> None:
    ordered = sorted(rows, key=urgency)
    if len({found.key for found in rows}) == len(rows):
        other = list(rows)
        other.reverse()
        assert sorted(other, key=urgency) == ordered
    safe = [found.state is State.SAFE for found in ordered]
    assert safe == sorted(safe)
    needy = [found.state in {State.OVERDUE, State.LATE, State.ACTION} for found in ordered]
    assert needy == sorted(needy, reverse=True)
    for before, after in itertools.pairwise(ordered):
        if before.state is after.state and before.state is not State.OVERDUE:
            assert before.days_left <= after.days_left


def test_of_two_tape_days_that_passed_the_later_comes_first_and_before_all_others() -> None:
    at = before_tape(OF, -3)
    newer, older = (of(Known(), now=at, ended=ENDED - timedelta(days=by)) for by in (0, 30))
    failed = of(Known(problem=problem(at)), now=at, ended=ENDED + timedelta(days=20))
    waits = of(Known(), Seen(first_seen=at), now=at, ended=ENDED + timedelta(days=19))
    assert sorted([waits, failed, older, newer], key=urgency) == [newer, older, failed, waits]


def test_what_is_safe_comes_last_however_near_its_tape_day() -> None:
    safe = of(home(EARLIER), ended=ENDED - timedelta(days=20))
    waits = of(fresh_plan())
    assert safe.days_left < waits.days_left
    assert sorted([safe, waits], key=urgency) == [waits, safe]


class TestSurroundings:
    def test_alerts_that_ran_this_morning_are_alive(self) -> None:
        now = utc(2026, 6, 8, 14)
        stored = {"at": "2026-06-08T06:00:00Z", "mails": 0, "recipients": 1}
        found = alive(stored, now, "Europe/London")
        assert (found.ok, found.sentence) == (True, "Alerts last ran today at 07:00")
        yesterday = alive(stored, now + timedelta(hours=12), "Europe/London")
        assert (yesterday.ok, yesterday.sentence) == (True, "Alerts last ran yesterday at 07:00")

    def test_whom_the_mail_server_refuses_is_named_though_the_alerts_are_alive(self) -> None:
        refused = {"recipient": "b@x.uk", "at": "2026-06-08T06:00:00Z", "words": "550 no such user"}
        stored = {"at": "2026-06-08T06:00:00Z", "mails": 1, "recipients": 2, "refused": [refused]}
        found = alive(stored, utc(2026, 6, 8, 14), "Europe/London")
        assert not found.ok
        assert found.sentence.startswith(
            "Alerts last ran today at 07:00. The mail server refuses mails to b@x.uk (550 no such user): correct"
        )

    def test_alerts_that_fell_silent_are_told(self) -> None:
        stored = {"at": "2026-06-08T06:00:00Z", "mails": 0, "recipients": 1}
        found = alive(stored, utc(2026, 6, 9, 9), "Europe/London")
        assert not found.ok
        assert found.sentence.startswith("Alerts last ran yesterday at 07:00: nobody is told anything since")
        later = alive(stored, utc(2026, 6, 12, 9), "Europe/London")
        assert later.sentence.startswith("Alerts last ran on Monday 8 June at 07:00")

    @pytest.mark.parametrize("stored", [None, "text", {"at": 7}, {}])
    def test_no_sign_of_life_is_no_good_sign(self, stored: object) -> None:
        found = alive(stored, NOW, "UTC")
        assert (found.ok, found.ran_at) == (False, None)

    def test_room_is_what_the_newest_plan_saw(self) -> None:
        def with_room(hours: int, free: int | None) -> Known:
            made = plan(OF, NOW - timedelta(hours=hours))
            return Known(plan=made.model_copy(update={"bytes_free": free}))

        found = space(
            [with_room(5, 2 * 10**12), with_room(1, None), with_room(2, 1_200_000_000_000), Known()],
            NOW,
            "UTC",
        )
        assert found.bytes_free == 1_200_000_000_000
        assert found.sentence.startswith("1.2 TB free on RDS when last seen, today at ")
        assert space([], NOW, "UTC").bytes_free is None

    def test_flaws_of_the_registry_are_shown_to_who_may_read_them(self) -> None:
        found = [
            Flaw(
                Path("/x/beamtimes.yaml"),
                12,
                "beamtimes[3].ended",
                "'x'",
                "must be a day",
                "write 2021-05-03",
            ),
            Flaw(Path("/x/beamtimes.yaml"), None, "", "", "the file is empty", "write site:"),
        ]
        shown = flaws(found, shown=True)
        assert shown.hidden == 0
        assert [(one.place, one.sentence) for one in shown.problems] == [
            ("beamtimes.yaml:12", "beamtimes[3].ended: must be a day"),
            ("beamtimes.yaml", "the file is empty"),
        ]
        hidden = flaws(found, shown=False)
        assert (hidden.problems, hidden.hidden) == ((), 2)


def the_page(known: Known) -> Any:
    return page(
        of(known), OF, SITE, known, folders=None, runs=(run(),), commands=[("by hand", "rsync -a")], now=NOW
    )


def test_a_page_holds_the_course_of_what_is_left() -> None:
    begun = int(EARLIER.timestamp()) + 60
    job = moving(NOW, 300, history=((begun, 0), (begun + 10, 100), (begun + 10, 150), (begun + 30, 300)))
    known = replace(fresh_plan(), moving=job)
    found = the_page(known)
    todo = known.plan.todo_bytes if known.plan is not None else 0
    assert found.left == (
        (begun - 60, todo),
        (begun, todo),
        (begun + 10, todo - 100),
        (begun + 30, todo - 300),
    )
    assert found.rates == ((begun, 0), (begun + 10, 10), (begun + 30, 10))
    assert found.deadline_at == before_tape(OF, 0) - timedelta(hours=8)
    assert (found.streams, found.commands[0].text) == (4, "rsync -a")
    assert the_page(Known()).left == ()


def test_a_page_counts_differences_in_words() -> None:
    compared = verdict(EARLIER, outcome=Outcome.DIFFERENT).model_copy(
        update={"named": (Named(kind=Difference.MISSING, path="raw/a.nxs"),)}
    )
    found = the_page(Known(verification=compared)).differences
    assert [(one.kind, one.count, one.text) for one in found.counts] == [("missing", 3, "3 missing at RDS")]
    assert found.examples == ("raw/a.nxs (missing at RDS)",)
    assert the_page(Known()).differences is None
