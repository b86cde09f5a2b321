"""The lab's mail server, as a mail program sees it."""

from __future__ import annotations

import smtplib
import ssl
from typing import TYPE_CHECKING

import pytest

from beamferry.lab.authority import Authority
from beamferry.lab.mail_server import MailServer
from beamferry.lab.settings import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAIL = "Subject: hello\r\n\r\nworld\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    """A mail server that asks for TLS and a log-in."""
    port = free_port("127.0.0.1")
    (tmp_path / "mail").mkdir()
    running = MailServer(tmp_path / "mail", "127.0.0.1", port, Authority(tmp_path / "ca"))
    running.start()
    try:
        yield running
    finally:
        running.stop()


def client(server: MailServer) -> smtplib.SMTP:
    found = smtplib.SMTP(server.address, server.port, timeout=10)
    if server.authority is not None:
        found.starttls(context=ssl.create_default_context(cafile=str(server.authority.ca_file)))
    return found


def test_mail_is_taken_after_tls_and_the_right_password(server: MailServer) -> None:
    with client(server) as mail:
        mail.login(*server.login)
        mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
    assert [message["subject"] for message in server.messages()] == ["hello"]
    assert server.connection["password"] == server.login[1]


def test_a_wrong_password_is_refused(server: MailServer) -> None:
    with client(server) as mail, pytest.raises(smtplib.SMTPAuthenticationError):
        mail.login(server.login[0], "wrong")


def test_nothing_is_taken_in_clear(server: MailServer) -> None:
    with smtplib.SMTP(server.address, server.port, timeout=10) as mail, pytest.raises(smtplib.SMTPException):
        mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
    assert server.messages() == []


def test_a_certificate_of_nobody_known_is_refused_by_the_client(server: MailServer) -> None:
    mail = smtplib.SMTP(server.address, server.port, timeout=10)
    with pytest.raises(ssl.SSLError):
        mail.starttls(context=ssl.create_default_context())
    mail.close()


def test_a_server_that_refuses_takes_nothing_until_it_is_well_again(server: MailServer) -> None:
    with client(server) as mail:
        mail.login(*server.login)
        with server.refusing(), pytest.raises(smtplib.SMTPDataError):
            mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
        mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
    assert len(server.messages()) == 1


def test_one_recipient_can_be_refused_while_the_others_are_taken(server: MailServer) -> None:
    with client(server) as mail:
        mail.login(*server.login)
        with server.refusing_recipient("b@x.uk"):
            assert mail.sendmail("a@x.uk", ["b@x.uk", "c@x.uk"], MAIL) == {
                "b@x.uk": (550, b"5.1.1 no such user")
            }
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
        mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
    assert [message["recipients"] for message in server.messages()] == [["c@x.uk"], ["b@x.uk"]]


def test_tls_from_the_first_byte_is_spoken_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    authority = Authority(tmp_path / "ca")
    server = MailServer(tmp_path / "mail", "127.0.0.1", free_port("127.0.0.1"), authority, implicit=True)
    server.start()
    try:
        context = ssl.create_default_context(cafile=str(authority.ca_file))
        with smtplib.SMTP_SSL(server.address, server.port, timeout=10, context=context) as mail:
            mail.login(*server.login)
            mail.sendmail("a@x.uk", ["b@x.uk"], MAIL)
        assert len(server.messages()) == 1
    finally:
        server.stop()


def test_its_certificate_passes_the_strictest_check_and_its_files_are_nobody_elses(
    server: MailServer,
) -> None:
    assert server.authority is not None
    context = ssl.create_default_context(cafile=str(server.authority.ca_file))
    # What Python 3.13 asks for by default.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with smtplib.SMTP(server.address, server.port, timeout=10) as mail:
        assert mail.starttls(context=context)[0] == 220
        assert mail.noop()[0] == 250
    private = [*server.authority.folder.glob("*.key"), server.folder / "mail.login"]
    private += [file for file in server.authority.folder.glob("*.pem") if file != server.authority.ca_file]
    assert len(private) == 3
    assert {file.stat().st_mode & 0o777 for file in private} == {0o600}


def test_an_expired_certificate_and_one_of_another_name_are_refused_by_the_client(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    assert handshake(authority, authority.issue(("localhost",))) == ""
    assert "expired" in handshake(authority, authority.issue(("localhost",), expired=True))
    assert "ostname mismatch" in handshake(authority, authority.issue(("elsewhere.example",)))
    stranger = Authority(tmp_path / "stranger", "Beamferry lab stranger")
    assert "verify failed" in handshake(authority, stranger.issue(("localhost",)))


def handshake(trusted: Authority, certificate: Path) -> str:
    """Return why a client refuses a server with this certificate, '' where it does not."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=str(trusted.ca_file))
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server, server_hostname="localhost")
    for _ in range(4):
        for end in (client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return str(error)
    return ""
