"""A person's session as the agent sees it: whether it is there, since when, and how long such sessions lived."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from beamferry import login
from beamferry_agent.errors import AgentError
from beamferry_agent.persons_session import Notes, age_of, answer, socket_name
from beamferry_agent.probe_request import SessionRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOCKET = "~/.beamferry/s/3f2a9c01d4e7.%L"
NAME = f"3f2a9c01d4e7.{os.uname().nodename.split('.')[0]}"
REFUSAL = "Control socket connect(/x): No such file or directory"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The sockets' folder, which nobody made yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = os.umask(0o022)
    try:
        yield tmp_path / "home" / ".beamferry" / "s"
    finally:
        os.umask(before)


@pytest.fixture
def master() -> Iterator[int]:
    """A process in the place of the ssh that a person started."""
    process = subprocess.Popen(("sleep", "600"))
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def look(tmp_path: Path, script: str, *, lost: bool = False) -> login.Session:
    shim = tmp_path / "ssh"
    shim.write_text(f'#!/bin/sh\ncase "$*" in *-V) exit 0 ;; esac\n{script}\n')
    shim.chmod(0o755)
    request = SessionRequest((str(shim), "-o", f"ControlPath={SOCKET}"), "cdaniel", "psftp.desy.de", lost)
    return login.parse_session(answer(request.to_json()) + "\n")


def closed(tmp_path: Path, *, lost: bool = False) -> login.Session:
    return look(tmp_path, f"echo '{REFUSAL}' >&2; exit 255", lost=lost)


def test_a_session_that_is_there(folder: Path, tmp_path: Path, master: int) -> None:
    session = look(tmp_path, f"echo 'Master running (pid={master})'")
    assert (session.open, session.node, session.lives, session.reason) == (True, os.uname().nodename, (), "")
    assert session.age == pytest.approx(0, abs=60)
    assert float((folder / f"{NAME}.opened").read_text()) == pytest.approx(time.time(), abs=60)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "script",
    [
        f"echo '{REFUSAL}' >&2; exit 255",
        # One that has ended since then, and words without a number.
        "echo 'Master running (pid=999999999)'",
        "echo 'Master running'",
        "exit 1",
    ],
)
def test_a_session_that_is_not_there(folder: Path, tmp_path: Path, script: str) -> None:
    session = look(tmp_path, script)
    assert (session.open, session.age, session.lives) == (False, 0, ())
    assert list(folder.iterdir()) == []
    if REFUSAL in script:
        assert session.reason == REFUSAL


def test_an_ssh_that_is_stopped_keeps_nobody(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beamferry_agent.persons_session._SECONDS", 0.5)
    assert not look(tmp_path, "kill -STOP $$").open
    assert folder.exists()


@pytest.mark.parametrize("lost", [True, False])
def test_a_life_is_told_where_a_job_lost_it(folder: Path, tmp_path: Path, *, lost: bool) -> None:
    folder.mkdir(parents=True)
    (folder / f"{NAME}.opened").write_text(f"{int(time.time()) - 3600}\n")
    (folder / f"{NAME}.lives").write_text("1\n2\n3\n4\n5\n")
    *before, last = closed(tmp_path, lost=lost).lives
    assert before == ([2, 3, 4, 5] if lost else [1, 2, 3, 4])
    assert last == (pytest.approx(3600, abs=60) if lost else 5)
    # It is told once.
    assert closed(tmp_path, lost=True).lives == (*before, last)
    assert [path.name for path in folder.iterdir()] == [f"{NAME}.lives"]


@pytest.mark.parametrize("damage", [b"", b"\0" * 14, b"yesterday\n", b"-5\n", b"9" * 100, b"\xff\n"])
def test_notes_that_are_damaged_stop_nothing(
    folder: Path, tmp_path: Path, master: int, damage: bytes
) -> None:
    folder.mkdir(parents=True)
    for name in ("opened", "lives"):
        (folder / f"{NAME}.{name}").write_bytes(damage)
    assert closed(tmp_path, lost=True).lives == ()
    assert look(tmp_path, f"echo 'Master running (pid={master})'").open


def test_a_life_in_the_future_is_none(folder: Path) -> None:
    notes = Notes(NAME)
    notes.note_opening(int(time.time()) + 3600)
    notes.remember_life(is_lost=True)
    assert (notes.lives(), list(folder.iterdir())) == ([], [])


def test_the_socket_is_named_by_its_node() -> None:
    words = ("ssh", "-o", "ControlPath=/first", "-o", f"ControlPath={SOCKET}")
    assert socket_name(words, "node3.example.org") == "3f2a9c01d4e7.node3"
    for none in (("ssh",), ("ssh", "-o", "ControlPath=")):
        with pytest.raises(AgentError, match="ControlPath"):
            socket_name(none, "node3")


def test_a_process_has_an_age(master: int) -> None:
    assert age_of(master) == pytest.approx(0, abs=60)
    assert age_of(999_999_999) is None


@pytest.mark.parametrize(
    "asked",
    [
        SessionRequest([], "a", "h", False),
        SessionRequest(["ssh"], "", "h", False),
        SessionRequest(["ssh"], "a", "\0", False),
        SessionRequest(["ssh"], "a", "h", "no"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_request_is_refused(asked: SessionRequest) -> None:
    with pytest.raises(ValueError, match="must be"):
        SessionRequest.from_json(asked.to_json())
