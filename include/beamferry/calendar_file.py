"""All deadlines as a calendar file (RFC 5545) that phones and mail programs subscribe to."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date, datetime

    from beamferry.beamtime import Beamtime, Site

# Days before the day at which a calendar reminds.
_REMINDERS = (7, 3, 1)
_LINE = 75
# The format allows none of them in a text, except the tab.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def calendar(beamtimes: Iterable[Beamtime], site: Site, now: datetime) -> str:
    """Return the calendar: a whole-day event for each tape day and each end of a registration.

    Args:
        beamtimes: of the registry; the archived ones are left out.
        site: the group's own side.
        now: when this is written, aware.
    """
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Beamferry//Deadlines//EN", "X-WR-CALNAME:Beamtimes"]
    for beamtime in beamtimes:
        if beamtime.archived:
            continue
        place = f"{beamtime.id} ({beamtime.instrument}, {beamtime.facility_name})"
        where = f"It belongs at {beamtime.destination_path(site)}."
        lines += _event(
            f"{beamtime.key}-tape",
            beamtime.tape_day,
            f"Goes to tape: {place}",
            f"From this day on the facility may move the data to tape. {where}",
            now,
        )
        if beamtime.registration_ends is not None:
            lines += _event(
                f"{beamtime.key}-registration",
                beamtime.registration_ends,
                f"Registration ends: {place}",
                f"From this day on the facility refuses the log-in. {where}",
                now,
            )
    return "".join(f"{part}\r\n" for line in (*lines, "END:VCALENDAR") for part in folded(line))


def _event(name: str, day: date, summary: str, description: str, now: datetime) -> Iterator[str]:
    yield "BEGIN:VEVENT"
    # The same for ever: a deadline that moves moves its event instead of making a second one.
    yield f"UID:{name}@beamferry"
    yield f"DTSTAMP:{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    yield f"DTSTART;VALUE=DATE:{day:%Y%m%d}"
    yield f"DTEND;VALUE=DATE:{day + timedelta(days=1):%Y%m%d}"
    yield f"SUMMARY:{escaped(summary)}"
    yield f"DESCRIPTION:{escaped(description)}"
    yield "TRANSP:TRANSPARENT"
    for days in _REMINDERS:
        yield "BEGIN:VALARM"
        yield "ACTION:DISPLAY"
        yield f"DESCRIPTION:{escaped(summary)}"
        yield f"TRIGGER:-P{days}D"
        yield "END:VALARM"
    yield "END:VEVENT"


def escaped(text: str) -> str:
    """Return a text as a value of the format."""
    plain = text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    lines = plain.replace("\r\n", "\\n").replace("\n", "\\n").replace("\r", "\\n")
    return _CONTROLS.sub(" ", lines)


def folded(line: str) -> Iterator[str]:
    """Yield a line in parts of at most 75 bytes, none of which cuts a character in two."""
    part, size = "", 0
    for letter in line:
        width = len(letter.encode("utf-8", "surrogatepass"))
        if size + width > _LINE:
            yield part
            part, size = " ", 1
        part += letter
        size += width
    yield part
