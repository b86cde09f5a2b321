"""A beamtime's line on the board, and its place among the others."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING

from beamferry.alerts import Kind
from beamferry.board.answers import Row, State, Urls, Verification
from beamferry.board.case import Case
from beamferry.board.steps import next_step
from beamferry.outlook import days_left, next_run

if TYPE_CHECKING:
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site
    from beamferry.board.case import May, Paths, Seen
    from beamferry.known import Known

# What a job on RDS-SSH tells of itself comes every few seconds; what is older is of a job that ended.
_FRESH = timedelta(minutes=15)
_DOING = {
    "dry_run": "The source is being listed",
    "transfer": "Data is coming home",
    "verify": "Both ends are being compared",
    "manifest": "Checksums are being written",
}
# Whom nobody helps, the most urgent first; all others are ordered by their days.
_NEEDY = (State.OVERDUE, State.LATE, State.ACTION)


def row(
    beamtime: Beamtime, site: Site, known: Known, seen: Seen, paths: Paths, may: May, now: datetime
) -> Row:
    """Return a beamtime's line on the board.

    Args:
        beamtime: the registry's entry.
        site: the group's own side.
        known: what its asset says.
        seen: what Airflow says of its DAG.
        paths: where things are in the web interface.
        may: what Airflow would let the user do.
        now: the present, aware.
    """
    case = Case.of(beamtime, site, known, seen, now)
    metadata, verdict, transfer = known.metadata, known.verification, known.transferring
    bytes_done, bytes_total, files_done, files_total = _figures(known)
    comes = seen.under_way and transfer is not None and now - transfer.at < _FRESH
    return Row(
        key=beamtime.key,
        dag_id=beamtime.dag_id,
        id=beamtime.id,
        facility=beamtime.facility,
        facility_name=beamtime.facility_name,
        instrument=beamtime.instrument,
        title=None if metadata is None else metadata.title,
        pi=None if metadata is None else metadata.pi,
        ended=beamtime.ended,
        tape_day=beamtime.tape_day,
        days_left=days_left(beamtime.tape_day, site, now),
        retention_days=(beamtime.tape_day - beamtime.ended).days,
        state=case.state,
        headline=_headline(case),
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        files_done=files_done,
        files_total=files_total,
        rate=transfer.rate if comes and transfer is not None else None,
        ends_at=None if case.coming is None else case.coming.ends_at,
        forecast=case.forecast,
        verification=None
        if verdict is None
        else Verification(
            level=verdict.level, outcome=verdict.outcome, at=verdict.checked_at, sentence=verdict.sentence
        ),
        last_sync=_last_sync(known),
        problem=case.trouble,
        next_step=next_step(case, paths, may),
        run=seen.run,
        urls=Urls(
            dag=paths.dag,
            beamtime=paths.beamtime,
            run=None if seen.run is None else seen.run.url,
            certificate=None if certificate_text(known) is None else paths.certificate,
        ),
    )


def urgency(found: Row) -> tuple[int, int, str]:
    """Return what sorts rows, most urgent first: whom nobody helps, then by days to tape, what is safe at the end.

    Where the tape day has passed the latest such day comes first: that data may still be on disk.
    """
    if found.state not in _NEEDY:
        return len(_NEEDY) + (found.state is State.SAFE), found.days_left, found.key
    days = -found.days_left if found.state is State.OVERDUE else found.days_left
    return _NEEDY.index(found.state), days, found.key


def certificate_text(known: Known) -> str | None:
    """Return the text of the last certificate, None where Airflow does not keep it."""
    return None if known.certificate is None else known.certificate.text or None


def _headline(case: Case) -> str:
    state, ahead = case.state, case.forecast
    if state is State.SAFE:
        return "Home and verified"
    if state is State.ACTION:
        return _waits_for(case)
    if state is State.MOVING and case.again:
        return f"{case.again[:1].upper()}{case.again[1:]}"
    if state is State.MOVING:
        return _doing(case) + (f": {ahead}" if ahead else "")
    if state is State.LATE and ahead is not None:
        return f"{ahead[:1].upper()}{ahead[1:]}"
    return _at_rest(case)


def _at_rest(case: Case) -> str:
    first = next(iter(case.alerts), None)
    if case.state is State.NEW_DATA:
        first = next((alert for alert in case.alerts if alert.kind is Kind.NEW_DATA), first)
    if first is not None:
        return first.headline
    if case.beamtime.restore_requested is not None:
        return f"Asked back from tape on {case.beamtime.restore_requested:%-d %B %Y}"
    if case.known.plan is None:
        return "No run has looked at it yet"
    if case.known.all_fetched:
        return "All bytes are at RDS, not verified yet"
    begins = next_run(case.beamtime, case.site, case.now)
    waits = f"The next run begins {begins}" if begins else "Waits for a run that you start"
    return f"{waits}: {case.forecast}"


def _waits_for(case: Case) -> str:
    if case.seen.paused is None:
        return "Airflow does not have it yet"
    if case.seen.approval:
        return "Waits for your approval"
    if case.pressing is not None:
        return case.pressing.headline
    if case.overlooked and not case.seen.paused:
        return "The last run failed"
    return "Paused: no run begins"


def _doing(case: Case) -> str:
    moving, run = case.known.moving, case.seen.run
    if run is not None and run.state == "queued":
        return "A run is about to begin"
    if (
        moving is not None
        and run is not None
        and moving.run_id == run.run_id
        and case.now - moving.at < _FRESH
    ):
        return _DOING.get(moving.part, "A run is under way")
    return "A run is under way"


def _figures(known: Known) -> tuple[int | None, int | None, int | None, int | None]:
    """Return bytes done and in all, and files done and in all."""
    plan, verdict = known.plan, known.verification
    if plan is None:
        if verdict is None or not known.complete:
            return None, None, None, None
        # A run that only compared has made no plan, and has counted all the same.
        ends = verdict.source
        return ends.bytes, ends.bytes, ends.files, ends.files
    files = None if known.home is None else known.home.files_done
    return known.bytes_done, known.bytes_total, files, plan.files


def _last_sync(known: Known) -> datetime | None:
    """Return when the copy was last brought nearer to its source or compared with it."""
    times = [known.last_moved] if known.last_moved is not None else []
    if known.verification is not None:
        times.append(known.verification.checked_at)
    if known.plan is not None and known.plan.todo_files == 0:
        times.append(known.plan.made_at)
    return max(times).astimezone(UTC) if times else None
