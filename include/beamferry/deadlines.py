"""What is due to be told of a beamtime: days to tape, a forecast that is late, nothing moving, new data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.alerts import Alert, Kind, Urgency
from beamferry.forecast import day, span
from beamferry.outlook import amount, days_left, foretell, next_run, outlook
from beamferry.plan import count, deadline, human, midnight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.beamtime import Beamtime, Site
    from beamferry.known import Known

# Days before tape at which people are told, each once; one more follows when the day has passed.
THRESHOLDS = (21, 14, 7, 3, 1, 0)
# A registration lasts a week: its warnings are closer together.
REGISTRATION_THRESHOLDS = (2, 1, 0)
PASSED = -1
# Nights without a byte before people are told that nothing moves: one may be a facility's maintenance.
STANDSTILL_DAYS = 2
# A forecast may be wrong by a fifth and RDS-SSH be down for a day: less room than this is told of.
CLOSE = timedelta(days=3)


def due(
    beamtime: Beamtime, site: Site, known: Known, now: datetime, *, first_seen: datetime | None = None
) -> tuple[Alert, ...]:
    """Return what is true of a beamtime and worth telling, most urgent first; who was told already is the ledger's.

    Args:
        beamtime: the registry's entry.
        site: the group's own side.
        known: what its asset says.
        now: the present, aware.
        first_seen: when the alerts first saw this entry, None where they do not remember it.
    """
    if beamtime.archived:
        return ()
    found = list(_all(beamtime, site, known, now, first_seen))
    return tuple(sorted(found, key=lambda alert: (-alert.urgency, alert.deadline, alert.kind)))


def _all(
    beamtime: Beamtime, site: Site, known: Known, now: datetime, first_seen: datetime | None
) -> Iterator[Alert]:
    if known.complete:
        # A whole copy is silent, but for the word that it is whole.
        if known.certificate is not None:
            yield _certificate(beamtime, site, known)
        return
    paused = beamtime.restore_requested is not None
    if not paused:
        yield from _tape(beamtime, site, known, now)
        yield from _may_move(beamtime, site, known, now)
        yield from _late(beamtime, site, known, now)
        yield from _standstill(beamtime, site, known, now, first_seen)
    yield from _registration(beamtime, site, now)
    if known.new_data and known.verification is not None and known.plan is not None:
        found = f"{human(known.plan.todo_bytes)} in {count(known.plan.todo_files, 'file')}"
        yield Alert(
            beamtime.key,
            Kind.NEW_DATA,
            None,
            known.verification.checked_at,
            Urgency.NOTICE,
            "New data at the facility",
            f"{found} came after the copy was verified.",
            "Nothing, if the nightly runs are on: the next one fetches and verifies it.",
        )
    if (problem := known.open_problem) is not None:
        yield Alert(
            beamtime.key,
            Kind.PROBLEM,
            None,
            problem.first_seen,
            Urgency.URGENT,
            "The transfer failed",
            f"{problem.problem}.",
            f"{problem.remedy[:1].upper()}{problem.remedy[1:]}.",
            since=problem.first_seen,
        )
    if known.log_in is not None:
        ends = known.log_in.ends
        yield Alert(
            beamtime.key,
            Kind.LOG_IN,
            None,
            known.log_in.at,
            Urgency.URGENT,
            "The run waits for you to log in" if ends is None else "Your session is about to end",
            f"{beamtime.host} asks for a second factor, which only a person can give."
            if ends is None
            else f"{beamtime.host} will end the session about {ends.astimezone(ZoneInfo(site.time_zone)):%A, %H:%M}; a "
            "transfer that is not over by then waits for a new one.",
            f"On RDS-SSH type: {known.log_in.command}",
            since=known.log_in.at,
        )
    if known.unreadable:
        yield Alert(
            beamtime.key,
            Kind.PROBLEM,
            None,
            deadline(beamtime, site),
            Urgency.SOON,
            "What is known of it cannot be read",
            f"Airflow holds unreadable values under {', '.join(known.unreadable)}, so its state is not known.",
            "Start a run in mode sync: it writes them anew.",
        )


def _tape(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> Iterator[Alert]:
    left = days_left(beamtime.tape_day, site, now)
    end = deadline(beamtime, site)
    if left < 0:
        yield Alert(
            beamtime.key,
            Kind.TAPE,
            PASSED,
            end,
            Urgency.LOST,
            f"The tape day has passed ({_ago(-left)})",
            f"The copy at RDS is not verified. {outlook(beamtime, site, known, now)}".strip(),
            f"Ask {beamtime.facility_name} today whether the data is still on disk; if not, ask for it back from "
            "tape and write restore_requested into the entry.",
        )
        return
    passed = [threshold for threshold in THRESHOLDS if left <= threshold]
    if not passed:
        return
    yield Alert(
        beamtime.key,
        Kind.TAPE,
        min(passed),
        end,
        _urgency(left),
        f"Goes to tape {_in(left)}",
        outlook(beamtime, site, known, now),
        _todo(beamtime, site, known, now),
    )


def _urgency(left: int) -> Urgency:
    if left <= 3:  # noqa: PLR2004
        return Urgency.URGENT
    return Urgency.SOON if left <= 7 else Urgency.NOTICE  # noqa: PLR2004


def _todo(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> str:
    if known.open_problem is not None:
        remedy = known.open_problem.remedy
        return f"{remedy[:1].upper()}{remedy[1:]}; then start a run."
    if known.plan is None:
        return "Start a run in mode sync, and see that the DAG of this beamtime is not paused."
    if known.all_fetched:
        return "Start a run in mode verify only."
    if known.transferring is None:
        begins = next_run(beamtime, site, now)
        later = (
            f"rather than wait for the next one, {begins}" if begins else "as no nightly run comes any more"
        )
        return f"Start a run in mode sync now {later}."
    return f"See that the run goes on; raise its streams (now {beamtime.streams}) if the forecast is late."


def _may_move(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> Iterator[Alert]:
    minimum = beamtime.published_minimum
    if minimum is None:
        return
    zone = ZoneInfo(site.time_zone)
    oldest = known.verification.source.oldest if known.verification is not None else 0
    # A time to come is a detector's wrong clock, and may be one that no calendar has.
    oldest = oldest if oldest <= now.timestamp() else 0
    # Without a listing of the source its last day is what is known: then even the newest files may move.
    began = datetime.fromtimestamp(oldest, UTC) if oldest > 0 else midnight(beamtime.ended, site)
    moment = began + minimum
    if now < moment or now >= deadline(beamtime, site):
        return
    basis = "its oldest file" if oldest > 0 else "its last day"
    yield Alert(
        beamtime.key,
        Kind.MAY_MOVE,
        None,
        moment,
        Urgency.SOON,
        "Could already be moving to tape",
        f"The facility's policy promises {minimum.days} days from a file's creation; {basis} is of {day(began, zone)}.",
        _todo(beamtime, site, known, now),
    )


def _late(beamtime: Beamtime, site: Site, known: Known, now: datetime) -> Iterator[Alert]:
    coming = foretell(beamtime, site, known, now)
    if coming is None or now >= coming.deadline or coming.margin >= CLOSE:
        return
    late = coming.late
    yield Alert(
        beamtime.key,
        Kind.FORECAST,
        0 if late else 1,
        coming.deadline,
        Urgency.URGENT if late else Urgency.SOON,
        f"Will be {span(-coming.margin)} late for tape"
        if late
        else f"Only {span(coming.margin)} to spare before tape",
        outlook(beamtime, site, known, now),
        f"Start a run now with more streams (now {beamtime.streams}, at most 16); if it stays late, ask "
        f"{beamtime.facility_name} for a later day and write it into the entry as deadline.",
    )


def _standstill(
    beamtime: Beamtime, site: Site, known: Known, now: datetime, first_seen: datetime | None
) -> Iterator[Alert]:
    if known.all_fetched and known.last_moved is None:
        return
    # A log-in is asked for once: one that nobody answers must not keep this quiet for ever.
    if known.log_in is not None and now - known.log_in.at < timedelta(days=STANDSTILL_DAYS):
        return
    zone = ZoneInfo(site.time_zone)
    ended = midnight(beamtime.ended, site)
    # An entry that was written today has had no night to move anything.
    since = known.last_moved or max(ended, first_seen or ended)
    nights = (now - since) // timedelta(days=1)
    if nights < STANDSTILL_DAYS:
        return
    what = f"{amount(known)} are left" if known.plan is not None else "it is not known how much there is"
    if known.compared is not None:
        what = "the last comparison did not find a whole copy"
    if known.all_fetched:
        what = "the copy is not verified yet"
    yield Alert(
        beamtime.key,
        Kind.STANDSTILL,
        # The longer it lasts the smaller: told of at the second day, the fourth, the eighth and so on.
        -_doublings(nights),
        since,
        Urgency.SOON,
        f"Nothing has moved for {count(nights, 'day')}" if known.last_moved else "Nothing was fetched yet",
        f"No byte came since {day(since, zone)}, and {what}.",
        _todo(beamtime, site, known, now),
    )


def _doublings(nights: int) -> int:
    return (nights // STANDSTILL_DAYS).bit_length()


def _registration(beamtime: Beamtime, site: Site, now: datetime) -> Iterator[Alert]:
    ends = beamtime.registration_ends
    if ends is None:
        return
    left = days_left(ends, site, now)
    passed = [threshold for threshold in REGISTRATION_THRESHOLDS if left <= threshold]
    if not passed:
        return
    moment = midnight(ends, site)
    over = left < 0
    yield Alert(
        beamtime.key,
        Kind.REGISTRATION,
        PASSED if over else min(passed),
        moment,
        Urgency.URGENT,
        "Its registration has expired" if over else f"Its registration ends {_in(left)}",
        "Without it the facility refuses the log-in, and nothing more can be fetched.",
        "Register the beamtime again at the facility's portal and write the day into the entry as registered.",
    )


def _certificate(beamtime: Beamtime, site: Site, known: Known) -> Alert:
    verdict, issued = known.verification, known.certificate
    return Alert(
        beamtime.key,
        Kind.CERTIFICATE,
        None,
        # The same whenever it is verified again: people are told once that a beamtime is home.
        midnight(beamtime.ended, site),
        Urgency.GOOD,
        "Home and verified",
        verdict.sentence if verdict is not None else "",
        f"Nothing. The certificate is in {issued.folder if issued is not None else ''}.",
        since=issued.at if issued is not None else None,
    )


def _in(days: int) -> str:
    return {0: "today", 1: "tomorrow"}.get(days, f"in {days} days")


def _ago(days: int) -> str:
    return "yesterday" if days == 1 else f"{days} days ago"
