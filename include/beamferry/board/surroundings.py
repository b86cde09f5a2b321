"""What the board says besides beamtimes: whether the alerts are alive, what is wrong in the registry, room on RDS."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from beamferry.board.answers import Alerts, Flaws, RegistryProblem, Space
from beamferry.forecast import day
from beamferry.plan import human
from beamferry.watch import ALERTS_DAG, STALE, Sign

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from beamferry.known import Known
    from beamferry.registry import Problem


def alive(stored: object, now: datetime, zone: str) -> Alerts:
    """Return whether the alerts are alive.

    Args:
        stored: the sign of life that they left in their asset, None where there is none.
        now: the present, aware.
        zone: IANA name, for the sentence.
    """
    try:
        sign = None if stored is None else Sign.model_validate(stored, strict=False)
    except ValidationError:
        return Alerts(
            ran_at=None,
            ok=False,
            sentence=f"The alerts' sign of life cannot be read: see what the DAG '{ALERTS_DAG}' says",
        )
    if sign is None:
        return Alerts(
            ran_at=None, ok=False, sentence="The alerts have not run yet, so nobody is told anything"
        )
    ran = f"Alerts last ran {_when(sign.at, now, zone)}"
    if sign.refused and now - sign.at <= STALE:
        told = ". ".join(str(one.error) for one in sign.refused)
        return Alerts(ran_at=sign.at, ok=False, sentence=f"{ran}. {told}")
    if now - sign.at <= STALE:
        return Alerts(ran_at=sign.at, ok=True, sentence=ran)
    return Alerts(
        ran_at=sign.at,
        ok=False,
        sentence=f"{ran}: nobody is told anything since; see what the DAG '{ALERTS_DAG}' says",
    )


def flaws(problems: Iterable[Problem], *, shown: bool) -> Flaws:
    """Return what is to be corrected in the registry; only its number where the user may not read it."""
    found = tuple(
        RegistryProblem(
            place=problem.file.name if problem.line is None else f"{problem.file.name}:{problem.line}",
            sentence=f"{problem.field}: {problem.message}" if problem.field else problem.message,
            remedy=problem.remedy,
        )
        for problem in problems
    )
    return Flaws(problems=found if shown else (), hidden=0 if shown else len(found))


def space(known: Iterable[Known], now: datetime, zone: str) -> Space:
    """Return the room on RDS by the newest plan that knows of any."""
    plans = [one.plan for one in known if one.plan is not None and one.plan.bytes_free is not None]
    newest = max(plans, key=lambda plan: plan.made_at, default=None)
    if newest is None or newest.bytes_free is None:
        return Space(bytes_free=None, seen_at=None, sentence="No run has seen yet how much room is on RDS")
    return Space(
        bytes_free=newest.bytes_free,
        seen_at=newest.made_at,
        sentence=f"{human(newest.bytes_free)} free on RDS when last seen, {_when(newest.made_at, now, zone)}",
    )


def _when(moment: datetime, now: datetime, zone: str) -> str:
    """Return a moment as people say it, e.g. ``today at 07:00`` or ``on Monday 8 June at 07:00``."""
    where = ZoneInfo(zone)
    there, today = moment.astimezone(where), now.astimezone(where).date()
    known = {today: "today", today - timedelta(days=1): "yesterday"}
    return f"{known.get(there.date()) or f'on {day(moment, where)}'} at {there:%H:%M}"
