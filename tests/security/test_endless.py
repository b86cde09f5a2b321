"""A facility that prints for ever, or says nothing more, fills no memory and no disk of RDS-SSH and keeps no job."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamferry import access, lftp, lftp_complaints
from beamferry.beamtime import Level
from beamferry.complaints import interpret_exit
from beamferry.errors import PermanentError
from beamferry.lab.keys import public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from desy_engine import DesyEngine
    from engine import Engine, Job, Outcome

    from beamferry.errors import BeamferryError
    from beamferry.lab.host import Host

MIB = 1024 * 1024
# What a tool of ours may have, in KiB: far more than it needs, far less than a facility sends in a second.
MEMORY = 512 * 1024
# What a job may leave in its folders.
DISK = 64 * MIB
# What a log-in does in place of what it is asked for.
FLOODS = {
    "lines": "exec yes",
    "one line": "exec tr '\\0' x </dev/zero",
    "complaints": "exec yes >&2",
    "one complaint": "exec tr '\\0' x </dev/zero >&2",
}
SILENCE = {"silence": "exec sleep 100"}

each_flood = pytest.mark.parametrize("script", FLOODS.values(), ids=FLOODS.keys())
each = pytest.mark.parametrize("script", (FLOODS | SILENCE).values(), ids=(FLOODS | SILENCE).keys())


@pytest.fixture
def log_ins(far: Host) -> Iterator[Callable[[str], None]]:
    """Has the facility's log-ins begin with a script."""
    try:
        yield far.begin_log_ins
    finally:
        far.greet(None)


@pytest.fixture
def visit(engine: Engine) -> Engine:
    """A beamtime with files, for which nobody waits long, and whose tools have little memory."""
    (engine.source / "small").write_bytes(b"data")
    (engine.source / "large").write_bytes(b"data" * MIB)
    (engine.destination.parent / "other").mkdir()
    engine.inside = ("bash", "-c", f'ulimit -v {MEMORY}; exec "$@"', "bash")
    engine.seconds = 4
    return engine


def left(engine: Engine) -> int:
    """Bytes in the job's folders."""
    places = (engine.work, engine.job, engine.home)
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def error_of(engine: Engine, done: Outcome) -> BeamferryError:
    error = interpret_exit(done.code, done.errors, access.errand(engine.beamtime, engine.site))
    assert error is not None, done
    assert left(engine) < DISK
    assert "RDS" not in error.problem.replace("RDS-SSH", ""), error
    return error


@each_flood
def test_a_probe_tells_of_a_log_in_that_prints_for_ever(
    visit: Engine, log_ins: Callable[[str], None], script: str
) -> None:
    log_ins(f"{script}\n")
    facts = access.parse_facts(visit.probe())
    (found,) = (found for found in access.judge(facts, visit.beamtime, visit.site) if found.error)
    assert isinstance(found.error, PermanentError)
    assert found.error.code == "login-shell-noise"
    assert "without end" in found.error.problem
    assert "~/.bashrc" in found.error.remedy


def test_a_probe_tells_of_a_log_in_that_says_nothing(visit: Engine, log_ins: Callable[[str], None]) -> None:
    log_ins("exec sleep 100\n")
    facts = access.parse_facts(visit.probe())
    (found,) = (found for found in access.judge(facts, visit.beamtime, visit.site) if found.error)
    assert found.error is not None
    assert "no answer in" in found.error.problem


@each
def test_a_dry_run_ends(visit: Engine, log_ins: Callable[[str], None], script: str) -> None:
    log_ins(f"{script}\n")
    error_of(visit, visit.dry_run())


@each
def test_a_transfer_ends(visit: Engine, log_ins: Callable[[str], None], script: str) -> None:
    assert visit.dry_run().code == 0
    log_ins(f"{script}\n")
    error_of(visit, visit.transfer(range_threshold=MIB, stall=4))


@each
@pytest.mark.parametrize("level", [Level.SIZES, Level.FULL])
def test_a_comparison_ends(visit: Engine, log_ins: Callable[[str], None], script: str, level: Level) -> None:
    visit.fetch()
    # The census is answered, and then nothing more.
    first = 'case $SSH_ORIGINAL_COMMAND in *"sh -s"*) [ -e "$HOME/asked" ] || { : >"$HOME/asked"; return; } ;; esac\n'
    asked = visit.far.home / "asked"
    asked.unlink(missing_ok=True)
    log_ins(f"{first if level is Level.FULL else ''}{script}\n")
    error_of(visit, visit.verify(level))


@pytest.fixture
def shell_at_desy(at_desy: Callable[..., DesyEngine], far: Host) -> DesyEngine:
    """A beamtime whose SFTP server is started by a log-in shell, as where it is no part of sshd."""
    engine = at_desy("sftp", settings={"account": far.account})
    known = engine.folder / "known_hosts"
    known.write_text(f"psftp.desy.de {far.pinned}\n")
    authorized = far.authorized_keys
    authorized.write_text(authorized.read_text() + public_key(engine.key) + "\n")
    engine.shim_ssh(
        f"Host {engine.beamtime.host}\n HostName {far.address}\n Port {far.port}\n User {far.account}\n"
        f" HostKeyAlias psftp.desy.de\n UserKnownHostsFile {known}\n IdentitiesOnly yes\n IdentityFile {engine.key}\n"
    )
    return engine


def bounds(job: Job) -> set[int]:
    """How much memory, in bytes, each lftp may have while the job runs."""
    found = set()
    while job.process.poll() is None:
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if os.getsid(int(place.name)) == job.process.pid and (place / "comm").read_text() == "lftp\n":
                    found.add(resource.prlimit(int(place.name), resource.RLIMIT_AS)[0])
            except (OSError, ProcessLookupError):
                continue
    return found


@each
def test_a_listing_by_sftp_ends(
    shell_at_desy: DesyEngine, log_ins: Callable[[str], None], script: str
) -> None:
    engine = shell_at_desy
    log_ins(f"{script}\n")
    arguments = list(
        lftp.dry_run_arguments(str(engine.work), engine.beamtime, engine.site, str(engine.secret), streams=2)
    )
    arguments[arguments.index("--stall") + 1] = "4"
    job = engine.start("lftp_dry_run", tuple(arguments))
    assert bounds(job) == {1024 * MIB}
    done = job.outcome()
    assert done.code in {68, 75}
    who = access.errand(engine.beamtime, engine.site)
    error = lftp_complaints.interpret_exit(done.code, done.errors, who)
    assert error is not None
    assert "RDS" not in error.problem.replace("RDS-SSH", ""), error
    places = (engine.work, engine.job, engine.home)
    assert sum(path.stat().st_size for one in places for path in one.rglob("*") if path.is_file()) < DISK
