"""The parts of listing and comparison over lftp which need no server."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.lftp_census import Wish
from beamferry_agent.lftp_content import Compare, Digest
from beamferry_agent.lftp_dry_run import well
from beamferry_agent.lftp_lists import Wanted
from beamferry_agent.missing import Lists, Missing, find_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry_agent.marked_content import Marked

# Says on stdout and stderr what is asked for, in pieces of some length.
SAYS = """
import os, sys
size, *texts = sys.argv[1:]
for text in texts:
    handle, said = int(text[0]), bytes.fromhex(text[1:])
    for at in range(0, len(said), int(size)):
        os.write(handle, said[at : at + int(size)])
"""


def read(manner: Marked, share: list[int], said: list[tuple[int, bytes]], size: int) -> list[bytes]:
    """What is heard where a tool says this."""
    words = [f"{handle}{text.hex()}" for handle, text in said]
    heard = []
    with subprocess.Popen(
        [sys.executable, "-c", SAYS, str(size), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        manner.read(process, share, heard.append)
    return b"".join(heard).split(b"\n")[:-1]


@pytest.fixture
def copy(tmp_path: Path) -> Iterator[int]:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in ("same", "differs", "short", "long", "lost"):
        (folder / name).write_bytes(b"0123456789")
    (folder / "link").symlink_to(tmp_path / "copy" / "same")
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    yield handle
    os.close(handle)


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_each_content_is_compared_with_its_own_copy(copy: int, size: int) -> None:
    names = (b"same", b"differs", b"short", b"long", b"lost", b"link", b"gone")
    manner = Compare([Wanted(name, 10, 0) for name in names], copy)
    mark = manner._mark
    contents = (b"0123456789", b"012345678x", b"0123", b"0123456789+", b"01", b"0123456789", b"0123456789")
    said = [(1, mark + b" in\n")]
    for number, content in enumerate(contents):
        # What is said of a file is in the other pipe, and may be there long before anybody reads this one.
        lost = names[number] == b"lost"
        said += [(1, content)] + [(2, b"cat: Access failed: 426 Closed (./lost)\n")] * lost
        said += [(2, mark + (b" no\n" if lost else b" ok\n")), (1, mark + b" %d\n" % number)]
    assert read(manner, list(range(len(names))), said, size) == [
        b"in",
        b"same 0",
        b"differs 1",
        b"changed 2",
        b"changed 3",
        b"cat: Access failed: 426 Closed (./lost)",
        b"no 4",
        b"unread 5",
        b"unread 6",
    ]
    assert manner.led_away == b"link"
    assert [line.split(b" (")[0] for line in manner.unread] == [
        b"beamferry: unread: link",
        b"beamferry: unread: gone",
    ]


def test_a_content_without_its_mark_is_no_fate(copy: int) -> None:
    """lftp was killed: the file comes once more."""
    manner = Compare([Wanted(b"same", 10, 0)], copy)
    assert read(manner, [0], [(1, manner._mark + b" in\n0123456789")], 65536) == [b"in"]


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=4), st.integers(1, 40))
def test_whatever_a_content_is_its_hash_is_of_it_alone(contents: list[bytes], size: int) -> None:
    files = [Wanted(b"%d" % number, len(content), 0) for number, content in enumerate(contents)]
    sums: dict[bytes, bytes] = {}
    manner = Digest(files, sums)
    said = [(1, manner._mark + b" in\n")]
    for number, content in enumerate(contents):
        # What looks like a mark, or the end of one, is none.
        said += [(1, content), (2, manner._mark + b" ok\n"), (1, manner._mark + b" %d\n" % number)]
    read(manner, list(range(len(files))), said, size)
    assert sums == {
        file.path: hashlib.sha256(content).digest() for file, content in zip(files, contents, strict=True)
    }


# --- what is missing ------------------------------------------------------------------------------------------


def missing(
    source: list[bytes],
    copy: list[bytes],
    closed: tuple[bytes, ...] = (),
    damaged: frozenset[bytes] = frozenset(),
) -> tuple[Missing, list[bytes], list[bytes]]:
    """What is found, the records to fetch, and those to open."""
    lists = Lists(
        *(io.BytesIO(b"".join(record + b"\0" for record in sorted(each))) for each in (source, copy, closed))
    )
    todo, opened = io.BytesIO(), io.BytesIO()
    found = find_missing(lists, damaged, 1, todo, opened)
    return found, todo.getvalue().split(b"\0")[:-1], opened.getvalue().split(b"\0")[:-1]


def test_what_a_copy_lacks_is_to_be_fetched() -> None:
    source = [
        *(b"raw//d//0//0//", b"raw/a//f//5//100//", b"raw/a-b//f//5//100//", b"raw/c//f//5//100//"),
        *(b"raw/d//f//5//100//", b"beside//f//7//100//", b"link//l//0//0//x", b"empty//d//0//0//"),
    ]
    copy = [
        *(b"raw//d//0//0//", b"raw/a//f//5//101//", b"raw/a-b//f//5//102//", b"raw/c//f//6//100//"),
        *(b"raw/d//f//5//100//", b"raw/extra//f//5//100//"),
    ]
    shut = (b".", b"d"), (b"raw", b"d"), (b"raw/a", b"f"), (b"raw/c", b"f"), (b"raw/extra", b"f")
    closed = tuple(b"%b//%b//0//0//" % entry for entry in shut)
    found, todo, opened = missing(source, copy, closed, frozenset([b"raw/d"]))
    assert todo == [
        b"beside//f//7//100//",
        b"raw/a-b//f//5//100//",
        b"raw/c//f//5//100//",
        b"raw/d//f//5//100//",
    ]
    # What is fetched anew is made with its permissions; what the source does not have is not ours to open.
    assert sorted(opened) == [b".//d//0//0//", b"raw//d//0//0//", b"raw/a//f//0//0//"]
    assert (found.files, found.size) == (4, 22)
    assert found.stats.splitlines() == [
        b"folder 1 7 1 7 1 .",
        b"folder 0 0 0 0 1 empty",
        b"folder 4 20 3 15 2 raw",
        b"total 5 27 4 22 4 .",
    ]


def test_a_census_that_is_cut_is_none() -> None:
    with pytest.raises(DamagedListsError):
        missing([b"raw/a//f//5"], [])


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        (b"raw/a//f//1//1//", True),
        (b"raw//d//0//0//", True),
        (b"other/a//f//1//1//", False),
        (b"other//d//0//0//", False),
        (b"beside//f//1//1//", True),
        (b".//d//0//0//", True),
        (b"shared/asapo-token-x.txt//f//1//1//", False),
    ],
)
def test_what_an_entry_left_out_is_nothing_extra(record: bytes, counts: bool) -> None:
    assert Wish((), frozenset([b"raw", b"shared"]), False).has(record) is counts


def test_what_is_open_to_the_group() -> None:
    own = os.geteuid()
    assert well(b"f", "read", "own") == b"! -uid %d -o -links +1 -o -perm -0040 ! -perm -0020 " % own
    assert well(b"d", "write", "7") == b"! -uid %d -o -perm -2070 -gid 7 " % own
