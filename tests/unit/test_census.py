"""Records are read back whatever a name holds, one at a time, and a damaged list is an error."""

from __future__ import annotations

import io
import os
import subprocess
import tracemalloc
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry import census
from beamferry.beamtime import Level, Site
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry_agent import records
from beamferry_agent.errors import DamagedListsError

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site(destination_root="/mnt/rds")
VISIT = DiamondBeamtime(
    id="mg25682-2",
    facility="diamond",
    instrument="i12",
    account="mbcx9cd4",
    ended=date(2021, 5, 3),
    exclude=("tmp/", "raw/dark fields"),
)

# What a kernel allows in a name: any byte but NUL and the slash.
names = st.binary(min_size=1, max_size=255).map(lambda name: name.translate(None, b"\0/")).filter(bool)
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
targets = st.binary(max_size=300).map(lambda target: target.translate(None, b"\0"))
files = st.tuples(paths, st.just(b"f"), st.integers(0, 2**60), st.integers(-(2**40), 2**40), st.just(b""))
links = st.tuples(paths, st.just(b"l"), st.just(0), st.just(0), targets)


class Trickle:
    """A stream that hands out its bytes in pieces of every size, as a network does."""

    def __init__(self, content: bytes, step: int) -> None:
        self.content = content
        self.step = step

    def read(self, _size: int = -1, /) -> bytes:
        piece, self.content = self.content[: self.step], self.content[self.step :]
        return piece


def packed(fields: tuple[bytes, bytes, int, int, bytes]) -> bytes:
    path, kind, size, modified, target = fields
    return b"%s//%s//%d//%d//%s\0" % (path, kind, size, modified, target)


@given(st.lists(files | links, max_size=20), st.integers(1, 100))
def test_whatever_the_names_hold_they_come_back(
    items: list[tuple[bytes, bytes, int, int, bytes]], step: int
) -> None:
    stream = Trickle(b"".join(map(packed, items)), step)
    read = [
        (
            entry.path.encode("utf-8", "surrogateescape"),
            entry.kind.encode(),
            entry.size,
            entry.modified,
            entry.target.encode("utf-8", "surrogateescape"),
        )
        for entry in records.read_records(stream)
    ]
    assert read == items


@pytest.mark.parametrize(
    "damaged",
    [
        b"path//f//12//34",
        b"path//f//12//34//\0pa",
        b"path\0",
        b"//f//12//34//\0",
        b"path//x//12//34//\0",
        b"path//f////34//\0",
        b"path//f//-1//34//\0",
        b"path//f//1e3//34//\0",
        b"path//f//12//3.5//\0",
        b"x" * 100_000,
    ],
)
def test_damaged_list_is_an_error(damaged: bytes) -> None:
    with pytest.raises(DamagedListsError):
        list(records.read_records(io.BytesIO(damaged)))


def test_find_prints_what_is_read_here(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / os.fsdecode(b"odd\n\xff")).write_bytes(b"12345")
    os.utime(tmp_path / "a folder" / os.fsdecode(b"odd\n\xff"), (5.9, 5.9))
    (tmp_path / "link").symlink_to("to//f//7//nowhere")
    command = ["find", ".", "-mindepth", "1", "-type", "f", "-printf", "%P//f//%s//%Ts//\\0"]
    command += ["-o", "-type", "d", "-printf", "%P//d//0//0//\\0", "-o", "-printf", "%P//l//0//0//%l\\0"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    entries = {entry.path: entry for entry in records.read_records(io.BytesIO(printed))}
    odd = "a folder/odd\n\udcff"
    assert entries[odd] == records.Entry(odd, records.FILE, 5, 5, "")
    assert entries["link"].target == "to//f//7//nowhere"
    assert entries["a folder"].kind == records.FOLDER


def test_many_entries_need_no_more_memory_than_a_few() -> None:
    class Long:
        left = 200_000

        def read(self, _size: int = -1, /) -> bytes:
            self.left -= 500
            return packed((b"raw/frame.tif", b"f", 1, 2, b"")) * 500 if self.left >= 0 else b""

    tracemalloc.start()
    count = 0
    for _ in records.read_records(Long()):
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 2_000_000


def test_arguments_name_the_visit_and_its_excludes() -> None:
    arguments = census.verify_arguments(
        "work",
        VISIT,
        SITE,
        ssh=("ssh", "-o", "BatchMode=yes"),
        level=Level.SAMPLED,
        streams=4,
        seed=7,
        stall=9,
    )
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--source"] == "/dls/i12/data/2021/mg25682-2"
    assert options["--destination"] == "/mnt/rds/./diamond/i12/2021/mg25682-2"
    assert (options["--level"], options["--seed"], options["--samples"], options["--stall"]) == (
        "sampled",
        "7",
        "32",
        "9",
    )
    assert arguments[-4:] == ("--exclude", "tmp/", "--exclude", "raw/dark fields")


def test_a_listing_alone_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="level"):
        census.verify_arguments(
            "work", VISIT, SITE, ssh=("ssh",), level=Level.LISTED, streams=1, seed=1, stall=9
        )
