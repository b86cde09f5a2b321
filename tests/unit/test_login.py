"""A person's session: what is typed, what ssh may do without one, and when its end is told."""

from __future__ import annotations

import shlex
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry import login
from beamferry.errors import PermanentError, TransientError
from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.login import Session
from beamferry.rsync import SSH, ssh_words, streams_for

NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)


def desy(**fields: Any) -> DesyBeamtime:
    usual = {
        "id": "11010750",
        "facility": "desy",
        "instrument": "p07",
        "account": "cdaniel",
        "auth": "interactive",
    }
    return DesyBeamtime(**usual | {"ended": date(2026, 11, 20)} | fields)


def test_without_a_session_ssh_reaches_nobody() -> None:
    words = ssh_words(desy())
    assert "ProxyCommand=false" in words
    assert "ControlMaster=no" in words
    assert f"ControlPath={login.socket(desy())}" in words
    assert not any(" " in word for word in words)
    assert ssh_words(desy(auth="unattended")) == SSH


def test_one_session_serves_all_beamtimes_of_an_account_at_a_host() -> None:
    assert login.socket(desy()) == login.socket(desy(id="11019999"))
    others = [desy(account="jdoe"), desy(port=2222), desy(server="sftp.example.org")]
    assert len({login.socket(beamtime) for beamtime in (desy(), *others)}) == 4
    # A socket's path has room for a long home folder.
    assert len(login.socket(desy())) < 40


def test_what_a_person_types() -> None:
    typed = shlex.split(login.command(desy(port=2222)))
    assert typed[:4] == ["ssh", "-M", "-N", "-f"]
    assert typed[-6:] == ["-p", "2222", "-l", "cdaniel", "--", "psftp.desy.de"]
    assert "ProxyCommand=false" not in typed
    stop, start = login.renewal(desy()).split("; ")
    assert "-O stop" in stop
    assert start == login.command(desy())
    assert login.command(desy()) in login.wanted(desy(), "rds.example.ac.uk", "node3")
    assert login.command(desy()) in str(login.given_up(desy()))


def test_a_session_carries_few_streams() -> None:
    assert streams_for(desy(), 16) == login.STREAMS
    assert streams_for(desy(), 2) == 2
    visit = {
        "id": "mg1-1",
        "facility": "diamond",
        "instrument": "i12",
        "account": "x",
        "ended": date(2026, 1, 1),
    }
    assert streams_for(DiamondBeamtime(**visit), 16) == 16


def session(age: int = 100, lives: tuple[int, ...] = (), *, is_open: bool = True) -> Session:
    return Session(open=is_open, node="n", age=age, lives=lives, reason="")


def test_the_end_is_that_of_the_shortest_life_seen() -> None:
    assert session().ends(NOW) is None
    assert session(lives=(9_000,), is_open=False).ends(NOW) is None
    assert session(3_600, (40_000, 36_000)).ends(NOW) == NOW + timedelta(hours=9)
    assert login.notice_at(session(3_600, (40_000, 36_000)), NOW) == NOW + timedelta(hours=8)
    # One that lives an hour is told of when a quarter of it is left.
    assert login.notice_at(session(600, (3_600,)), NOW) == NOW + timedelta(minutes=35)
    assert login.notice_at(session(), NOW) is None


def test_a_retry_goes_on_waiting_and_a_new_run_begins_anew() -> None:
    began = NOW - timedelta(hours=2)
    asked = NOW - timedelta(hours=1)
    assert login.since(asked, began, NOW) == asked
    assert login.since(began - timedelta(days=1), began, NOW) == NOW
    assert login.since(None, began, NOW) == NOW
    assert login.until(asked) == asked + timedelta(hours=20)


def test_the_same_end_is_told_once() -> None:
    ends, before = NOW + timedelta(hours=1), NOW - timedelta(minutes=3)
    assert login.told_at(before, ends - timedelta(seconds=2), ends, NOW) == before
    assert login.told_at(before, ends - timedelta(hours=5), ends, NOW) == NOW
    assert login.told_at(before, None, ends, NOW) == NOW


ANSWER = "node=rds1\nopen=yes\nreason=\nage=12\nlives=100 200\nend=yes\n"


def test_what_rds_says() -> None:
    assert login.parse_session(ANSWER) == Session(True, "rds1", 12, (100, 200), "")


@pytest.mark.parametrize("cut", range(len(ANSWER)))
def test_a_cut_answer_is_an_error(cut: int) -> None:
    with pytest.raises(TransientError):
        login.parse_session(ANSWER[:cut])


@given(st.text())
def test_any_answer_is_a_session_or_an_error(text: str) -> None:
    try:
        login.parse_session(text)
    except TransientError as error:
        assert error.code == "session-unreadable"  # noqa: PT017


def test_nobody_logged_in_is_a_persons_task() -> None:
    assert isinstance(login.given_up(desy()), PermanentError)
