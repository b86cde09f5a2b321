"""What a transfer by rsync decides without touching the facility: shards, ranges, what rsync's lines mean."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.destination import PARTIAL
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.range_connection import stat_script
from beamferry_agent.ranges import RangedFile, Version, plan, read_version
from beamferry_agent.rsync_summary import Summary, foreign_copies
from beamferry_agent.sharding import Todo, cut, large_from, read_todo
from beamferry_agent.todo_list import TodoList
from beamferry_agent.transfer_plan import read_counts

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024 * 1024
NAMES = st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name and b"/" not in name)
FILES = st.lists(st.builds(Todo, st.integers(0, 300 * MIB), NAMES), max_size=60)


# Shards.


@given(FILES, st.integers(1, 20), st.integers(1, 100 * MIB))
def test_each_file_is_in_one_unit_and_large_ones_are_alone(
    files: list[Todo], streams: int, least: int
) -> None:
    total = sum(file.size for file in files)
    units = list(cut(files, streams=streams, count=len(files), total=total, large=least))
    small = [file for unit in units if not unit.is_large for file in unit.files]
    large = [file for unit in units if unit.is_large for file in unit.files]
    assert small == [file for file in files if file.size < least]
    assert large == [file for file in files if file.size >= least]
    assert all(len(unit.files) == 1 for unit in units if unit.is_large)


def test_shards_shrink_as_the_work_runs_out() -> None:
    files = [Todo(10 * MIB, b"%d" % number) for number in range(2000)]
    units = list(cut(files, streams=4, count=2000, total=2000 * 10 * MIB, large=MIB * MIB))
    sizes = [sum(file.size for file in unit.files) for unit in units]
    assert sizes == sorted(sizes, reverse=True)
    # A sixth of all that there is; and not less than what a connection is worth.
    assert 3300 * MIB < sizes[0] < 3400 * MIB
    assert all(size >= 128 * MIB for size in sizes[:-1])


def test_a_shard_has_at_most_ten_thousand_files() -> None:
    units = list(cut((Todo(1, b"x") for _ in range(25000)), streams=1, count=25000, total=25000, large=MIB))
    assert max(len(unit.files) for unit in units) == 10000


@pytest.mark.parametrize(
    ("least", "streams", "total", "expected"),
    [
        (0, 4, 100 * MIB, 32 * MIB),
        (MIB, 4, 100 * MIB, 100 * MIB // 32),
        (MIB, 4, MIB, MIB),
        (32 * MIB, 4, 100 * MIB, 32 * MIB),
        (32 * MIB, 4, 32 * 1024 * MIB, 1024 * MIB),
        (32 * MIB, 4, 10**15, 16 * 1024 * MIB),
    ],
)
def test_a_file_comes_in_ranges_where_it_is_more_than_an_eighth_of_a_streams_share(
    least: int, streams: int, total: int, expected: int
) -> None:
    assert large_from(least, streams, total) == expected


def test_names_of_the_list_are_as_they_are() -> None:
    lines = [b"12 raw/a b\n", b"0 raw/\\#012\\#134#033\n"]
    assert list(read_todo(lines)) == [(12, b"raw/a b"), (0, b"raw/\n\\#033")]


@pytest.mark.parametrize("line", [b"\n", b"12\n", b"12 \n", b"-1 a\n", b"1.5 a\n", b"a 12\n", b"\0\0\0\0"])
def test_a_list_that_is_damaged_is_not_followed(line: bytes) -> None:
    with pytest.raises(DamagedListsError):
        list(read_todo([line]))


# What rsync says.


def test_only_files_are_to_be_fetched_and_the_rest_is_kept_apart(tmp_path: Path) -> None:
    with TodoList(str(tmp_path)) as todo:
        for line in (
            b"created directory /rds/visit",
            b"@ cd+++++++++ 4096 raw/",
            b"@ >f+++++++++ 12 raw/a",
            b"@ >f.st...... 0 raw/@ >f 7 b",
            b"@ .d..t...... 4096 raw/",
            b"",
            b"Number of files: 3 (reg: 2, dir: 1)",
            b"",
            b"Total file size: 12 bytes",
        ):
            todo.hear(line)
    assert (todo.files, todo.bytes) == (2, 12)
    assert (tmp_path / "todo.new").read_bytes() == b"12 raw/a\n0 raw/@ >f 7 b\n"
    assert (tmp_path / "others").read_bytes() == b"4096 raw/\n"
    assert todo.summary.notes == b"created directory /rds/visit\n"
    assert todo.summary.stats == b"Number of files: 3 (reg: 2, dir: 1)\n\nTotal file size: 12 bytes\n"


def test_what_rsync_says_without_end_has_a_bound(tmp_path: Path) -> None:
    summary = Summary()
    with TodoList(str(tmp_path)) as todo:
        for listener in (todo, summary):
            for _ in range(5000):
                listener.hear(b"skipping non-regular file " + b"x" * 100)
            for _ in range(5000):
                listener.hear(b"Number of files: " + b"9" * 100)
    for listener in (todo.summary, summary):
        assert len(listener.notes) < 200 * 130
        assert len(listener.stats) == 64 * 1024


FOREIGN = b'rsync: [generator] failed to set permissions on "/rds/a": Operation not permitted (1)\n'
SUMMARY = (
    b"rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1831)\n"
)


@pytest.mark.parametrize(
    ("code", "words", "expected"),
    [
        (23, FOREIGN + SUMMARY, 1),
        (23, FOREIGN + FOREIGN + b"\n" + SUMMARY, 2),
        (24, FOREIGN + SUMMARY, 0),
        (23, SUMMARY, 0),
        (23, b"", 0),
        (
            23,
            FOREIGN + b'rsync: [sender] send_files failed to open "/a": Permission denied (13)\n' + SUMMARY,
            0,
        ),
        # A name that looks like a message.
        (23, b'rsync: [sender] opendir "' + FOREIGN.rstrip(b"\n") + b'" failed: Permission denied (13)\n', 0),
        (23, FOREIGN * 100_000, 0),
    ],
)
def test_only_copies_of_others_are_forgiven(code: int, words: bytes, expected: int) -> None:
    assert foreign_copies(code, words) == expected


# Ranges.


@given(st.integers(1, 10**12), st.integers(1, 1000), st.data())
def test_the_ranges_of_a_file_are_all_of_it(size: int, parts: int, data: st.DataObject) -> None:
    length = -(-size // parts)
    file = RangedFile("", b"a", Version(size, b"1.0"), length, set())
    offsets = list(file.missing)
    assert sum(file.size_of(at) for at in offsets) == size
    file.offsets = set(data.draw(st.lists(st.sampled_from(offsets), unique=True)))
    assert file.bytes_there + sum(file.size_of(at) for at in file.missing) == size
    assert file.is_whole == (file.bytes_there == size)


@pytest.mark.parametrize(
    "line",
    [b"plain", b"", b"12", b"12 13", b"12 1.0", b"-1 1.0 1 512", b"1e9 1.0 1 512", b"9" * 19 + b" 1.0 1 512"],
)
def test_what_a_facility_says_of_a_file_is_a_version_or_none(line: bytes) -> None:
    assert read_version(line) is None


def test_a_file_is_sparse_where_it_has_less_than_half_of_its_size_on_the_disk() -> None:
    assert read_version(b"8192 17.123456789 16 512") == Version(8192, b"17.123456789", is_sparse=False)
    assert read_version(b"8192 17.123456789 8 512") == Version(8192, b"17.123456789", is_sparse=False)
    assert read_version(b"8192 17.123456789 7 512") == Version(8192, b"17.123456789", is_sparse=True)
    assert read_version(b"0 17.123456789 0 512") == Version(0, b"17.123456789", is_sparse=False)


class Visit:
    """A destination with a file of which some is there."""

    def __init__(self, folder: Path) -> None:
        self.destination, self.ranges = folder / "visit", folder / "ranges"
        self.partial = self.destination / "raw" / PARTIAL / "a.h5"
        self.partial.parent.mkdir(parents=True)
        self.ranges.mkdir()

    def plan(self) -> RangedFile | None:
        version = Version(100 * MIB, b"1.0")
        return plan(str(self.ranges), str(self.destination), b"raw/a.h5", version, 8 * MIB, 64 * MIB)

    @property
    def state(self) -> Path:
        (found,) = (path for path in self.ranges.iterdir() if not path.suffix)
        return found


@pytest.fixture
def visit(tmp_path: Path) -> Visit:
    return Visit(tmp_path)


def known(file: RangedFile | None) -> tuple[int, list[int]]:
    assert file is not None
    return file.length, sorted(file.offsets)


def test_what_was_begun_is_gone_on_with(visit: Visit) -> None:
    begun = visit.plan()
    assert begun is not None
    assert known(begun) == (8 * MIB, [])
    visit.partial.write_bytes(b"")
    begun.add(16 * MIB)
    assert known(visit.plan()) == (8 * MIB, [16 * MIB])


def test_a_partial_of_a_stopped_rsync_counts_as_far_as_it_goes(visit: Visit) -> None:
    visit.partial.write_bytes(b"")
    with visit.partial.open("r+b") as file:
        file.truncate(20 * MIB)
    assert known(visit.plan()) == (8 * MIB, [0, 8 * MIB])


def test_what_is_there_already_is_rsyncs_own(visit: Visit) -> None:
    (visit.destination / "raw" / "a.h5").symlink_to("nowhere")
    assert visit.plan() is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0" * 200,
        b"nonsense\n",
        b"104857600 1.0 8388608",
        b"104857600 1.0 0\n0\n",
        b"104857600 2.0 8388608\n0\n",
    ],
)
def test_what_is_known_of_another_version_or_is_damaged_is_worth_nothing(visit: Visit, damage: bytes) -> None:
    begun = visit.plan()
    assert begun is not None
    visit.partial.write_bytes(b"x")
    begun.add(0)
    visit.state.write_bytes(damage)
    assert known(visit.plan()) == (8 * MIB, [])
    assert not visit.partial.exists()


@pytest.mark.parametrize("line", [b"16777", b"3\n", b"999999999999\n", b"\0\0\0\n", b"-8388608\n"])
def test_a_line_that_names_no_range_is_left_out(visit: Visit, line: bytes) -> None:
    begun = visit.plan()
    assert begun is not None
    visit.partial.write_bytes(b"x")
    begun.add(8 * MIB)
    with visit.state.open("ab") as file:
        file.write(line)
    assert known(visit.plan()) == (8 * MIB, [8 * MIB])


def test_a_link_in_the_partials_place_is_not_followed(visit: Visit) -> None:
    target = visit.destination.parent / "target"
    target.write_bytes(b"x" * 100)
    visit.partial.symlink_to(target)
    assert known(visit.plan()) == (8 * MIB, [])
    assert not visit.partial.is_symlink()
    assert target.read_bytes() == b"x" * 100


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
def test_any_name_is_asked_for(names: list[bytes]) -> None:
    script = stat_script("/does/not/matter", names)
    # What the facility's shell makes of each name, in place of opening it.
    asked = script.replace(b'stat -c "%s %.9Y %b %B" - <', b"printf '%s\\0' ").replace(b" || echo plain", b"")
    words = asked.split(b"exit 0; }\n", 1)[1]
    done = subprocess.run(["sh"], input=words, capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == [b"./" + name for name in names]


def test_the_folder_is_one_word_there() -> None:
    script = stat_script("/dls/i12/data/2021/a'b $(touch x)", [b"a"])
    assert (
        f"cd {shlex.quote(chr(47) + 'dls/i12/data/2021/a' + chr(39) + 'b $(touch x)')} ||".encode() in script
    )


# What earlier starts brought.


def test_files_of_earlier_starts_count_also_those_of_versions_before(tmp_path: Path) -> None:
    live = tmp_path / "live"
    assert read_counts(str(live)) == (0, 0)
    live.mkdir()
    (live / "log.0").write_text("files 100 2\nrange 50\nretry\nproof 1\n")
    (live / "log.before").write_text(">f+++++++++ 7 7\nfiles 1000 3\n")
    (live / "shard.1").write_text(">f+++++++++ 5 5\ncd+++++++++ 0 0\n>f\0\n")
    assert read_counts(str(live)) == (1112, 7)
