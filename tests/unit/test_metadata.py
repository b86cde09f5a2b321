"""DESY's metadata file: either release of keys, and nothing that stands in it can do harm."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 100_000, json.dumps({"beamtimeId": "11010751"}).encode()],
)
def test_what_is_no_metadata_of_this_beamtime_is_an_error(raw: bytes) -> None:
    with pytest.raises(PermanentError) as raised:
        parse_metadata(raw, BEAMTIME, personal_data=False)
    assert raised.value.code == "metadata-unreadable"
    assert BEAMTIME in str(raised.value)


@given(st.dictionaries(KEYS, JSON).map(lambda found: json.dumps(found).encode()) | st.binary())
def test_any_file_is_a_value_or_an_error(raw: bytes) -> None:
    try:
        found = parse_metadata(raw, BEAMTIME, personal_data=True)
    except PermanentError:
        return
    assert Metadata.model_validate_json(found.model_dump_json()) == found
    for text in (found.title, found.instrument, found.proposal, found.retention, found.path):
        assert text is None or (0 < len(text) <= TEXT_LIMIT and "\n" not in text)


def test_a_title_cannot_turn_the_line_round() -> None:
    raw = json.dumps({"title": "a\u202eb\nc\x1b[31m d"}).encode()
    assert parse_metadata(raw, BEAMTIME, personal_data=False).title == "a b c [31m d"


@given(st.binary(max_size=3 * README_LIMIT))
def test_a_readme_is_text_of_bounded_length(raw: bytes) -> None:
    assert len(readme_text(raw)) <= README_LIMIT + 60


def test_a_readme_keeps_its_lines() -> None:
    assert readme_text(b"Names:\r\nraw/a:b\x1b[2J\n\n") == "Names:\nraw/a:b [2J"
