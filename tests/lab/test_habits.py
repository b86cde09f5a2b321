"""What an account on RDS-SSH is used to, in ssh's configuration and its shells' start files, breaks no transfer."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from engine import Engine
from test_errors import of_registry
from test_permissions import CHOICE, Chain

from beamferry import access, lftp_complaints, login, rsync
from beamferry.access import Facts
from beamferry.agent import ask
from beamferry.beamtime import Level
from beamferry.complaints import interpret_exit
from beamferry.errors import BeamferryError, PermanentError
from beamferry.remote import Session
from beamferry.ssh_complaints import refused_configuration
from beamferry.verification import Outcome
from fuse_server import apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from desy_engine import DesyEngine
    from engine import Scripts

    from beamferry.access import Finding
    from beamferry.lab import Lab
    from beamferry.lab.host import Host

# What people write below `Host *`; {port} is one that is taken.
HABITS = {
    "a terminal": "RequestTTY force",
    "no session": "SessionType none",
    "a subsystem": "SessionType subsystem",
    "no input": "StdinNull yes",
    "in the background": "ForkAfterAuthentication yes",
    "another command": "RemoteCommand echo hello",
    "a forwarded port": "LocalForward 127.0.0.1:{port} localhost:22\n ExitOnForwardFailure yes",
    "a socks proxy": "DynamicForward {port}\n ExitOnForwardFailure yes",
    "a command here": "PermitLocalCommand yes\n LocalCommand echo hello",
    "a picture of the key": "VisualHostKey yes\n LogLevel INFO",
    "words": "LogLevel DEBUG",
    "one connection": "ControlMaster auto\n ControlPath {folder}/%C\n ControlPersist 60",
}

each_habit = pytest.mark.parametrize("habit", HABITS.values(), ids=HABITS.keys())


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def use(engine: Scripts, text: str) -> None:
    """Write lines into the account's configuration of ssh that are for every host."""
    config = engine.folder / "ssh_config"
    config.write_text(f"{config.read_text()}\nHost *\n {text}\n")


def findings(engine: Engine) -> tuple[Finding, ...]:
    # A root that is empty is no mounted share.
    (engine.destination.parent / "other").mkdir(exist_ok=True)
    return access.judge(access.parse_facts(engine.probe()), engine.beamtime, engine.site)


@each_habit
def test_a_habit_with_ssh_changes_nothing(engine: Engine, habit: str, taken: int) -> None:
    use(engine, habit.format(port=taken, folder=engine.folder))
    (engine.source / "frame").write_bytes(b"data")
    assert [found.sentence for found in findings(engine) if not found.ok] == []
    planned = engine.dry_run()
    assert (planned.code, planned.errors, planned.progress["files_done"]) == (0, "", 1)


# Those that can be had together.
TOGETHER = (
    "a terminal",
    "no session",
    "no input",
    "in the background",
    "another command",
    "a forwarded port",
    "a command here",
    "a picture of the key",
)


@pytest.fixture
def together(taken: int) -> str:
    return "\n ".join(HABITS[name].format(port=taken) for name in TOGETHER)


def test_all_habits_together_change_nothing_at_diamond(engine: Engine, together: str) -> None:
    use(engine, together)
    (engine.source / "frame").write_bytes(b"data" * 1000)
    (engine.source / "large").write_bytes(b"data" * 2_000_000)
    assert [found.sentence for found in findings(engine) if not found.ok] == []
    planned = engine.dry_run()
    assert (planned.code, planned.errors) == (0, "")
    done = engine.transfer(range_threshold=1024 * 1024)
    assert (done.code, done.errors, done.result["range_files"]) == (0, "", 1)
    compared = engine.verify(Level.FULL)
    assert (compared.code, compared.errors) == (0, "")
    assert engine.verdict(compared, Level.FULL).outcome is Outcome.VERIFIED


@pytest.mark.parametrize("kind", ["sftp", "sftp-password"])
def test_all_habits_together_change_nothing_at_desy(
    at_desy: Callable[..., DesyEngine], kind: str, together: str
) -> None:
    engine = at_desy(kind)
    use(engine, together)
    assert [found.sentence for found in engine.probe() if not found.ok] == []
    planned = engine.dry_run()
    assert (planned.code, planned.errors) == (0, "")
    done = engine.transfer("processed")
    assert (done.code, done.errors) == (0, "")
    compared = engine.verify()
    assert (compared.code, compared.errors) == (0, "")


@pytest.mark.parametrize("option", ["SessionType", "StdinNull", "ForkAfterAuthentication", "RemoteCommand"])
def test_an_older_ssh_is_not_told_what_it_does_not_know(engine: Engine, option: str) -> None:
    shim = engine.shims / "ssh"
    refusal = f"echo 'command-line: line 0: Bad configuration option: {option.lower()}' >&2; exit 255"
    whole = shim.read_text().removeprefix("#!/bin/sh\n")
    shim.write_text(f'#!/bin/sh\ncase "$*" in *{option}=*) {refusal} ;; esac\n{whole}')
    (engine.source / "large").write_bytes(b"data" * 2_000_000)
    assert [found.sentence for found in findings(engine) if not found.ok] == []
    assert engine.fetch(range_threshold=1024 * 1024).errors == ""
    compared = engine.verify(Level.FULL)
    assert (compared.code, compared.errors) == (0, "")


@pytest.mark.parametrize("habit", ["a terminal", "no session", "another command", "a forwarded port"])
def test_a_jump_host_stays(engine: Engine, habit: str, taken: int) -> None:
    config = engine.folder / "ssh_config"
    text = config.read_text()
    host = str(engine.beamtime.host)
    lines = text.replace(f"Host {host}\n", "Host jump\n")
    config.write_text(f"Host {host}\n ProxyJump jump\n{text}\n{lines}")
    use(engine, HABITS[habit].format(port=taken))
    (engine.source / "frame").write_bytes(b"data")
    before = engine.far.log.read_text().count("Accepted publickey")
    assert [found.sentence for found in findings(engine) if not found.ok] == []
    # At the jump host and behind it.
    assert engine.far.log.read_text().count("Accepted publickey") == before + 2
    assert engine.fetch().errors == ""


@pytest.fixture
def attended(far: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """A beamtime for which a person logs in; the socket is not in anybody's real home."""
    monkeypatch.setattr(login, "socket", lambda _: f"{tmp_path}/s.%L")
    return Engine(far, tmp_path / "attended", {"auth": "interactive"})


def test_all_habits_together_change_nothing_over_a_persons_session(attended: Engine, taken: int) -> None:
    names = (name for name in TOGETHER if name != "a forwarded port")
    use(attended, "\n ".join(HABITS[name] for name in names))
    (attended.source / "frame").write_bytes(b"data")
    beamtime = attended.beamtime
    typed = f"PATH={attended.shims}:$PATH; {login.command(beamtime)} </dev/null >/dev/null 2>&1"
    subprocess.run(["bash", "-c", typed], check=True)
    try:
        use(attended, HABITS["a forwarded port"].format(port=taken))
        look = login.check(beamtime, rsync.ssh_words(beamtime))
        assert login.parse_session(attended.asked("session", look.request)).open
        assert [found.sentence for found in findings(attended) if not found.ok] == []
        assert attended.fetch().errors == ""
    finally:
        stop = login.renewal(beamtime).split(";")[0].replace("-O stop", "-O exit")
        subprocess.run(["bash", "-c", f"PATH={attended.shims}:$PATH; {stop}"], check=True)


# What ssh itself says of its configuration, and never gets over.


def wrong_lines(engine: Scripts) -> str:
    use(engine, "UseKeychain yes")
    return "Bad configuration option: usekeychain"


def wrong_mode(engine: Scripts) -> str:
    config = engine.folder / "ssh_config"
    home = pwd.getpwuid(os.getuid()).pw_dir
    (engine.folder / "dot-ssh").mkdir()
    shutil.copy(config, engine.folder / "dot-ssh" / "config")
    (engine.folder / "dot-ssh" / "config").chmod(0o666)
    mount = f'mkdir -p {home}/.ssh && mount --bind "$0" {home}/.ssh && exec "$@"'
    engine.inside = (*apart(), "sh", "-c", mount, str(engine.folder / "dot-ssh"))
    (engine.shims / "ssh").write_text('#!/bin/sh\nexec /usr/bin/ssh "$@"\n')
    return f"Bad owner or permissions on {home}/.ssh/config"


each_complaint = pytest.mark.parametrize("spoil", [wrong_lines, wrong_mode])


def check_complaint(error: BeamferryError | None, words: str, facility: str) -> None:
    assert error is not None
    assert (error.code, type(error)) == ("rds-ssh-config", PermanentError)
    assert words in error.problem
    assert "RDS-SSH" in error.problem
    assert facility not in str(error)


@each_complaint
def test_a_complaint_of_ssh_of_its_configuration_is_the_reason(
    engine: Engine, spoil: Callable[[Scripts], str]
) -> None:
    (engine.source / "large").write_bytes(b"data" * 2_000_000)
    assert engine.dry_run().code == 0
    words = spoil(engine)
    who = access.errand(engine.beamtime, engine.site)
    (found,) = (found for found in findings(engine) if found.error)
    check_complaint(found.error, words, "Diamond")
    for done in (engine.transfer(range_threshold=1024 * 1024), engine.verify(Level.FULL), engine.dry_run()):
        check_complaint(interpret_exit(done.code, done.errors, who), words, "Diamond")


@pytest.mark.parametrize("kind", ["sftp", "sftp-password"])
@each_complaint
def test_a_complaint_of_ssh_of_its_configuration_is_the_reason_at_desy(
    at_desy: Callable[..., DesyEngine], kind: str, spoil: Callable[[Scripts], str]
) -> None:
    engine = at_desy(kind)
    assert engine.dry_run().code == 0
    words = spoil(engine)
    who = access.errand(engine.beamtime, engine.site)
    (found,) = (found for found in engine.probe() if found.error)
    check_complaint(found.error, words, "DESY")
    for done in (engine.transfer("processed"), engine.verify(), engine.dry_run()):
        check_complaint(lftp_complaints.interpret_exit(done.code, done.errors, who), words, "DESY")


def test_a_complaint_of_ssh_is_told_before_a_person_is_asked_to_log_in(attended: Engine) -> None:
    words = wrong_lines(attended)
    look = login.check(attended.beamtime, rsync.ssh_words(attended.beamtime))
    session = login.parse_session(attended.asked("session", look.request))
    check_complaint(refused_configuration(session.reason), words, "Diamond")


# The start files of the account on RDS-SSH.

START_FILES = {
    "a welcome": "echo Welcome",
    "a welcome without a line's end": "printf 'Welcome '",
    "noclobber": "set -o noclobber; export SHELLOPTS",
    "strict": "set -eu; export SHELLOPTS",
    "posix": "export POSIXLY_CORRECT=1",
    "a folder that is not there": "export TMPDIR=/not/there",
    "a start file of all shells": "echo 'echo Hello; cd /' >~/.hello; export BASH_ENV=~/.hello",
    "another shell in all shells": "echo 'exec sleep 0' >~/.hello; export BASH_ENV=~/.hello",
    "options of tools": "export GREP_OPTIONS=-v RSYNC_RSH=false CDPATH=/ TAR_OPTIONS=-z LS_BLOCK_SIZE=1M",
}
ENDED = {
    "another shell": "exec sh",
    "another program": "exec cat >/dev/null",
    "an end": "exit 0",
    "no end": "exec yes",
}


@pytest.fixture
def start_file(lab: Lab) -> Iterator[Callable[[str], None]]:
    """Has the account's shells on RDS-SSH begin with a script."""
    try:
        yield lambda script: lab.rds.begin_log_ins(f"{script}\n")
    finally:
        lab.rds.greet(None)


@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("script", START_FILES.values(), ids=START_FILES.keys())
def test_a_start_file_on_rds_ssh_changes_nothing(
    lab: Lab, start_file: Callable[[str], None], script: str
) -> None:
    beamtime, site = of_registry(lab)
    start_file(script)
    with lab.rds_client() as client:
        session = Session(client)
        session.install()
        chain = Chain(lab, session, beamtime, site)
        facts, _ = chain.dry_run()
        assert [found.sentence for found in access.judge(facts, beamtime, site) if not found.ok] == []
        told = session.greeted()
    assert ("'Welcome'" in told) == ("Welcome" in script)
    assert ("~/.bashrc" in told) == bool(told)


@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("script", ENDED.values(), ids=ENDED.keys())
def test_a_start_file_that_ends_the_shell_is_named(
    lab: Lab, start_file: Callable[[str], None], script: str
) -> None:
    beamtime, site = of_registry(lab)
    with lab.rds_client() as client:
        session = Session(client)
        session.install()
        start_file(script)
        chain = Chain(lab, session, beamtime, site)
        probe = chain.tool.probe()
        for use in (
            lambda: ask(session, "probe", probe, timeout=60),
            lambda: chain.job("dry_run", lambda tool: tool.dry_run(Facts({}), CHOICE, None)),
        ):
            with pytest.raises(PermanentError, match="log-in shell on RDS-SSH does not run") as caught:
                use()
            assert caught.value.code == "rds-login-shell"
            assert "~/.bashrc" in caught.value.remedy
