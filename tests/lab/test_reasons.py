"""Each reason in the table, at each end where it can be: real tools, for which one call fails with that errno."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from signal import SIGTERM
from typing import TYPE_CHECKING

import paramiko
import pytest
from engine import Engine, wait_until

from beamferry import access, lftp_complaints
from beamferry.beamtime import Level
from beamferry.census import manifest_arguments
from beamferry.complaints import interpret_exit
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.reasons import CODES, REASONS, End, Kind, Reason
from beamferry.remote import Session
from refusing import refusing_library

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from desy_engine import DesyEngine
    from engine import Outcome

    from beamferry.lab.host import Host

NAME = "refused.cbf"
AT_FACILITY, AT_RDS, AT_HOME = (CODES[end] for end in (End.FACILITY, End.RDS, End.HOME))
# Nobody is told of a full disk by reading.
PASSING = [reason for reason in REASONS if reason.kind is Kind.PASSING]
READ = [reason for reason in REASONS if reason.kind is not Kind.FULL]

each_reason = pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.name)
each_read = pytest.mark.parametrize("reason", READ, ids=lambda reason: reason.name)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return refusing_library(tmp_path_factory.mktemp("refuse"))


@pytest.fixture
def at_facility(far: Host, library: Path) -> Iterator[Callable[[str, int], None]]:
    """Has a call of all that log-ins at the facility's host start fail."""

    def refuse(call: str, number: int) -> None:
        words = shlex.quote(f"{call} {number} {NAME}")
        (far.folder / "profile").write_text(f"export LD_PRELOAD={library} REFUSE={words}\n")

    try:
        yield refuse
    finally:
        far.greet(None)


@pytest.fixture
def at_rds(monkeypatch: pytest.MonkeyPatch, library: Path, tmp_path: Path) -> Callable[..., None]:
    """Has a call of all that runs on RDS-SSH fail: of our own processes, and of the tools that write."""

    def refuse(call: str, number: int, text: str = NAME) -> None:
        words = f"{call} {number} {text}"
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("REFUSE", words)
        # Steps start their tools in an environment of their own.
        shims = tmp_path / "refusing"
        shims.mkdir()
        for tool in ("lftp", "rsync", "sort"):
            (shims / tool).write_text(
                f"#!/bin/bash\nexport LD_PRELOAD={library} REFUSE={shlex.quote(words)}\n"
                f'exec -a {tool} {shutil.which(tool)} "$@"\n'
            )
            (shims / tool).chmod(0o755)
        monkeypatch.setenv("PATH", str(shims), prepend=os.pathsep)

    return refuse


def told(engine: Engine, done: Outcome) -> BeamferryError:
    error = interpret_exit(done.code, done.errors, access.errand(engine.beamtime, engine.site))
    assert error is not None, (done.code, done.errors)
    return error


def check(error: BeamferryError, code: str, reason: Reason, *words: str) -> None:
    kind = TransientError if reason.kind is Kind.PASSING else PermanentError
    assert (error.code, type(error)) == (code, kind), str(error)
    assert [word for word in (reason.words, *words) if word not in str(error)] == []


# At the facility: what is read there.


@each_read
def test_a_file_that_the_facility_does_not_open(
    engine: Engine, at_facility: Callable[[str, int], None], reason: Reason
) -> None:
    (engine.source / NAME).write_text("data")
    assert engine.dry_run().code == 0
    at_facility("open", reason.number)
    error = told(engine, engine.transfer())
    check(error, AT_FACILITY[reason.kind], reason, "Diamond", NAME)
    assert "RDS" not in str(error)


@pytest.mark.parametrize("reason", PASSING[:2], ids=lambda reason: reason.name)
def test_content_that_the_facility_does_not_read(
    engine: Engine, at_facility: Callable[[str, int], None], reason: Reason
) -> None:
    (engine.source / NAME).write_text("data")
    assert engine.dry_run().code == 0
    at_facility("read", reason.number)
    check(told(engine, engine.transfer()), AT_FACILITY[reason.kind], reason, "Diamond", NAME)


@each_read
def test_a_file_that_the_comparison_does_not_open_there(
    engine: Engine, at_facility: Callable[[str, int], None], reason: Reason
) -> None:
    (engine.source / NAME).write_text("data")
    engine.fetch()
    at_facility("open", reason.number)
    check(told(engine, engine.verify(Level.FULL)), AT_FACILITY[reason.kind], reason, "Diamond", NAME)


@pytest.mark.parametrize("reason", PASSING, ids=lambda reason: reason.name)
def test_a_source_that_the_probe_cannot_open_just_now(
    far: Host, tmp_path: Path, at_facility: Callable[[str, int], None], reason: Reason
) -> None:
    engine = Engine(far, tmp_path / NAME)
    at_facility("open", reason.number)
    (error,) = findings(engine)
    check(error, AT_FACILITY[reason.kind], reason, "Diamond", str(engine.source))


def findings(engine: Engine) -> list[BeamferryError]:
    # A root that is empty is no mounted share.
    (engine.destination.parent / "other").mkdir()
    facts = access.parse_facts(engine.probe())
    return [found.error for found in access.judge(facts, engine.beamtime, engine.site) if found.error]


# At RDS.


@each_reason
def test_a_destination_that_the_probe_cannot_write(
    engine: Engine, at_rds: Callable[..., None], reason: Reason
) -> None:
    at_rds("open", reason.number, ".beamferry-probe")
    (error,) = findings(engine)
    kind = TransientError if reason.kind is Kind.PASSING else PermanentError
    assert (error.code, type(error)) == (AT_RDS[reason.kind], kind)
    assert str(engine.site.destination_root) in error.problem


@each_reason
def test_a_file_that_rds_does_not_take(engine: Engine, at_rds: Callable[..., None], reason: Reason) -> None:
    (engine.source / NAME).write_text("data")
    assert engine.dry_run().code == 0
    at_rds("write", reason.number)
    error = told(engine, engine.transfer())
    check(error, AT_RDS[reason.kind], reason, "RDS", str(engine.destination))
    assert "Diamond" not in str(error)


@each_read
def test_a_file_that_the_comparison_does_not_open_at_rds(
    engine: Engine, at_rds: Callable[..., None], reason: Reason
) -> None:
    (engine.source / NAME).write_text("data")
    engine.fetch()
    at_rds("open", reason.number)
    error = told(engine, engine.verify(Level.FULL))
    check(error, AT_RDS[reason.kind], reason, "RDS", NAME)
    assert "Diamond" not in str(error)


@each_read
def test_a_destination_that_the_comparison_cannot_pass(
    engine: Engine, at_rds: Callable[..., None], reason: Reason
) -> None:
    (engine.source / "frame").write_text("data")
    engine.fetch()
    at_rds("open", reason.number, engine.destination.name)
    check(told(engine, engine.verify(Level.SIZES)), AT_RDS[reason.kind], reason, "RDS")


@pytest.mark.parametrize("reason", PASSING[:2], ids=lambda reason: reason.name)
def test_content_that_rds_does_not_give_to_the_comparison(
    engine: Engine, at_rds: Callable[..., None], reason: Reason
) -> None:
    for name in (NAME, "another"):
        (engine.source / name).write_text("data")
    engine.fetch()
    at_rds("read", reason.number)
    done = engine.verify(Level.FULL)
    check(told(engine, done), AT_RDS[reason.kind], reason, "RDS", NAME)
    assert done.result["sampled_files"] == 1


@pytest.mark.parametrize("is_stopped", [False, True], ids=["nobody stops it", "somebody stops it"])
def test_an_rds_that_hangs_keeps_no_comparison(
    engine: Engine, at_rds: Callable[..., None], is_stopped: bool
) -> None:
    for name in (NAME, "another"):
        (engine.source / name).write_text("data")
    engine.fetch()
    # A mount that hangs, whose waits a kill ends.
    at_rds("read", 0)
    engine.seconds = 100 if is_stopped else 4
    job = engine.start("verify", engine.hurried(engine.verify_arguments(Level.FULL)))
    if is_stopped:
        told = engine.job / "progress.json"
        wait_until(lambda: told.exists() and '"compare"' in told.read_text())
        os.killpg(job.process.pid, SIGTERM)
    done = job.outcome()
    assert done.code == done.result["exit_code"] == (143 if is_stopped else 75)


@each_reason
def test_a_manifest_that_rds_does_not_take(
    engine: Engine, at_rds: Callable[..., None], reason: Reason
) -> None:
    (engine.source / "frame").write_text("data")
    engine.fetch()
    output = engine.destination.parent / NAME
    output.write_text("of an earlier run")
    arguments = manifest_arguments(
        str(engine.work), engine.beamtime, engine.site, streams=2, output=str(output)
    )
    at_rds("write", reason.number)
    check(told(engine, engine.run("manifest", arguments)), AT_RDS[reason.kind], reason, "RDS")
    assert output.read_text() == "of an earlier run"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_a_quota_that_rds_tells_of_at_the_end_of_a_file(
    engine: Engine, at_rds: Callable[..., None], number: int
) -> None:
    (engine.source / NAME).write_text("data")
    assert engine.dry_run().code == 0
    at_rds("close", number)
    assert told(engine, engine.transfer()).code == "rds-full"


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_a_quota_of_which_lftp_says_nothing(
    at_desy: Callable[..., DesyEngine], at_rds: Callable[..., None], number: int
) -> None:
    engine = at_desy()
    assert engine.dry_run().code == 0
    at_rds("close", number, ".beamferry-partial")
    # The library is not in the environment in which the transfer starts it.
    lftp = engine.shims / "lftp"
    words = " ".join(f"{name}={shlex.quote(os.environ[name])}" for name in ("LD_PRELOAD", "REFUSE"))
    lftp.write_text(f'#!/bin/sh\n{words} exec {shutil.which("lftp")} "$@"\n')
    lftp.chmod(0o755)
    done = engine.transfer("processed")
    error = lftp_complaints.interpret_exit(
        done.code, done.errors, access.errand(engine.beamtime, engine.site)
    )
    assert done.result["changed"] > 0
    assert error is not None
    assert (error.code, type(error)) == ("rds-full", PermanentError)
    assert str(engine.destination) in str(error)


# In the home folder of RDS-SSH.


@pytest.mark.parametrize("files", [1, 20000])
def test_a_list_that_the_home_folder_does_not_take(engine: Engine, files: int) -> None:
    for number in range(files):
        (engine.source / f"a name that is long enough for a pipe to be full {number}").touch()
    engine.work.mkdir()
    (engine.work / "todo.new").symlink_to("/dev/full")
    error = told(engine, engine.dry_run())
    assert (error.code, type(error)) == ("rds-home-full", PermanentError)
    assert "No space left on device" in error.problem
    assert str(engine.destination) not in str(error)


@each_reason
@pytest.mark.parametrize("place", ["source.raw", "source.census", "common", "near.0.sums", "unresolved"])
def test_a_list_of_the_comparison_that_the_home_folder_does_not_take(
    engine: Engine, at_rds: Callable[..., None], reason: Reason, place: str
) -> None:
    (engine.source / "frame").write_text("data")
    engine.fetch()
    # Something is to be written into each.
    (engine.destination / "frame").write_text("flip")
    os.utime(engine.destination / "frame", (5, 5))
    os.utime(engine.source / "frame", (5, 5))
    at_rds(
        "open",
        reason.number,
        f"/verify/{place}" if place in {"source.census", "unresolved"} else f"/scratch/{place}",
    )
    error = told(engine, engine.verify(Level.FULL))
    check(error, AT_HOME[reason.kind], reason)
    assert "Diamond" not in str(error)


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
@pytest.mark.parametrize("place", ["", "work/"])
def test_a_comparison_ends_where_the_home_folder_takes_nothing_at_all(
    engine: Engine, at_rds: Callable[..., None], number: int, place: str
) -> None:
    (engine.source / "frame").write_text("data")
    engine.fetch()
    at_rds("write", number, f"/{engine.folder.name}/{place}")
    done = engine.verify(Level.FULL)
    assert done.code == 74
    assert told(engine, done).code == ("rds-home-full" if place else "rds-home-refused")


def test_what_failed_without_a_word_is_learnt_by_trying(engine: Engine, at_rds: Callable[..., None]) -> None:
    (engine.source / "frame").write_text("data")
    at_rds("write", errno.EDQUOT, f"{engine.job}/.beamferry-trial")
    (engine.work).mkdir(exist_ok=True)
    (engine.work / "todo.new").mkdir()
    error = told(engine, engine.dry_run())
    assert (error.code, type(error)) == ("rds-home-full", PermanentError)


@pytest.fixture
def session(far: Host) -> Iterator[Session]:
    """A session as on RDS-SSH."""
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        key = str(far.folder.parent / "first")
        client.connect(far.address, far.port, far.account, key_filename=key, allow_agent=False)
        yield Session(client)


@each_reason
def test_a_file_that_the_home_folder_does_not_take(
    far: Host, session: Session, at_facility: Callable[[str, int], None], reason: Reason
) -> None:
    at_facility("write", reason.number)
    with pytest.raises(BeamferryError) as caught:
        session.write(NAME, b"text", mode=0o600)
    check(caught.value, AT_HOME[reason.kind], reason, "RDS-SSH", f"~/{NAME}")
    assert list(far.home.glob(f"{NAME}*")) == []


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.ENOSPC])
def test_a_file_whose_content_is_lost_at_its_end_is_not_put_into_its_place(
    far: Host, session: Session, at_facility: Callable[[str, int], None], number: int
) -> None:
    at_facility("close", number)
    with pytest.raises(BeamferryError) as caught:
        session.write(NAME, b"text", mode=0o600)
    assert (caught.value.code, type(caught.value)) == ("rds-home-full", PermanentError)
    assert list(far.home.glob(f"{NAME}*")) == []
