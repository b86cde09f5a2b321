"""The models of the registry: what passes is safe on a command line, and the derived values are right."""

from __future__ import annotations

import re
import shlex
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from beamferry.beamtime import (
    AbsolutePath,
    AccountName,
    Beamtime,
    ConnectionId,
    ExcludePath,
    InstrumentName,
    Level,
    MailAddress,
    Site,
)
from beamferry.facilities import FACILITIES
from beamferry.facilities.diamond import DiamondBeamtime, VisitId

WORDS: dict[str, TypeAdapter[str]] = {
    "account": TypeAdapter(AccountName),
    "connection": TypeAdapter(ConnectionId),
    "instrument": TypeAdapter(InstrumentName),
    "mail": TypeAdapter(MailAddress),
    "visit": TypeAdapter(VisitId),
}
PATHS: dict[str, TypeAdapter[str]] = {
    "absolute": TypeAdapter(AbsolutePath),
    "exclude": TypeAdapter(ExcludePath),
}
VALID = {
    "account": "mbcx9cd4",
    "connection": "rds_ssh",
    "instrument": "i15-1",
    "mail": "j.o'doe+data@example.ac.uk",
    "visit": "lb18145-153",
    "absolute": "/mnt/eps01-rds/Fonseca-Lightform/shared data",
    "exclude": "tmp/",
}
# Pieces that attacks are made of, between pieces that are harmless, so that many texts nearly pass.
PIECES = st.sampled_from(
    [
        *"abz019/-._ @=+~:;&|<>()$`\\\"'*?[]{}#!%^,\n\r\t\0",
        "..",
        "//",
        "/./",
        "é",
        "İ",
        "\u2028",
        "٣",
        *VALID.values(),
    ]
)


@st.composite
def near(draw: st.DrawFn, name: str) -> str:
    """A text that passes, with a few pieces put in anywhere: many of these still pass."""
    text = VALID[name]
    for piece in draw(st.lists(PIECES, max_size=3)):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + piece + text[place:]
    return text


def accepts(adapter: TypeAdapter[str], text: Any) -> bool:
    try:
        adapter.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def beamtime(**fields: Any) -> DiamondBeamtime:
    entry = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime.model_validate(entry | fields)


@pytest.mark.parametrize("name", [*WORDS, *PATHS])
def test_the_usual_passes(name: str) -> None:
    assert accepts((WORDS | PATHS)[name], VALID[name])


@pytest.mark.parametrize("name", [*WORDS, *PATHS])
@pytest.mark.parametrize("end", ["\n", "\r", "\0", "\u2028", "$(id)", ";", "'\"", "é", "\n\n"])
def test_what_passes_does_not_pass_with_something_at_its_end(name: str, end: str) -> None:
    assert not accepts((WORDS | PATHS)[name], VALID[name] + end)


@pytest.mark.parametrize("name", WORDS)
@given(data=st.data())
def test_a_word_that_passes_is_one_plain_word(name: str, data: st.DataObject) -> None:
    text = data.draw(near(name).filter(lambda text: accepts(WORDS[name], text)))
    assert re.fullmatch(r"[A-Za-z0-9_.@%+'-]+", text)
    assert not text.startswith("-")
    assert ".." not in text or name == "mail"
    assert name == "mail" or shlex.quote(text) == text


@pytest.mark.parametrize("name", PATHS)
@given(data=st.data())
def test_a_path_that_passes_stays_where_it_points(name: str, data: st.DataObject) -> None:
    text = data.draw(near(name).filter(lambda text: accepts(PATHS[name], text)))
    assert re.fullmatch(r"[A-Za-z0-9_.+=@ /-]+", text)
    assert not text.startswith("-")
    names = text.removesuffix("/").split("/")
    assert ".." not in names
    assert "." not in names
    assert (names[0] == "") == (name == "absolute")
    assert all(part and part == part.strip() for part in names[name == "absolute" :])
    assert not any(part.startswith(".beamferry") for part in names)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "data/raw",
        "/a/../b",
        "/a//b",
        "/a/",
        "/a/./b",
        "/a/ b",
        "/a/.beamferry-partial",
        "~/a",
        "/" + "x" * 256,
    ],
)
def test_folders_that_are_refused(path: str) -> None:
    assert not accepts(PATHS["absolute"], path)


@pytest.mark.parametrize(
    "path", ["", "/", "/tmp", "..", "../a", "a/../b", ".", "-x", "a//", "*", "a?", "[ab]"]
)
def test_excludes_that_are_refused(path: str) -> None:
    assert not accepts(PATHS["exclude"], path)


@pytest.mark.parametrize(
    "visit", ["", "MG25682-2", "mg25682", "mg025682-2", "mg25682-0", "m25682-2", "mg25682-2 "]
)
def test_visit_codes_that_are_refused(visit: str) -> None:
    assert not accepts(WORDS["visit"], visit)


@pytest.mark.parametrize(
    "fields",
    [
        {"ended": "2021-05-03"},
        {"ended": 20210503},
        {"ended": date(9999, 12, 31)},
        {"streams": True},
        {"streams": 17},
        {"streams": 4.0},
        {"manifest": "yes"},
        {"verification": "listed"},
        {"deadline": date(2021, 7, 1)},
        {"deadline": date(2021, 5, 1), "deadline_reason": "moved"},
        {"deadline": date(2021, 7, 1), "deadline_reason": "two\nlines"},
        {"unknown": 1},
    ],
)
def test_entries_that_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        beamtime(**fields)


def test_derived_values_are_those_of_the_groups_page() -> None:
    visit = beamtime()
    site = Site(destination_root="/mnt/eps01-rds/Fonseca-Lightform/shared")
    assert visit.key == "diamond_mg25682-2"
    assert visit.source_path == "/dls/i12/data/2021/mg25682-2"
    assert (
        visit.destination_path(site) == "/mnt/eps01-rds/Fonseca-Lightform/shared/diamond/i12/2021/mg25682-2"
    )
    assert visit.tape_day == date(2021, 6, 12)
    assert visit.exclude == ("tmp/",)
    assert visit.verification is Level.SAMPLED


def test_derived_values_give_way_to_the_entry() -> None:
    visit = beamtime(
        source="/dls/i12/data/2020/mg25682-2",
        destination="/mnt/elsewhere",
        deadline=date(2021, 8, 1),
        deadline_reason="promised by the local contact",
        exclude=[],
        verification="full",
    )
    assert visit.source_path == "/dls/i12/data/2020/mg25682-2"
    assert visit.destination_path(Site(destination_root="/mnt")) == "/mnt/elsewhere"
    assert visit.tape_day == date(2021, 8, 1)
    assert visit.exclude == ()
    assert visit.verification is Level.FULL


@pytest.mark.parametrize(
    "zone", ["Europe/Londen", "", "../etc/passwd", "Europe", "/etc/localtime", "Europe/London\n"]
)
def test_time_zones_that_are_refused(zone: str) -> None:
    with pytest.raises(ValidationError):
        Site(destination_root="/mnt", time_zone=zone)


@pytest.mark.parametrize("model", FACILITIES)
def test_every_field_says_what_it_is_for(model: type[Beamtime]) -> None:
    assert [name for name, field in model.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("model", FACILITIES)
def test_a_facility_gives_what_the_others_build_on(model: type[Beamtime]) -> None:
    missing = [name for name in ("host", "retention", "derived_source") if name not in vars(model)]
    assert missing == []
