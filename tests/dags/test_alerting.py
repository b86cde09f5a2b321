"""The alerts' own tasks with a real mail server; a dictionary stands for what Airflow keeps of assets."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("airflow")

from beamferry.beamtime import Site
from beamferry.errors import PermanentError, TransientError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.lab.mail_server import MailServer
from beamferry.lab.settings import free_port
from beamferry.registry import Registry
from beamferry.watch import last_sign

if TYPE_CHECKING:
    from collections.abc import Iterator

ANN, BOB, CAT = "ann@example.ac.uk", "bob@example.ac.uk", "cat@example.ac.uk"
PEOPLE = (ANN, BOB, CAT)
MORNING = datetime(2026, 4, 7, 6, 30, tzinfo=UTC)  # 07:30 in London, a Tuesday
MONDAY = datetime(2026, 4, 6, 6, 30, tzinfo=UTC)
NEXT_DAY = MORNING + timedelta(days=1)
LATE = date(2026, 3, 1)  # goes to tape three days after that morning
EARLY = date(2026, 4, 3)
FAILED = {
    "schema_version": 1,
    "code": "no-folder",
    "problem": "There is no folder",
    "remedy": "correct the entry",
    "task": "verify_access",
    "run_id": "manual",
}


class Store:
    """What Airflow keeps of one asset, for ``BeamtimeState``."""

    kept: dict[tuple[str, str], Any] = {}  # noqa: RUF012

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> Any:
        return copy.deepcopy(self.kept.get((self.name, key)))

    def set(self, key: str, value: Any) -> None:
        self.kept[self.name, key] = json.loads(json.dumps(value))


class World:
    """One mail server, one registry, and a clock that stands."""

    def __init__(self, server: MailServer, status: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        self.status = status
        self.now = MORNING
        self.site = Site(
            destination_root="/mnt/rds/shared", notify=PEOPLE, weekly_summary=False, time_zone="Europe/London"
        )
        self.beamtime = self.entry(LATE)
        monkeypatch.setattr(Store, "kept", {})

    @staticmethod
    def entry(ended: date) -> DiamondBeamtime:
        return DiamondBeamtime(
            id="mg25682-2", facility="diamond", instrument="i12", account="mbcx9cd4", ended=ended
        )

    @property
    def registry(self) -> Registry:
        return Registry(path=Path("beamtimes.yaml"), site=self.site, beamtimes=(self.beamtime,), problems=())

    def task(self, kind: str) -> Any:
        from beamferry.airflow import alerting

        return getattr(alerting, kind)(task_id="x", registry=self.registry, site=self.site)

    def send(self, kind: str = "SendDigests") -> Any:
        return self.task(kind).execute({"params": {}})

    def due(self) -> bool:
        return bool(self.task("AlertsDue").poke({"params": {}}))

    def tell(self) -> int:
        from beamferry.airflow.notices import tell

        return tell(self.beamtime, self.site)

    def fail(self, at: datetime) -> None:
        """A run of the beamtime fails."""
        Store(self.beamtime.asset_name).set("problem", {**FAILED, "at": at.isoformat()})

    def told(self) -> list[str]:
        """Who got a mail since the last look."""
        found = [mail["recipients"] for mail in self.server.messages()]
        self.server.mailbox.unlink(missing_ok=True)
        assert all(len(one) == 1 for one in found)
        return [one for (one,) in found]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    running = MailServer(tmp_path_factory.mktemp("mail"), "127.0.0.1", free_port("127.0.0.1"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture
def world(server: MailServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    from beamferry.airflow import alerting, notices, state

    made = World(server, tmp_path / "alerts.json", monkeypatch)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:  # noqa: ARG003
            return made.now

    monkeypatch.setenv("BEAMFERRY_STATUS", str(made.status))
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(server.connection))
    monkeypatch.setattr(state, "AssetStateStoreAccessor", Store)
    monkeypatch.setattr(alerting, "datetime", Clock)
    monkeypatch.setattr(notices, "datetime", Clock)
    made.told()
    return made


def test_a_refused_recipient_costs_the_others_nothing_and_is_told_as_a_fault_of_its_own(world: World) -> None:
    with world.server.refusing_recipient(BOB):
        assert world.send() == 2
        assert world.told() == [ANN, CAT]
        sign = last_sign(world.status)
        assert sign is not None
        assert sign.at == MORNING
        assert [(one.recipient, one.words) for one in sign.refused] == [(BOB, "550 5.1.1 no such user")]
        # Nobody is mailed twice, and who was refused for good is not tried again on that day.
        assert not world.due()
        assert last_sign(world.status) == sign.model_copy(update={"mails": 0})
        assert world.send() == 0
        assert world.told() == []
    # It is tried on the next day, and the fault is over when a mail was taken.
    world.now = NEXT_DAY
    assert world.due()
    assert world.send() == 1
    assert world.told() == [BOB]
    sign = last_sign(world.status)
    assert sign is not None
    assert sign.refused == ()


def test_the_others_are_told_of_whom_the_server_refuses(world: World) -> None:
    with world.server.refusing_recipient(BOB):
        world.send()
    world.told()
    world.now = MORNING + timedelta(days=3)
    world.send()
    text = " ".join(" ".join(mail["text"].split()) for mail in world.server.messages())
    assert f"The mail server refuses mails to {BOB} (550 5.1.1 no such user)" in text


def test_retries_try_only_those_who_are_still_owed(world: World) -> None:
    with world.server.refusing_recipient(BOB, "450 4.2.0 greylisted"):
        with pytest.raises(TransientError, match="greylisted"):
            world.send()
        assert world.told() == [ANN, CAT]
        sign = last_sign(world.status)
        assert sign is not None
        assert [one.recipient for one in sign.refused] == [BOB]
        with pytest.raises(TransientError):
            world.send()
        assert world.told() == []
    assert world.send() == 1
    assert world.told() == [BOB]


@pytest.mark.parametrize("answer", ["450 4.2.0 greylisted", "550 5.1.1 no such user"])
def test_the_weekly_summary_comes_once_to_each_whatever_becomes_of_one(world: World, answer: str) -> None:
    world.site = world.site.model_copy(update={"weekly_summary": True})
    world.beamtime, world.now = world.entry(EARLY), MONDAY
    assert world.due()
    with world.server.refusing_recipient(ANN, answer):
        if answer.startswith("4"):
            with pytest.raises(TransientError):
                world.send()
            assert world.due()
            with pytest.raises(TransientError):
                world.send()
        else:
            assert world.send() == 2
            assert not world.due()
            assert world.send() == 0
        assert world.told() == [BOB, CAT]
        sign = last_sign(world.status)
        assert sign is not None
        assert [one.recipient for one in sign.refused] == [ANN]
    if answer.startswith("4"):
        assert world.send() == 1
        assert world.told() == [ANN]
    assert not world.due()


def test_a_summary_that_the_version_before_sent_is_not_sent_again(world: World) -> None:
    world.site = world.site.model_copy(update={"weekly_summary": True})
    world.beamtime, world.now = world.entry(EARLY), MONDAY
    Store("beamferry/alerts").set("alerts", {"schema_version": 1, "summary": MONDAY.date().isoformat()})
    assert not world.due()


def test_where_everybody_is_refused_the_alarm_did_not_do_its_work(world: World) -> None:
    world.site = world.site.model_copy(update={"notify": (BOB,)})
    world.beamtime = world.entry(EARLY)
    assert not world.due()
    before = last_sign(world.status)
    assert before is not None
    world.beamtime, world.now = world.entry(LATE), MORNING + timedelta(hours=1)
    with world.server.refusing_recipient(BOB, "550 5.7.1 relaying denied"):
        with pytest.raises(TransientError, match="relaying denied"):
            world.send()
        sign = last_sign(world.status)
        assert sign is not None
        assert (sign.at, len(sign.refused)) == (before.at, 1)
        # That is the server's own fault, so it is tried again on the same day.
        assert world.due()
    assert world.send() == 1


def test_a_server_that_takes_nothing_leaves_no_sign_and_nobody_is_blamed(world: World) -> None:
    with world.server.refusing(), pytest.raises(TransientError):
        world.send()
    assert last_sign(world.status) is None
    assert world.send() == 3
    assert world.told() == [ANN, BOB, CAT]


@pytest.mark.parametrize("wrong", [{"disable_ssl": False}, {"disable_tls": False}])
def test_another_kind_of_tls_than_the_servers_is_a_fault_of_the_connection(
    world: World, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, bool]
) -> None:
    connection = world.server.connection
    connection["extra"] |= wrong
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    with pytest.raises(PermanentError, match="disable_tls"):
        world.send()


def test_a_refused_recipient_does_not_keep_a_failure_from_the_others(world: World) -> None:
    world.fail(MORNING)
    with world.server.refusing_recipient(ANN):
        assert world.tell() == 2
        assert world.told() == [BOB, CAT]
        assert world.tell() == 0
    assert world.told() == []


def test_a_failure_that_could_not_be_told_at_once_is_told_on_the_same_day(world: World) -> None:
    world.send()
    assert world.told() == [*PEOPLE]
    world.now = MORNING + timedelta(hours=6)
    world.fail(world.now)
    with world.server.refusing():
        assert world.tell() == 0
        # Within the first minutes it is left to the task that tells it.
        assert world.send("MailsAgain") == 0
        world.now += timedelta(minutes=20)
        with pytest.raises(TransientError):
            world.send("MailsAgain")
    assert world.told() == []
    world.now += timedelta(minutes=30)
    assert world.send("MailsAgain") == 3
    assert all("The transfer failed" in mail["subject"] for mail in world.server.messages())
    assert world.told() == [*PEOPLE]
    assert world.send("MailsAgain") == 0
    assert world.told() == []


def test_what_waits_for_the_morning_is_not_mailed_in_between(world: World) -> None:
    assert world.send("MailsAgain") == 0
    assert world.told() == []
    assert last_sign(world.status) is None
    assert world.due()
