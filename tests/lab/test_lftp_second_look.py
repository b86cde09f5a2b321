"""Each folder is looked at twice: a second look that did not take place never passes for one that agreed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from beamferry import lftp
from beamferry.access import errand
from beamferry.beamtime import Level
from beamferry.errors import TransientError
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lftp_complaints import interpret_exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Outcome

    from beamferry.lab.desy import Desy

KEPT = 30


def breaks_sftp(engine: DesyEngine, script: str) -> None:
    """Let RDS-SSH have another sftp before its own one; $n is how often it was called."""
    shim = engine.shims / "sftp"
    calls = engine.folder / "calls"
    shim.write_text(
        f"#!/bin/sh\n(\n  flock 9\n  echo >>{calls}\n) 9>{calls}.lock\n"
        f'n=$(wc -l <{calls})\n{script}\nexec {shutil.which("sftp")} "$@"\n'
    )
    shim.chmod(0o755)


def is_not_checked(done: Outcome, engine: DesyEngine) -> None:
    assert done.code == 66, done.errors
    assert "beamferry: unchecked: " in done.errors
    told = interpret_exit(done.code, done.errors, errand(engine.beamtime, engine.site))
    assert isinstance(told, TransientError)
    assert "could not be checked by a second look" in str(told)
    assert not (engine.work / "todo").exists()


NO_SFTP = "echo 'ssh: connect to host psftp.desy.de port 22: Connection refused' >&2; exit 255"


def test_a_client_that_never_logs_in_checks_nothing(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy("sftp")
    breaks_sftp(engine, NO_SFTP)
    done = engine.dry_run()
    is_not_checked(done, engine)
    assert "Connection refused" in done.errors


# Each look waits before it is made again: a short slice of these is enough for every run.
@pytest.mark.long
def test_a_comparison_is_not_made_of_a_listing_that_nothing_checks(
    at_desy: Callable[..., DesyEngine],
) -> None:
    engine = at_desy("sftp")
    breaks_sftp(engine, NO_SFTP)
    done = engine.verify(Level.SIZES)
    assert (done.code, "beamferry: unchecked: " in done.errors) == (66, True)


@pytest.mark.long
def test_a_client_that_is_cut_off_checks_nothing(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy("sftp")
    breaks_sftp(engine, f'{shutil.which("sftp")} "$@" | head -n 4; exit 0')
    is_not_checked(engine.dry_run(), engine)


@pytest.mark.long
def test_what_was_missed_is_looked_at_again(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy("sftp")
    breaks_sftp(engine, f'[ "$n" -gt 3 ] || {{ {NO_SFTP}; }}')
    done = engine.dry_run(streams=4)
    assert (done.code, done.errors) == (0, "")
    assert len(engine.listed) > KEPT


def test_a_server_with_few_connections_is_asked_one_by_one(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    engine = at_desy("sftp-password")
    with DesyFaults(desy).connections_limited(2):
        done = engine.dry_run(streams=8)
    assert (done.code, done.errors) == (0, "")
    assert len(engine.listed) > KEPT


def test_names_that_are_cut_check_no_listing(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy("pyftpdlib")
    with DesyFaults(desy).names_cut(1):
        done = engine.dry_run()
    is_not_checked(done, engine)
    assert "files that it does not name" in done.errors


def test_a_client_that_hangs_ends_the_job(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy("sftp")
    breaks_sftp(engine, "exec sleep 1000")
    arguments = list(
        lftp.dry_run_arguments(str(engine.work), engine.beamtime, engine.site, str(engine.secret), streams=3)
    )
    arguments[arguments.index("--stall") + 1] = "4"
    done = engine.run("lftp_dry_run", tuple(arguments))
    assert done.code == 75
    assert not (engine.work / "todo").exists()


def test_the_password_is_given_where_nothing_may_be_executed(
    at_desy: Callable[..., DesyEngine], needs_namespaces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Homes are mounted so on some hosts: sftp was refused, and the second look left out without a word."""
    engine = at_desy("sftp-password")
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,noexec "$1" && shift && exec "$@"'
    engine.inside = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(engine.job))
    # An account may have it: bash would not read BASH_ENV then.
    monkeypatch.setenv("POSIXLY_CORRECT", "1")
    done = engine.dry_run()
    assert (done.code, done.errors) == (0, "")
    assert len(engine.listed) > KEPT


def test_a_file_that_comes_between_the_looks_is_listed(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    """A beamtime is written to while it is listed: two looks that disagree once are made again."""
    engine = at_desy("sftp")
    added = desy.tree / "raw" / "written meanwhile.dat"
    breaks_sftp(engine, f'echo >"{added}"')
    try:
        done = engine.dry_run()
    finally:
        added.unlink(missing_ok=True)
    assert (done.code, done.errors) == (0, "")
    assert b"raw/written meanwhile.dat" in engine.todo
