"""Sixty days over fifty beamtimes with everything that goes wrong: each threshold is told, and told once."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from watching import SITE, beamtime, certificate, home, plan, problem, verdict

from beamferry.alerts import Kind
from beamferry.digest import Watched, deliver, recipients
from beamferry.known import Known
from beamferry.ledger import Ledger

if TYPE_CHECKING:
    from beamferry.alerts import Alert, Digest
    from beamferry.beamtime import Site
    from beamferry.facilities.diamond import DiamondBeamtime

DAYS, BEAMTIMES = 60, 50
ZONES = ("Europe/London", "America/New_York", "Australia/Lord_Howe", "UTC")
# A line of the ledger: who, of what, until when, how near.
Line = tuple[str, str, Kind, datetime, int]


class CrashError(Exception):
    """The worker was killed."""


class RefusedError(Exception):
    """The mail server took nothing."""


@dataclass
class World:
    """Fifty beamtimes, one group, and a scheduler, a worker and a mail server that cannot be relied on."""

    chance: random.Random
    site: Site
    start: date
    beamtimes: dict[str, DiamondBeamtime] = field(default_factory=dict)
    known: dict[str, Known] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    got: Counter[Line] = field(default_factory=Counter)
    # The most urgent threshold that somebody was told of, by the rest of the line.
    nearest: dict[tuple[str, str, Kind, datetime], int] = field(default_factory=dict)
    checked: int = 0
    lost_after_send: Counter[Line] = field(default_factory=Counter)
    digests: Counter[tuple[str, date]] = field(default_factory=Counter)
    attempts: Counter[tuple[str, date]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for number in range(1, BEAMTIMES + 1):
            ended = self.start + timedelta(days=self.chance.randint(-30, 40))
            extra = ("pi@example.ac.uk",) if self.chance.random() < 0.3 else ()
            made = beamtime(number, ended=ended, notify=extra)
            self.beamtimes[made.key] = made
            self.known[made.key] = Known()

    def live(self, now: datetime) -> None:
        """Let a day pass: data comes home, new data appears, runs fail, deadlines move."""
        for key, one in self.beamtimes.items():
            known, chance = self.known[key], self.chance.random()
            if known.plan is None and chance < 0.3:
                self.known[key] = Known(plan=plan(one, now, site=self.site))
            elif chance < 0.02:
                self.known[key] = home(now)
            elif chance < 0.03 and known.verified:
                later = plan(one, now + timedelta(minutes=1), site=self.site)
                self.known[key] = Known(
                    plan=later, verification=verdict(now - timedelta(hours=1)), certificate=certificate(now)
                )
            elif chance < 0.05 and not known.verified:
                self.known[key] = Known(plan=known.plan, problem=problem(now))
            elif chance < 0.06:
                moved = one.tape_day + timedelta(days=self.chance.choice((-3, 5, 20)))
                if moved >= one.ended:
                    changes = {"deadline": moved, "deadline_reason": "by mail"}
                    self.beamtimes[key] = one.model_copy(update=changes)

    def watched(self) -> list[Watched]:
        return [
            Watched(one, self.known[key], self.ledgers.get(key, Ledger()))
            for key, one in self.beamtimes.items()
        ]

    def morning(self, now: datetime) -> None:
        """Run the daily DAG once, with its retries; each recipient is served on his own."""
        mail_server_up = self.chance.random() > 0.15
        alerts = {one.beamtime.key: one.due(self.site, now) for one in self.watched()}
        for recipient in recipients(self.watched(), self.site):
            for _ in range(3):
                fate = self.chance.random()
                try:
                    self._serve(recipient, now, mail_server_up, fate)
                    # Whatever ends without an error claims that this person knows all: it is held to that at once,
                    # and not only where the ledger says so too.
                    self.check_served(recipient, alerts, now)
                    break
                except (CrashError, RefusedError):
                    continue

    def _serve(self, recipient: str, now: datetime, up: bool, fate: float) -> None:
        kept, sent = 0, False
        told: list[Line] = []

        def keep(one: Watched) -> None:
            nonlocal kept
            kept += 1
            # The worker dies somewhere between the lines, before the mail and after it.
            if fate < 0.1 and kept > fate * 300:
                if sent:
                    self.lost_after_send.update(told)
                raise CrashError
            self.ledgers[one.beamtime.key] = Ledger.read(one.ledger.stored())

        def send(mail: Digest) -> None:
            nonlocal sent
            if not up or 0.1 <= fate < 0.2:
                raise RefusedError
            sent = True
            told.extend(self._lines(recipient, now))
            self.got.update(told)
            for *about, threshold in told:
                key = tuple(about)
                self.nearest[key] = min(threshold, self.nearest.get(key, threshold))
            self.digests[recipient, now.date()] += 1

        self.attempts[recipient, now.date()] += 1
        deliver(recipient, self.watched(), self.site, now, board="", keep=keep, send=send)

    def _lines(self, recipient: str, now: datetime) -> list[Line]:
        return [
            line(recipient, alert) for one in self.watched() for alert in one.ripe(self.site, recipient, now)
        ]

    def check_served(self, recipient: str, alerts: dict[str, tuple[Alert, ...]], now: datetime) -> None:
        """Look whether somebody heard all that was due, by what was mailed and never by the ledger."""
        self.checked += 1
        for one in self.watched():
            if recipient not in one.recipients(self.site):
                continue
            for alert in alerts[one.beamtime.key]:
                if alert.since is not None and alert.since == now:
                    continue  # left to the task that tells it at once
                *about, threshold = line(recipient, alert)
                assert self.heard(tuple(about), threshold), f"{recipient} never heard: {alert}"
            self._check_days(one, recipient, now)

    def heard(self, about: tuple[str, str, Kind, datetime], threshold: int) -> bool:
        return about in self.nearest and self.nearest[about] <= threshold

    def _check_days(self, one: Watched, recipient: str, now: datetime) -> None:
        """Reckon the days to tape anew, by the calendar alone, and look whether the last one passed was told."""
        left = (one.beamtime.tape_day - now.date()).days
        passed = [days for days in (21, 14, 7, 3, 1, 0) if left <= days]
        if one.known.complete or not passed:
            return
        begins = datetime.combine(one.beamtime.tape_day, time(), tzinfo=now.tzinfo)
        about = (recipient, one.beamtime.key, Kind.TAPE, begins)
        assert self.heard(about, min(passed) if left >= 0 else -1), (
            f"{recipient} was not told that {one.beamtime.key} goes to tape in {left} days"
        )


def line(recipient: str, alert: Alert) -> Line:
    return (recipient, alert.beamtime, alert.kind, alert.deadline, alert.threshold or 0)


def simulate(seed: int) -> None:
    chance = random.Random(seed)
    site = SITE.model_copy(update={"time_zone": chance.choice(ZONES)})
    # Sixty days from here hold the end of summer time, its beginning, or neither.
    start = date(2026, 1, 1) + timedelta(days=chance.randrange(365))
    world = World(chance, site, start)
    down_until = -1
    for day in range(DAYS):
        now = datetime.combine(start + timedelta(days=day), time(7, 10), tzinfo=ZoneInfo(site.time_zone))
        world.live(now)
        if chance.random() < 0.06:
            down_until = day + chance.randint(1, 6)
        if day <= down_until:
            continue
        before = {key: known.complete for key, known in world.known.items()}
        had = Counter(world.got)
        world.morning(now)
        new = world.got - had
        for _, key, kind, _, _ in new:
            assert not before[key] or kind is Kind.CERTIFICATE, f"{key} is whole, and yet: {kind}"
    # A world in which nobody was ever served would prove nothing.
    assert world.checked > 0
    for told, times in world.got.items():
        assert times <= 1 + world.lost_after_send[told], f"told {times} times: {told}"
    for (recipient, day_of), number in world.digests.items():
        assert number <= world.attempts[recipient, day_of]


def missed(seed: int) -> list[Line]:
    """Return the thresholds of a world without faults that did not reach somebody on their day."""
    chance = random.Random(seed)
    site = SITE.model_copy(update={"time_zone": chance.choice(ZONES)})
    world = World(chance, site, date(2026, 3, 1))
    absent = []
    for day in range(DAYS):
        now = datetime.combine(
            world.start + timedelta(days=day), time(7, 10), tzinfo=ZoneInfo(site.time_zone)
        )
        for recipient in recipients(world.watched(), site):
            world._serve(recipient, now, True, 0.9)
        for one in world.watched():
            left = (one.beamtime.tape_day - now.date()).days
            if left in {21, 14, 7, 3, 1, 0, -1}:
                absent += [
                    (recipient, one.beamtime.key, Kind.TAPE, now, left)
                    for recipient in one.recipients(site)
                    if not any(
                        found[:3] == (recipient, one.beamtime.key, Kind.TAPE) and found[4] == left
                        for found in world.got
                    )
                ]
    return absent


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
def test_nobody_misses_a_deadline(seed: int) -> None:
    simulate(seed)


@pytest.mark.long
@pytest.mark.timeout(1800)
@given(st.integers(0, 2**32))
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_nobody_misses_a_deadline_in_a_thousand_worlds(seed: int) -> None:
    simulate(seed)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_faults_each_threshold_is_told_on_its_day(seed: int) -> None:
    assert missed(seed) == []
