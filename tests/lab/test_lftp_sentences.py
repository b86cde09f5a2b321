"""Each thing that can go wrong at DESY ends in a sentence of its own, and a password is tried once."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from beamferry.access import errand, first_error
from beamferry.errors import PermanentError, TransientError
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import BEAMTIME
from beamferry.lftp_access import judge, registration_expired
from beamferry.lftp_complaints import interpret_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine

    from beamferry.errors import BeamferryError
    from beamferry.lab.desy import Desy

HOST = "127.0.0.3"

# Log-in, what is broken, fields of the entry; then the error's code, whether it is tried again, words of its sentence.
CASES: list[tuple[str, str, Any, dict[str, Any], str, bool, tuple[str, ...]]] = [
    (
        "expired",
        "pyftpdlib",
        DesyFaults.certificate_expired,
        {},
        "certificate-expired",
        False,
        ("has expired on 20",),
    ),
    (
        "other-host",
        "pyftpdlib",
        DesyFaults.certificate_of_another_host,
        {},
        "certificate-name",
        False,
        ("ftp.example.org",),
    ),
    (
        "stranger",
        "pure-ftpd",
        DesyFaults.issuer_unknown,
        {},
        "certificate-issuer",
        False,
        ("stranger", "ca_file"),
    ),
    ("no-ca", "pyftpdlib", None, {"ca_file": None}, "certificate-issuer", False, ("ca_file",)),
    (
        "password",
        "pyftpdlib",
        DesyFaults.password_refused,
        {},
        "facility-password-refused",
        False,
        ("cdaniel", "'desy'"),
    ),
    (
        "password-pure",
        "pure-ftpd",
        DesyFaults.password_refused,
        {},
        "facility-password-refused",
        False,
        ("cdaniel",),
    ),
    (
        "password-sftp",
        "sftp-password",
        DesyFaults.password_refused,
        {},
        "facility-password-refused",
        False,
        ("cdaniel",),
    ),
    (
        "gone",
        "pyftpdlib",
        lambda faults: faults.stopped(faults.desy.ftps),
        {},
        "facility-unreachable",
        True,
        (HOST,),
    ),
    (
        "gone-sftp",
        "sftp",
        lambda faults: faults.stopped(faults.desy.sftp),
        {},
        "facility-unreachable",
        True,
        ("psftp",),
    ),
    (
        "no-name",
        "pyftpdlib",
        None,
        {"server": "nohost.invalid"},
        "facility-unknown-host",
        True,
        ("nohost.invalid",),
    ),
    (
        "no-folder",
        "pyftpdlib",
        None,
        {"folders": ["raw", "processing"]},
        "folder-missing",
        False,
        ("'processed'?",),
    ),
    (
        "other",
        "pure-ftpd",
        None,
        {"id": "11019999"},
        "registration-other",
        False,
        (BEAMTIME, "11019999", "Gamma"),
    ),
    ("other-sftp", "sftp", None, {"id": "11019999"}, "source-missing", False, ("/11019999",)),
]


@pytest.mark.parametrize(
    ("kind", "broken", "fields", "code", "again", "words"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_before_anything_moves(
    desy: Desy,
    at_desy: Callable[..., DesyEngine],
    kind: str,
    broken: Any,
    fields: dict[str, Any],
    code: str,
    again: bool,
    words: tuple[str, ...],
) -> None:
    engine = at_desy(kind, settings=fields)
    # pure-ftpd keeps no account of its own; its log-in is the same code of ours.
    server = desy.sftp_password if kind == "sftp-password" else desy.ftps
    with broken(DesyFaults(desy)) if broken else nullcontext():
        before = server.attempts(accepted=False)
        error = first_error(engine.probe())
        tries = server.attempts(accepted=False) - before
    assert error is not None
    assert (error.code, isinstance(error, TransientError)) == (code, again), str(error)
    assert [word for word in words if word not in str(error)] == []
    assert tries == (1 if code == "facility-password-refused" and kind != "pure-ftpd" else 0)
    assert not engine.secret.exists()


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd", "sftp", "sftp-password"])
def test_all_is_well(at_desy: Callable[..., DesyEngine], kind: str) -> None:
    findings = at_desy(kind).probe()
    assert first_error(findings) is None
    told = "\n".join(finding.sentence for finding in findings)
    assert "DESY lets cdaniel in" in told
    assert "processed, raw, scratch_cc, shared and 2 files" in told
    assert ("is trusted until 20" in told) == (not kind.startswith("sftp"))


def test_a_certificate_near_its_end_is_worth_a_word(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    facts = engine.facts()
    ends = facts.number("cert_ends")
    assert ends is not None
    day = datetime.fromtimestamp(ends, UTC).date() - timedelta(days=5)
    (finding,) = (one for one in judge(facts, engine.beamtime, engine.site, day) if one.name == "certificate")
    assert "expires in 5 days" in finding.sentence


def test_a_registration_lasts_a_week(at_desy: Callable[..., DesyEngine]) -> None:
    beamtime = at_desy().beamtime
    assert beamtime.registered is not None
    assert registration_expired(beamtime, beamtime.registered + timedelta(days=6)) is None
    error = registration_expired(beamtime, beamtime.registered + timedelta(days=7))
    assert error is not None
    assert f"The FTP registration of {BEAMTIME} expired on 2020-12-08" in str(error)
    assert registration_expired(at_desy("sftp").beamtime, beamtime.registered + timedelta(days=900)) is None


def meant(engine: DesyEngine, code: int, errors: str) -> BeamferryError:
    error = interpret_exit(code, errors, errand(engine.beamtime, engine.site))
    assert error is not None
    return error


def test_while_it_moves(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    faults = DesyFaults(desy)
    assert engine.dry_run().code == 0
    with faults.stopped(desy.ftps):
        gone = engine.transfer("processed")
    assert meant(engine, gone.code, gone.errors).code == "stream-broken"
    with faults.password_refused():
        before = desy.ftps.attempts(accepted=False)
        refused = engine.transfer("processed", streams=4)
        assert desy.ftps.attempts(accepted=False) == before + 1
    error = meant(engine, refused.code, refused.errors)
    assert (error.code, type(error)) == ("facility-password-refused", PermanentError)
    with faults.certificate_expired():
        stale = engine.transfer("processed")
    assert meant(engine, stale.code, stale.errors).code == "certificate-expired"
    with faults.listing_cut(2):
        cut = engine.dry_run()
    error = meant(engine, cut.code, cut.errors)
    assert error.code == "listing-incomplete"
    assert "names" in error.problem
    full = at_desy()
    full.dry_run()
    done = full.transfer("processed", limit_kib=100)
    assert meant(full, done.code, done.errors).code == "rds-full"
    sealed = at_desy(settings={"exclude": []})
    sealed.dry_run()
    done = sealed.transfer("raw")
    error = meant(sealed, done.code, done.errors)
    assert error.code == "files-unreadable"
    assert "raw/sealed_00001.cbf" in error.problem
