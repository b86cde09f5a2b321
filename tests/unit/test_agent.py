"""The agent as it is sent to RDS-SSH: one archive, one request, one answer, and a sentence for each failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from beamferry import agent, remote
from beamferry.errors import PermanentError, TransientError
from beamferry.remote.archive import agent_archive
from beamferry_agent.answers import LISTS, VERSION, Comparison, ComparisonRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = dict.fromkeys(("files", "bytes", "folders", "links", "others"), 0)


def request(folder: Path, lengths: tuple[int, ...] = (0,) * len(LISTS)) -> ComparisonRequest:
    counted = NOTHING | {"files": lengths[0], "bytes": 5 * lengths[0]}
    return ComparisonRequest(str(folder), lengths, counted, NOTHING, None, 0, True, 200, 20_480)


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    folder = tmp_path / "lists"
    folder.mkdir()
    for name in LISTS:
        (folder / name).touch()
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, content in remote.bundle().items():
        (folder / name).write_bytes(content)
    return folder


def run(
    installed: Path, text: str, verb: str = "compare", env: Mapping[str, str] | None = None
) -> remote.Completed:
    done = subprocess.run(
        ["bash", str(installed / "agent.sh"), verb],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    return remote.Completed(done.returncode, done.stdout, done.stderr)


def test_the_archive_is_the_same_whatever_the_sources_times_are() -> None:
    before = agent_archive()
    sources = Path(sys.modules["beamferry_agent"].__file__ or "").parent
    os.utime(sources / "answers.py")
    agent_archive.cache_clear()
    assert agent_archive() == before
    assert remote.bundle()["agent.pyz"] == before


def test_the_archive_needs_nothing_else(tmp_path: Path, installed: Path, lists: Path) -> None:
    archive = zipfile.ZipFile(installed / "agent.pyz")
    assert all(name == "__main__.py" or name.startswith("beamferry_agent/") for name in archive.namelist())
    # Neither this checkout nor what people set for their own Python is seen.
    (tmp_path / "json.py").write_text("raise SystemExit('not the standard library')\n")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": "/nowhere"}
    done = run(installed, request(lists).to_json(), env=env)
    assert agent.read_comparison(agent.answer(done)) == Comparison({}, {}, {}, 0)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with a `python3` that takes itself for 3.5."""
    folder = tmp_path / "old"
    folder.mkdir()
    lie = (
        "import runpy, sys; sys.version_info = (3, 5, 9); del sys.argv[:3]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    shim = folder / "python3"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{lie}" "$@"\n')
    shim.chmod(0o755)
    return folder


def test_a_python_that_is_too_old_says_so_and_reads_no_request(installed: Path, old: Path) -> None:
    done = run(installed, "{}", env={"PATH": f"{old}:{os.environ['PATH']}"})
    assert done.exit_code == 77
    with pytest.raises(PermanentError, match=r"older than 3\.6 on this host \(3\.5\)") as caught:
        agent.answer(done)
    assert caught.value.code == "agent-no-python"


def test_where_python3_is_too_old_the_systems_own_python_answers(
    tmp_path: Path, installed: Path, old: Path, lists: Path
) -> None:
    other = tmp_path / "platform-python"
    other.symlink_to(sys.executable)
    archive = installed / "agent.pyz"
    with zipfile.ZipFile(archive) as before:
        files = {name: before.read(name) for name in before.namelist()}
    main = files["__main__.py"].decode()
    assert main.count('"/usr/libexec/platform-python"') == 1
    with zipfile.ZipFile(archive, "w") as after:
        for name, content in files.items():
            text = main.replace("/usr/libexec/platform-python", str(other)).encode()
            after.writestr(name, text if name == "__main__.py" else content)
    done = run(installed, request(lists).to_json(), env={"PATH": f"{old}:{os.environ['PATH']}"})
    assert agent.read_comparison(agent.answer(done)) == Comparison({}, {}, {}, 0)


def test_what_differs_comes_back_with_names_that_are_no_text(installed: Path, lists: Path) -> None:
    (lists / "only_source").write_bytes(b"raw/a\n\xff//f//5//1//\0")
    found = agent.read_comparison(agent.answer(run(installed, request(lists, (1, 0, 0, 0, 0, 0)).to_json())))
    assert found == Comparison({"missing": 1}, {"missing": {"files": 1}}, {"missing": ["raw/a\n\udcff"]}, 5)


@pytest.mark.parametrize(
    ("content", "length"),
    [(b"raw/a//f//5//1//", 1), (b"", 1), (b"raw/a//f//five//1//\0", 1), (b"\0" * 3, 3)],
)
def test_a_damaged_list_is_no_answer(installed: Path, lists: Path, content: bytes, length: int) -> None:
    (lists / "only_source").write_bytes(content)
    with pytest.raises(TransientError) as caught:
        agent.answer(run(installed, request(lists, (length, 0, 0, 0, 0, 0)).to_json()))
    assert caught.value.code == "differences-damaged"


def test_a_list_that_is_not_there_is_no_answer(installed: Path, lists: Path) -> None:
    (lists / "mismatches").unlink()
    with pytest.raises(TransientError, match="No such file"):
        agent.answer(run(installed, request(lists).to_json()))


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_a_request_or_an_answer_of_another_version_is_refused(
    installed: Path, lists: Path, version: object
) -> None:
    asked = json.dumps(json.loads(request(lists).to_json()) | {"version": version})
    with pytest.raises(PermanentError, match=f"not of version {VERSION}"):
        agent.answer(run(installed, asked))
    answer = json.dumps(json.loads(Comparison({}, {}, {}, 0).to_json()) | {"version": version})
    with pytest.raises(TransientError, match=f"not of version {VERSION}"):
        agent.read_comparison(answer)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"version": 1}'])
def test_what_is_no_request_or_no_answer_is_refused(installed: Path, text: str) -> None:
    with pytest.raises(PermanentError) as refused:
        agent.answer(run(installed, text))
    assert refused.value.code == "agent-failed"
    with pytest.raises(TransientError):
        agent.read_comparison(text)


@pytest.mark.parametrize(
    "change",
    [
        {"counts": {"missing": -1}},
        {"counts": {"missing": True}},
        {"named": {"missing": ["a"]}},
        {"counts": {"missing": 1}, "entries": {"missing": {"files": 1}}, "named": {"missing": ["a", "b"]}},
        {"counts": {"missing": 2}, "entries": {"missing": {"files": 1}}},
        {"counts": {"missing": 1}, "entries": {"missing": {"colours": 1}}},
        {"entries": {"missing": {"files": 1}}},
        {"incomparable_bytes": "0"},
    ],
)
def test_an_answer_that_contradicts_itself_is_refused(change: dict[str, object]) -> None:
    answer = json.loads(Comparison({}, {}, {}, 0).to_json()) | change
    with pytest.raises(TransientError):
        agent.read_comparison(json.dumps(answer))


def test_a_host_without_a_python_is_told(installed: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "bash").symlink_to("/usr/bin/bash")
    done = run(installed, "{}", env={"PATH": str(tools)})
    assert done.exit_code == 77
    with pytest.raises(PermanentError) as caught:
        agent.answer(done)
    assert caught.value.code == "agent-no-python"
    assert "3.6" in str(caught.value)
