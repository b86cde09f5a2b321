from __future__ import annotations

import re
from datetime import date

from hypothesis import given
from hypothesis import strategies as st
from watching import SITE, beamtime, utc

from beamferry.calendar_file import calendar, escaped, folded
from beamferry.facilities.diamond import DiamondBeamtime

NOW = utc(2026, 4, 1, 7)


def events(text: str) -> list[dict[str, str]]:
    """Read a calendar as RFC 5545 says: unfold, split, group."""
    found: list[dict[str, str]] = []
    inside = False
    for line in text.replace("\r\n ", "").split("\r\n"):
        name, _, value = line.partition(":")
        if line == "BEGIN:VEVENT":
            found.append({})
        inside = {"BEGIN:VALARM": True, "END:VALARM": False}.get(line, inside)
        if found and not inside:
            found[-1][name] = value
        elif found and name == "TRIGGER":
            found[-1]["TRIGGERS"] = found[-1].get("TRIGGERS", "") + value
    return found


class Registered(DiamondBeamtime):
    """A beamtime whose facility wants a registration."""

    @property
    def registration_ends(self) -> date:
        return date(2026, 3, 10)


def test_each_beamtime_has_its_day_and_its_reminders() -> None:
    registered = Registered(**beamtime(3).model_dump())
    text = calendar([beamtime(1), beamtime(2, archived=True), registered], SITE, NOW)
    tape, other, registration = events(text)
    assert tape["UID"] == "diamond_mg25682-1-tape@beamferry"
    assert tape["DTSTART;VALUE=DATE"] == "20260411"
    assert tape["DTEND;VALUE=DATE"] == "20260412"
    assert tape["DTSTAMP"] == "20260401T070000Z"
    assert tape["TRIGGERS"] == "-P7D-P3D-P1D"
    assert "mg25682-1 (i12\\, Diamond)" in tape["SUMMARY"]
    assert other["UID"].startswith("diamond_mg25682-3")
    assert registration["DTSTART;VALUE=DATE"] == "20260310"
    assert text.startswith("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n")
    assert text.endswith("END:VCALENDAR\r\n")


def test_a_deadline_that_moves_moves_its_event() -> None:
    moved = beamtime(1, deadline=date(2026, 5, 1), deadline_reason="by mail")
    before, after = events(calendar([beamtime(1)], SITE, NOW))[0], events(calendar([moved], SITE, NOW))[0]
    assert before["UID"] == after["UID"]
    assert after["DTSTART;VALUE=DATE"] == "20260501"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=400))
def test_folding_keeps_every_character_and_no_line_is_too_long(text: str) -> None:
    parts = list(folded(text))
    assert all(len(part.encode()) <= 75 for part in parts)
    assert parts[0] + "".join(part[1:] for part in parts[1:]) == text


@given(st.text())
def test_no_text_ends_its_line_and_all_of_it_comes_back(text: str) -> None:
    value = escaped(text)
    assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value)
    assert not re.search(r"(?<!\\)(\\\\)*[;,]", value)
    read = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], value)
    meant = re.sub(r"\r\n|\r", "\n", text)
    assert read == re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", meant)
