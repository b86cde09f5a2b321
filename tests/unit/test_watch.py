from __future__ import annotations

import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from watching import utc

from beamferry.errors import PermanentError
from beamferry.ledger import Refusal
from beamferry.watch import STALE, Sign, Spoken, judge, last_sign, last_spoken, leave, status_file, to_speak
from beamferry.watchdog_mail import MailSettings, settings_from

NOW = utc(2026, 4, 1, 7)
REFUSED = Refusal(recipient="b@x.uk", at=NOW, words="550 no such user")
WELL: dict[str, Any] = {
    "sign": Sign(at=NOW, mails=1, recipients=1),
    "path": Path("/x/alerts.json"),
    "now": NOW,
    "wanted": ["deadlines", "beamtime_a"],
    "active": {"deadlines", "beamtime_a", "other"},
    "health": {"scheduler": "healthy", "triggerer": "healthy"},
    "registry_problems": 0,
}


def test_an_alarm_that_lives_is_not_complained_of() -> None:
    assert judge(**WELL) == ()
    assert judge(**WELL | {"now": NOW + STALE}) == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sign": None}, "never left a sign of life at /x/alerts.json"),
        ({"now": NOW + timedelta(hours=49)}, "No alert could be sent for 49 hours"),
        ({"active": {"deadlines"}}, "DAG beamtime_a is missing or paused"),
        ({"active": {"beamtime_a"}}, "DAG deadlines is missing or paused"),
        ({"active": None}, "does not say which DAGs"),
        ({"health": None}, "web server does not answer"),
        ({"health": {"scheduler": "unhealthy"}}, "Airflow's scheduler is unhealthy"),
        ({"registry_problems": 2}, "2 problems in the registry"),
        (
            {"sign": Sign(at=NOW, mails=1, recipients=2, refused=(REFUSED,))},
            "The mail server refuses mails to b@x.uk (550 no such user): correct the address",
        ),
    ],
)
def test_each_silence_has_its_own_sentence(changed: dict[str, Any], said: str) -> None:
    found = judge(**WELL | changed)
    assert len(found) == 1
    assert said in str(found[0])
    assert found[0].remedy


def test_a_sign_is_for_its_account_alone_and_is_read_back(tmp_path: Path) -> None:
    path = status_file({"AIRFLOW_HOME": str(tmp_path / "airflow")})
    assert last_sign(path) is None
    leave(path, WELL["sign"])
    assert last_sign(path) == WELL["sign"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["alerts.json"]
    path.write_text("{")
    assert last_sign(path) is None


def test_the_place_of_the_sign_can_be_named() -> None:
    assert status_file({"BEAMFERRY_STATUS": "/var/lib/x.json", "AIRFLOW_HOME": "/y"}) == Path(
        "/var/lib/x.json"
    )


def test_the_watchdog_repeats_itself_once_a_day_and_tells_what_is_new_at_once(tmp_path: Path) -> None:
    stale = judge(**WELL | {"now": NOW + timedelta(hours=30)})
    spoken = Spoken(at=NOW, about=tuple(trouble.about for trouble in stale))
    later = judge(**WELL | {"now": NOW + timedelta(hours=31)})
    assert to_speak(None, stale, NOW)
    assert not to_speak(spoken, later, NOW + timedelta(hours=1))
    assert to_speak(spoken, later, NOW + timedelta(hours=24))
    worse = judge(**WELL | {"now": NOW + timedelta(hours=31), "health": None})
    assert to_speak(spoken, worse, NOW + timedelta(hours=1))
    assert not to_speak(spoken, (), NOW)
    # Two beamtimes whose names differ in a number alone are two things.
    first, second = ({**WELL, "wanted": [f"beamtime_{n}"], "active": set()} for n in (1, 2))
    paused = Spoken(at=NOW, about=tuple(trouble.about for trouble in judge(**first)))
    assert not to_speak(paused, judge(**first), NOW)
    assert to_speak(paused, judge(**second), NOW)
    leave(tmp_path / "watchdog.json", spoken)
    assert last_spoken(tmp_path / "watchdog.json") == spoken


def test_mail_settings_are_an_airflow_connection_and_a_damaged_one_shows_no_password() -> None:
    text = '{"host": "mail", "port": 25, "login": "me", "password": "secret", "extra": {"from_email": "b@x"}}'
    read = MailSettings.read(text)
    assert (read.host, read.port, read.login, read.password, read.sender) == (
        "mail",
        25,
        "me",
        "secret",
        "b@x",
    )
    assert settings_from({}, None) is None
    assert settings_from({"AIRFLOW_CONN_SMTP_DEFAULT": text}, None) == MailSettings.read(text)
    with pytest.raises(PermanentError) as caught:
        MailSettings.read(text.replace('"from_email"', '"from"'))
    assert "secret" not in str(caught.value)
