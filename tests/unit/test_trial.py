"""The trial of names on real mounts: the kernel asks a server that writes names as its model says."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from beamferry import remote
from beamferry_agent import trial
from beamferry_agent.names import LONG, Lacks
from beamferry_agent.places import FullError, PlaceError
from beamferry_agent.trial import NamesError, NewNames, refuse_names, try_names
from file_systems import refused
from fuse_server import mounted

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "rds"
    folder.mkdir()
    return folder


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, content in remote.bundle().items():
        (folder / name).write_bytes(content)
    return folder


def census(place: Path, *paths: bytes) -> Path:
    """Write a list of records: a path that ends in ``/`` is a folder's."""
    records = place / "records"
    records.write_bytes(
        b"".join(
            path.rstrip(b"/") + (b"//d//0//0//" if path.endswith(b"/") else b"//f//5//1600000000//") + b"\0"
            for path in paths
        )
    )
    return records


Asked = tuple[str, str, NewNames, str]
# Where another file system is mounted, the agent as it is sent there is asked.
ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from beamferry_agent.errors import AgentError
from beamferry_agent.trial import NewNames, refuse_names
destination, root, new, output = json.load(sys.stdin)
try:
    print(json.dumps(refuse_names(destination, root, NewNames(*new), output)))
except AgentError as error:
    sys.stderr.buffer.write(error.told())
    sys.exit(error.exit_code)
"""


def asked(root: Path, records: Path) -> Asked:
    new = NewNames(records=str(records))
    return str(root / "diamond" / "visit"), str(root), new, str(records.with_name("refused"))


def ask(inside: tuple[str, ...], installed: Path, request: Asked) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*inside, sys.executable, "-I", "-B", "-c", ASK, str(installed / "agent.pyz")],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )


def test_this_machine_holds_all_names_and_nothing_is_left_behind(root: Path, tmp_path: Path) -> None:
    assert try_names(str(root / "not" / "there" / "yet"), str(root)) == Lacks(frozenset(), 255)
    request = asked(root, census(tmp_path, b"a:b", b"Scan", b"scan", b"\xff"))
    assert refuse_names(*request) == []
    assert list(root.iterdir()) == []
    assert not (tmp_path / "refused").exists()


def test_where_a_colon_opens_a_stream_it_is_said_not_to_be_held(
    root: Path, tmp_path: Path, installed: Path
) -> None:
    with mounted("windows", root) as inside:
        # What only looks whether the name is there is deceived.
        look = f': >"{root}/a:b" && test -e "{root}/a:b" && ls "{root}" && rm "{root}/a:b"'
        said = subprocess.run([*inside, "bash", "-c", look], capture_output=True, text=True, check=True)
        assert said.stdout == "a\n"
        paths = [
            b"raw/",
            b"raw/fine.cbf",
            b"raw/a:b",
            b"raw/a:c",
            b"raw/con.txt",
            b"raw/dot.",
            b"Raw2/scan",
            b"raw2/one",
            b"raw/line\nbreak \xff",
            b"raw/Scan",
            b"raw/scan",
        ]
        request = asked(root, census(tmp_path, *paths))
        done = ask(inside, installed, request)
        left = subprocess.run([*inside, "ls", "-A", str(root)], capture_output=True, text=True, check=True)
    assert (done.returncode, done.stdout) == (72, "")
    written = (tmp_path / "refused").read_text().splitlines()
    assert written == [
        "raw/a:b (holds ':')",
        "raw/a:c (holds ':')",
        "raw/con.txt (is reserved by Windows)",
        "raw/dot. (ends in a dot)",
        "raw/line\\#012break \\#377 (holds a control character)",
        "raw2/ (would be taken for Raw2)",
        "raw/scan (would be taken for Scan)",
    ]
    assert done.stderr.splitlines() == [
        "agent: names that cannot be held: 7",
        *(f"cannot be held: {line}" for line in written),
    ]
    assert left.stdout == ""


@pytest.mark.parametrize(
    ("kind", "held", "lost"),
    [
        ("apple", "cafe\u0301", "caf\u00e9"),
        ("short", "x" * 143, "x" * 144),
        ("cut", "x" * 100, "x" * 101),
        ("latin", "caf\u00e9", "\u03a9"),
        ("folding", "Scan", None),
        ("all names", "a:b", None),
    ],
)
def test_what_other_file_systems_lack(
    root: Path, tmp_path: Path, installed: Path, kind: str, held: str, lost: str | None
) -> None:
    with mounted(kind, root) as inside:
        both = [name.encode() for name in (held, lost) if name is not None]
        done = ask(inside, installed, asked(root, census(tmp_path, *both)))
    assert done.returncode == (0 if lost is None else 72), done.stderr
    if lost is not None:
        assert done.stderr.startswith("agent: names that cannot be held: 1\n")
    else:
        assert (json.loads(done.stdout) == []) is (kind == "all names")


def test_a_name_is_compared_with_what_is_there(root: Path, tmp_path: Path, installed: Path) -> None:
    with mounted("folding", root) as inside:
        there = root / "diamond" / "visit" / "raw"
        make = f'mkdir -p "{there}" && : >"{there}/Scan"'
        subprocess.run([*inside, "bash", "-c", make], check=True)
        done = ask(inside, installed, asked(root, census(tmp_path, b"raw/scan", b"raw/Scan2")))
    assert (done.returncode, (tmp_path / "refused").read_text()) == (
        72,
        "raw/scan (would be taken for Scan)\n",
    )


def test_the_message_names_twenty_and_the_file_all(root: Path, tmp_path: Path) -> None:
    records = census(tmp_path, *(b"raw/%03d:" % number for number in range(500)))
    request = asked(root, records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "try_names", lambda *_: Lacks(frozenset(":"), 255))
        with pytest.raises(NamesError) as caught:
            refuse_names(*request)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[0]) == (21, "names that cannot be held: 500")
    assert len((tmp_path / "refused").read_text().splitlines()) == 500


def test_what_rsync_escapes_is_the_name_itself(root: Path, tmp_path: Path) -> None:
    (tmp_path / "todo").write_bytes(b"5 raw/new\\#012line \\#134#072\n12 a \\#303\\#251:\n")
    (tmp_path / "others").write_bytes(b"4096 ./\n4096 raw/\n0 link:\n")
    new = NewNames(todo=str(tmp_path / "todo"), others=str(tmp_path / "others"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "try_names", lambda *_: Lacks(frozenset((":", "control")), 255))
        with pytest.raises(NamesError):
            refuse_names(str(root), str(root), new, str(tmp_path / "refused"))
    assert (tmp_path / "refused").read_text().splitlines() == [
        "raw/new\\#012line \\#134#072 (holds a control character)",
        "a \\#303\\#251: (holds ':')",
        "link: (holds ':')",
    ]


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, FullError), (errno.EDQUOT, FullError), (errno.EIO, PlaceError)]
)
def test_a_folder_that_does_not_work_is_no_lack_of_names(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[Exception]
) -> None:
    make = trial.make_file

    def fails(folder: int, name: bytes) -> None:
        if b":" in name:
            raise refused(number)
        make(folder, name)

    monkeypatch.setattr(trial, "make_file", fails)
    with pytest.raises(kind, match=os.strerror(number)):
        try_names(str(root), str(root))
    assert list(root.iterdir()) == []


def test_a_listing_without_an_ordinary_name_is_not_believed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "make_file", lambda _folder, _name: None)
    with pytest.raises(PlaceError, match="does not list what was made in it"):
        try_names(str(root), str(root))


def test_a_longer_name_is_looked_for_only_where_the_longest_cannot_be_made(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = trial.make_file

    def fails(folder: int, name: bytes) -> None:
        if len(name) > 200:
            raise refused(errno.ENAMETOOLONG)
        make(folder, name)

    monkeypatch.setattr(trial, "make_file", fails)
    assert try_names(str(root), str(root)) == Lacks(frozenset({LONG}), 200)


def test_what_is_asked_to_end_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = trial.make_file

    def asked_to_end(folder: int, name: bytes) -> None:
        make(folder, name)
        if b":" in name:
            assert len(list(root.iterdir())) == 1
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(trial, "make_file", asked_to_end)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        try_names(str(root), str(root))
    assert ended.value.code == 143
    assert list(root.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
