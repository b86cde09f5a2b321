"""The watchdog's own mails, over each kind of TLS, from the connection that Airflow's provider reads too."""

from __future__ import annotations

import json
import smtplib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from beamferry.errors import PermanentError
from beamferry.lab.authority import Authority
from beamferry.lab.mail_server import SENDER, MailServer
from beamferry.lab.settings import free_port
from beamferry.watch import Trouble
from beamferry.watchdog_mail import MailSettings, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = datetime(2026, 4, 1, 7, tzinfo=UTC)
FOUND = (Trouble("sign", "The alerts are silent", "look at Airflow"),)
ANN, BOB = "ann@example.ac.uk", "bob@example.ac.uk"
WAYS = ("implicit", "starttls", "clear")


def server_of(folder: Path, way: str) -> MailServer:
    folder.mkdir()
    authority = None if way == "clear" else Authority(folder / "ca")
    return MailServer(folder, "127.0.0.1", free_port("127.0.0.1"), authority, implicit=way == "implicit")


@pytest.fixture(params=WAYS)
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MailServer]:
    running = server_of(tmp_path / "mail", request.param)
    running.start()
    if running.authority is not None:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.authority.ca_file))
    try:
        yield running
    finally:
        running.stop()


def with_hook(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How Airflow's provider fares with the same connection: the answer to a word that does nothing."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook  # noqa: PLC0415

    monkeypatch.setenv("AIRFLOW_CONN_SMTP_X", text)
    with SmtpHook(smtp_conn_id="smtp_x") as hook:
        client = hook._smtp_client
        assert isinstance(client, smtplib.SMTP)
        return client.noop()[0]


def test_a_connection_that_airflow_can_use_the_watchdog_can_use(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(server.connection)
    assert with_hook(text, monkeypatch) == 250
    assert send(MailSettings.read(text), (ANN, BOB), FOUND, NOW) == {}
    messages = server.messages()
    assert [message["recipients"] for message in messages] == [[ANN], [BOB]]
    assert {message["sender"] for message in messages} == {SENDER}
    assert all("The alerts are silent" in message["subject"] for message in messages)


def test_one_refused_recipient_is_told_and_the_others_get_theirs(server: MailServer) -> None:
    settings = MailSettings.read(json.dumps(server.connection))
    with server.refusing_recipient(ANN):
        assert send(settings, (ANN, BOB), FOUND, NOW) == {ANN: "550 5.1.1 no such user"}
    assert [message["recipients"] for message in server.messages()] == [[BOB]]


def test_where_nobody_can_be_told_that_is_an_error_that_names_the_trouble(server: MailServer) -> None:
    settings = MailSettings.read(json.dumps(server.connection))
    with server.refusing_recipient(ANN), pytest.raises(PermanentError, match="The alerts are silent"):
        send(settings, (ANN,), FOUND, NOW)
    with server.refusing(), pytest.raises(PermanentError, match="not now"):
        send(settings, (ANN, BOB), FOUND, NOW)


@pytest.mark.parametrize("server", ["implicit", "starttls"], indirect=True)
def test_the_wrong_kind_of_tls_names_the_extras_that_choose_it(server: MailServer) -> None:
    wrong = server.connection
    wrong["extra"] = {**wrong["extra"], "disable_ssl": not wrong["extra"]["disable_ssl"], "timeout": 2}
    with pytest.raises(PermanentError, match="disable_ssl"):
        send(MailSettings.read(json.dumps(wrong)), (ANN,), FOUND, NOW)


@pytest.mark.parametrize("server", ["implicit", "starttls"], indirect=True)
def test_a_certificate_of_nobody_known_is_refused(
    server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    settings = MailSettings.read(json.dumps(server.connection))
    with pytest.raises(PermanentError, match="CERTIFICATE_VERIFY_FAILED"):
        send(settings, (ANN,), FOUND, NOW)
    assert server.messages() == []


def extras(**given: Any) -> str:
    return json.dumps({"conn_type": "smtp", "host": "mail", "extra": {"from_email": "b@x.uk", **given}})


@pytest.mark.parametrize(
    "text",
    [
        extras(),
        extras(disable_ssl=True),
        extras(disable_ssl=True, disable_tls=True, timeout="7"),
        extras(disable_ssl="false", retry_limit=0),
        extras(ssl_context="none", timeout=3),
        json.dumps(
            {
                "host": "mail",
                "port": "587",
                "login": "me",
                "password": "p",
                "extra": json.dumps({"from_email": "b@x.uk"}),
            }
        ),
        "smtp://me:p%40ss@mail:465/?from_email=b%40x.uk&disable_tls=true&timeout=9",
        "smtp://mail/?from_email=b%40x.uk",
    ],
)
def test_each_field_is_read_as_the_provider_reads_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook  # noqa: PLC0415

    monkeypatch.setenv("AIRFLOW_CONN_SMTP_X", text)
    hook = SmtpHook(smtp_conn_id="smtp_x")
    hook.smtp_connection = hook.get_connection("smtp_x")
    read = MailSettings.read(text)
    assert (read.host, read.port) == (hook.host, hook.port or 0)
    assert (read.login, read.password) == (hook.smtp_user, hook.smtp_password)
    assert (read.implicit, read.starttls) == (hook.use_ssl, hook.smtp_starttls)
    assert (read.timeout, read.retries, read.sender) == (hook.timeout, hook.smtp_retry_limit, hook.from_email)
    assert read.verified == (hook._build_ssl_context() is not None)


def test_a_log_in_that_the_watchdog_does_not_know_is_said() -> None:
    with pytest.raises(PermanentError, match="oauth2"):
        MailSettings.read(extras(auth_type="oauth2"))
