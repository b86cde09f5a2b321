"""One beamtime at one moment: what the registry, its asset and Airflow say of it, and how it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.alerts import Alert, Kind, Urgency
from beamferry.board.answers import State, Trouble
from beamferry.deadlines import PASSED, STANDSTILL_DAYS, due
from beamferry.forecast import day, span
from beamferry.outlook import days_left, foretell

if TYPE_CHECKING:
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site
    from beamferry.board.answers import Started
    from beamferry.forecast import Forecast
    from beamferry.known import Known
    from beamferry.retry import Retry

_UNDER_WAY = frozenset({"queued", "running"})


@dataclass(frozen=True)
class Paths:
    """Where things of a beamtime are: pages in Airflow's web interface, and the API's own text of the certificate."""

    dag: str
    beamtime: str
    certificate: str
    approval: str | None = None


@dataclass(frozen=True)
class Seen:
    """What Airflow itself says of a beamtime.

    Args:
        run: the newest run of its DAG, None before the first.
        approval: whether that run waits for a person's yes.
        paused: whether its DAG is paused, None where Airflow has no such DAG.
        first_seen: when Airflow first had its asset, None where it has none yet.
    """

    run: Started | None = None
    approval: bool = False
    paused: bool | None = False
    first_seen: datetime | None = None

    @property
    def under_way(self) -> bool:
        """Whether a run goes on."""
        return self.run is not None and self.run.state in _UNDER_WAY


@dataclass(frozen=True)
class May:
    """What Airflow would let a user do with a beamtime's DAG."""

    trigger: bool = False
    approve: bool = False
    unpause: bool = False


@dataclass(frozen=True)
class Case:
    """What the answers about one beamtime are made of; ``alerts`` are most urgent first."""

    beamtime: Beamtime
    site: Site
    known: Known
    seen: Seen
    now: datetime
    alerts: tuple[Alert, ...]
    coming: Forecast | None

    @classmethod
    def of(cls, beamtime: Beamtime, site: Site, known: Known, seen: Seen, now: datetime) -> Case:
        """Reckon what is due and when it will be home; neither counts while data is on its way back from tape."""
        alerts = due(beamtime, site, known, now, first_seen=seen.first_seen)
        asked_back = beamtime.restore_requested is not None
        coming = None if asked_back else foretell(beamtime, site, known, now)
        said = tuple(alert for alert in alerts if alert.kind is not Kind.CERTIFICATE)
        return cls(beamtime, site, known, seen, now, said, coming)

    @property
    def asked_back(self) -> bool:
        """Whether the data was asked back from tape."""
        return self.beamtime.restore_requested is not None

    @property
    def pressing(self) -> Alert | None:
        """The most urgent thing that a person has to see to, None where the next run sees to it or nothing is."""
        found = [alert for alert in self.alerts if self._presses(alert)]
        # A failure, or a state that cannot be read, explains the others of the same urgency.
        return min(found, key=lambda alert: (-alert.urgency, alert.kind is not Kind.PROBLEM), default=None)

    def _presses(self, alert: Alert) -> bool:
        if alert.kind is Kind.LOG_IN:
            return True
        if not self.seen.under_way:
            return alert.urgency >= Urgency.URGENT or alert.kind in {Kind.PROBLEM, Kind.STANDSTILL}
        if alert.kind is Kind.REGISTRATION:
            return alert.threshold == PASSED
        return alert.kind is Kind.STANDSTILL and self._hangs

    @property
    def waits_again(self) -> Retry | None:
        """What ended a try of the run under way that waits for its next try, None where none does."""
        run, retry = self.seen.run, self.known.retry
        if run is None or retry is None or not self.seen.under_way:
            return None
        return retry if retry.waits(run.run_id, self.now) else None

    @property
    def again(self) -> str:
        """When that next try begins, e.g. ``tried again at 02:13 (3 of 6)``; '' where none is waited for."""
        retry = self.waits_again
        if retry is None:
            return ""
        at = retry.again_at.astimezone(ZoneInfo(self.site.time_zone))
        return f"tried again at {at:%H:%M} ({retry.number} of {retry.of})"

    @property
    def _hangs(self) -> bool:
        started = None if self.seen.run is None else self.seen.run.start
        return started is not None and self.now - started >= timedelta(days=STANDSTILL_DAYS)

    @property
    def state(self) -> State:
        """How it is; safe is only what a comparison of both ends has shown, whatever a run's colour says."""
        if self.known.complete:
            return State.SAFE
        if not self.asked_back and days_left(self.beamtime.tape_day, self.site, self.now) < 0:
            return State.OVERDUE
        if self.coming is not None and self.coming.late:
            return State.LATE
        waits = self.seen.approval or self.seen.paused is not False
        if waits or self.pressing is not None or self.overlooked:
            return State.ACTION
        if self.seen.under_way:
            return State.MOVING
        return State.NEW_DATA if self.known.new_data else State.WAITING

    @property
    def forecast(self) -> str | None:
        """When it will be home in a few words, e.g. ``done 6 days before tape``; None where nothing can be said."""
        coming, zone = self.coming, ZoneInfo(self.site.time_zone)
        if coming is None:
            return None
        if not coming.late:
            return f"done {span(coming.margin)} before tape"
        late = f"{span(-coming.margin)} late"
        if coming.begun or coming.must_start_by <= coming.made_at:
            return f"{late}: ends on {day(coming.ends_at, zone)}"
        return f"{late}: start by {day(coming.must_start_by, zone)}"

    @property
    def overlooked(self) -> bool:
        """Whether the newest run failed and no task of it could say why: a worker that is killed tells nobody."""
        run, problem = self.seen.run, self.known.problem
        if run is None or run.state != "failed" or self.known.complete:
            return False
        return problem is None or problem.run_id != run.run_id

    @property
    def trouble(self) -> Trouble | None:
        """What stopped the last run, or what of the beamtime cannot be read; None where neither is."""
        problem = self.known.open_problem
        if problem is not None:
            return Trouble(
                code=problem.code,
                problem=problem.problem,
                remedy=problem.remedy,
                run_id=problem.run_id,
                task=problem.task,
            )
        alert = next((one for one in self.alerts if one.kind is Kind.PROBLEM), None)
        if alert is None and self.overlooked and self.seen.run is not None:
            return Trouble(
                code="task-failed",
                problem="The last run failed, and none of its tasks could say why, e.g. because its machine went down",
                remedy="read in Airflow which task it was and the end of its log",
                run_id=self.seen.run.run_id,
                task="",
            )
        if alert is None:
            return None
        return Trouble(
            code="state-unreadable",
            problem=alert.detail.removesuffix("."),
            remedy=alert.todo.removesuffix("."),
            run_id="",
            task="",
        )
