"""The oracle sees what it is there to see, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import oracle
import pytest
from damage import BEGAN, Folder, content
from oracle import Item

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Folder, Folder]:
    """A source, and its copy."""
    source, copy = (Folder(tmp_path / name, tmp_path / "other") for name in ("source", "copy"))
    for folder in (source, copy):
        folder.write(b"a.dat", content(1, 100), BEGAN)
        folder.write(b"raw/not-utf8-\xff\n", content(2, 100), BEGAN)
        folder.write(b"tmp/scratch", content(3, 100), BEGAN)
        os.symlink("raw", folder.at(b"link"))
    return source, copy


def said(trees: tuple[Folder, Folder], level: str = "full", window: int = 0, *sampled: bytes) -> list[str]:
    source, copy = (oracle.look(folder.root) for folder in trees)
    wanted = oracle.in_scope(source, ("tmp/",))
    # At level full, all are said to have been compared.
    named = (*sampled, *(path for path, item in wanted.items() if level == "full" and item.kind == "f"))
    return list(oracle.untrue(wanted, copy, level=level, window=window, sampled=named))


def test_a_whole_copy_is_whole(trees: tuple[Folder, Folder]) -> None:
    trees[1].write(b"extra", b"only here")
    trees[1].remove(b"tmp")
    assert said(trees) == []


@pytest.mark.parametrize("kind", ["truncate", "extend", "touch", "delete", "folder", "link"])
def test_what_a_listing_shows_is_seen_at_every_level(trees: tuple[Folder, Folder], kind: str) -> None:
    assert trees[1].happen(kind, 0, 1) is not None
    for level in ("sizes", "sampled", "full"):
        assert len(said(trees, level)) == 1


@pytest.mark.parametrize("kind", ["flip", "zero"])
def test_another_content_is_seen_where_it_was_promised(trees: tuple[Folder, Folder], kind: str) -> None:
    assert trees[1].happen(kind, 0, 1) == f"{kind} b'a.dat'"
    assert said(trees, "sizes") == said(trees, "sampled") == []
    assert said(trees, "sampled", 0, b"a.dat") == said(trees, "full") == ["b'a.dat' has another content"]


def test_links_are_told_by_where_they_lead(trees: tuple[Folder, Folder]) -> None:
    os.unlink(trees[1].at(b"link"))
    os.symlink("tmp", trees[1].at(b"link"))
    assert len(said(trees, "sizes")) == 1


def test_times_may_differ_by_the_window(trees: tuple[Folder, Folder]) -> None:
    os.utime(trees[1].at(b"a.dat"), (BEGAN + 1, BEGAN + 1))
    assert len(said(trees, "sizes")) == 1
    assert said(trees, "sizes", 1) == []


def test_only_files_of_the_source_can_have_been_compared(trees: tuple[Folder, Folder]) -> None:
    assert len(said(trees, "sampled", 0, b"nothing")) == len(said(trees, "sampled", 0, b"raw")) == 1


def test_as_many_files_are_compared_as_were_promised(trees: tuple[Folder, Folder]) -> None:
    source, copy = (oracle.look(folder.root) for folder in trees)

    def lies(level: str, samples: int, *sampled: bytes) -> int:
        return len(list(oracle.untrue(source, copy, level=level, window=0, sampled=sampled, samples=samples)))

    assert lies("sizes", 3) == lies("sampled", 1, b"a.dat") == 0
    assert lies("sampled", 1) == lies("sampled", 2, b"a.dat") == lies("full", 1, b"a.dat") == 1
    every = (b"a.dat", b"raw/not-utf8-\xff\n", b"tmp/scratch")
    assert lies("sampled", 9, *every) == lies("full", 1, *every) == 0


def test_what_is_in_scope() -> None:
    file, folder = Item("f"), Item("d")
    tree = {
        b"a": file,
        b"raw": folder,
        b"raw/b": file,
        b"raw/a": file,
        b"tmp": file,
        b"new": folder,
        b"new/c": file,
    }
    assert set(oracle.in_scope(tree, ("raw/", "tmp/", "new/c"))) == {b"a", b"tmp", b"new"}
    assert set(oracle.in_scope(tree, ("raw/b", "a"))) == set(tree) - {b"raw/b", b"a"}
    assert set(oracle.in_scope(tree, (), ("raw",))) == {b"a", b"tmp", b"raw", b"raw/a", b"raw/b"}


def test_what_differed_does_so_until_it_agrees_or_is_gone() -> None:
    one, other = Item("f", 1, 1, b"1"), Item("f", 1, 1, b"2")
    assert oracle.still_differs(one, other)
    assert oracle.still_differs(None, other)
    assert oracle.still_differs(Item("d"), other)
    assert not oracle.still_differs(one, Item("f", 1, 9, b"1"))
    assert not oracle.still_differs(one, None)


def test_what_a_run_takes_away_is_seen() -> None:
    file, other = Item("f", 1, 1, b"1"), Item("f", 1, 1, b"2")
    assert len(list(oracle.lost({b"a": file}, {}, {b"a": file}))) == 1
    assert len(list(oracle.lost({b"a": file}, {b"a": other}, {}))) == 1
    assert list(oracle.lost({b"a": file}, {b"a": other, b"b": file}, {b"a": other})) == []
