"""Listings are what is there, whatever the names hold, and two of them are compared without loss."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamferry_agent.census import compare_censuses
from beamferry_agent.census_script import UNSAFE, Unless, copy_script, quoted, readable, source_script
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.records import read_names

# What a kernel allows in a name, and what a shell, find and our records could take for something else.
LETTERS = b"ab'\"\\ \n\t*?[]!$`;&-#%{}~\xff\xc3\xa4"
names = (
    st.lists(st.sampled_from([bytes((letter,)) for letter in LETTERS]), min_size=1, max_size=6)
    .map(b"".join)
    .filter(lambda name: name not in {b".", b".."})
)
paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)


def run(script: bytes, folder: Path | None = None) -> bytes:
    done = subprocess.run(("sh", "-s"), input=script, cwd=folder, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b""), done
    return done.stdout


@given(st.binary(max_size=30).map(lambda text: text.translate(None, b"\0")))
@settings(max_examples=50, deadline=None)
def test_a_quoted_text_is_one_word(text: bytes) -> None:
    assert run(b"printf '%s.' " + quoted(text)) == text + b"."


def place_of(folder: bytes, path: bytes) -> Path:
    return Path(os.fsdecode(folder + b"/" + path))


def make(folder: bytes, wanted: list[bytes]) -> set[bytes]:
    """Make files where nothing else is in their way; return those that are there."""
    made = set()
    for path in wanted:
        place = place_of(folder, path)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path)
        except OSError:
            continue
        made.add(path)
    return made


def files_of(listing: bytes) -> set[bytes]:
    return {
        record.split(b"//")[0]
        for record in read_names(io.BytesIO(listing))
        if record != UNSAFE and record.split(b"//")[1] == b"f"
    }


@given(st.lists(paths, max_size=5), st.lists(paths, max_size=2), names)
@settings(max_examples=60, deadline=None)
def test_both_scripts_list_what_is_there_but_what_is_left_out(
    wanted: list[bytes], left_out: list[bytes], name: bytes
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.fsencode(scratch) + b"/" + name
        place_of(folder, b"").mkdir()
        made = make(folder, wanted + left_out)
        kept = {
            path for path in made if not any(path == one or path.startswith(one + b"/") for one in left_out)
        }
        assert files_of(run(source_script(folder, left_out))) == kept
        assert files_of(run(copy_script(left_out, b"/dev/null"), Path(os.fsdecode(folder)))) == kept
        # With a slash at its end it means a folder alone.
        folders = [path + b"/" for path in left_out]
        kept = {path for path in made if not any(path.startswith(one) for one in folders)}
        assert files_of(run(source_script(folder, folders))) == kept


def test_the_copys_script_tells_of_the_transfers_folders_and_of_what_is_closed(tmp_path: Path) -> None:
    copy, lists = tmp_path / "copy", tmp_path / "lists' of"
    lists.mkdir()
    for place in ("raw/.beamferry-partial", "shut"):
        (copy / place).mkdir(parents=True)
    (copy / "raw" / ".beamferry-partial" / "half").touch()
    (copy / "raw" / "open").touch()
    (copy / "raw" / "closed").touch(mode=0o600)
    (copy / "raw" / "open").chmod(0o640)
    for folder, mode in ((copy, 0o700), (copy / "raw", 0o750), (copy / "shut", 0o700)):
        folder.chmod(mode)
    unless = readable(os.fsencode(lists / "closed"), "own")
    listing = run(copy_script([], os.fsencode(lists / "partials"), unless), copy)
    assert files_of(listing) == {b"raw/open", b"raw/closed"}
    assert (lists / "partials").read_bytes() == b"./raw/.beamferry-partial\0"
    told = sorted((lists / "closed").read_bytes().split(b"\0")[:-1])
    assert told == [b".//d//0//0//", b"raw/closed//f//0//0//", b"shut//d//0//0//"]
    assert readable(b"x", "7").files == b"-gid 7 -perm -0040 -o ! -gid 7 -perm -0004 "
    assert Unless(b"x", b"a", b"b") != readable(b"x", "7")


def test_a_mode_that_no_copy_gets_is_told_behind_its_record(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    (tmp_path / "setuid").touch()
    (tmp_path / "setuid").chmod(0o4755)
    (tmp_path / "for all").mkdir()
    (tmp_path / "for all").chmod(0o777)
    records = list(read_names(io.BytesIO(run(source_script(os.fsencode(tmp_path), [])))))
    before = {records[at - 1].split(b"//")[0] for at, record in enumerate(records) if record == UNSAFE}
    assert before == {b"setuid", b"for all"}


# --- two lists ------------------------------------------------------------------------------------------------

entries = st.dictionaries(
    st.lists(st.sampled_from([b"a", b"b", b"-", b"."]), min_size=1, max_size=3).map(b"/".join),
    st.one_of(
        st.tuples(st.just(b"f"), st.integers(0, 2), st.integers(-1, 2), st.just(b"")),
        st.tuples(st.sampled_from([b"d", b"o"]), st.just(0), st.just(0), st.just(b"")),
        st.tuples(st.just(b"l"), st.just(0), st.just(0), st.sampled_from([b"x", b"y//f//1"])),
    ),
    max_size=12,
)
Entries = dict[bytes, tuple[bytes, int, int, bytes]]


def census(found: Entries) -> list[bytes]:
    return sorted(b"%b//%b//%d//%d//%b" % (path, *fields) for path, fields in found.items())


def packed(records: list[bytes]) -> io.BytesIO:
    return io.BytesIO(b"".join(record + b"\0" for record in records))


@given(entries, entries)
def test_two_censuses_are_compared_as_sets_are(here: Entries, there: Entries) -> None:
    outputs = [io.BytesIO() for _ in range(3)]
    source, copy = census(here), census(there)
    compared = compare_censuses(packed(source), packed(copy), *outputs)
    only_source, only_copy, common = (output.getvalue().split(b"\0")[:-1] for output in outputs)
    assert only_source == [record for record in source if record not in copy]
    assert only_copy == [record for record in copy if record not in source]
    assert (compared.only_source, compared.only_copy) == (len(only_source), len(only_copy))
    # Files with content and of one size, whatever their times are, in the order of a census.
    same = [
        b"%b//f//%d" % (path, size)
        for path, (kind, size, *_) in here.items()
        if kind == b"f" and size and there.get(path, (b"",))[:2] == (kind, size)
    ]
    assert common == sorted(same)
    for counted, found in ((compared.source, here), (compared.copy, there)):
        kinds = [kind for kind, *_ in found.values()]
        times = [modified for kind, _, modified, _ in found.values() if kind == b"f"]
        assert counted.facts() == {
            "files": kinds.count(b"f"),
            "bytes": sum(size for _, size, *_ in found.values()),
            "folders": kinds.count(b"d"),
            "links": kinds.count(b"l"),
            "others": kinds.count(b"o"),
            "oldest": min(times, default=0),
        }


def test_a_name_that_was_listed_twice_is_told_once_more() -> None:
    outputs = [io.BytesIO() for _ in range(3)]
    record = b"a//f//1//1//"
    compared = compare_censuses(packed([record, record]), packed([record]), *outputs)
    assert (compared.source.files, compared.copy.files, compared.only_source) == (2, 1, 1)
    assert outputs[2].getvalue() == b"a//f//1\0"


@pytest.mark.parametrize("damaged", [b"a//f//1", b"a//f//x//1//", b"a", b"a//f//1//1.5//"])
def test_what_is_no_record_is_an_error(damaged: bytes) -> None:
    with pytest.raises(DamagedListsError):
        compare_censuses(packed([damaged]), packed([]), *(io.BytesIO() for _ in range(3)))
