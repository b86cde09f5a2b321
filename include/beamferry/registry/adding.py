"""Adding an entry to a registry without touching a byte of what people wrote there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from beamferry.errors import PermanentError, TransientError
from beamferry.registry import Registry, RegistryError, load, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from beamferry.beamtime import Beamtime

_BOM = b"\xef\xbb\xbf"


def add(path: Path, entry: Mapping[str, object]) -> Beamtime:
    """Append an entry to a registry; all other lines stay as they are, byte for byte.

    The new text is loaded before it takes the old one's place, in one step: nobody sees half a file.

    Args:
        path: the registry.
        entry: fields in the order in which they are to be written.

    Returns:
        The entry as the registry then has it.

    Raises:
        RegistryError: the registry cannot be used, or the entry would not be valid.
        PermanentError: the list of beamtimes is written in a way that cannot be appended to, or the file
            cannot be written.
        TransientError: somebody else changed the file meanwhile.
    """
    before = load(path)
    if before.site is None:
        raise RegistryError(before.problems)
    # A link stays one: what it points to is replaced.
    path = path.resolve()
    try:
        old = path.read_bytes()
        new = _appended(path, old, entry)
        after = read(path, new)
        _check(before, after)
        _replace(path, old, new)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PermanentError(
            "registry-not-written", f"{path} could not be changed ({reason})", "check who may write there"
        ) from error
    return after.beamtimes[-1]


def _check(before: Registry, after: Registry) -> None:
    """Refuse a text that says anything else than the old one and one entry more."""
    known = {(problem.field, problem.value, problem.message) for problem in before.problems}
    new = [
        problem for problem in after.problems if (problem.field, problem.value, problem.message) not in known
    ]
    if new:
        # A line of a text that nobody has seen would be of no use.
        raise RegistryError([replace(problem, line=None) for problem in new], what="the new entry")
    if after.site != before.site or after.beamtimes[:-1] != before.beamtimes:
        raise _unsuited(before.path)


def _unsuited(path: Path) -> PermanentError:
    return PermanentError(
        "registry-not-appendable",
        f"the beamtimes in {path} are not written as a plain list, one '- ' each",
        "rewrite them so, or add the entry in an editor",
    )


def _appended(path: Path, data: bytes, entry: Mapping[str, object]) -> bytes:
    bom = _BOM if data.startswith(_BOM) else b""
    text = data.removeprefix(bom).decode()
    # The file's own kind of line end, for the lines that are new.
    newline = "\r\n" if "\r\n" in text else "\n"
    place = _place(text)
    if place is None:
        raise _unsuited(path)
    first, *others = (
        yaml.safe_dump(dict(entry), sort_keys=False, allow_unicode=True, width=1000).rstrip().split("\n")
    )
    block = newline.join([f"{place.indent}- {first}", *(f"{place.indent}  {line}" for line in others), ""])
    head = place.head if place.head.endswith("\n") else place.head + newline
    return bom + f"{head}{block}{place.tail}".encode()


@dataclass(frozen=True)
class _Place:
    """The text before and after a new entry, and the spaces before its dash."""

    head: str
    tail: str
    indent: str


def _place(text: str) -> _Place | None:
    """Find where a new entry goes; None where the beamtimes are no list with lines of its own for each."""
    value = _beamtimes(text)
    if not value:
        return None
    first = value[0]
    start: Any = first.start_mark  # the stubs allow for events without one, libyaml does not
    if isinstance(first, yaml.SequenceStartEvent) and not first.flow_style:
        indent = " " * start.column
        # Ends of lists and fields have no length and stand before what comes next, comments in between.
        ends = [
            event.end_mark.index
            for event in value
            if isinstance(event, yaml.ScalarEvent) or event.end_mark.index > event.start_mark.index
        ]
        end = max(ends)
        if text[end - 1] != "\n":
            end = _next_line(text, end)
        # Comments that are further in than the dashes belong to the last entry.
        while own := re.compile(rf"{indent} +#.*(\n|$)").match(text, end):
            end = own.end()
        return _Place(text[:end], text[end:], indent)
    end = value[-1].end_mark.index
    if "".join(text[start.index : end].split()) not in {"", "[]", "~", "null"}:
        return None
    stop = _next_line(text, end)
    return _Place(text[: start.index].rstrip(" ") + text[end:stop], text[stop:], "  ")


def _next_line(text: str, position: int) -> int:
    return text.find("\n", position) + 1 or len(text)


def _beamtimes(text: str) -> list[Any]:
    """Return libyaml's events of the value of ``beamtimes``; none where the file is no block of fields."""
    try:
        events = yaml.parse(text, yaml.CSafeLoader)
        next(events), next(events)  # the stream's and the document's start
        root = next(events)
        if not isinstance(root, yaml.MappingStartEvent) or root.flow_style:
            return []
        while isinstance(key := next(events), yaml.ScalarEvent):
            value = _one_value(events)
            if key.value == "beamtimes":
                return value
    except yaml.YAMLError:
        return []
    return []


def _one_value(events: Iterator[Any]) -> list[Any]:
    value: list[Any] = []
    depth = 0
    for event in events:
        value.append(event)
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth == 0:
            break
    return value


def _replace(path: Path, old: bytes, new: bytes) -> None:
    """Put the new file in the old one's place, with its mode and, for root, its owner."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(new)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        if os.geteuid() == 0:
            owner = path.stat()
            os.chown(temporary, owner.st_uid, owner.st_gid)
        if path.read_bytes() != old:
            raise TransientError("registry-changed", f"{path} was changed at the same moment", "try again")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
