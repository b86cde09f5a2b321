"""What lftp's probe saw, judged: one sentence for each fault, and none where all is well."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.access import Facts, Finding, first_error
from beamferry.beamtime import Site
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.facilities.desy import DesyBeamtime
from beamferry.lftp_access import CERTIFICATE_DAYS, judge, registration_expired

RECORDED = Path(__file__).parents[1] / "data" / "lftp"
ROOT = "/mnt/eps01-rds/Fonseca-Lightform/shared"
SITE = Site(destination_root=ROOT)
TODAY = date(2026, 3, 10)
ENDS = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
HERE = {
    "node": "rds-ssh",
    "lftp": "LFTP Version 4.9.2",
    "ssh": "OpenSSH_9.2p1",
    "python": "3.11.2",
    "tools_missing": "",
    "root_exists": "yes",
    "root_mounted": "yes",
    "file_system": "nfs",
    "bytes_free": "1000000",
    "keeps_modes": "yes",
    "keeps_times": "yes",
    "keeps_links": "yes",
    "writable": "yes",
    "end": "yes",
}
CERTIFICATE = {
    "cert_code": "0",
    "cert_text": "ok",
    "cert_issuer": "CN=HARICA OV TLS RSA",
    "cert_names": "psftp.desy.de",
    "cert_ends": str(ENDS),
}
INSIDE = {
    "far_exit": "0",
    "far_errors": "",
    "source_listed": "yes",
    "folders": "processed/raw/scratch_cc/shared/",
    "folders_cut": "0",
    "files": "2",
    "metadata_files": "beamtime-metadata-11010750.json/",
}
HEALTHY = HERE | CERTIFICATE | INSIDE
OUTSIDE = {key: value for key, value in HEALTHY.items() if key not in INSIDE}


def beamtime(transport: str = "ftps", **fields: Any) -> DesyBeamtime:
    usual: dict[str, Any] = {
        "id": "11010750",
        "facility": "desy",
        "instrument": "p07",
        "account": "cdaniel",
        "ended": date(2026, 3, 9),
        "transport": transport,
        "registered": date(2026, 3, 6) if transport == "ftps" else None,
        "connection": "desy_ftps" if transport == "ftps" else None,
    }
    return DesyBeamtime(**usual | fields)


def judged(facts: dict[str, str], of: DesyBeamtime | None = None, today: date = TODAY) -> tuple[Finding, ...]:
    return judge(Facts(facts), of or beamtime(), SITE, today)


def errors(facts: dict[str, str], of: DesyBeamtime | None = None) -> list[BeamferryError]:
    return [finding.error for finding in judged(facts, of) if finding.error is not None]


def sentence(name: str, findings: tuple[Finding, ...]) -> str:
    (found,) = (finding.sentence for finding in findings if finding.name == name)
    return found


@pytest.mark.parametrize("transport", ["ftps", "sftp"])
def test_all_is_well(transport: str) -> None:
    found = judged(HEALTHY, beamtime(transport, folders=["raw", "shared"]))
    assert [finding.sentence for finding in found if not finding.ok] == []
    names = [finding.name for finding in found]
    assert names == ["lftp", "ssh", "destination", "certificate", "log-in", "source"]
    assert sentence("source", found).endswith("holds processed, raw, scratch_cc, shared and 2 files")
    assert ("SFTP" in sentence("log-in", found)) == (transport == "sftp")


def test_rds_ssh_and_the_destination_are_judged_as_everywhere() -> None:
    for changes, code in (
        ({"lftp": ""}, "rds-no-lftp"),
        ({"tools_missing": "cmp"}, "rds-tool-missing"),
        ({"root_mounted": "no"}, "rds-not-mounted"),
        ({"writable": "no", "writable_reason": "x: Disk quota exceeded"}, "rds-full"),
    ):
        (error,) = errors(HEALTHY | changes)
        assert error.code == code


def test_without_a_log_in_nothing_is_said_of_it() -> None:
    found = judged(HERE | {"lftp": ""})
    assert [finding.error.code for finding in found if finding.error] == ["rds-no-lftp"]


# The certificate.


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (0, "expires today: tell DESY"),
        (1, "expires tomorrow: tell DESY"),
        (2, "expires in 2 days: tell DESY"),
        (CERTIFICATE_DAYS, "expires in 14 days: tell DESY"),
        (CERTIFICATE_DAYS + 1, "is trusted until 2026-09-01"),
    ],
)
def test_a_certificate_near_its_end_is_worth_a_word_and_stops_nothing(left: int, told: str) -> None:
    found = judged(HEALTHY, today=date(2026, 9, 1) - timedelta(days=left))
    assert told in sentence("certificate", found)
    assert first_error(found) is None


def test_an_end_that_is_not_known_is_not_made_up() -> None:
    assert sentence("certificate", judged(HEALTHY | {"cert_ends": ""})).endswith(" is trusted")


@pytest.mark.parametrize(
    ("code", "text", "error_code", "told"),
    [
        ("10", "certificate has expired", "certificate-expired", "expired on 2026-09-01"),
        ("9", "certificate is not yet valid", "certificate-expired", "psftp.desy.de"),
        ("62", "hostname mismatch", "certificate-name", "(ftp.example.org)"),
        ("64", "IP address mismatch", "certificate-name", "(ftp.example.org)"),
        ("19", "self-signed certificate in certificate chain", "certificate-issuer", "(CN=Stranger)"),
        ("20", "unable to get local issuer certificate", "certificate-issuer", "ca_file"),
    ],
)
def test_a_bad_certificate_is_an_error_with_what_was_seen(
    code: str, text: str, error_code: str, told: str
) -> None:
    words = "cd: Fatal error: Certificate verification: The certificate is NOT trusted."
    seen = {
        "cert_code": code,
        "cert_text": text,
        "cert_issuer": "CN=Stranger",
        "cert_names": "ftp.example.org",
    }
    error = errors(OUTSIDE | seen | {"far_exit": "1", "far_errors": words})[0]
    assert (error.code, type(error)) == (error_code, PermanentError)
    assert told in str(error)


def test_lftp_has_the_last_word_on_the_certificate() -> None:
    """An openssl with a list of issuers of its own must not keep lftp, which looks for itself, from its work."""
    stranger = {"cert_code": "20", "cert_text": "unable to get local issuer certificate"}
    found = judged(HEALTHY | stranger)
    assert first_error(found) is None
    assert "openssl does not (unable to get" in sentence("certificate", found)
    refused = {"far_exit": "1", "far_errors": "cd: Login failed: 530 Login authentication failed"}
    assert [error.code for error in errors(OUTSIDE | stranger | refused)] == ["facility-password-refused"]
    # An openssl that trusts what lftp does not, on the other hand, is no comfort.
    words = (RECORDED / "certificate-issuer.ftps.probe").read_text().replace("\n", "\t")
    assert [error.code for error in errors(OUTSIDE | {"far_exit": "1", "far_errors": words})] == [
        "certificate-issuer"
    ]


# The log-in: words of lftp and OpenSSH as the probe hands them on, in one line.

FAULTS: list[tuple[str, str, bool, tuple[str, ...]]] = [
    ("busy.ftps", "facility-busy", True, ("cdaniel", "lower streams")),
    ("busy.ftps-pure", "facility-busy", True, ("cdaniel",)),
    ("busy.sftp-password", "facility-unreachable", True, ("Connection reset",)),
    ("certificate-expired.ftps", "certificate-expired", False, ("has expired",)),
    ("certificate-issuer.ftps", "certificate-issuer", False, ("ca_file",)),
    ("certificate-name.ftps", "certificate-name", False, ("another host's",)),
    ("dropped.ftps", "facility-unreachable", True, ("psftp.desy.de",)),
    ("gone.ftps", "facility-unreachable", True, ("Connection refused",)),
    ("gone.sftp", "facility-unreachable", True, ("Connection refused",)),
    ("host-key-changed.sftp", "facility-host-key-changed", False, ("another host key", "known_hosts")),
    ("host-key-unknown.sftp", "facility-host-key-unknown", False, ("ssh cdaniel@psftp.desy.de",)),
    ("key.sftp", "facility-key-refused", False, ("authorized_keys",)),
    # "No such file" is said of the key here.
    ("key-file-missing.sftp", "facility-key-refused", False, ("authorized_keys",)),
    ("no-folder.ftps", "source-missing", False, ("cdaniel", "DOOR")),
    ("no-folder.ftps-pure", "source-missing", False, ("cdaniel",)),
    ("no-folder.sftp", "source-missing", False, ("/11010750",)),
    ("no-folder.sftp-password", "source-missing", False, ("/11010750",)),
    ("no-folder-but-a-file.ftps", "source-missing", False, ("cdaniel",)),
    ("no-folder-but-a-file.sftp", "source-missing", False, ("/11010750",)),
    ("no-name.ftps", "facility-unknown-host", True, ("name service",)),
    ("no-tls.ftps", "facility-no-tls", False, ("no encryption",)),
    ("password.ftps", "facility-password-refused", False, ("cdaniel", "'desy_ftps'")),
    ("password.sftp-password", "facility-password-refused", False, ("'desy_ftps'",)),
    ("second-factor.sftp", "facility-key-refused", False, ("auth: interactive",)),
]


@pytest.mark.parametrize(("name", "code", "again", "told"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_each_fault_has_its_sentence(name: str, code: str, again: bool, told: tuple[str, ...]) -> None:
    how = name.split(".")[1]
    of = beamtime("ftps" if how.startswith("ftps") else "sftp")
    if how == "sftp-password":
        of = beamtime("sftp", connection="desy_ftps")
    words = (RECORDED / f"{name}.probe").read_text().replace("\n", "\t")
    (error,) = errors(OUTSIDE | {"far_exit": "1", "far_errors": words}, of)
    assert (error.code, isinstance(error, TransientError)) == (code, again), str(error)
    assert [word for word in told if word not in str(error)] == []


def test_everything_recorded_is_looked_at() -> None:
    recorded = {path.stem for path in RECORDED.iterdir() if path.suffix == ".probe"}
    # Where a person logs in is told apart by the entry, see below.
    assert recorded - {fault[0] for fault in FAULTS} == {"session-lost.sftp"}


def test_a_session_that_is_gone_is_asked_for_again() -> None:
    of = beamtime("sftp", auth="interactive")
    words = (RECORDED / "session-lost.sftp.probe").read_text().replace("\n", "\t")
    gone = "Control socket connect(/home/mbcx9cd4/.ssh/beamferry): No such file or directory"
    for said in (words, gone):
        (error,) = errors(OUTSIDE | {"far_exit": "255", "far_errors": said}, of)
        assert (error.code, type(error)) == ("session-lost", TransientError)


def test_no_answer_in_time_is_told() -> None:
    for transport in ("ftps", "sftp"):
        (error,) = errors(OUTSIDE | {"far_exit": "124", "far_errors": ""}, beamtime(transport))
        assert error.code == "facility-unreachable"
        assert "no answer in time" in error.problem


# What is shown.


def test_a_folder_that_is_not_there_is_an_error_with_the_one_that_was_meant() -> None:
    of = beamtime(folders=["raw", "processing", "zzz"])
    near, other = errors(HEALTHY, of)
    assert (near.code, other.code) == ("folder-missing", "folder-missing")
    assert "did you mean 'processed'?" in near.remedy
    assert "did you mean" not in other.remedy
    assert "DESY shows processed, raw, scratch_cc, shared" in other.remedy


def test_a_list_too_long_to_be_told_is_no_proof_against_a_folder() -> None:
    of = beamtime(folders=["zzz"])
    assert errors(HEALTHY | {"folders_cut": "3"}, of) == []
    assert [error.code for error in errors(HEALTHY | {"folders_cut": "0"}, of)] == ["folder-missing"]


def test_many_folders_are_counted_in_a_message() -> None:
    folders = "".join(f"scan_{number:04}/" for number in range(500))
    told = sentence("source", judged(HEALTHY | {"folders": folders}))
    assert "scan_0019 and 480 more and 2 files" in told


@pytest.mark.parametrize("transport", ["ftps", "sftp"])
def test_another_beamtime_is_an_error_that_names_both(transport: str) -> None:
    shown = {"metadata_files": "beamtime-metadata-11019999.json/"}
    # Not of its folders besides: they are another's.
    (error,) = errors(HEALTHY | shown, beamtime(transport, folders=["zzz"]))
    assert error.code == "registration-other"
    assert "beamtime 11019999 here, not 11010750" in error.problem
    assert ("Gamma Portal" in error.remedy) == (transport == "ftps")


def test_a_metadata_file_of_its_own_beside_another_is_enough() -> None:
    shown = {"metadata_files": "beamtime-metadata-11010750.json/beamtime-metadata-11019999.json/"}
    assert errors(HEALTHY | shown) == []


def test_without_a_metadata_file_nobody_says_whose_data_it_is() -> None:
    found = judged(HEALTHY | {"metadata_files": "", "files": "1"})
    assert first_error(found) is None
    assert "whether it is 11010750" in sentence("beamtime", found)
    assert "and 1 file" in sentence("source", found)
    assert not [
        one for one in judged(HEALTHY | {"metadata_files": ""}, beamtime("sftp")) if one.name == "beamtime"
    ]


@pytest.mark.parametrize("transport", ["ftps", "sftp"])
def test_an_empty_beamtime_is_no_beamtime(transport: str) -> None:
    shown = {"folders": "", "files": "0", "metadata_files": ""}
    (error,) = errors(HEALTHY | shown, beamtime(transport))
    assert (error.code, type(error)) == ("source-missing", PermanentError)
    assert "shows nothing at all" in error.problem
    assert ("Gamma Portal" in error.remedy) == (transport == "ftps")


# The registration.


def test_a_registration_lasts_a_week_and_is_judged_before_anybody_logs_in() -> None:
    of = beamtime()
    assert registration_expired(of, date(2026, 3, 12)) is None
    error = registration_expired(of, date(2026, 3, 13))
    assert error is not None
    assert (error.code, type(error)) == ("registration-expired", PermanentError)
    assert error.problem == "The FTP registration of 11010750 expired on 2026-03-13"
    assert "Gamma Portal" in error.remedy
    assert "'registered'" in error.remedy


@given(st.dates())
def test_sftp_needs_no_registration(today: date) -> None:
    assert registration_expired(beamtime("sftp"), today) is None


@given(
    st.dictionaries(
        st.sampled_from(sorted(HEALTHY)), st.text(max_size=30) | st.sampled_from(["", "yes", "no", "0", "1"])
    ),
    st.sampled_from(["ftps", "sftp"]),
)
def test_whatever_the_probe_says_there_is_a_judgement(changes: dict[str, str], transport: str) -> None:
    for finding in judged(HEALTHY | changes, beamtime(transport)):
        assert finding.sentence
        assert finding.error is None or finding.error.remedy
