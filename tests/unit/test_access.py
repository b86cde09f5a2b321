"""What the probe saw, judged: one sentence for each fault; connections to RDS-SSH explained."""

from __future__ import annotations

import socket
from datetime import date

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.access import (
    CLOCK_SKEW,
    Facts,
    Finding,
    first_error,
    judge,
    parse_facts,
    probe_arguments,
)
from beamferry.beamtime import Site
from beamferry.connection import explain_connection
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.rsync import CIFS, POSIX

ROOT = "/mnt/eps01-rds/Fonseca-Lightform/shared"
SITE = Site(destination_root=ROOT)
VISIT = DiamondBeamtime(
    id="mg25682-2", facility="diamond", instrument="i12", account="mbcx9cd4", ended=date(2021, 5, 3)
)
SOURCE = "/dls/i12/data/2021/mg25682-2"
UNKNOWN_KEY = "No RSA host key is known for h and you have requested strict checking."
HEALTHY = {
    "node": "rds-ssh",
    "rsync": "rsync  version 3.5.0  protocol version 32",
    "ssh": "OpenSSH_9.2p1",
    "python": "3.11.2",
    "tools_missing": "",
    "root_exists": "yes",
    "root_mounted": "yes",
    "file_system": "nfs",
    "bytes_free": "1000000",
    "inodes_free": "5000",
    "keeps_modes": "yes",
    "keeps_times": "yes",
    "keeps_links": "yes",
    "writable": "yes",
    "far_exit": "0",
    "far_begun": "yes",
    "far_command": "beamferry",
    "far_errors": "",
    "far_noise": "",
    "source_exists": "yes",
    "source_is_folder": "yes",
    "source_readable": "yes",
    "far_rsync": "rsync  version 3.1.3  protocol version 31",
    "far_find": "yes",
    "far_sha256sum": "yes",
    "far_time": "1800000000",
    "near_time": "1800000000",
    "end": "yes",
}

# ssh did not come to the command.
UNSAID = {"far_time": "", "far_exit": "255", "far_begun": "no", "far_command": ""}


def printed(values: dict[str, str]) -> str:
    return "".join(f"{key}={value}\n" for key, value in values.items())


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({}, None),
        (
            {"closed_folder": "700 /mnt/rds/diamond 1"},
            "/mnt/rds/diamond 1 does not let the group lab in (mode 700)",
        ),
        ({"new_group": "mbcx9cd4"}, "belongs to the group mbcx9cd4, not to lab"),
        ({"keeps_modes": "no", "new_group": "mbcx9cd4"}, None),
        ({"keeps_modes": "no", "new_mode": "600"}, "the mode 600: the group cannot read them"),
        # An answer of an earlier version.
        ({"root_group": "", "new_group": "", "new_mode": ""}, None),
    ],
)
def test_what_keeps_the_group_out_is_told_and_stops_nothing(seen: dict[str, str], said: str | None) -> None:
    usual = {"root_group": "lab", "new_group": "lab", "new_mode": "644", "closed_folder": ""}
    found = [finding for finding in judged(**usual | seen) if finding.name == "group"]
    assert [finding.ok for finding in found] == [True] * (said is not None)
    assert said is None or said in found[0].sentence
    kept = VISIT.model_copy(update={"group_access": "keep"})
    assert "group" not in [finding.name for finding in judge(Facts(HEALTHY | usual | seen), kept, SITE)]


def judged(**changes: str) -> tuple[Finding, ...]:
    return judge(Facts(HEALTHY | changes), VISIT, SITE)


def errors(**changes: str) -> list[BeamferryError]:
    return [finding.error for finding in judged(**changes) if finding.error is not None]


# The answer.


def test_a_whole_answer_is_read() -> None:
    facts = parse_facts(printed(HEALTHY))
    assert facts.values == HEALTHY
    assert (facts.number("bytes_free"), facts.traits) == (1_000_000, POSIX)


def test_a_value_may_hold_an_equals_sign() -> None:
    assert parse_facts(printed(HEALTHY | {"far_noise": "a=b"})).get("far_noise") == "a=b"


@given(st.integers(min_value=0, max_value=len(printed(HEALTHY)) - 2))
def test_a_cut_answer_is_an_error(length: int) -> None:
    with pytest.raises(TransientError) as caught:
        parse_facts(printed(HEALTHY)[:length])
    assert caught.value.code == "probe-unreadable"


@given(st.text())
def test_garbage_is_an_error(text: str) -> None:
    with pytest.raises(TransientError):
        parse_facts(text)


@pytest.mark.parametrize("separator", ["\x85", "\u2028", "\x1c", "\x0b"])
def test_text_from_outside_makes_no_fact(separator: str) -> None:
    cut = {key: value for key, value in HEALTHY.items() if key != "end"}
    with pytest.raises(TransientError):
        parse_facts(printed(cut | {"far_noise": f"hello{separator}end=yes"}))


@given(st.text(max_size=5))
def test_a_count_is_a_plain_integer_or_unknown(value: str) -> None:
    number = Facts({"bytes_free": value}).number("bytes_free")
    assert number == (int(value) if value.isascii() and value.isdecimal() else None)


@pytest.mark.parametrize("value", ["²", "٣", "-", "", "-1", "1.5", "1,000"])
def test_no_number_is_made_up(value: str) -> None:
    assert Facts({"bytes_free": value}).number("bytes_free") is None


@pytest.mark.parametrize("absent", ["keeps_modes", "keeps_times"])
def test_a_destination_without_modes_or_times(absent: str) -> None:
    assert Facts(HEALTHY | {absent: "no"}).traits == CIFS
    assert any("does not keep" in finding.sentence for finding in judged(**{absent: "no"}))


# The sentences.


def test_all_is_well() -> None:
    assert errors() == []
    assert all(finding.ok and finding.sentence for finding in judged())
    assert first_error(judged()) is None


@pytest.mark.parametrize(
    ("changes", "code", "names"),
    [
        ({"rsync": ""}, "rds-no-rsync", ("rds-ssh", "rsync", "Research IT")),
        ({"tools_missing": "find sort"}, "rds-tool-missing", ("find, sort", "findutils")),
        (
            {"tools_unfit": "/opt/busybox/find (list names by -printf)"},
            "rds-tool-unfit",
            ("/opt/busybox/find (list names by -printf)", "GNU tools", "PATH"),
        ),
        ({"root_exists": "no"}, "rds-not-mounted", (ROOT, "does not exist", "destination_root")),
        ({"root_mounted": "no"}, "rds-not-mounted", (ROOT, "is empty", "Research IT")),
        (
            {"writable": "no", "writable_reason": "mkdir: cannot create directory 'x': Permission denied"},
            "rds-not-writable",
            (ROOT, "(Permission denied)", "write permission"),
        ),
        ({"writable": "no"}, "rds-not-writable", (ROOT, "no reason given")),
        (
            {"writable": "no", "writable_reason": "x: No space left on device", "inodes_free": "0"},
            "rds-inodes",
            (ROOT, "inodes"),
        ),
        (
            {"writable": "no", "writable_reason": "x: No space left on device"},
            "rds-full",
            (ROOT, "make room"),
        ),
        ({"writable": "no", "writable_reason": "x: Disk quota exceeded"}, "rds-full", (ROOT, "make room")),
        ({"far_rsync": ""}, "facility-no-rsync", ("ssh.diamond.ac.uk", "mbcx9cd4", "Diamond")),
        ({"far_find": "no"}, "facility-no-find", ("GNU find", "ssh.diamond.ac.uk")),
        ({"far_sha256sum": "no"}, "facility-no-sha256sum", ("sha256sum", "ssh.diamond.ac.uk")),
        ({"far_noise": "*** Hello ***"}, "login-shell-noise", ("*** Hello ***", "mbcx9cd4", "~/.bashrc")),
        (UNSAID | {"far_exit": "0", "far_noise": "menu"}, "login-shell-ends", ("menu",)),
        (UNSAID | {"far_exit": "1"}, "login-shell-ends", ("says nothing", "interactive")),
        (UNSAID | {"far_exit": "127", "far_errors": "bash: sh: x\t"}, "login-shell-ends", ("'bash: sh: x'",)),
        (UNSAID | {"far_exit": "124"}, "facility-unreachable", ("no answer in 60 seconds",)),
        ({"far_time": "", "far_exit": "124"}, "facility-storage-unwell", ("/dls/", "60 seconds")),
        ({"far_command": ""}, "login-shell-replaced", ("exec", "newgrp")),
        (
            {"source_exists": "no", "source_is_folder": "no", "source_readable": "no"},
            "source-missing",
            (SOURCE, "Diamond", "tape"),
        ),
        ({"source_readable": "no"}, "source-unreadable", (SOURCE, "mbcx9cd4", "mg25682-2")),
        (
            UNSAID | {"far_errors": "mbcx9cd4@h: Permission denied (publickey)."},
            "facility-key-refused",
            ("mbcx9cd4", "~/.ssh/authorized_keys"),
        ),
        (
            UNSAID | {"far_errors": f"{UNKNOWN_KEY}\tHost key verification failed.\t"},
            "facility-host-key-unknown",
            ("ssh mbcx9cd4@ssh.diamond.ac.uk",),
        ),
        (
            UNSAID
            | {
                "far_errors": "@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\tHost key verification failed.\t",
            },
            "facility-host-key-changed",
            ("ssh.diamond.ac.uk", "known_hosts"),
        ),
        (
            UNSAID | {"far_errors": "ssh: connect to host h port 22: Connection timed out"},
            "facility-unreachable",
            ("ssh.diamond.ac.uk", "Connection timed out"),
        ),
    ],
)
def test_each_fault_has_its_sentence(changes: dict[str, str], code: str, names: tuple[str, ...]) -> None:
    (error,) = errors(**changes)
    assert error.code == code
    assert [name for name in names if name not in str(error)] == []
    assert isinstance(error, TransientError) == (code in {"facility-unreachable", "facility-storage-unwell"})


def test_without_ssh_here_nothing_is_said_of_the_facility() -> None:
    here = {key: value for key, value in HEALTHY.items() if not key.startswith(("far_", "source_"))}
    found = judge(Facts(here | {"ssh": ""}), VISIT, SITE)
    assert [finding.error.code for finding in found if finding.error] == ["rds-no-ssh"]


def test_clocks_that_differ_are_told_and_stop_nothing() -> None:
    apart = judged(far_time=str(1_800_000_000 + CLOCK_SKEW + 1))
    assert [finding.ok for finding in apart if finding.name == "clocks"] == [True]
    near = judged(far_time=str(1_800_000_000 + CLOCK_SKEW))
    assert not [finding for finding in near if finding.name == "clocks"]


def test_a_persons_task_goes_first() -> None:
    passing = Finding("log-in", "x", TransientError("passing", "x", "y"))
    task = Finding("rsync", "x", PermanentError("task", "x", "y"))
    other = Finding("source", "x", PermanentError("other", "x", "y"))
    well = Finding("ssh", "x")
    for found, code in (
        ((well, passing, task), "task"),
        ((task, passing), "task"),
        ((passing, task, other), "task"),
        ((well, passing), "passing"),
    ):
        error = first_error(found)
        assert error is not None
        assert error.code == code
    assert first_error((well,)) is None


def test_the_probe_is_asked_for_this_beamtime() -> None:
    words = probe_arguments(VISIT, SITE)
    asked = dict(zip(words[::2], words[1::2], strict=True))
    assert asked.pop("--ssh").startswith("ssh -o BatchMode=yes")
    assert asked == {
        "--host": "ssh.diamond.ac.uk",
        "--account": "mbcx9cd4",
        "--source": SOURCE,
        "--seconds": "60",
        "--destination-root": ROOT,
        "--destination": f"{ROOT}/./diamond/i12/2021/mg25682-2",
    }


# Connections to RDS-SSH.

KEY = paramiko.RSAKey.generate(1024)


@pytest.mark.parametrize(
    ("error", "code", "kind", "name"),
    [
        (paramiko.BadHostKeyException("h", KEY, KEY), "rds-host-key-differs", PermanentError, "host_key"),
        (paramiko.AuthenticationException("no"), "rds-key-refused", PermanentError, "key_file"),
        (paramiko.BadAuthenticationType("no", ["password"]), "rds-key-refused", PermanentError, "key_file"),
        (
            paramiko.SSHException("Server 'h' not found in known_hosts"),
            "rds-host-key-unknown",
            PermanentError,
            "fingerprint",
        ),
        (socket.gaierror(-2, "Name or service not known"), "rds-unknown-host", TransientError, "VPN"),
        (
            paramiko.ssh_exception.NoValidConnectionsError({("h", 22): ConnectionRefusedError()}),
            "rds-unreachable",
            TransientError,
            "VPN",
        ),
        (FileNotFoundError(2, "No such file", "/keys/id"), "rds-key-file", PermanentError, "/keys/id"),
        (PermissionError(1, "Operation not permitted"), "rds-unreachable", TransientError, "VPN"),
        (TimeoutError(), "rds-unreachable", TransientError, "TimeoutError"),
        (EOFError(), "rds-unreachable", TransientError, "EOFError"),
        (
            paramiko.SSHException("Error reading SSH protocol banner"),
            "rds-unreachable",
            TransientError,
            "banner",
        ),
    ],
)
def test_connections_are_explained(
    error: Exception, code: str, kind: type[BeamferryError], name: str
) -> None:
    explained = explain_connection(error, "rds-ssh.example.ac.uk")
    assert (explained.code, type(explained)) == (code, kind)
    assert "rds-ssh.example.ac.uk" in explained.problem
    assert name in str(explained)
    other = explain_connection(error, "icsf.example.ac.uk", "iCSF")
    assert "RDS-SSH" not in str(other)
    assert "iCSF" in other.problem
