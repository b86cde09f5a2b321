"""Beamtimes and what is known of them, for the tests of deadlines, ledger and mails."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from beamferry.beamtime import Level, Site
from beamferry.differences import Difference
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.fetched import Brought, Fetched
from beamferry.known import Issued, Known, Moving, Problem, Rate
from beamferry.plan import TransferPlan, deadline
from beamferry.verification import Ends, Outcome, Verdict

SITE = Site(destination_root="/mnt/rds/shared", notify=("group@example.ac.uk",), time_zone="Europe/London")
ENDED = date(2026, 3, 2)


def beamtime(number: int = 1, **changed: Any) -> DiamondBeamtime:
    fields = {
        "id": f"mg25682-{number}",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": ENDED,
    }
    return DiamondBeamtime(**(fields | changed))


def plan(
    of: DiamondBeamtime, made_at: datetime, *, todo: int = 40_000_000_000, site: Site = SITE
) -> TransferPlan:
    return TransferPlan(
        files=20_000,
        bytes=100_000_000_000,
        todo_files=8_000 if todo else 0,
        todo_bytes=todo,
        streams=4,
        bytes_free=None,
        rate=46_800_000,
        rate_measured=False,
        seconds=60,
        deadline=deadline(of, site),
        in_time=True,
        exclude=(),
        exclude_count=0,
        scope="x",
        made_at=made_at,
    )


def verdict(checked_at: datetime, *, outcome: Outcome = Outcome.VERIFIED, oldest: int = 0) -> Verdict:
    ends = Ends(files=20_000, bytes=100_000_000_000, folders=3, links=0, others=0, oldest=oldest)
    return Verdict(
        outcome=outcome,
        level=Level.SAMPLED,
        source=ends,
        destination=ends,
        counts={} if outcome is Outcome.VERIFIED else {Difference.MISSING: 3},
        named=(),
        sampled_files=32,
        sampled_bytes=1,
        partial_files=0,
        checked_at=checked_at,
        sentence="All 20,000 files are at RDS.",
    )


def moving(
    at: datetime, done: int, *, total: int = 40_000_000_000, history: tuple[tuple[int, int], ...] = ()
) -> Moving:
    return Moving(
        phase="transfer",
        bytes_done=done,
        bytes_total=total,
        files_done=0,
        files_total=8_000,
        rate=0,
        updated=int(at.timestamp()),
        part="transfer",
        run_id="manual",
        history=history,
    )


def fetching(plan: TransferPlan, *ended: datetime, transfers: int = 1, each: int = 1_000) -> Fetched:
    """Return what is kept of a plan's transfers: those that ended well, in their order, brought so many bytes each."""
    brought = [Brought(plan_made_at=plan.made_at, bytes=each, files=1, at=at) for at in ended]
    made = Fetched(plan_made_at=plan.made_at, run_id="manual", transfers=transfers)
    return made.with_ends(brought)


def fetched(of: DiamondBeamtime, made_at: datetime, ended: datetime) -> Known:
    """Return what is known of a beamtime after its only transfer ended well."""
    made = plan(of, made_at)
    return Known(plan=made, rate=rate(ended), fetching=fetching(made, ended))


def certificate(at: datetime) -> Issued:
    return Issued(outcome=Outcome.VERIFIED, folder="/mnt/rds/shared/x.certificate", at=at, run_id="manual")


def problem(at: datetime, since: datetime | None = None) -> Problem:
    return Problem(
        code="facility-key-refused",
        problem="Diamond refused the key of account mbcx9cd4",
        remedy="add ~/.ssh/id_ed25519.pub of RDS-SSH to ~/.ssh/authorized_keys there",
        task="verify_access",
        run_id="manual",
        at=at,
        since=since,
    )


def rate(at: datetime, bytes_per_second: int = 10_000_000) -> Rate:
    return Rate(bytes_per_second=bytes_per_second, bytes=1, at=at)


def home(at: datetime) -> Known:
    """What is known of a beamtime that is verified complete."""
    return Known(verification=verdict(at), certificate=certificate(at))


def before_tape(of: DiamondBeamtime, days: float, site: Site = SITE) -> datetime:
    """Noon or so, this many days before the tape day."""
    return deadline(of, site) - timedelta(days=days) + timedelta(hours=8)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]
