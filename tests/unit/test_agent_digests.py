"""Files are hashed by their bytes, whatever their names hold, and nothing but files of the copy is read."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_agent_censuses import make, paths, place_of

from beamferry_agent.copy_reading import CopyReader, Read, count_files, open_copy
from beamferry_agent.digest_script import digest_script
from beamferry_agent.digests import Shard, chosen_in, cut, records_of
from beamferry_agent.manifest_step import manifest_line
from beamferry_agent.places import ForeignError
from beamferry_agent.reading_words import UNREAD, VANISHED, complaint, reading_code
from beamferry_agent.step import StepEnd
from beamferry_agent.together import as_they_end, together


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def record(path: bytes, size: int) -> bytes:
    return b"%b//f//%d" % (path, size)


@given(st.lists(paths, max_size=30, unique=True), st.sets(st.integers(0, 29)), st.sets(st.integers(0, 29)))
@settings(max_examples=60, deadline=None)
def test_the_script_prints_a_line_for_each_file_in_order(
    wanted: list[bytes], large: set[int], gone: set[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = sorted(make(os.fsencode(folder), wanted))
        listed = [record(path, 2 << 20 if at in large else 1) for at, path in enumerate(made)]
        lost = [path for at, path in enumerate(made) if at in gone]
        for path in lost:
            place_of(os.fsencode(folder), path).unlink()
        script = b"".join(digest_script(os.fsencode(folder), listed))
        done = subprocess.run(("sh", "-s"), input=script, capture_output=True, check=False)
        assert done.returncode == (1 if lost else 0)
        lines = [line.split()[0].decode() for line in done.stdout.splitlines()]
        assert lines == ["-" if path in lost else sha256(path) for path in made]


# --- the copy -------------------------------------------------------------------------------------------------


@given(st.lists(paths, max_size=20))
@settings(max_examples=60, deadline=None)
def test_a_copy_is_read_whatever_its_names_hold(wanted: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = open_copy(folder)
        assert root is not None
        reader = CopyReader(root, lambda _: None)
        for path in make(os.fsencode(folder), wanted):
            assert reader.read(path, from_storage=True) == Read(sha256(path))
        reader.close()
        os.close(root)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_paths_of_any_depth_are_read_and_few_folders_stay_open(tmp_path: Path) -> None:
    before = open_files()
    root = open_copy(str(tmp_path))
    assert root is not None
    names = [b"n" * 200] * 100
    here = os.dup(root)
    for name in names:
        os.mkdir(name, dir_fd=here)
        here, above = os.open(name, os.O_PATH, dir_fd=here), here
        os.close(above)
    os.close(os.open(b"deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    for number in range(200):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_text(str(number))
    reader = CopyReader(root, lambda _: None)
    moved: list[int] = []
    # Longer than any path may be that is opened at once.
    assert reader.read(b"/".join([*names, b"deep"]), from_storage=False).hash == sha256(b"")
    for number in [*range(200), *range(200)]:
        found = reader.read(b"%d/file" % number, from_storage=False)
        assert found.hash == sha256(str(number).encode())
        assert open_files() <= before + 1 + 65
    CopyReader(root, moved.append).read(b"7/file", from_storage=False)
    assert sum(moved) == 1
    reader.close()
    os.close(root)
    subprocess.run(("rm", "-rf", tmp_path / ("n" * 200)), check=True)


def test_no_link_is_followed_and_nobody_is_waited_for(tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    for folder in (copy, other):
        folder.mkdir()
    (other / "secret").write_text("not of the copy")
    (copy / "link").symlink_to(other / "secret")
    (copy / "folder").symlink_to(other)
    (copy / "to itself").symlink_to(".")
    (copy / "file").write_text("data")
    os.mkfifo(copy / "pipe")
    root = open_copy(str(copy))
    assert root is not None
    reader = CopyReader(root, lambda _: None)
    found = {
        path: reader.read(path, from_storage=True)
        for path in (b"link", b"folder/secret", b"to itself/file", b"pipe", b"gone", b"file/x")
    }
    assert [one.hash for one in found.values()] == [None] * 6
    others = {path for path, one in found.items() if one.is_other}
    assert others == {b"link", b"folder/secret", b"to itself/file", b"pipe", b"file/x"}
    assert found[b"gone"].reason == "No such file or directory"
    assert not any(one.is_cached for one in found.values())
    os.close(root)


def test_a_folder_that_a_link_replaces_is_not_looked_for_behind_it(tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other"
    for folder in (copy / "raw", other):
        folder.mkdir(parents=True)
        (folder / "file").write_text(folder.name)
    root = open_copy(str(copy))
    assert root is not None
    reader = CopyReader(root, lambda _: None)
    assert reader.read(b"raw/file", from_storage=False).hash == sha256(b"raw")
    (copy / "raw").rename(tmp_path / "away")
    (copy / "raw").symlink_to(other)
    # What is open is the folder that was of the copy.
    assert reader.read(b"raw/file", from_storage=False).hash == sha256(b"raw")
    reader.close()
    assert reader.read(b"raw/file", from_storage=False).hash is None
    os.close(root)


def test_a_destination_is_opened_through_no_link(tmp_path: Path) -> None:
    assert open_copy(str(tmp_path / "never" / "fetched")) is None
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("other")
    with pytest.raises(ForeignError, match="link"):
        open_copy(str(tmp_path / "link"))
    before = open_files()
    with pytest.raises(ForeignError):
        open_copy(str(tmp_path / "link" / "below"))
    assert open_files() == before


def test_files_are_counted_and_what_looks_like_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "one").touch()
    (tmp_path / "below" / "two").touch()
    (tmp_path / "link").symlink_to("one")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe")
    root = open_copy(str(tmp_path))
    assert root is not None
    assert count_files(root) == 2
    os.close(root)


# --- shards ---------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(paths, st.integers(0, 1 << 22)), max_size=60),
    st.integers(1, 9),
)
@settings(deadline=None)
def test_a_list_is_cut_into_parts_that_together_are_the_list(
    files: list[tuple[bytes, int]], streams: int
) -> None:
    listed = [record(path, size) for path, size in files]
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(one + b"\0" for one in listed))
        file.flush()
        chosen = chosen_in(file.name)
        sizes = [size for _, size in files]
        assert chosen == (len(files), sum(sizes), max(sizes, default=0))
        shards = cut(file.name, chosen, streams)
        assert len(shards) <= streams
        assert all(shard.files for shard in shards)
        assert [one for shard in shards for one in records_of(file.name, shard)] == listed
        # None has much more to do than its part.
        work = [
            sum(int(one.rsplit(b"//", 1)[1]) + 65536 for one in records_of(file.name, shard))
            for shard in shards
        ]
        largest = max(sizes, default=0) + 65536
        assert all(one <= sum(work) / streams + largest for one in work)


def test_small_files_are_dealt_out_to_all_streams(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"".join(record(b"%03d" % number, 10) + b"\0" for number in range(100)))
    shards = cut(str(tmp_path / "list"), chosen_in(str(tmp_path / "list")), 4)
    assert [shard.files for shard in shards] == [25] * 4
    assert shards[1] == Shard(25 * len(b"000//f//10\0"), 25)


# --- words ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (b"", UNREAD),
        (b"find: './x': No such file or directory\n", VANISHED),
        (b"sh: 3: cannot open ./x: No such file\r\n", VANISHED),
        (b"sha256sum: ./x: No such file or directory\nsh: ./y: Permission denied\n", UNREAD),
        (b"/bin/sh: ./a: No such file or directory: Permission denied\n", UNREAD),
        (b"motd: nothing here\nfind: './x': No such file or directory\n", VANISHED),
        (b"motd: No such file or directory\n", UNREAD),
    ],
)
def test_files_that_went_away_are_told_from_those_that_cannot_be_read(
    tmp_path: Path, lines: bytes, code: int
) -> None:
    (tmp_path / "words").write_bytes(lines)
    assert reading_code((str(tmp_path / "words"), str(tmp_path / "nothing"))) == code


@given(paths)
def test_our_own_line_about_a_file_is_read_as_a_tools(path: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        for words, code in (("No such file or directory", VANISHED), ("Permission denied", UNREAD)):
            line = complaint(path, words)
            assert line.count(b"\n") == 1
            file.seek(0)
            file.truncate()
            file.write(line)
            file.flush()
            assert reading_code((file.name,)) == code


@given(paths.map(lambda path: path.replace(b"/", b"")))
@settings(max_examples=60, deadline=None)
def test_sha256sum_reads_each_line_of_a_manifest(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (name,) = make(os.fsencode(folder), [name]) or (b"x",)
        make(os.fsencode(folder), [name, b"-", b"ends with\r"])
        lines = b"".join(manifest_line(sha256(one).encode(), one) for one in (name, b"-", b"ends with\r"))
        done = subprocess.run(
            ("sha256sum", "--strict", "-c", "/dev/stdin"),
            input=lines,
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done


# --- at the same time -----------------------------------------------------------------------------------------


def test_results_come_in_order_and_an_error_is_raised() -> None:
    second = threading.Event()

    def first() -> int:
        second.wait()
        return 1

    def after() -> int:
        second.set()
        return 2

    assert together(lambda: None, (first, after)) == [1, 2]

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        together(lambda: None, (after, fail))


def test_what_hangs_is_not_waited_for_once_the_check_raises() -> None:
    over = threading.Event()

    def check() -> None:
        raise StepEnd(75)

    with pytest.raises(StepEnd):
        list(as_they_end(check, (lambda: over.wait(100),)))
    over.set()
