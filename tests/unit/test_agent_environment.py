"""What of an account's environment reaches the tools that are started there."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from beamferry.remote import bundle
from beamferry_agent import environment
from beamferry_agent.environment import tool_environment

if TYPE_CHECKING:
    from pathlib import Path

HABITS = {
    "POSIXLY_CORRECT": "1",
    "BASH_ENV": "/nowhere",
    "ENV": "/nowhere",
    "SHELLOPTS": "noclobber",
    "BASHOPTS": "nullglob",
    "CDPATH": "/",
    "LC_ALL": "de_DE.UTF-8",
    "LANG": "de_DE.UTF-8",
    "RSYNC_RSH": "false",
    "RSYNC_PARTIAL_DIR": "/",
    "GREP_OPTIONS": "-v",
    "BLOCK_SIZE": "human-readable",
    "PYTHONPATH": "/nowhere",
    "ftp_proxy": "http://proxy.example",
    "SSH_ASKPASS": "/nowhere",
    "DISPLAY": ":0",
    "LD_PRELOAD": "/nowhere.so",
    "BASH_FUNC_rsync%%": "() { false; }",
}


@pytest.mark.parametrize("name", HABITS)
def test_a_habit_reaches_no_tool(name: str) -> None:
    made = tool_environment(given={"HOME": "/home/user", "PATH": "/bin", name: HABITS[name]})
    assert made == {"HOME": "/home/user", "PATH": "/bin", "LC_ALL": "C"}


@pytest.mark.parametrize("path", [".:/bin", "/bin:", ":/bin", "/bin::", "/bin:tools/bin", "/bin:./x"])
def test_no_tool_is_looked_for_where_a_job_happens_to_be(path: str) -> None:
    assert tool_environment(given={"HOME": "/home/user", "PATH": path})["PATH"] == "/bin"


def test_what_tools_need_reaches_them() -> None:
    given = {
        name: f"/{name}"
        for name in ("HOME", "USER", "LOGNAME", "PATH", "SSH_AUTH_SOCK", "KRB5CCNAME", "BEAMFERRY_JOB")
    }
    assert tool_environment({"BEAMFERRY_JOB": "/job"}, given) == {
        **given,
        "BEAMFERRY_JOB": "/job",
        "LC_ALL": "C",
    }


def test_a_folder_for_temporary_files_is_let_through_only_where_it_is_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (tmp_path / "missing", file, "relative", ""):
        assert "TMPDIR" not in tool_environment(given={"TMPDIR": str(folder)})
    assert tool_environment(given={"TMPDIR": str(tmp_path)})["TMPDIR"] == str(tmp_path)


def test_without_path_or_home_there_is_one() -> None:
    made = tool_environment(given={})
    assert os.path.isdir(made["HOME"])  # noqa: PTH112
    done = subprocess.run(["env"], env=made, capture_output=True, text=True, check=True)
    assert set(done.stdout.splitlines()) == {f"{name}={value}" for name, value in made.items()}


def test_short_answers_are_made_in_the_same_environment() -> None:
    script = bundle()["own.sh"].decode()
    (line,) = (line for line in script.splitlines() if line.startswith('names="HOME'))
    assert set(line.removeprefix('names="').rstrip('"').split()) == environment._LET_THROUGH
