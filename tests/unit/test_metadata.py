"""DESY's metadata file: either release of keys, and nothing that stands in it can do harm."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.errors import PermanentError
from beamferry.lab.desy_tree import BEAMTIME, metadata
from beamferry.metadata import README_LIMIT, TEXT_LIMIT, Metadata, parse_metadata, readme_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
KEYS = st.sampled_from([*metadata(), *metadata(old_keys=True)])


@pytest.mark.parametrize("old_keys", [False, True])
def test_either_release_of_keys(old_keys: bool) -> None:
    found = parse_metadata(json.dumps(metadata(old_keys=old_keys)).encode(), BEAMTIME, personal_data=True)
    assert found == Metadata(
        title="Ti-64, two-phase, in situ – Prüfung",
        instrument="p07",
        proposal="20200123",
        begin=datetime(2020, 12, 6, 8, tzinfo=UTC),
        end=datetime(2020, 12, 7, 21, 10, tzinfo=UTC),
        pi="Christopher Daniel",
        retention=None if old_keys else "6 months on disk",
        path=f"/asap3/petra3/gpfs/p07/2020/data/{BEAMTIME}",
    )


def test_personal_data_stays_out_unless_it_is_asked_for() -> None:
    found = parse_metadata(json.dumps(metadata()).encode(), BEAMTIME, personal_data=False)
    assert found.pi is None
    with_name = parse_metadata(json.dumps(metadata()).encode(), BEAMTIME, personal_data=True)
    assert "@" not in with_name.model_dump_json()


def test_an_address_typed_as_a_name_stays_out() -> None:
    raw = json.dumps({"pi": {"firstname": "c.daniel@example.ac.uk", "lastname": "Daniel"}}).encode()
    assert parse_metadata(raw, BEAMTIME, personal_data=True).pi == "Daniel"


def test_a_name_is_short() -> None:
    raw = json.dumps({"pi": {"firstname": "C" * TEXT_LIMIT, "lastname": "Daniel"}}).encode()
    assert parse_metadata(raw, BEAMTIME, personal_data=True).pi == "C" * TEXT_LIMIT


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no JSON from line 1"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b'{"title":\n}', "no JSON from line 2"),
        (b'{"title": "a\x00b"}', "no JSON from line 1"),
        ('{"title": "Prüfung"}'.encode("latin-1"), "not in UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"title": ' + b"9" * 10_000 + b"}", "a number is too long"),
        (b'{"beamtimeId": "11010751"}', "another beamtime, 11010751"),
        (b'{"beamtime-id": 11010751}', "another beamtime, 11010751"),
        (b'{"beamtimeId": "1\\u001b[2J"}', "another beamtime, 1 [2J"),
        (b'{"beamtimeId": NaN}', "another beamtime, without a number"),
        (b'{"beamtimeId": ' + b"[" * 200 + b"]" * 200 + b"}", "another beamtime, without a number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_metadata_of_this_beamtime_is_an_error(raw: bytes, reason: str) -> None:
    with pytest.raises(PermanentError) as raised:
        parse_metadata(raw, BEAMTIME, personal_data=False)
    assert raised.value.code == "metadata-unreadable"
    assert BEAMTIME in str(raised.value)
    assert reason in raised.value.problem


@pytest.mark.parametrize(
    "raw",
    [
        b'{"title": "x"}',
        b'\xef\xbb\xbf{"title": "x"}',
        b'{"title": "x", "beamtimeId": null, "proposalId": NaN, "retentionPeriod": true}',
        b'{"title": "x", "eventStart": 1e999, "pi": "x", "corePath": {}}',
        b'{"title": "x", "beamtimeId": 11010750, "eventStart": "0001-01-01T00:00:00+10:00", "eventEnd": "soon"}',
        b'{"title": "w", "title": "x"}',
    ],
)
def test_what_is_not_as_usual_is_left_out(raw: bytes) -> None:
    assert parse_metadata(raw, BEAMTIME, personal_data=True) == Metadata(title="x")


def test_a_time_without_zone_is_utc() -> None:
    raw = b'{"eventStart": "2020-12-06 09:00", "eventEnd": "2020-12-07T09:00:00+01:00"}'
    found = parse_metadata(raw, BEAMTIME, personal_data=False)
    assert (found.begin, found.end) == (
        datetime(2020, 12, 6, 9, tzinfo=UTC),
        datetime(2020, 12, 7, 8, tzinfo=UTC),
    )


def test_a_huge_file_gives_a_short_title() -> None:
    raw = json.dumps({"title": "Ti \u200b\n" * 2_000_000}).encode()
    assert len(raw) > 10_000_000
    assert parse_metadata(raw, BEAMTIME, personal_data=False).title == ("Ti " * TEXT_LIMIT)[:TEXT_LIMIT]


@given(st.dictionaries(KEYS, JSON).map(lambda found: json.dumps(found).encode()) | st.binary())
def test_any_file_is_a_value_or_an_error(raw: bytes) -> None:
    try:
        found = parse_metadata(raw, BEAMTIME, personal_data=True)
    except PermanentError as error:
        assert error.code == "metadata-unreadable"  # noqa: PT017
        return
    assert Metadata.model_validate_json(found.model_dump_json()) == found
    for text in (found.title, found.instrument, found.proposal, found.retention, found.path, found.pi):
        assert text is None or (0 < len(text) <= TEXT_LIMIT and not unseen(text))


def unseen(text: str) -> str:
    """What in a text is a control character, or turns lines round, by Unicode's own tables."""
    turning = {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"}
    return "".join(
        one
        for one in text
        if unicodedata.category(one) in {"Cc", "Cs"} or unicodedata.bidirectional(one) in turning
    )


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Ll"])))
def test_a_title_is_one_line_that_can_be_seen(title: str) -> None:
    raw = json.dumps({"title": title}).encode()
    found = parse_metadata(raw, BEAMTIME, personal_data=False).title
    assert found is None or (unseen(found) == "" and len(found.splitlines()) == 1)


def test_a_title_cannot_turn_the_line_round() -> None:
    raw = json.dumps({"title": "a\u202eb\nc\x1b[31m d\u061c\ufeff\u2060\u2066e"}).encode()
    assert parse_metadata(raw, BEAMTIME, personal_data=False).title == "a b c [31m d e"


@given(st.binary(max_size=3 * README_LIMIT) | st.text().map(str.encode))
def test_a_readme_is_text_of_bounded_length(raw: bytes) -> None:
    text = readme_text(raw)
    assert len(text) <= README_LIMIT + 60
    assert unseen(text.replace("\n", "")) == ""


def test_a_readme_that_is_cut_says_so() -> None:
    assert readme_text(b"x" * README_LIMIT) == "x" * README_LIMIT
    cut = readme_text(b"x" * README_LIMIT + b"y")
    assert cut == "x" * README_LIMIT + "\n(cut here; the file itself comes with the data)"


def test_a_readme_keeps_its_lines() -> None:
    assert readme_text(b"\xef\xbb\xbfNames:\r\nraw/a:b\x1b[2J\n\n") == "Names:\nraw/a:b [2J"
