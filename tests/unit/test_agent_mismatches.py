"""What is remembered of differing files, and which copies are marked to be fetched again."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.marks import fetchable, mark
from beamferry_agent.mismatch_store import Pair, Store, pair_of
from beamferry_agent.mismatches import recall, suspect
from beamferry_agent.places import PlaceError

NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"\0" not in name and not name.startswith(b"/")
)
PART = st.sampled_from([b"a", b"b", b"ab"])
PATHS = st.lists(PART, min_size=1, max_size=3).map(b"/".join)


def escaped(name: bytes) -> bytes:
    """As rsync writes a name where LC_ALL is C."""
    shown = b""
    for number, code in enumerate(name):
        is_escape = name[number : number + 2] == b"\\#" and name[number + 2 : number + 5].isdigit()
        shown += b"\\#%03o" % code if not 32 <= code < 127 or is_escape else bytes((code,))
    return shown


@given(st.lists(NAMES, max_size=5))
def test_every_name_is_read_as_rsync_writes_it(names: list[bytes]) -> None:
    lines = b"".join(b"@ >f......... 12 " + escaped(name) + b"\n" for name in names)
    assert list(fetchable(io.BytesIO(lines))) == names


def test_only_files_with_the_time_of_their_source_are_to_be_marked() -> None:
    lines = (
        b"@ cd+++++++++ 0 raw/\n@ >f..t...... 1 other time\n@ >f+++++++++ 1 not here\n@ cL+++++++++ 1 link\n"
        b"@ >fc........ 1 marked\nNumber of files: 4\n"
    )
    assert list(fetchable(io.BytesIO(lines))) == [b"marked"]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Store()


def remembered(store: Store, pair: Pair) -> list[bytes]:
    with store.open() as folder:
        return sorted(store.find(folder, pair))


def change(store: Store, pair: Pair, add: set[bytes], **remove: Any) -> None:
    with store.open() as folder:
        store.change(folder, pair, add, remove.get("remove", {}))


@given(found=st.sets(PATHS, min_size=1, max_size=4), below=PATHS)
def test_what_was_found_is_known_to_every_entry_that_holds_it(
    tmp_path_factory: pytest.TempPathFactory, found: set[bytes], below: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        store = Store()
        change(store, Pair(b"host:/dls/visit", b"/rds/visit"), found)
        inside = sorted(path[len(below) + 1 :] for path in found if path.startswith(below + b"/"))
        # The same copy by another entry, the same source copied elsewhere, and what holds both.
        assert remembered(store, Pair(b"other:/x", b"/rds/visit/" + below)) == inside
        assert remembered(store, Pair(b"host:/dls/visit/" + below, b"/moved")) == inside
        assert remembered(store, Pair(b"other:/x", b"/rds")) == sorted(b"visit/" + path for path in found)
        assert remembered(store, Pair(b"host:/dls/visit-2", b"/rds/visit-2")) == []
        assert remembered(store, Pair(b"other:/dls/visit", b"/elsewhere")) == []


def adopted(store: Store, pair: Pair) -> list[bytes]:
    with store.open() as folder:
        store.adopt_moved(folder, pair)
        return sorted(store.find(folder, pair))


def test_a_moved_copy_is_known_again_whatever_it_is_called_now(store: Store, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "link").symlink_to(tmp_path)
    for name in ("moved", "stays", "changes"):
        (tmp_path / "old" / name).write_text(name)
    old = Pair(b"host:/a", os.fsencode(tmp_path / "old"))
    new = Pair(b"host:/b", os.fsencode(tmp_path / "new"))
    change(store, old, {b"moved", b"stays", b"changes"})
    (tmp_path / "old" / "moved").rename(tmp_path / "new" / "deep" / "other name")
    # Another length: every listing tells of it.
    (tmp_path / "old" / "changes").rename(tmp_path / "new" / "changes")
    (tmp_path / "new" / "changes").write_text("longer than before")
    assert adopted(store, new) == [b"deep/other name"]
    assert remembered(store, old) == [b"changes", b"stays"]
    (tmp_path / "new" / "deep").rename(tmp_path / "elsewhere")
    assert adopted(store, Pair(b"host:/c", os.fsencode(tmp_path / "elsewhere"))) == [b"other name"]


def test_where_nothing_is_gone_nothing_is_searched(store: Store, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "x").write_text("x")
    change(store, Pair(b"host:/a", os.fsencode(tmp_path / "here")), {b"x"})
    # A destination that is no folder: a search would say so.
    (tmp_path / "other").symlink_to(tmp_path / "other")
    assert adopted(store, Pair(b"host:/b", os.fsencode(tmp_path / "other"))) == []
    (tmp_path / "here" / "x").unlink()
    with pytest.raises(PlaceError, match="other"):
        adopted(store, Pair(b"host:/b", os.fsencode(tmp_path / "other")))


def test_what_is_forgotten_leaves_nothing_behind(store: Store) -> None:
    pair, other = Pair(b"host:/a", b"/rds/a"), Pair(b"host:/a/b", b"/rds/a/b")
    change(store, pair, {b"b/x", b"c"})
    change(store, other, {b"y"}, remove={pair: {b"b/x"}})
    assert remembered(store, pair) == [b"b/y", b"c"]
    change(store, other, set(), remove={pair: {b"c"}, other: {b"y"}})
    assert remembered(store, pair) == []
    assert list(Path(store.folder).glob("[!.]*")) == []


@pytest.mark.parametrize("left", [b"", b"\0" * 14, b"beamferry mismatches 2 1\0host:/a"])
def test_a_file_whose_beginning_is_lost_is_damaged_for_its_own_pair_alone(store: Store, left: bytes) -> None:
    pair, other = Pair(b"host:/a", b"/rds/a"), Pair(b"host:/b", b"/rds/b")
    change(store, pair, {b"x"})
    (file,) = Path(store.folder).glob("[!.]*")
    file.write_bytes(left)
    assert remembered(store, other) == []
    with pytest.raises(DamagedListsError, match="is not whole"):
        remembered(store, pair)


def test_a_link_to_a_destination_makes_no_other_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    assert pair_of("h:/a/", str(tmp_path / "alias")) == pair_of("h:/a", str(tmp_path / "real"))


def test_a_copy_that_cannot_be_marked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")

    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refused)
    with pytest.raises(PlaceError, match=r"/a differs from its source.*\(Operation not permitted\)"):
        mark(os.fsencode(tmp_path), [(b"a", None)])


def test_what_is_no_file_is_not_marked(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    os.utime(outside, (5e8, 5e8))
    copy = tmp_path / "copy"
    (copy / "folder").mkdir(parents=True)
    (copy / "link").symlink_to(outside)
    (copy / "way").symlink_to(tmp_path)
    kept = (copy / "folder").stat().st_mtime
    mark(
        os.fsencode(copy),
        [(name, None) for name in (b"link", b"way/outside", b"folder", b"gone", b"gone/too")],
    )
    assert (outside.stat().st_mtime, (copy / "folder").stat().st_mtime) == (5e8, kept)


@pytest.mark.parametrize("modified", [-1, 0, 1, 3, 86400, 9 * 86400, 10 * 86400, 11 * 86400, 10**9])
def test_a_mark_is_never_near_the_time_of_the_source(tmp_path: Path, modified: int) -> None:
    file = tmp_path / "a"
    file.touch()
    for known in (modified, None):
        os.utime(file, (modified, modified))
        mark(os.fsencode(tmp_path), [(b"a", known)])
        # Listings by day are the coarsest.
        assert abs(file.stat().st_mtime - modified) > 86400


def test_what_is_suspected_is_recalled(store: Store, tmp_path: Path) -> None:
    listed, output = tmp_path / "list", tmp_path / "output"
    listed.write_bytes(b"raw/a\0")
    assert suspect("host:/dls/visit/", str(tmp_path), str(listed)) == 1
    assert recall("host:/dls/visit/", str(tmp_path), str(output)) == 1
    assert output.read_bytes() == b"raw/a\0"
    assert store.folder.startswith(str(tmp_path))
