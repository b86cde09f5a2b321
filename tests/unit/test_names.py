"""Names that a destination cannot hold: models of file systems as the oracle, and the real one of this machine."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamferry_agent.names import LONG, PLAIN, TRIALS, Lacks, fold, lacking, long_name, unheld
from file_systems import MODELS, Model, model

if TYPE_CHECKING:
    from collections.abc import Iterable


def tried(kind: str) -> Lacks:
    """What the trial tells of a model."""
    trial = model(kind)
    wanted = [*PLAIN, *(name for names in TRIALS.values() for name in names)]
    if kind == "short":
        wanted += [long_name(length) for length in range(254, 10, -1)]
    for name in wanted:
        with suppress(OSError):
            trial.make(b"", name)
    return lacking(trial.listing(b""))


LACKS = {kind: tried(kind) for kind in MODELS}
PIECES = st.one_of(
    st.sampled_from(
        [
            *(b"scan", b"Scan", b"SCAN", b"scan*", b"a:b", b"a", b"a.", b"a ", b" a", b"...", b"x\\y"),
            *(b"con", b"CON.txt", b"console", b"new\nline", b"\x01", b"\xff\xfe", b"what?", b'"q"', b"<1|2>"),
            *(b"x" * length for length in (255, 144, 143, 100)),
            *(
                text.encode()
                for text in (
                    *("caf\u00e9", "cafe\u0301", "CAF\u00c9", "\u03a9", "\U0001f600"),
                    *("\u212b", "\u00c5", "A\u030a", "stra\u00dfe", "STRASSE", "\u0130"),
                )
            ),
        ]
    ),
    st.binary(min_size=1, max_size=4).map(lambda name: name.replace(b"/", b"_").replace(b"\0", b"_")),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=4).map(
        str.encode
    ),
).filter(lambda name: name not in {b".", b".."})
PATHS = st.lists(st.lists(PIECES, min_size=1, max_size=3), max_size=12)


def a_tree(parts: list[list[bytes]]) -> list[bytes]:
    """Return paths of files and folders of a tree that a POSIX file system could hold, in the order given."""
    found: dict[bytes, None] = {}
    folders = {b"/".join(path[:end]) for path in parts for end in range(1, len(path))}
    for path in parts:
        whole = b"/".join(path)
        found[whole + b"/" if whole in folders else whole] = None
    return list(found)


def entries(paths: Iterable[bytes]) -> set[bytes]:
    """Return the paths of all entries, those above them too, without the mark of folders."""
    return {
        b"/".join(parts[:end])
        for parts in (path.rstrip(b"/").split(b"/") for path in paths)
        for end in range(1, len(parts) + 1)
    }


def lost(kind: str, paths: Iterable[bytes], there: Model) -> set[bytes]:
    """Return which entries are not listed once all were made, each in the folder that its source has."""
    wanted = entries(paths)
    for path in sorted(wanted):
        folder, _, name = path.rpartition(b"/")
        with suppress(OSError):
            there.make(folder, name)
    return {
        path for path in wanted if path.rpartition(b"/")[2] not in there.listing(path.rpartition(b"/")[0])
    }


def below(paths: Iterable[bytes], upper: set[bytes]) -> set[bytes]:
    """Return the paths that are not below one of others."""
    return {
        path for path in paths if not any(path != other and path.startswith(other + b"/") for other in upper)
    }


@pytest.mark.parametrize("kind", MODELS)
@given(parts=PATHS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_is_left_can_be_held_and_what_is_refused_cannot(kind: str, parts: list[list[bytes]]) -> None:
    paths = a_tree(parts)
    found = list(unheld(lambda: paths, LACKS[kind], lambda _folder: ()))
    refused = {entry.path.rstrip(b"/") for entry in found}
    assert len(refused) == len(found)
    left = {
        path
        for path in entries(paths)
        if not any(path == bad or path.startswith(bad + b"/") for bad in refused)
    }
    # Nothing of what is left gets lost.
    assert lost(kind, left, model(kind)) == set()
    # Each refused entry gets lost by itself, or beside what is left.
    for path in refused:
        gone = lost(
            kind, {*(other for other in left if not other.startswith(path + b"/")), path}, model(kind)
        )
        assert gone, path


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        *(
            (kind, "Scan", "scan")
            for kind in ("windows", "apple", "folding", "ascii folding", "one form, folding")
        ),
        *((kind, "STRASSE", "stra\u00dfe") for kind in ("windows", "folding", "one form, folding")),
        *((kind, "caf\u00e9", "cafe\u0301") for kind in ("one form", "one form, folding")),
        ("one form, folding", "CAF\u00c9", "cafe\u0301"),
    ],
)
def test_a_name_that_is_taken_for_one_that_is_there_is_refused(kind: str, first: str, second: str) -> None:
    pair = [first.encode(), second.encode()]
    there = {b"": [pair[0]], b"raw/": [b"other"]}
    asked = [pair[0], pair[1], b"raw/" + pair[1]]
    (found,) = unheld(lambda: asked, LACKS[kind], lambda folder: there.get(folder, []))
    assert (found.path, found.other) == (pair[1], pair[0])


def test_a_file_system_that_holds_all_is_asked_for_nothing() -> None:
    def never() -> Iterable[bytes]:
        raise AssertionError("the list was read")

    assert LACKS["all names"] == Lacks(frozenset(), 255)
    assert list(unheld(never, LACKS["all names"], lambda _folder: ())) == []


def test_what_a_model_lacks_is_found() -> None:
    lacks = {kind: set(found.traits) for kind, found in LACKS.items()}
    assert lacks["windows"] == {
        *'\\:*?"<>|',
        "dot",
        "blank",
        "control",
        "bytes",
        "reserved",
        "case",
        "case_of_all",
    }
    assert lacks["apple"] == {"bytes", "composed", "forms", "case", "case_of_all"}
    assert lacks["folding"] == {"case", "case_of_all"}
    assert lacks["ascii folding"] == {"case"}
    assert lacks["one form"] == {"forms"}
    assert (lacks["cut"], LACKS["cut"].longest) == ({LONG}, 100)
    assert (lacks["short"], LACKS["short"].longest) == ({LONG}, 143)
    assert lacks["narrow"] == {"bytes", "rare"}
    assert {"letters", "decomposed", "bytes"} <= lacks["latin"]


def test_a_folder_is_told_once_and_what_is_below_it_not_at_all() -> None:
    paths = [b"raw/a:b/", b"raw/a:b/one", b"c:d/e/one", b"c:d/e/two", b"raw/a:b/x:y", b"raw/fine:"]
    found = list(unheld(lambda: paths, LACKS["windows"], lambda _folder: ()))
    assert [(entry.path, entry.why) for entry in found] == [
        (b"raw/a:b/", "holds ':'"),
        (b"c:d/", "holds ':'"),
        (b"raw/fine:", "holds ':'"),
    ]


def test_many_names_in_any_order_are_told_apart() -> None:
    names = [b"%d/frame_%05d" % (number % 7, number) for number in range(50_000)]
    paths = [*names, b"3/FRAME_00003", b"5/frame_00003"]
    (found,) = unheld(lambda: paths, LACKS["folding"], lambda _folder: ())
    assert (found.path, found.other) == (b"3/FRAME_00003", b"frame_00003")


@given(st.binary(max_size=8), st.sampled_from(sorted(MODELS)))
def test_folding_twice_is_folding_once(name: bytes, kind: str) -> None:
    once = fold(name, LACKS[kind])
    assert fold(once, LACKS[kind]) == once
    assert os.fsencode(os.fsdecode(name)) == name
