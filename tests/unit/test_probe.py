"""The parts of a probe: what is made of what tools say, and which tools cannot do what they are needed for."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.access import parse_facts
from beamferry_agent.probe_certificate import end_of, names_of
from beamferry_agent.probe_destination import closed_folder, file_system, group_given, is_mounted
from beamferry_agent.probe_facility import read_answer
from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_lftp import Shown, short_lines
from beamferry_agent.probe_request import ProbeRequest
from beamferry_agent.probe_running import LATE, NOT_STARTED, Runner
from beamferry_agent.probe_tools import look_at_tools, unfit

GNU = ("find", "sort", "shuf", "rsync")
# What every answer has.
ALWAYS = ("node", "ssh", "python", "tools_missing", "root_exists")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return Runner(str(scratch))


# --- facts ------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex("[a-z_]{1,9}", fullmatch=True), st.text() | st.binary(), max_size=5))
def test_every_fact_is_one_line_that_is_read_again(values: dict[str, str | bytes]) -> None:
    facts = Facts()
    for key in ALWAYS:
        facts.say(key, "x")
    for key, value in values.items():
        facts.say(f"own_{key}", value)
        facts.say_lines(
            f"lines_{key}", value if isinstance(value, bytes) else value.encode("utf-8", "replace")
        )
    read = parse_facts(facts.text() + "\n").values
    assert set(read) == {*ALWAYS, "end", *(f"{kind}_{key}" for key in values for kind in ("own", "lines"))}
    assert all(len(read[f"own_{key}"]) <= 1000 for key in values)


def test_a_tools_words_keep_their_lines() -> None:
    facts = Facts()
    facts.say_lines("words", b"\n".join(b"line %d  \x07of\r" % number for number in range(20)))
    assert facts.text().split("\n")[0] == "words=" + "".join(f"line {number} of\t" for number in range(5, 20))


def test_what_is_not_known_is_empty() -> None:
    facts = Facts()
    for value in (None, "", True, False, 0):
        facts.say("key", value)
    assert facts.text().split("\n") == ["key=", "key=", "key=yes", "key=no", "key=0", "end=yes"]


# --- requests ---------------------------------------------------------------------------------------------------


def test_a_request_is_read_as_it_was_written() -> None:
    asked = ProbeRequest("lftp", ["--host", "ü\n"])
    assert ProbeRequest.from_json(asked.to_json()) == asked


@pytest.mark.parametrize(
    "asked",
    [
        ProbeRequest("scp", []),
        ProbeRequest("rsync", ["a\0"]),
        ProbeRequest("rsync", "text"),
        ProbeRequest("rsync", [1]),  # type: ignore[list-item]
    ],
)
def test_what_is_no_request_is_refused(asked: ProbeRequest) -> None:
    with pytest.raises(ValueError, match="must be"):
        ProbeRequest.from_json(asked.to_json())


# --- what a facility says ---------------------------------------------------------------------------------------


def test_what_stands_before_the_mark_is_noise() -> None:
    ours = b"beamferry-begin\nfar_find=yes\nsource_reason=a=b\nbeamferry-end\n"
    answer = b"far_command=beamferry\nHello\n" + ours + b"far_find=no\n"
    assert read_answer(answer) == (
        [b"far_command=beamferry", b"Hello"],
        True,
        {"far_find": b"yes", "source_reason": b"a=b"},
    )


def test_nothing_but_our_facts_is_taken() -> None:
    _, begun, found = read_answer(b"beamferry-begin\nfar_exit=0\nroot_exists=no\nfar_time=1\x00\nend=yes")
    assert (begun, found) == (True, {"far_time": b"1"})


@given(st.binary())
def test_any_answer_is_read(answer: bytes) -> None:
    noise, begun, found = read_answer(answer)
    assert begun or (noise == answer.replace(b"\0", b"").split(b"\n") and not found)


def test_a_listing_is_read() -> None:
    shown = Shown()
    for line in (
        b"drwxr-xr-x  raw  data",
        b"drwxr-xr-x .",
        b"-rw-r--r-- beamtime-metadata-1.json",
        b"lrwxrwxrwx a\x07b",
    ):
        shown.take(line)
    assert (shown.is_listed, shown.folders, shown.files) == (False, [b"raw  data"], 2)
    shown.take(b"beamferry-listed")
    assert (shown.is_listed, shown.known) == (True, [b"beamtime-metadata-1.json"])


def test_names_of_folders_have_a_bound() -> None:
    shown = Shown()
    for number in range(2000):
        shown.take(b"drwxr-xr-x scan of a sample %04d" % number)
    assert len(b"/".join(shown.folders)) < 30_000
    assert len(shown.folders) + shown.folders_cut == 2000
    assert shown.folders_cut > 0


def test_sftps_lines_are_those_of_a_listing() -> None:
    lines = (
        b"sftp> ls -lan",
        b"drwxr-xr-x    2 1000     1000         4096 Jul  3 12:00 a  b",
        b"-rw-r--r--    1 0        0               5 Jul  3  2020 beamferry-listed",
        b"Remote working directory: /a",
    )
    assert list(short_lines(lines)) == [
        b"drwxr-xr-x a  b",
        b"-rw-r--r-- beamferry-listed",
        b"beamferry-listed",
    ]


def test_a_certificates_names_and_end_are_read() -> None:
    text = b"  X509v3 Subject Alternative Name: \n      DNS:a.desy.de, IP Address:127.0.0.3\n"
    assert names_of(text) == b"a.desy.de, 127.0.0.3"
    assert end_of(b"notAfter=Dec  7 12:00:00 2020 GMT\n") == 1607342400
    assert (names_of(b""), end_of(b""), end_of(b"\xff")) == (b"", None, None)


# --- tools ------------------------------------------------------------------------------------------------------


def test_a_tool_that_does_not_end_is_ended_with_what_it_started(runner: Runner) -> None:
    done = runner.run(("sh", "-c", "sleep 600 & echo $!; wait"), "said", "words", seconds=0.5, limit=1000)
    assert done.code == LATE
    child = int(runner.read("said"))
    end = time.monotonic() + 30
    while Path(f"/proc/{child}/stat").exists() and b") Z" not in Path(f"/proc/{child}/stat").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_tool_that_prints_without_end_fills_no_disk(runner: Runner) -> None:
    done = runner.run(("yes",), "said", "words", seconds=60, limit=100_000)
    assert done.is_endless
    assert done.code == 128 + signal.SIGXFSZ
    assert len(runner.read("said")) == 100_000
    # It is the tool's bound, and not ours.
    Path(runner.place("ours")).write_bytes(bytes(200_000))


def test_a_tool_that_cannot_be_started_says_so(runner: Runner) -> None:
    assert runner.run(("/not/there",), "said", seconds=1, limit=100).code == NOT_STARTED
    assert runner.read("said") == b"/not/there: No such file or directory\n"


def test_the_tools_of_this_host_can_do_what_they_are_needed_for(runner: Runner) -> None:
    assert unfit(runner, GNU) == []


# As BusyBox and older systems have them.
LIMITED = {
    "find": "echo 'find: unrecognized: -printf' >&2; exit 1",
    "find, without a NUL": "exec /usr/bin/find \"$@\" | tr '\\0' '\\n'",
    "find, without times": "exec /usr/bin/find \"$@\" | sed 's,1000000000,,'",
    "sort": "echo \"sort: invalid option -- 'z'\" >&2; exit 2",
    "sort, by lines": 'shift; exec /usr/bin/sort "$@"',
    "shuf": "echo 'shuf: unrecognized option: random-source' >&2; exit 1",
    "shuf, by lines": 'shift; exec /usr/bin/shuf "$@"',
    "rsync": "case \"$*\" in *' -s '*) echo 'unknown option' >&2; exit 1 ;; esac; exec /usr/bin/rsync \"$@\"",
    "rsync, without times": 'shift 4; exec /usr/bin/rsync -r "$@"',
}


@pytest.mark.parametrize(("name", "script"), LIMITED.items(), ids=LIMITED.keys())
def test_a_tool_that_cannot_do_what_it_is_needed_for_is_named(
    runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str
) -> None:
    tool = name.split(",", maxsplit=1)[0]
    shim = tmp_path / tool
    shim.write_text(f"#!/bin/sh\n{script}\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = Facts()
    look_at_tools(runner, facts, "rsync" if tool == "rsync" else "lftp")
    (told,) = (line for line in facts.text().split("\n") if line.startswith("tools_unfit="))
    assert told.startswith(f"tools_unfit={shim} (")
    assert told.endswith(")")


# --- the destination --------------------------------------------------------------------------------------------


def test_an_empty_folder_of_the_root_file_system_is_no_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: real(tmp_path if path == "/" else path, **how))
    assert not is_mounted(str(tmp_path))
    (tmp_path / "visit").mkdir()
    assert is_mounted(str(tmp_path))


def test_the_group_is_that_of_the_nearest_setgid_bit_up_to_the_root(tmp_path: Path) -> None:
    root = tmp_path / "rds"
    folder = root / "a" / "b"
    folder.mkdir(parents=True)
    for place in (folder, root, root / "a"):
        place.chmod(0o755)
    tmp_path.chmod(0o2755)
    # What stands above the root is no matter.
    assert group_given(str(root), str(folder)) is None
    root.chmod(0o2755)
    assert group_given(str(root), str(folder)) == root.stat().st_gid
    assert group_given(str(root), str(root)) == root.stat().st_gid


def test_the_first_folder_that_keeps_the_group_out_is_named(tmp_path: Path) -> None:
    root = tmp_path / "rds"
    folder = root / "a" / "b"
    folder.mkdir(parents=True)
    for place in (root, root / "a", folder):
        place.chmod(0o750)
    tmp_path.chmod(0o700)
    assert closed_folder(str(root), str(folder)) == ""
    folder.chmod(0o700)
    (root / "a").chmod(0o710)
    assert closed_folder(str(root), str(folder)) == f"710 {root}/a"


def test_the_kind_of_a_file_system_is_the_kernels(tmp_path: Path) -> None:
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert file_system(str(tmp_path)) in kinds
    assert file_system("/proc") == "proc"


# --- the whole --------------------------------------------------------------------------------------------------


def test_a_probe_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    scratch, root, tools = (tmp_path / name for name in ("scratch", "rds", "tools"))
    for place in (scratch, root / "other", tools):
        place.mkdir(parents=True)
    (tools / "ssh").write_text('#!/bin/sh\ncase "$*" in *-V*) exit 0 ;; esac\nexec sleep 600\n')
    (tools / "ssh").chmod(0o755)
    words = ("--host", "h", "--account", "a", "--source", "/s", "--destination-root", str(root))
    asked = ProbeRequest("rsync", (*words, "--destination", f"{root}/./visit"))
    process = subprocess.Popen(
        (sys.executable, "-m", "beamferry_agent", "probe"),
        stdin=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(scratch), "PATH": f"{tools}:{os.environ['PATH']}"},
    )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(asked.to_json().encode())
    end = time.monotonic() + 30
    while not list(scratch.glob("*/errors")):
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    assert list(scratch.iterdir()) == []
    assert [place.name for place in root.iterdir()] == ["other"]
    assert stat.S_ISDIR(root.stat().st_mode)
