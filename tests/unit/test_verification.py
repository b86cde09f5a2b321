"""Two censuses agree or do not, whatever the names hold; nothing unproved is called verified."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamferry import verification
from beamferry.beamtime import Level
from beamferry.differences import Difference
from beamferry.errors import PermanentError, TransientError
from beamferry.verification import Ends, Listed, Outcome, Verdict, is_complete, judge, remedy, request, safe
from beamferry_agent import comparison, differences
from beamferry_agent.answers import LISTS, Comparison, ComparisonRequest
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.records import FILE, FOLDER, LINK, OTHER, Entry, decode_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BEGAN = datetime(2021, 5, 4, 2, 0, tzinfo=UTC)
SINCE = int(BEGAN.timestamp()) - verification.CLOCK_SKEW_SECONDS
OLD = SINCE - 86_400
Census = dict[str, Entry]


def file(path: str, size: int = 5, modified: int = OLD) -> Entry:
    return Entry(path, FILE, size, modified, "")


def folder(path: str) -> Entry:
    return Entry(path, FOLDER, 0, 0, "")


def link(path: str, target: str) -> Entry:
    return Entry(path, LINK, 0, 0, target)


def other(path: str) -> Entry:
    return Entry(path, OTHER, 0, 0, "")


def census(*entries: Entry) -> Census:
    return {entry.path: entry for entry in entries}


def key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape") + b"//"


def only(here: Census, there: Census) -> list[Entry]:
    """What ``comm`` gives of two sorted censuses."""
    left = [entry for entry in here.values() if there.get(entry.path) != entry]
    return sorted(left, key=lambda entry: key(entry.path))


def ends(found: Census) -> Ends:
    of_kind = {
        kind: [entry for entry in found.values() if entry.kind == kind]
        for kind in (FILE, FOLDER, LINK, OTHER)
    }
    files = of_kind[FILE]
    return Ends(
        files=len(files),
        bytes=sum(entry.size for entry in files),
        folders=len(of_kind[FOLDER]),
        links=len(of_kind[LINK]),
        others=len(of_kind[OTHER]),
        oldest=min((entry.modified for entry in files), default=0),
    )


def compared(here: Census, there: Census, mismatches: Iterable[str] = (), **settings: Any) -> Verdict:
    """What the agent finds of the lists that a comparison leaves, and what is concluded from it."""
    flagged = [
        sorted(paths, key=key)
        for paths in (mismatches, settings.pop("unstable", ()), settings.pop("unresolved", ()))
    ]
    lists = only(here, there), only(there, here)
    closed = sorted((there[path] for path in settings.pop("closed", ())), key=lambda entry: key(entry.path))
    all_lists = zip(LISTS, (*lists, *flagged, closed), strict=True)
    asked = {
        "listed": Listed(**{name: len(items) for name, items in all_lists}),
        "source": settings.get("source", ends(here)),
        "destination": settings.get("destination", ends(there)),
        "listing_began": int(BEGAN.timestamp()),
        "modify_window": 0,
    }
    asked |= {name: settings.pop(name) for name in tuple(settings) if name in {*asked, "keeps_links"}}
    concluded: dict[str, Any] = {
        "level": Level.SIZES,
        "source": asked["source"],
        "destination": asked["destination"],
        "sampled_files": 0,
        "sampled_bytes": 0,
        "partial_files": 0,
        "checked_at": BEGAN + timedelta(hours=2),
    }
    found = comparison.compare(*lists, flagged, passed_on(request("lists", **asked)), closed=closed)
    return judge(Comparison.from_json(found.to_json()), **concluded | settings)


def passed_on(asked: ComparisonRequest) -> ComparisonRequest:
    """The request as the agent reads it."""
    return ComparisonRequest.from_json(asked.to_json())


BASE = census(folder("raw"), file("raw/a.tif", 7), file("raw/b.tif", 9), link("latest", "raw/b.tif"))


def test_whole_copy_is_verified() -> None:
    verdict = compared(BASE, BASE)
    assert verdict.outcome is Outcome.VERIFIED
    assert (verdict.counts, verdict.named) == ({}, ())
    assert is_complete(verdict)


@pytest.mark.parametrize(
    ("copy", "kind"),
    [
        (None, Difference.MISSING),
        (file("raw/a.tif", 6), Difference.SIZE),
        (folder("raw/a.tif"), Difference.KIND),
        (file("raw/a.tif", 7, OLD + 60), Difference.TIME),
        (file("raw/a.tif", 7, OLD - 60), Difference.TIME),
    ],
)
def test_each_difference_of_a_file_is_told(copy: Entry | None, kind: Difference) -> None:
    there = {path: entry for path, entry in BASE.items() if path != "raw/a.tif"}
    verdict = compared(BASE, there if copy is None else there | census(copy))
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.counts == {kind: 1}
    assert [item.path for item in verdict.named] == ["raw/a.tif"]
    assert kind.words in verdict.sentence
    assert not is_complete(verdict)


def test_what_the_group_cannot_read_is_told_unless_more_is_wrong_with_it() -> None:
    verdict = compared(BASE, BASE, closed=["raw", "raw/a.tif", "raw/b.tif"])
    assert (verdict.outcome, verdict.counts) == (Outcome.DIFFERENT, {Difference.CLOSED: 3})
    assert verdict.sentence.endswith(": 2 files and 1 folder cannot be read by the group.")
    verdict = compared(BASE, BASE, closed=["raw/b.tif"])
    assert verdict.sentence.endswith(": 1 file cannot be read by the group.")
    assert [item.path for item in verdict.named] == ["raw/b.tif"]
    # What is at RDS only is somebody else's to open, and a file that is fetched again gets its permissions anew.
    there = BASE | census(file("notes.txt", 3), file("raw/b.tif", 8))
    verdict = compared(BASE, there, ["raw/a.tif"], closed=["notes.txt", "raw/a.tif", "raw/b.tif"])
    assert verdict.counts == {Difference.CONTENT: 1, Difference.SIZE: 1, Difference.EXTRA: 1}


def test_the_remedy_names_who_can_open_what_is_closed() -> None:
    closed = compared(BASE, BASE | census(file("notes.txt", 3)), closed=["raw/b.tif"])
    assert "opens to the group" in remedy(closed, "/rds/certificate.txt")
    for other in (
        compared(BASE, BASE, ["raw/a.tif"], closed=["raw/b.tif"]),
        compared(BASE, BASE, closed=["raw/b.tif"], partial_files=1),
    ):
        assert (
            remedy(other, "/rds/c.txt")
            == "start a run in mode sync; if it stays, read /rds/c.txt for the names"
        )


def test_a_time_within_the_window_does_not_hide_what_the_group_cannot_read() -> None:
    there = BASE | census(file("raw/a.tif", 7, OLD + 1))
    assert compared(BASE, there, modify_window=2, closed=["raw/a.tif"]).counts == {Difference.CLOSED: 1}


def test_link_elsewhere_is_told() -> None:
    verdict = compared(BASE, BASE | census(link("latest", "raw/a.tif")))
    assert verdict.counts == {Difference.TARGET: 1}
    assert verdict.outcome is Outcome.DIFFERENT


def test_missing_link_counts_unless_the_share_has_none() -> None:
    there = {path: entry for path, entry in BASE.items() if path != "latest"}
    assert compared(BASE, there).counts == {Difference.MISSING: 1}
    verdict = compared(BASE, there, keeps_links=False)
    assert (verdict.outcome, verdict.counts) == (Outcome.VERIFIED, {Difference.UNCOPIED: 1})
    assert "1 link of a kind that RDS does not keep" in verdict.sentence


def test_socket_has_nothing_to_copy_and_is_told() -> None:
    verdict = compared(BASE | census(other("raw/.detector")), BASE)
    assert (verdict.outcome, verdict.counts) == (Outcome.VERIFIED, {Difference.UNCOPIED: 1})
    assert "Besides: 1 special file of a kind that RDS does not keep." in verdict.sentence


def test_what_is_at_rds_only_is_told_and_does_no_harm() -> None:
    verdict = compared(BASE, BASE | census(file("notes.txt")))
    assert (verdict.outcome, verdict.counts) == (Outcome.VERIFIED, {Difference.EXTRA: 1})
    assert "1 file at RDS only" in verdict.sentence


def test_folders_and_links_are_not_counted_as_files() -> None:
    verdict = compared(BASE | census(file("new/a"), file("new/b"), folder("new"), link("new/c", "a")), BASE)
    assert verdict.counts == {Difference.MISSING: 4}
    assert "2 files, 1 folder and 1 link missing at RDS" in verdict.sentence
    assert verdict.amount(Difference.MISSING) == "2 files, 1 folder and 1 link missing at RDS"
    assert verdict.there_bytes == ends(BASE).bytes


def test_a_listing_that_ends_at_a_round_number_is_told() -> None:
    assert "held exactly 1,000 entries" not in compared(BASE, BASE).sentence
    verdict = compared(BASE, BASE, round_folders=2)
    assert verdict.outcome is Outcome.VERIFIED
    assert " 2 folders held exactly 1,000 entries at the source" in verdict.sentence


def test_unfinished_files_are_no_success() -> None:
    verdict = compared(BASE, BASE, partial_files=2)
    assert verdict.outcome is Outcome.DIFFERENT
    assert "2 files unfinished at RDS" in verdict.sentence


def test_byte_flipped_with_size_and_time_kept_is_told() -> None:
    verdict = compared(BASE, BASE, ["raw/b.tif"], level=Level.FULL, sampled_files=2, sampled_bytes=16)
    assert (verdict.outcome, verdict.counts) == (Outcome.DIFFERENT, {Difference.CONTENT: 1})
    assert verdict.named[0].path == "raw/b.tif"


@pytest.mark.parametrize("modified", [SINCE, SINCE + 1000])
@pytest.mark.parametrize("copy", [None, file("raw/a.tif", 6), file("raw/a.tif", 7)])
def test_file_written_during_the_transfer_is_changing(modified: int, copy: Entry | None) -> None:
    here = BASE | census(file("raw/a.tif", 7, modified))
    there = {path: entry for path, entry in BASE.items() if path != "raw/a.tif"}
    verdict = compared(here, there | census(*([copy] if copy else [])))
    assert (verdict.outcome, verdict.counts) == (Outcome.CHANGING, {Difference.CHANGING: 1})
    assert verdict.sentence.startswith("The source is still changing.")
    assert not is_complete(verdict)


def test_file_written_before_the_transfer_or_without_one_is_not_changing() -> None:
    there = {path: entry for path, entry in BASE.items() if path != "raw/a.tif"}
    before = BASE | census(file("raw/a.tif", 7, SINCE - 1))
    assert compared(before, there).counts == {Difference.MISSING: 1}
    during = BASE | census(file("raw/a.tif", 7, SINCE))
    assert compared(during, there, listing_began=None).counts == {Difference.MISSING: 1}


def test_a_changing_file_does_not_hide_one_that_differs() -> None:
    here = BASE | census(file("raw/new.tif", 7, SINCE))
    verdict = compared(here, BASE | census(file("raw/a.tif", 6)))
    assert verdict.outcome is Outcome.DIFFERENT
    assert verdict.counts == {Difference.SIZE: 1, Difference.CHANGING: 1}


def test_content_of_a_rewritten_file_is_counted_once() -> None:
    changing = BASE | census(file("raw/a.tif", 7, SINCE))
    full: dict[str, Any] = {"level": Level.FULL, "sampled_files": 2, "sampled_bytes": 16}
    verdict = compared(changing, BASE, ["raw/a.tif"], **full)
    assert (verdict.outcome, verdict.counts) == (Outcome.CHANGING, {Difference.CHANGING: 1})
    rewritten = BASE | census(file("raw/a.tif", 7, OLD + 5))
    assert compared(rewritten, BASE, ["raw/a.tif"], **full).counts == {Difference.TIME: 1}


def test_window_of_times_does_not_excuse_other_content() -> None:
    rounded = BASE | census(file("raw/a.tif", 7, OLD + 2))
    assert compared(rounded, BASE, modify_window=2).outcome is Outcome.VERIFIED
    assert compared(rounded, BASE, modify_window=1).counts == {Difference.TIME: 1}
    found = compared(
        rounded,
        BASE,
        ["raw/a.tif"],
        modify_window=2,
        level=Level.SAMPLED,
        sampled_files=1,
        sampled_bytes=7,
    )
    assert found.counts == {Difference.CONTENT: 1}


# In a census, what is in a folder stands around it: '-' and '.' sort before '/', letters after it.
@pytest.mark.parametrize("name", ["-first.tif", "a.tif", "deep/-first.tif", "deep/a.tif"])
def test_folder_made_during_the_transfer_is_changing(name: str) -> None:
    new = census(folder("scan-7"), file(f"scan-7/{name}", 3, SINCE))
    deep = census(folder("scan-7/deep")) if "/" in name else {}
    verdict = compared(BASE | new | deep, BASE)
    assert verdict.outcome is Outcome.CHANGING
    assert verdict.counts == {Difference.CHANGING: len(new | deep)}


def test_folder_that_was_there_before_is_missing() -> None:
    # Its neighbour changes, and its name begins alike.
    new = census(folder("scan"), file("scan/old.tif", 3), folder("scan-7"), file("scan-7/a.tif", 3, SINCE))
    verdict = compared(BASE | new | census(folder("zero")), BASE)
    assert verdict.outcome is Outcome.DIFFERENT
    assert {item.path for item in verdict.named if item.kind is Difference.MISSING} == {
        "scan",
        "scan/old.tif",
        "zero",
    }
    assert {item.path for item in verdict.named if item.kind is Difference.CHANGING} == {
        "scan-7",
        "scan-7/a.tif",
    }


def test_empty_source_is_never_verified() -> None:
    with pytest.raises(PermanentError) as caught:
        compared(census(folder("raw")), BASE)
    assert caught.value.code == "source-empty"


def test_listing_alone_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="level"):
        compared(BASE, BASE, level=Level.LISTED)
    listed = compared(BASE, BASE).model_copy(update={"level": Level.LISTED})
    assert not is_complete(listed)


@pytest.mark.parametrize(
    ("asked", "sampled_files", "sampled_bytes", "reached"),
    [
        (Level.SIZES, 0, 0, Level.SIZES),
        (Level.SAMPLED, 1, 7, Level.SAMPLED),
        (Level.SAMPLED, 2, 16, Level.SAMPLED),
        (Level.SAMPLED, 0, 0, Level.SIZES),
        (Level.FULL, 2, 16, Level.FULL),
        (Level.FULL, 1, 7, Level.SAMPLED),
        (Level.FULL, 0, 0, Level.SIZES),
    ],
)
def test_level_is_what_was_reached(
    asked: Level, sampled_files: int, sampled_bytes: int, reached: Level
) -> None:
    verdict = compared(BASE, BASE, level=asked, sampled_files=sampled_files, sampled_bytes=sampled_bytes)
    assert verdict.level is reached


def test_full_is_full_when_what_differs_could_not_be_compared() -> None:
    here = BASE | census(file("raw/new.tif", 100), file("raw/longer.tif", 100))
    there = BASE | census(file("raw/longer.tif", 99))
    verdict = compared(here, there, level=Level.FULL, sampled_files=2, sampled_bytes=16)
    assert verdict.level is Level.FULL


def test_sentences_say_what_was_done_and_no_more() -> None:
    whole = Ends(files=20_412, bytes=87_034_154_221, folders=31, links=2, others=0, oldest=OLD)

    def said(level: Level, sampled_files: int, sampled_bytes: int) -> str:
        counted: dict[str, Any] = {"sampled_files": sampled_files, "sampled_bytes": sampled_bytes}
        return compared({}, {}, level=level, source=whole, destination=whole, **counted).sentence

    assert said(Level.SIZES, 0, 0) == (
        "All 20,412 files (87.0 GB) are at RDS: every size agrees; no content was compared."
    )
    assert said(Level.SAMPLED, 32, 10**8) == (
        "All 20,412 files (87.0 GB) are at RDS: every size agrees and 32 files were compared byte by byte."
    )
    assert said(Level.FULL, 20_400, 87_034_154_221) == (
        "All 20,412 files (87.0 GB) are at RDS: "
        "every size agrees and the content of every file was compared byte by byte."
    )
    sentences = {verification.words(level, 32) for level in Level}
    assert len(sentences) == len(Level)


def test_list_cut_between_two_entries_is_an_error() -> None:
    here, there = BASE | census(file("z")), BASE
    usual: dict[str, Any] = {"source": ends(here), "destination": ends(there)}
    with pytest.raises(DamagedListsError, match="do not explain what was counted"):
        compared(there, there, **usual)


def test_lists_cut_at_the_same_place_are_an_error_when_their_lengths_are_known() -> None:
    rewritten = BASE | census(file("raw/a.tif", 7, OLD + 5))
    listed = Listed(only_source=1, only_destination=1, mismatches=1)
    assert compared(rewritten, BASE, ["raw/a.tif"], listed=listed).counts == {Difference.TIME: 1}
    for here, mismatches in ((BASE, ["raw/a.tif"]), (rewritten, [])):
        with pytest.raises(DamagedListsError, match="cut short"):
            compared(here, BASE, mismatches, listed=listed)


@pytest.mark.parametrize("which", range(6))
def test_unsorted_list_is_an_error(which: int) -> None:
    unsorted = [file("b"), file("a")]
    asked = request(
        "lists",
        listed=Listed(only_source=0, only_destination=0, mismatches=0),
        source=ends(BASE),
        destination=ends(BASE),
        listing_began=None,
        modify_window=0,
    )
    with pytest.raises(DamagedListsError, match="not sorted"):
        comparison.compare(
            unsorted if which == 0 else [],
            unsorted if which == 1 else [],
            [["b", "a"] if which == of else [] for of in (2, 3, 4)],
            asked,
            closed=unsorted if which == 5 else [],
        )


def test_both_sides_name_the_same_differences_in_the_same_order() -> None:
    assert list(Difference) == list(differences.KINDS)


def test_a_difference_of_an_unknown_kind_is_no_agreement() -> None:
    found = Comparison(counts={"colour": 1}, entries={"colour": {"files": 1}}, named={}, incomparable_bytes=0)
    with pytest.raises(TransientError, match="unknown kinds, colour"):
        judge(
            found,
            level=Level.SIZES,
            source=ends(BASE),
            destination=ends(BASE),
            sampled_files=0,
            sampled_bytes=0,
            partial_files=0,
            checked_at=BEGAN,
        )


# --- against a naive oracle -----------------------------------------------------------------------------------

# Few letters, so that names meet; they sort before, at and after the slash, and some are no UTF-8.
letters = [*"-.aé\n", decode_name(b"\xff")]
paths = st.lists(st.text(alphabet=letters, min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)
entries = st.one_of(
    st.builds(file, paths, st.integers(0, 2), st.sampled_from([OLD, OLD + 1, SINCE, SINCE + 9])),
    st.builds(folder, paths),
    st.builds(link, paths, st.sampled_from(["x", "y"])),
    st.builds(other, paths),
)
censuses = st.lists(entries, max_size=12).map(lambda found: census(*found))


def oracle(here: Census, there: Census, mismatches: set[str], window: int) -> dict[Difference, set[str]]:
    """Look each path up in two dictionaries, and each missing folder in all that is changing."""
    found: dict[Difference, set[str]] = {kind: set() for kind in Difference}
    for path in here.keys() | there.keys():
        mine, copy = here.get(path), there.get(path)
        if mine is None:
            found[Difference.EXTRA].add(path)
        elif copy is not None and (mine.kind, mine.size, mine.target) == (copy.kind, copy.size, copy.target):
            if abs(mine.modified - copy.modified) <= window:
                if path in mismatches:
                    found[Difference.CONTENT].add(path)
            else:
                found[Difference.CHANGING if mine.modified >= SINCE else Difference.TIME].add(path)
        elif mine.kind == FILE and mine.modified >= SINCE:
            found[Difference.CHANGING].add(path)
        elif copy is None:
            found[Difference.UNCOPIED if mine.kind == OTHER else Difference.MISSING].add(path)
        elif mine.kind != copy.kind:
            found[Difference.KIND].add(path)
        else:
            found[Difference.SIZE if mine.size != copy.size else Difference.TARGET].add(path)
    changing = tuple(found[Difference.CHANGING])
    for path in tuple(found[Difference.MISSING]):
        inside = [other for other in changing if other.startswith(f"{path}/")]
        if here[path].kind == FOLDER and inside:
            found[Difference.MISSING].remove(path)
            found[Difference.CHANGING].add(path)
    return found


@given(censuses, censuses, st.sets(paths, max_size=3), st.integers(0, 2), st.data())
@settings(max_examples=300, deadline=None)
def test_streams_find_what_dictionaries_find(
    here: Census, changed: Census, hit: set[str], window: int, data: st.DataObject
) -> None:
    here |= census(file("one"))
    kept = data.draw(st.sets(st.sampled_from(sorted(here, key=key))))
    there = {path: entry for path, entry in here.items() if path in kept} | changed
    # A comparison reads the content of files that are at both ends with the same size.
    comparable = {
        path
        for path in here.keys() & there.keys()
        if here[path].kind == there[path].kind == FILE and here[path].size == there[path].size > 0
    }
    mismatches = hit & comparable
    verdict = compared(
        here,
        there,
        mismatches,
        modify_window=window,
        level=Level.FULL,
        sampled_files=len(comparable),
        sampled_bytes=sum(here[path].size for path in comparable),
    )
    expected = {kind: found for kind, found in oracle(here, there, mismatches, window).items() if found}
    named = {kind: {item.path for item in verdict.named if item.kind is kind} for kind in verdict.counts}
    assert named == {kind: {safe(path) for path in found} for kind, found in expected.items()}
    assert verdict.counts == {kind: len(found) for kind, found in expected.items()}
    assert verdict.level is Level.FULL
    harmful = expected.keys() - {Difference.EXTRA, Difference.UNCOPIED}
    assert (verdict.outcome is Outcome.VERIFIED) is (not harmful)
    assert (verdict.outcome is Outcome.CHANGING) is (harmful == {Difference.CHANGING})
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


# --- what is kept ---------------------------------------------------------------------------------------------


def many(path: str, number: int) -> Census:
    return census(*(file(f"{path}{at:06}") for at in range(number)))


def test_all_are_counted_and_the_first_are_kept() -> None:
    verdict = compared(BASE | many("raw/frame_", 1000), BASE | many("extra_", 300))
    assert verdict.counts == {Difference.MISSING: 1000, Difference.EXTRA: 300}
    assert len(verdict.named) == 2 * verification.KEPT
    assert verdict.named[0].path == "raw/frame_000000"


def test_what_goes_through_a_file_on_rds_ssh_can_be_read_back() -> None:
    # Session.read takes 256 KiB; the longest paths there are, of the bytes that take most room, in two kinds.
    long = "/".join(["\udcff" * 255] * 15)
    here = BASE | census(*(file(f"{at:03}/{long}") for at in range(100)))
    verdict = compared(here, census(*(file(f"x{at:03}/{long}") for at in range(100))) | BASE)
    assert verdict.counts == {Difference.MISSING: 100, Difference.EXTRA: 100}
    assert len(verdict.named) == 2
    assert len(Difference) * verification.KEPT_BYTES < 240 * 1024


def test_few_names_show_some_of_each_kind() -> None:
    verdict = compared(BASE | many("raw/frame_", 100), BASE | census(file("notes.txt")))
    assert [item.kind for item in verdict.few(3)] == [
        Difference.MISSING,
        Difference.MISSING,
        Difference.EXTRA,
    ]
    assert verdict.few(1000) == verdict.named


@given(
    st.lists(st.text(min_size=1, max_size=400).filter(lambda name: "\0" not in name), max_size=9),
    st.booleans(),
)
@settings(deadline=None)
def test_what_goes_into_airflow_stays_small(found: list[str], astral: bool) -> None:
    longest = "😀" * 1000 if astral else "\\\n" * 1000
    here = BASE | census(*(file(f"{name}{longest}".replace("/", "")) for name in found))
    state = compared(here, BASE | many("extra_", 20), partial_files=10**15).for_state()
    assert len(json.dumps(state.model_dump(mode="json"))) <= verification.STATE_BYTES
    assert len(json.dumps(state.model_dump_json())) <= verification.STATE_BYTES
    assert sum(state.counts.values()) == len(only(here, BASE)) + 20
    assert {item.kind for item in state.named} <= state.counts.keys()


def test_state_survives_the_asset_store() -> None:
    state = compared(BASE | many("raw/frame_", 1000), BASE).for_state()
    assert state.named
    stored = json.loads(json.dumps(state.model_dump(mode="json")))
    assert Verdict.model_validate(stored, strict=False) == state
    assert Verdict.model_validate_json(state.model_dump_json()) == state


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"frame 1.tif", "frame 1.tif"),
        ("größe.tif".encode(), "größe.tif"),
        (b"a\nb\tc", "a\\nb\\tc"),
        (b"\x1b[2Jgone", "\\x1b[2Jgone"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"back\\slash", "back\\\\slash"),
        ("a\u202egpj.exe".encode(), "a\\u202egpj.exe"),
        ("\u2028".encode(), "\\u2028"),
    ],
)
def test_odd_names_are_shown_safely(name: bytes, shown: str) -> None:
    assert safe(decode_name(name)) == shown


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_safe_names_are_printable_and_differ_as_the_names_do(one: bytes, other_: bytes) -> None:
    assert safe(decode_name(one)).isprintable()
    assert (safe(decode_name(one)) == safe(decode_name(other_))) is (one == other_)


def test_memory_does_not_grow_with_the_number_of_differences() -> None:
    def frames(number: int, modified: int) -> Iterator[Entry]:
        return (file(f"raw/frame_{at:07}.tif", 8, modified) for at in range(number))

    def peak(number: int) -> int:
        tracemalloc.start()
        both = {"files": number, "bytes": 8 * number, "folders": 0, "links": 0, "others": 0}
        found = comparison.compare(
            frames(number, OLD + 9),
            frames(number, OLD),
            [(entry.path for entry in itertools.islice(frames(number, OLD), 0, None, 2)), [], []],
            ComparisonRequest(
                "", (number, number, number // 2, 0, 0, 0), both, both, SINCE, 0, True, 200, 20_480
            ),
        )
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert found.counts == {Difference.TIME: number}
        return highest

    # 1,000 are enough to fill what is kept by name; a hundred times as many take no more.
    assert peak(100_000) < 1_000_000 + 2 * peak(1000)


@pytest.mark.parametrize(
    ("files", "damaged", "sampled"),
    [(20_412, 204, 32), (20_412, 1, 32), (10, 3, 4), (5, 0, 3), (5, 3, 3), (7, 7, 1)],
)
def test_chance_to_find_is_the_hypergeometric_one(files: int, damaged: int, sampled: int) -> None:
    missed = math.comb(files - damaged, sampled) / math.comb(files, sampled)
    assert verification.chance_to_find(files, damaged, sampled) == pytest.approx(1 - missed)


def test_chance_of_more_than_there_is_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least"):
        verification.chance_to_find(10, 11, 1)
