"""What an account on RDS-SSH is used to, in ssh's configuration and its shells' start files, breaks no transfer."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from beamferry import access
from beamferry.beamtime import Level
from beamferry.verification import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from desy_engine import DesyEngine
    from engine import Engine, Scripts

    from beamferry.access import Finding

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
