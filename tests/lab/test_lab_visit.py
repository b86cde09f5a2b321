"""The made-up visit: real formats, the same every time, and as odd as promised."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import fabio
import h5py
import pytest
import tifffile

from beamferry.errors import PermanentError
from beamferry.lab.visit import ODD_NAMES, make_visit, must_arrive, remove_visit, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("visit") / "mg25682-2"
    make_visit(folder, size_in_bytes("small"))
    yield folder
    remove_visit(folder)


def fingerprint(folder: Path) -> dict[bytes, tuple[int, int, str]]:
    """Return mode, time and content of everything in a visit."""
    found = {}
    for path in must_arrive(folder):
        place = folder / os.fsdecode(path)
        if place.is_symlink():
            content = os.fsencode(place.readlink())
        else:
            content = place.read_bytes() if place.is_file() else b""
        status = place.lstat()
        found[path] = (status.st_mode, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
    return found


def test_the_same_seed_gives_the_same_visit(visit: Path, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    make_visit(again, size_in_bytes("small"))
    make_visit(other, size_in_bytes("small"), seed=1)

    assert fingerprint(again) == fingerprint(visit)
    assert fingerprint(other).keys() == fingerprint(visit).keys()
    assert fingerprint(other) != fingerprint(visit)
    remove_visit(again)
    remove_visit(other)
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_what_their_names_say(visit: Path) -> None:
    with h5py.File(visit / "raw" / "i12-51001.nxs") as file:
        nexus = file["entry1/pco1_hw_hdf_nochunking/data"][0]
    tiff = tifffile.imread(visit / "rawdata" / "51004-pco1" / "p_00000.tif")
    cbf = fabio.open(str(visit / "rawdata" / "51005-pilatus" / "51005-pilatus_00000.cbf")).data

    assert nexus.shape == tiff.shape == cbf.shape
    assert all(1000 < frame.mean() < 2000 for frame in (nexus, tiff, cbf))


def test_every_odd_name_is_there_as_a_file_and_as_a_folder(visit: Path) -> None:
    paths = set(must_arrive(visit))
    for name in ODD_NAMES:
        assert b"processing/odd files/" + name in paths
        assert b"processing/odd folders/" + name + b"/frame.txt" in paths
    assert any(b"\n" in name for name in ODD_NAMES)
    assert max(map(len, ODD_NAMES)) == 255


def test_what_must_arrive_is_all_but_tmp(visit: Path) -> None:
    every = {
        place + b"/" + name for place, folders, files in os.walk(bytes(visit)) for name in folders + files
    }
    stays = {
        bytes(visit / "tmp"),
        bytes(visit / "tmp" / "cache"),
        bytes(visit / "tmp/cache/recomputable.bin"),
    }

    assert stays < every
    assert {bytes(visit) + b"/" + path for path in must_arrive(visit)} == every - stays


def test_all_times_lie_within_the_visit(visit: Path) -> None:
    times = [mtime for _, mtime, _ in fingerprint(visit).values()]

    assert min(times) >= 1_619_859_600 * 10**9
    assert max(times) <= (1_619_859_600 + 172_800) * 10**9


@pytest.mark.parametrize("size", [1_000_000, 3_000_000, 60_000_000])
def test_the_size_is_about_what_was_asked_for(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "visit"
    make_visit(folder, size)
    places = (folder / os.fsdecode(path) for path in must_arrive(folder))
    total = sum(place.stat().st_size for place in places if place.is_file() and not place.is_symlink())
    remove_visit(folder)

    assert 0.7 * size < total < 1.4 * size


@pytest.mark.parametrize("size", ["huge", "", "-5", "1e6", "\u0663"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(PermanentError, match="no such size"):
        size_in_bytes(size)
