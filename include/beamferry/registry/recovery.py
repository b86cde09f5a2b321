"""Setting one unreadable entry aside, so that a slip in it does not cost the others."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Remainder:
    """A registry's text without one entry.

    Args:
        text: has as many lines as before, with an empty entry in place of the one taken out.
        start: line of that entry, counted from 0.
    """

    text: str
    start: int


def without_entry(text: str, line: int) -> Remainder | None:
    """Return the text without the entry that a line belongs to; None where it belongs to none.

    The text is no valid YAML, so entries are told by their looks: lines that begin with '-' as far in as the
    first one below ``beamtimes:``, up to the next word at the margin.

    Args:
        text: of the registry.
        line: counted from 0.
    """
    lines = text.split("\n")
    starts, end = _entries(lines)
    if not starts or not starts[0] <= line < end:
        return None
    start = max(number for number in starts if number <= line)
    stop = min((number for number in starts if number > line), default=end)
    if "".join(lines[start:stop]).strip() == "-":
        return None  # taken out already
    lines[start:stop] = [lines[start][: lines[start].index("-") + 1], *[""] * (stop - start - 1)]
    return Remainder("\n".join(lines), start)


def _entries(lines: list[str]) -> tuple[list[int], int]:
    """Return the lines on which entries begin, and the line after the last entry."""
    starts: list[int] = []
    inside, dash = False, ""
    for number, line in enumerate(lines):
        if re.match(r"\w", line):
            if starts:
                return starts, number
            inside = line.startswith("beamtimes:")
        elif inside and (found := re.match(r" *-(?=\s|$)", line)):
            dash = dash or found.group()
            if found.group() == dash:
                starts.append(number)
    return starts, len(lines)
