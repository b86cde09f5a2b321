"""What rsync prints when all is well: totals as integers, or an error, never a zero."""

from __future__ import annotations

import re
from dataclasses import dataclass

from beamferry.errors import PermanentError
from beamferry.ssh_complaints import shown


@dataclass(frozen=True)
class Totals:
    """The figures of ``--stats``; bytes and counts.

    Args:
        files: entries of all kinds.
        regular_files: regular files.
        bytes: size of the data set ("Total file size").
        transferred_files: regular files that are, or in a dry run would be, fetched.
        transferred_bytes: their size ("Total transferred file size").
    """

    files: int
    regular_files: int
    bytes: int
    transferred_files: int
    transferred_bytes: int


# Field by field, the label of rsync 3.1 and later, and that of 3.0.
_STATS = {
    "files": ("Number of files",),
    "transferred_files": ("Number of regular files transferred", "Number of files transferred"),
    "bytes": ("Total file size",),
    "transferred_bytes": ("Total transferred file size",),
}
_LINE = re.compile(
    r"^(?P<label>[A-Z][A-Za-z ]+): (?P<value>\d+)(?: bytes)?(?: \((?P<kinds>[^()]*)\))?$", re.ASCII
)
_KIND = re.compile(r"(?P<kind>[a-z]+): (?P<number>[0-9]+)")


def _unreadable(what: str) -> PermanentError:
    return PermanentError(
        "totals-unreadable",
        f"rsync's totals cannot be read: {what}",
        "nothing was concluded from them; show ~/.beamferry/jobs/.../stats on RDS-SSH to whoever keeps Beamferry, "
        "with the output of 'rsync --version' there",
    )


def parse_stats(text: str) -> Totals:
    """Return the totals of ``rsync --stats --no-h`` under ``LC_ALL=C``.

    Raises:
        PermanentError: a line is missing, stands twice, or holds anything but a plain integer.
    """
    found: dict[str, tuple[int, str | None]] = {}
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        if match["label"] in found:
            raise _unreadable(f"'{match['label']}' stands twice")
        found[match["label"]] = (int(match["value"]), match["kinds"])
    values = {}
    for field, labels in _STATS.items():
        there = [found[label][0] for label in labels if label in found]
        if not there:
            raise _unreadable(f"no plain integer behind '{labels[0]}'")
        if len(there) > 1:
            raise _unreadable(f"'{labels[0]}' stands twice")
        values[field] = there[0]
    count, kinds = found["Number of files"]
    return Totals(regular_files=_regular(kinds, count, text), **values)


def _regular(kinds: str | None, count: int, text: str) -> int:
    """Return the regular files of ``6 (reg: 4, dir: 2)``; rsync 3.0 gives no kinds."""
    if kinds is None:
        if count == 0 or "Number of regular files transferred" not in text:
            return count
        raise _unreadable("no kinds behind 'Number of files'")
    parts = [_KIND.fullmatch(part) for part in kinds.split(", ")]
    numbers = {part["kind"]: int(part["number"]) for part in parts if part is not None}
    # A kind that stands twice or cannot be read is not in the sum.
    if len(numbers) != len(parts) or sum(numbers.values()) != count:
        raise _unreadable(f"'{shown(kinds)}' behind 'Number of files'")
    return numbers.get("reg", 0)
