"""The parts of the step that fetches by lftp which need no server."""

from __future__ import annotations

import io
import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.folders import BlockedError, Folders
from beamferry_agent.lftp_connections import deal
from beamferry_agent.lftp_lists import Wanted, records_of, wanted_of
from beamferry_agent.lftp_manner import Fetch
from beamferry_agent.lftp_words import Fate, Heard
from beamferry_agent.log_in_checks import netrc_has
from beamferry_agent.placing import Lines, Placer, Staging, make_folders, staged_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SAID = (
    b"in\n"
    b"ok 1\n"
    b"get: Access failed: 550 Permission denied (./raw/a)\nno 2\n"
    b"get: Access failed: 426 Connection closed (./raw/b)\nno 3\n"
    b"no 4\n"
    b"get: ./raw/c: Fatal error: max-retries exceeded\nno 5\n"
    b"differs 6\nsame 7\n"
)
TOLD = [
    (Fate("ok", 1), b""),
    (Fate("refused", 2), b"get: Access failed: 550 Permission denied (./raw/a)\n"),
    (Fate("failed", 3), b""),
    (Fate("silent", 4), b""),
    (Fate("failed", 5), b""),
    (Fate("differs", 6), b""),
    (Fate("same", 7), b""),
]


def heard(*chunks: bytes) -> tuple[Heard, list[tuple[Fate, bytes]]]:
    told: list[tuple[Fate, bytes]] = []
    found = Heard(lambda fate, words: told.append((fate, words)))
    for chunk in chunks:
        found.take(chunk)
    found.end()
    return found, told


@given(st.lists(st.integers(0, len(SAID))))
def test_what_lftp_says_is_read_in_whatever_pieces_it_comes(cuts: list[int]) -> None:
    ends = sorted({0, *cuts, len(SAID)})
    found, told = heard(*(SAID[start:end] for start, end in pairwise(ends)))
    assert told == TOLD
    assert found.is_in
    assert found.fatal == [b"get: ./raw/c: Fatal error: max-retries exceeded"]


@pytest.mark.parametrize(
    "line",
    [
        b"open: Login failed: 530 no",
        b"cd: ./x: Fatal error: Certificate verification: unknown CA",
        b"get: ./raw/a: /proc/self/cwd/1-2-3-4: No space left on device",
        b"get: ./raw/a: /proc/self/cwd/1-2-3-4: Disk quota exceeded",
        b"get: ./raw/a: /proc/self/cwd/1-2-3-4: File too large",
        b"Not connected",
        b"ssh: connect to host x port 22: Connection refused",
        b"cdaniel@host: Permission denied (publickey).",
    ],
)
def test_what_ends_a_connection_for_good(line: bytes) -> None:
    assert heard(line + b"\n")[0].fatal == [line]
    # Also when it is the last that is heard.
    assert heard(line)[0].is_lost


@pytest.mark.parametrize(
    "line",
    [
        b"get: Access failed: 550 ./a: Fatal error: Login failed: No space left on device",
        b"get: Access failed: 550 No (./raw/a: Disk quota exceeded",
        b"500 bytes transferred",
    ],
)
def test_what_a_server_says_of_a_file_ends_no_connection(line: bytes) -> None:
    found, _ = heard(line + b"\n")
    assert not found.is_lost


def test_a_line_without_end_fills_no_memory() -> None:
    found, told = heard(*[b"x" * 65536] * 100, b"\nok 1\n")
    assert told == [(Fate("ok", 1), b"")]
    assert len(found._line) == 0


def test_words_without_end_on_one_file_fill_no_memory() -> None:
    _, ((_, words),) = heard(b"get: Access failed: 550 No (./a)\n", *[b"y" * 99 + b"\n"] * 10000, b"no 1\n")
    assert len(words) < 200_000


@given(st.lists(st.integers(0, 10**9), max_size=60), st.integers(1, 9))
def test_each_file_is_dealt_out_once_the_largest_first(sizes: list[int], workers: int) -> None:
    shares = deal(sizes, workers)
    assert len(shares) == workers
    assert sorted(number for share in shares for number in share) == list(range(len(sizes)))
    for share in shares:
        assert [sizes[number] for number in share] == sorted(
            (sizes[number] for number in share), reverse=True
        )
    assert all(shares) or len(sizes) < workers


def test_a_name_is_one_word_of_lftp() -> None:
    command = Fetch(lambda _: b"1-2-3-4").line(7, Wanted(b'a\\b"; !rm -rf x', 1, 2))
    assert (
        command
        == b'get -c "./a\\\\b\\"; !rm -rf x" -o "/proc/self/cwd/1-2-3-4" && echo "ok 7" || echo "no 7"\n'
    )


def test_a_version_before_this_one_is_continued() -> None:
    """As awk made the names: what a kill left there would be fetched once more."""
    assert (
        staged_name(Wanted(b"raw/p07_00001.nxs", 504896, 1607312200))
        == b"2582335510-2395137933-504896-1607312200"
    )
    assert (
        staged_name(Wanted(b"raw/p07_00002.nxs", 504896, 1607313200))
        == b"2649838620-3815863828-504896-1607313200"
    )


PATHS = st.text("ab\\é", min_size=1, max_size=3).map(str.encode)
WAYS = st.lists(PATHS, min_size=1, max_size=3).map(b"/".join)


@given(st.lists(st.tuples(WAYS, st.sampled_from([b"f", b"d"]))), PATHS)
def test_each_record_is_one_folders(entries: list[tuple[bytes, bytes]], folder: bytes) -> None:
    records = [path + b"//" + kind + b"//1//2//" for path, kind in entries]
    for wanted, belongs in (
        (folder, lambda path, _: path.split(b"/")[0] == folder),
        (b".", lambda path, kind: b"/" not in path and kind == b"f"),
    ):
        expected = [
            record for record, (path, kind) in zip(records, entries, strict=True) if belongs(path, kind)
        ]
        assert list(records_of(iter(records), wanted)) == expected


def test_a_list_that_is_cut_is_no_list() -> None:
    whole = b"raw/a//f//5//6//\0"
    assert [file for _, file in wanted_of(io.BytesIO(whole), b"raw")] == [Wanted(b"raw/a", 5, 6)]
    for damaged in (b"raw/a//f//5\0", b"raw/a//f//x//6//\0", b"raw/a//f//5//6//"):
        with pytest.raises(DamagedListsError):
            list(wanted_of(io.BytesIO(damaged), b"raw"))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"machine h login me password p", True),
        (b"machine h\n\tpassword p\n", True),
        (b"machine h login other password p", False),
        (b"machine other login me password p", False),
        (b"machine other password p machine h login me", False),
        (b"default login me password p", False),
        (b"machine", False),
    ],
)
def test_whether_netrc_has_a_password(content: bytes, found: bool) -> None:
    assert netrc_has(content, b"h", b"me") is found


# --- folders and places ---------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    place = tmp_path / "beamtime"
    place.mkdir()
    handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    yield handle
    os.close(handle)


def test_folders_get_the_modes_of_the_umask(root: int, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for umask, mode in ((0o022, 0o755), (0o002, 0o775)):
            with Folders(root) as folders:
                assert not make_folders(folders, [b"%o" % mode, b"%o/deep" % mode], umask).count
            assert (tmp_path / "beamtime" / f"{mode:o}" / "deep").stat().st_mode & 0o777 == mode
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_more_folders_than_stay_open_are_entered(root: int, tmp_path: Path) -> None:
    with Folders(root) as folders:
        paths = [b"%d/%d" % (number % 13, number) for number in range(300)]
        assert not make_folders(folders, paths, 0o022).count
        for path in [*paths, *reversed(paths)]:
            place = Path(f"/proc/self/fd/{folders.enter(path)}").readlink()
            assert place == tmp_path / "beamtime" / os.fsdecode(path)
        assert len(folders._open) <= 64


def test_a_path_longer_than_a_call_takes_is_entered(root: int) -> None:
    path = b"/".join([b"n" * 200] * 40)
    with Folders(root) as folders:
        assert not make_folders(folders, [path], 0o022).count
        folders.forget()
        assert folders.enter(path)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_what_stands_in_the_way_is_told(root: int, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "beamtime" / "raw"
    if kind == "link":
        (tmp_path / "outside").mkdir()
        place.symlink_to(tmp_path / "outside")
    else:
        place.touch()
    with Folders(root) as folders:
        complaints = make_folders(folders, [b"raw", b"raw/deep", b"other"], 0o022)
        with pytest.raises(BlockedError):
            folders.enter(b"raw")
    assert complaints.told == f"./raw: a {kind} stands where a folder has to come\n".encode() * 2
    assert (tmp_path / "beamtime" / "other").is_dir()


def test_no_path_leads_up(root: int) -> None:
    with Folders(root) as folders, pytest.raises(ValueError, match="not below the destination"):
        folders.enter(b"raw/../..")


class Placing:
    """A staging folder and places, as a transfer has them."""

    def __init__(self, root: int, folder: Path) -> None:
        (folder / "staging").mkdir()
        self.handle = os.open(folder / "staging", os.O_RDONLY | os.O_DIRECTORY)
        self.staging, self.folders = Staging(self.handle), Folders(root)
        self.placed, self.folder = folder / "placed", folder
        self.placer = Placer(self.staging, self.folders, 1, str(self.placed))

    def arrive(self, file: Wanted, content: bytes, modified: int) -> None:
        place = self.folder / "staging" / staged_name(file).decode()
        place.write_bytes(content)
        os.utime(place, (modified, modified))


@pytest.fixture
def placing(root: int, tmp_path: Path) -> Iterator[Placing]:
    made = Placing(root, tmp_path)
    yield made
    made.folders.forget()
    os.close(made.handle)


def test_a_file_is_placed_as_it_was_listed(placing: Placing, tmp_path: Path) -> None:
    files = [Wanted(b"a", 4, 1000), Wanted(b"b", 4, 1000), Wanted(b"c", 4, 1000), Wanted(b"gone", 4, 1000)]
    placing.staging.sweep([])
    placing.arrive(files[0], b"data", 1001)
    # The server told another time; or none, and then it is that at which it came.
    placing.arrive(files[1], b"data", 2000)
    placing.arrive(files[2], b"data", placing.staging.since + 5)
    placing.placer.settle(files)
    there = {path.name: int(path.stat().st_mtime) for path in (tmp_path / "beamtime").iterdir()}
    assert there == {"a": 1001, "c": 1000}
    assert (placing.placer.bytes_placed, placing.placer.files_placed) == (8, 2)
    assert placing.placed.read_text() == "8 2\n"
    assert placing.placer.changed.told == b"beamferry: changed: b\n"
    assert placing.staging.names() == []


def test_a_short_file_is_noted_by_the_size_it_should_have(placing: Placing) -> None:
    file = Wanted(b"a", 5_000, 1000)
    placing.arrive(file, b"data", 1000)
    placing.placer.settle([file])
    assert placing.placer.longest_short == 5_000
    assert placing.placer.changed.count == 1


def test_a_folder_in_the_way_is_told_and_what_arrived_stays(placing: Placing, tmp_path: Path) -> None:
    (tmp_path / "beamtime" / "a" / "full").mkdir(parents=True)
    file = Wanted(b"a", 4, 1000)
    placing.arrive(file, b"data", 1000)
    placing.placer.settle([file])
    assert placing.placer.misplaced.told == b"mv: ./a: Is a directory\n"
    assert placing.staging.names() == [staged_name(file)]


def test_a_new_folder_in_the_place_of_an_open_one_is_found(placing: Placing, tmp_path: Path) -> None:
    folder = tmp_path / "beamtime" / "raw"
    folder.mkdir()
    placing.folders.enter(b"raw")
    folder.rmdir()
    folder.mkdir()
    file = Wanted(b"raw/a", 4, 1000)
    placing.arrive(file, b"data", 1000)
    placing.placer.settle([file])
    assert (folder / "a").read_bytes() == b"data"


def test_what_is_not_wanted_any_more_is_swept(placing: Placing) -> None:
    kept, old = Wanted(b"a", 9, 1000), Wanted(b"a", 9, 900)
    placing.arrive(kept, b"data", 500)
    placing.arrive(old, b"data", 500)
    placing.staging.sweep([staged_name(kept)])
    assert placing.staging.names() == [staged_name(kept)]
    # Else the time of what was there would be taken for one that the server has told.
    placing.arrive(kept, b"all of it", placing.staging.since)
    placing.placer.settle([kept])
    assert placing.placer.files_placed == 1


def test_lines_without_end_fill_no_memory() -> None:
    lines = Lines()
    for _ in range(10_000):
        lines.add(b"x" * 100)
    assert lines.count == 10_000
    assert len(lines.told) < 300_000
    assert lines.told.endswith(b" more such lines left out]\n")
