"""What lftp, sftp and our scripts said when something was broken in the lab, and the sentence that it ends in."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.lftp_complaints import (
    BAD_LINE,
    BROKEN,
    CHANGED,
    CUT,
    LOG_IN,
    UNREADABLE,
    interpret_exit,
    interpret_log_in,
)
from beamferry.ssh_complaints import Errand
from beamferry.tls_complaints import Seen, certificate_error

# stderr of lftp 4.9.2 and OpenSSH 9.2 against the lab's DESY: FAULT.LOG-IN.job of a job, .probe of the probe.
RECORDED = Path(__file__).parents[1] / "data" / "lftp"
HOST = "psftp.desy.de"
FTPS = Errand("DESY", "11010750", "cdaniel", HOST, "/", "/mnt/rds/desy/p07/2020/11010750", "desy_ftps")
NETRC = Errand("DESY", "11010750", "cdaniel", HOST, "/", FTPS.destination)
KEY = Errand("DESY", "11010750", "cdaniel", HOST, "/11010750", FTPS.destination)
SESSION = Errand("DESY", "11010750", "cdaniel", HOST, "/11010750", FTPS.destination, log_in="ssh -MN psftp")
ERRANDS = {"ftps": FTPS, "ftps-pure": FTPS, "sftp": KEY, "sftp-password": FTPS}

# What was recorded, the job's exit code; then the error's code, whether it is tried again, words of the sentence.
CASES: list[tuple[str, int, str, bool, tuple[str, ...]]] = [
    ("broken.ftps", BROKEN, "stream-broken", True, (HOST, "Connection refused")),
    ("busy.ftps", BROKEN, "facility-busy", True, (HOST, "cdaniel", "lower streams")),
    ("busy.ftps-pure", BROKEN, "facility-busy", True, (HOST, "cdaniel")),
    ("busy.sftp-password", BROKEN, "stream-broken", True, ("Connection reset",)),
    ("certificate-expired.ftps", LOG_IN, "certificate-expired", False, (HOST, "has expired")),
    ("certificate-issuer.ftps", LOG_IN, "certificate-issuer", False, ("does not trust", "ca_file")),
    ("certificate-name.ftps", LOG_IN, "certificate-name", False, ("another host's", "server")),
    ("dropped.ftps", BROKEN, "stream-broken", True, (HOST,)),
    ("full.ftps", 11, "rds-full", False, ("11010750", FTPS.destination)),
    ("gone.ftps", BROKEN, "stream-broken", True, ("Connection refused",)),
    ("gone.sftp", BROKEN, "stream-broken", True, ("Connection refused",)),
    # Of a host key that differs lftp keeps the last line only; the probe has them all.
    ("host-key-changed.sftp", LOG_IN, "facility-host-key-unknown", False, ("fingerprint",)),
    ("host-key-unknown.sftp", LOG_IN, "facility-host-key-unknown", False, ("fingerprint",)),
    ("key.sftp", LOG_IN, "facility-key-refused", False, ("cdaniel", "authorized_keys")),
    ("key-file-missing.sftp", LOG_IN, "facility-key-refused", False, ("cdaniel",)),
    ("listing-cut.ftps", CUT, "listing-incomplete", False, ("4 files", "raw", "shared")),
    ("no-folder.ftps", BROKEN, "source-missing", False, ("cdaniel", "DOOR")),
    ("no-folder.ftps-pure", BROKEN, "source-missing", False, ("cdaniel",)),
    ("no-folder.sftp", BROKEN, "source-missing", False, ("/11010750",)),
    ("no-folder.sftp-password", BROKEN, "source-missing", False, ("cdaniel",)),
    ("no-folder-but-a-file.ftps", BROKEN, "source-missing", False, ("cdaniel",)),
    ("no-folder-but-a-file.sftp", BROKEN, "source-missing", False, ("cdaniel",)),
    ("no-name.ftps", BROKEN, "facility-unknown-host", True, (HOST, "name service")),
    ("no-tls.ftps", LOG_IN, "facility-no-tls", False, ("no encryption",)),
    ("password.ftps", LOG_IN, "facility-password-refused", False, ("'desy_ftps'", "not tried again")),
    ("password.sftp-password", LOG_IN, "facility-password-refused", False, ("'desy_ftps'",)),
    ("second-factor.sftp", LOG_IN, "facility-key-refused", False, ("auth: interactive",)),
    ("unreadable.ftps", UNREADABLE, "files-unreadable", False, ("1 files", "raw/sealed_00001.cbf (550 Perm")),
    ("unreadable.ftps-pure", UNREADABLE, "files-unreadable", False, ("raw/sealed_00001.cbf (550 Sorry",)),
    ("unreadable.sftp", UNREADABLE, "files-unreadable", False, ("raw/sealed_00001.cbf (Permission denied)",)),
]


def words(name: str) -> str:
    return (RECORDED / name).read_text()


def meant(code: int, stderr: str, errand: Errand = FTPS) -> BeamferryError:
    error = interpret_exit(code, stderr, errand)
    assert error is not None
    return error


@pytest.mark.parametrize(
    ("name", "exit_code", "code", "again", "told"), CASES, ids=[case[0] for case in CASES]
)
def test_each_fault_has_its_sentence(
    name: str, exit_code: int, code: str, again: bool, told: tuple[str, ...]
) -> None:
    error = meant(exit_code, words(f"{name}.job"), ERRANDS[name.split(".")[1]])
    assert (error.code, isinstance(error, TransientError)) == (code, again), str(error)
    assert [word for word in told if word not in str(error)] == []


def test_everything_recorded_is_looked_at() -> None:
    recorded = {path.stem for path in RECORDED.iterdir() if path.suffix == ".job"}
    # Where a person logs in is told apart by the entry, see below.
    assert recorded - {case[0] for case in CASES} == {"session-lost.sftp"}


def test_success_is_no_error() -> None:
    assert interpret_exit(0, "Warning: whatever", FTPS) is None


@pytest.mark.parametrize("code", [69, 75, 76, 77, 78, 79, 137, 143, 1, 200])
def test_codes_of_every_job_mean_what_they_always_mean(code: int) -> None:
    assert meant(code, "lftp: said this").code in {
        "lists-missing",
        "stalled",
        "job-failed",
        "rds-tool-missing",
        "job-refused",
        "job-busy",
        "job-killed",
    }


# The log-in.


def test_no_password_names_where_it_belongs() -> None:
    error = meant(LOG_IN, "beamferry: no-password: there is no /home/mbcx9cd4/.netrc\n", NETRC)
    assert error.code == "facility-no-password"
    assert "~/.netrc" in str(error)
    assert "there is no /home/mbcx9cd4/.netrc" in str(error)
    assert "'desy_ftps'" in str(meant(LOG_IN, "beamferry: no-password: nothing was handed over\n"))


def test_a_refused_password_of_netrc_is_corrected_there() -> None:
    error = meant(LOG_IN, words("password.ftps.job"), NETRC)
    assert error.code == "facility-password-refused"
    assert "~/.netrc on RDS-SSH" in error.remedy


def test_a_name_that_is_not_known_is_told_for_a_netrc_too() -> None:
    assert meant(BROKEN, words("no-name.ftps.job"), NETRC).code == "facility-unknown-host"


@pytest.mark.parametrize(
    "stderr",
    [
        words("session-lost.sftp.job"),
        words("session-lost.sftp.probe"),
        words("second-factor.sftp.job"),
        words("key.sftp.job"),
        "cd: Fatal error: max-retries exceeded (cdaniel@h: Permission denied (password).)",
    ],
)
def test_where_a_person_logs_in_it_is_the_session_that_is_lost(stderr: str) -> None:
    error = interpret_log_in(stderr, SESSION)
    assert (error.code, type(error)) == ("session-lost", TransientError)
    assert "ssh -MN psftp" in error.remedy


def test_a_password_that_a_second_factor_needs_says_so() -> None:
    error = interpret_log_in(words("second-factor.sftp.probe"), FTPS)
    assert error.code == "facility-password-refused"
    assert "auth: interactive" in error.remedy
    assert "auth: interactive" not in interpret_log_in(words("password.ftps.probe"), FTPS).remedy


@pytest.mark.parametrize(
    "stderr",
    [
        "421 Too many users",
        "cd: Fatal error: max-retries exceeded (421 Too many)",
        "530 Sorry, the maximum number of clients is logged in",
    ],
)
def test_too_many_connections_are_no_wrong_password(stderr: str) -> None:
    error = interpret_log_in(f"cd: Login failed: {stderr}", FTPS)
    assert (error.code, type(error)) == ("facility-busy", TransientError)


def test_a_number_in_a_name_is_no_reply() -> None:
    stderr = "get: ./raw/scan-421.nxs: Fatal error: max-retries exceeded (Connection reset by peer)"
    assert meant(BROKEN, stderr).code == "stream-broken"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("certificate has expired", "certificate-expired"),
        ("The certificate is not yet activated.", "certificate-expired"),
        ("certificate subject name 'x' does not match target host name 'y'", "certificate-name"),
        ("Hostname mismatch", "certificate-name"),
        ("self signed certificate in certificate chain", "certificate-issuer"),
    ],
)
def test_words_on_certificates(reason: str, code: str) -> None:
    assert certificate_error(reason, FTPS).code == code


def test_what_was_seen_of_a_certificate_is_told() -> None:
    seen = Seen(ended=date(2026, 1, 31), names="ftp.example.org", issuer="CN=Stranger")
    assert "expired on 2026-01-31" in str(certificate_error("expired", FTPS, seen))
    assert "(ftp.example.org)" in str(certificate_error("does not match", FTPS, seen))
    assert "(CN=Stranger)" in str(certificate_error("untrusted", FTPS, seen))


# Files.


def test_files_are_named_once_and_the_rest_is_counted() -> None:
    lines = [f"get: Access failed: 550 Permission denied. (./raw/{number}.cbf)\n" for number in range(25)]
    error = meant(UNREADABLE, "".join(lines * 2))
    assert (
        "25 files or folders of 11010750 cannot be read: raw/0.cbf (550 Permission denied.)" in error.problem
    )
    assert error.problem.endswith(" and 5 more")


@given(
    st.from_regex(r"[A-Za-z0-9 ()./_-]{1,40}", fullmatch=True).filter(lambda name: not name.startswith("./"))
)
def test_a_name_may_hold_brackets(name: str) -> None:
    error = meant(UNREADABLE, f"cat: Access failed: 550 Permission denied. (./{name})\n")
    assert f"1 files or folders of 11010750 cannot be read: {name} (550 Permission denied.)" in error.problem


def test_what_cannot_be_looked_into_is_named() -> None:
    error = meant(UNREADABLE, "ls: Access failed: 550 x (/raw/a)\nbeamferry: unlisted: raw/a\n")
    assert "raw/a" in error.problem


def test_what_cannot_be_read_at_rds_is_not_asked_of_desy() -> None:
    for stderr in (
        "beamferry: unread: raw/a.nxs (Permission denied)\n",
        "find: './raw/a': Permission denied\n",
    ):
        error = meant(UNREADABLE, stderr)
        assert error.code == "files-unreadable"
        assert "raw/a" in error.problem
        assert "at RDS" in error.problem
        assert FTPS.destination in error.remedy
        assert "DESY" not in error.remedy


def test_what_may_pass_is_tried_again_and_names_its_end() -> None:
    for stderr, code, end in (
        ("beamferry: unread: raw/a.nxs (Input/output error)\n", "rds-unwell", "RDS"),
        ("find: './raw/a': Stale file handle\n", "rds-unwell", "RDS"),
        ("get: Access failed: 550 Input/output error. (./raw/a)\n", "facility-storage-unwell", "DESY"),
        ("get: Access failed: Stale file handle (./raw/a)\n", "facility-storage-unwell", "DESY"),
        ("get: Access failed: Failure (./raw/a)\n", "facility-storage-unwell", "DESY"),
    ):
        error = meant(UNREADABLE, stderr)
        assert (error.code, type(error)) == (code, TransientError)
        assert end in error.problem
    one = "get: Access failed: Failure (./raw/a)\nget: Access failed: Permission denied (./raw/b)\n"
    assert meant(UNREADABLE, one).code == "files-unreadable"


def test_an_unknown_complaint_is_handed_on() -> None:
    assert "(sh: 1: cd: can't cd to /mnt)" in meant(UNREADABLE, "sh: 1: cd: can't cd to /mnt\n").problem


def test_what_changed_or_vanished_is_named() -> None:
    stderr = (
        "beamferry: changed: raw/a.nxs\n"
        "cat: Access failed: 550 No such file or directory. (./raw/b.nxs)\n"
        "cat: Access failed: No such file (./raw/c.nxs)\n"
        "beamferry: changed: raw/a.nxs\n"
    )
    error = meant(CHANGED, stderr)
    assert (error.code, type(error)) == ("source-changing", TransientError)
    assert "(raw/a.nxs, raw/b.nxs, raw/c.nxs)" in error.problem


@pytest.mark.parametrize(
    ("stderr", "code", "told"),
    [
        ("beamferry: cut: raw: 1200 names, 1000 listed\n", "listing-incomplete", "1200 names, 1000 listed"),
        ("beamferry: unreadable-line: raw: -rw? odd\n", "listing-unreadable", "raw: -rw? odd"),
        ("", "listing-unreadable", "no reason given"),
    ],
)
def test_listings_that_prove_nothing(stderr: str, code: str, told: str) -> None:
    for exit_code in (BAD_LINE, CUT):
        error = meant(exit_code, stderr)
        assert (error.code, type(error)) == (code, PermanentError)
        assert told in error.problem


def test_a_listing_that_was_not_checked_is_tried_again() -> None:
    error = meant(CUT, "beamferry: unchecked: raw/scan (Connection closed)\n")
    assert (error.code, type(error)) == ("listing-unchecked", TransientError)
    assert "1 folders: raw/scan (Connection closed)" in error.problem


@given(st.integers(1, 255), st.text())
def test_whatever_is_said_there_is_a_sentence_of_one_line(code: int, stderr: str) -> None:
    error = meant(code, stderr)
    assert error.code
    assert error.remedy
    assert "\n" not in error.problem
    assert len(error.problem) < 5000


@given(st.text(alphabet=st.characters(categories=["Cc"]), min_size=1, max_size=5))
def test_a_name_does_what_it_likes_nowhere(name: str) -> None:
    line = f"beamferry: changed: raw/{name.replace(chr(10), '')}x\n"
    assert meant(CHANGED, line).problem.isprintable()
