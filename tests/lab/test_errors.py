"""Each fault of the lab is told in its own sentence, with the thing and the remedy."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import paramiko
import pytest

from beamferry import access, registry
from beamferry.agent import ask
from beamferry.connection import explain_connection
from beamferry.engine import engine
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.remote import Session

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime, Site
    from beamferry.lab import Faults, Lab

HOST = "ssh.diamond.ac.uk"


def of_registry(lab: Lab) -> tuple[Beamtime, Site]:
    loaded = registry.load(lab.registry)
    assert loaded.problems == ()
    assert loaded.site is not None
    (beamtime,) = loaded.beamtimes
    return beamtime, loaded.site


def findings(lab: Lab) -> tuple[access.Finding, ...]:
    """Probe from RDS-SSH over a connection of its own, as verify_access does."""
    beamtime, site = of_registry(lab)
    with lab.rds_client() as client:
        session = Session(client)
        session.install()
        facts = access.parse_facts(ask(session, "probe", engine(beamtime, site).probe(), timeout=60))
    return access.judge(facts, beamtime, site)


def errors(lab: Lab) -> list[BeamferryError]:
    return [finding.error for finding in findings(lab) if finding.error is not None]


def the_error(lab: Lab, code: str, kind: type[BeamferryError], *names: str) -> None:
    """Check that there is one error, of this code and kind, and that it names these things."""
    (error,) = errors(lab)
    assert (error.code, type(error)) == (code, kind)
    assert [name for name in names if name not in str(error)] == []


def test_a_healthy_lab_gives_no_error(lab: Lab) -> None:
    found = findings(lab)
    assert [finding.error for finding in found if finding.error] == []
    assert {"rsync", "ssh", "destination", "log-in", "rsync there", "source"} <= {
        finding.name for finding in found
    }


def test_the_probe_leaves_nothing_behind(lab: Lab) -> None:
    before = sorted(path.name for path in lab.destination.iterdir())
    findings(lab)
    assert sorted(path.name for path in lab.destination.iterdir()) == before
    assert not list(lab.destination.rglob(".beamferry-probe*"))


# Diamond.


def test_diamond_refuses_the_key(lab: Lab, faults: Faults) -> None:
    with faults.key_removed(lab.diamond):
        the_error(
            lab,
            "facility-key-refused",
            PermanentError,
            "Diamond",
            lab.account,
            HOST,
            "~/.ssh/authorized_keys",
        )


def test_diamonds_host_key_is_unknown(lab: Lab, faults: Faults) -> None:
    with faults.diamond_host_key_unknown():
        the_error(
            lab, "facility-host-key-unknown", PermanentError, HOST, f"ssh {lab.account}@{HOST}", "fingerprint"
        )


def test_diamonds_host_key_has_changed(lab: Lab, faults: Faults) -> None:
    with faults.host_key_replaced(lab.diamond):
        the_error(lab, "facility-host-key-changed", PermanentError, HOST, "Diamond", "~/.ssh/known_hosts")


def test_diamond_does_not_answer(lab: Lab, faults: Faults) -> None:
    with faults.stopped(lab.diamond):
        the_error(lab, "facility-unreachable", TransientError, HOST, "Connection refused", "tried again")


def test_diamonds_log_in_shell_prints_noise(lab: Lab, faults: Faults) -> None:
    with faults.shell_noise(lab.diamond):
        the_error(lab, "login-shell-noise", PermanentError, HOST, "Scheduled maintenance", "~/.bashrc")


@pytest.mark.parametrize(
    "script",
    ['[ -z "$PS1" ] && exit\n', "exit 1\n", "echo 'This account is currently not available.'; exit 1\n"],
)
def test_diamonds_log_in_shell_ends_before_it_runs_anything(lab: Lab, faults: Faults, script: str) -> None:
    with faults.log_ins_begin(lab.diamond, script):
        the_error(lab, "login-shell-ends", PermanentError, HOST, lab.account, "~/.bashrc", "interactive")


@pytest.mark.parametrize("script", ["exec bash --norc\n", "exec dash\n", "BASH_ENV= newgrp\n"])
def test_diamonds_log_in_shell_is_replaced_by_another(lab: Lab, faults: Faults, script: str) -> None:
    with faults.log_ins_begin(lab.diamond, script):
        the_error(
            lab, "login-shell-replaced", PermanentError, HOST, lab.account, "exec", "newgrp", "~/.bashrc"
        )


def test_a_replaced_shell_of_another_language_is_told_too(lab: Lab, faults: Faults) -> None:
    with faults.log_ins_begin(lab.diamond, "exec awk '/^echo / { sub(/^echo /, \"\"); print }'\n"):
        the_error(lab, "login-shell-replaced", PermanentError, HOST)


def test_diamonds_log_in_does_not_come_to_an_end(
    lab: Lab, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "FAR_SECONDS", 3)
    with faults.log_ins_begin(lab.diamond, "sleep 60\n"):
        the_error(lab, "facility-unreachable", TransientError, HOST, "3 seconds", "tried again")


def test_a_shell_that_waits_for_an_answer_is_no_lost_connection(
    lab: Lab, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads stdin in a profile takes the words that are meant for the command."""
    monkeypatch.setattr(access, "FAR_SECONDS", 10)
    with faults.log_ins_begin(lab.diamond, "cat >/dev/null\n"):
        the_error(lab, "login-shell-ends", PermanentError, HOST)


def test_rsync_is_missing_at_diamond(lab: Lab, faults: Faults) -> None:
    with faults.tool_missing(lab.diamond, "rsync"):
        the_error(lab, "facility-no-rsync", PermanentError, HOST, lab.account, "ask Diamond")


def test_the_visit_does_not_exist(lab: Lab, faults: Faults) -> None:
    with faults.visit_missing():
        the_error(lab, "source-missing", PermanentError, lab.source, "Diamond", "instrument, year and id")


def test_the_visit_is_not_readable(lab: Lab, faults: Faults) -> None:
    with faults.visit_unreadable():
        the_error(lab, "source-unreadable", PermanentError, lab.source, lab.account, "principal investigator")


# RDS.


@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("folder_stays", [False, True])
def test_the_destination_is_not_mounted(lab: Lab, faults: Faults, folder_stays: bool) -> None:
    with faults.destination_unmounted(folder_stays=folder_stays):
        the_error(lab, "rds-not-mounted", PermanentError, lab.destination_root, "ask Research IT to mount")


@pytest.mark.usefixtures("needs_namespaces")
def test_the_destination_is_not_writable(lab: Lab, faults: Faults) -> None:
    with faults.destination_read_only():
        the_error(
            lab,
            "rds-not-writable",
            PermanentError,
            lab.destination_root,
            "Read-only file system",
            "Research IT",
        )


@pytest.mark.usefixtures("needs_namespaces")
def test_the_destination_has_no_byte_left(lab: Lab, faults: Faults) -> None:
    with faults.destination_of_size(64 * 1024):
        filler = lab.destination / "filler"
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(bytes(128 * 1024))
        the_error(lab, "rds-full", PermanentError, lab.destination_root, "make room")


@pytest.mark.usefixtures("needs_namespaces")
def test_the_destination_has_no_inode_left(lab: Lab, faults: Faults) -> None:
    with faults.destination_of_size(1024 * 1024, inodes=4):
        with pytest.raises(OSError, match="No space left"):  # noqa: PT012 - how many are taken is the system's
            for number in range(5):
                (lab.destination / str(number)).touch()
        the_error(lab, "rds-inodes", PermanentError, lab.destination_root, "small files")


def test_rsync_is_missing_on_rds(lab: Lab, faults: Faults) -> None:
    with faults.tool_missing(lab.rds, "rsync"):
        the_error(lab, "rds-no-rsync", PermanentError, "no rsync on RDS-SSH", "ask Research IT to install")


# The way to RDS-SSH.


def explained(lab: Lab) -> BeamferryError:
    """Return what stops a connection to RDS-SSH, in words."""
    with pytest.raises((paramiko.SSHException, OSError)) as caught:
        lab.rds_client()
    return explain_connection(caught.value, "rds-ssh.itservices.manchester.ac.uk")


def test_rds_shows_another_host_key(lab: Lab, faults: Faults) -> None:
    with faults.host_key_replaced(lab.rds):
        error = explained(lab)
    assert (error.code, type(error)) == ("rds-host-key-differs", PermanentError)
    assert "rds-ssh.itservices.manchester.ac.uk" in error.problem
    assert "host_key" in error.remedy


def test_rds_does_not_answer(lab: Lab, faults: Faults) -> None:
    with faults.stopped(lab.rds):
        error = explained(lab)
    assert (error.code, type(error)) == ("rds-unreachable", TransientError)
    assert "rds-ssh.itservices.manchester.ac.uk" in error.problem
    assert "VPN" in error.remedy


def test_rds_refuses_the_key(lab: Lab, faults: Faults) -> None:
    with faults.key_removed(lab.rds):
        error = explained(lab)
    assert (error.code, type(error)) == ("rds-key-refused", PermanentError)
    assert "key_file" in error.remedy


def test_two_faults_give_two_errors_and_a_persons_task_is_first(lab: Lab, faults: Faults) -> None:
    with faults.tool_missing(lab.rds, "rsync"), faults.stopped(lab.diamond):
        found = findings(lab)
    assert {finding.error.code for finding in found if finding.error} == {
        "rds-no-rsync",
        "facility-unreachable",
    }
    first = access.first_error(found)
    assert first is not None
    assert first.code == "rds-no-rsync"
    assert os.linesep not in str(first)
