"""YAML as plain values, with the line of each; what a registry has no use for is refused in words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

import yaml

from beamferry.registry.problem import Problem, Where, shorten, spell
from beamferry.registry.recovery import without_entry

if TYPE_CHECKING:
    from pathlib import Path

# A registry is a list of entries that hold lists; what is deeper is a mistake, or meant to exhaust the stack.
_DEEPEST = 8
_TAG = "tag:yaml.org,2002:"
_QUOTES_REMEDY = "put the value in quotes if it holds ': ' or begins with one of @ % ` * & ! | > [ {"
# Each costs another reading of the file.
_MOST_SET_ASIDE = 20
# What libyaml says, and what a person can do about it.
_SYNTAX = {
    "tab character": "replace the tabs at the beginning of lines by spaces",
    "cannot start any token": "replace tabs by spaces, and " + _QUOTES_REMEDY,
    "mapping values are not allowed": "give each field its own line, and " + _QUOTES_REMEDY,
    "found another document": "remove the line '---' and what repeats below it",
    "end of stream": "close the quotation mark or bracket that was opened here or above",
    "could not find expected ':'": "write the field as 'name: value', with a colon and a space",
}


@dataclass(frozen=True)
class Mark:
    """Where a value stands, ``line`` counted from 1, and how a single value is written there."""

    line: int
    text: str | None = None


@dataclass
class Document:
    """What a file holds.

    Args:
        file: where the text comes from.
        value: dictionaries, lists, texts, numbers, days; None for an empty file.
        marks: one for each value and key, by place.
        problems: what could not be read.
        flawed: the places that those problems are about, and all places around them.
    """

    file: Path
    value: object = None
    marks: dict[Where, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    flawed: set[Where] = field(default_factory=set)

    def line(self, where: Where) -> int:
        """Return the line of a place, or of the nearest thing around it that is in the file."""
        while where not in self.marks:
            if not where:
                return 1
            where = where[:-1]
        return self.marks[where].line

    def refuse(
        self, where: Where, message: str, remedy: str, *, value: str = "", line: int | None = None
    ) -> None:
        """Note a problem with what stands at a place; ``line`` where it is not the place's own."""
        self.flawed.update(where[:length] for length in range(len(where) + 1))
        self.problems.append(
            Problem(self.file, line or self.line(where), spell(where), value, message, remedy)
        )


def read_document(file: Path, data: bytes) -> Document:
    """Return what the bytes of a YAML file hold; whatever they are, problems are in the result, never raised.

    Aliases, merges, tags and repeated keys are refused: they have no use in a registry, and each can make a
    file mean something else than it seems to. An entry that is no valid YAML is set aside, its place flawed.
    """
    text, problems = _decode(file, data)
    # First lines of the entries set aside, and which problem each has.
    aside: dict[int, int] = {}
    while text is not None:
        document = Document(file, problems=[*problems])
        try:
            document.value = _Reader(document, text, aside).read()
        except (yaml.MarkedYAMLError, yaml.reader.ReaderError, _TooDeepError) as error:
            problem, at = _explain(file, error, text)
            problems.append(problem)
            rest = without_entry(text, at) or without_entry(text, (problem.line or 1) - 1)
            if rest is None or len(aside) == _MOST_SET_ASIDE:
                break
            text = rest.text
            aside[rest.start] = len(problems) - 1
        else:
            return document
    return Document(file, problems=problems)


def _decode(file: Path, data: bytes) -> tuple[str | None, list[Problem]]:
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = Problem(
            file, line, "", "", "the file is not UTF-8 text here", "save it as UTF-8 in your editor"
        )
        return None, [problem]


def _explain(
    file: Path, error: yaml.MarkedYAMLError | yaml.reader.ReaderError | _TooDeepError, text: str
) -> tuple[Problem, int]:
    """Return the problem that stopped the reader, and the line, from 0, of what began it."""
    if isinstance(error, yaml.reader.ReaderError):
        # libyaml counts bytes up to the character.
        at = text.encode()[: error.position].count(b"\n")
        message = f"the file holds a control character here (number {error.character})"
        return Problem(file, at + 1, "", "", message, "remove it"), at
    if isinstance(error, _TooDeepError):
        message, remedy = "lists or fields are nested too deeply here", "correct the indentation"
        return Problem(file, error.line, "", "", message, remedy), error.line - 1
    said = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    remedy = next(
        (remedy for sign, remedy in _SYNTAX.items() if sign in said),
        "compare the indentation with the lines above: spaces only, entries begin with '- '",
    )
    at = noticed = error.problem_mark.line if error.problem_mark else 0
    # A list begins with its first entry, and that one is not to blame.
    if error.context_mark and "block collection" not in said:
        at = error.context_mark.line
    # Where a quotation mark or bracket was left open, libyaml stumbles much later.
    shown, other = (at, noticed) if "quoted scalar" in said or "flow" in said else (noticed, at)
    also = "" if at == noticed else f", see line {other + 1}"
    return Problem(
        file, shown + 1, "", "", f"the file is no valid YAML here ({shorten(said)}{also})", remedy
    ), at


class _TooDeepError(Exception):
    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Reader:
    """Builds values from libyaml's events; its composer would recurse in C until the process dies."""

    def __init__(self, document: Document, text: str, aside: dict[int, int]) -> None:
        self.document = document
        self.aside = aside
        # Any: an event's attributes depend on its kind, and the stubs leave them out.
        self.loader: Any = yaml.CSafeLoader(text)

    def read(self) -> object:
        """Return the value of the one document in the text."""
        self.loader.get_event()  # the stream's start
        if self.loader.check_event(yaml.StreamEndEvent):
            return None
        self.loader.get_event()  # the document's start
        value = self._value((), self.loader.get_event())
        self.loader.get_event()  # the document's end
        if not self.loader.check_event(yaml.StreamEndEvent):
            mark = self.loader.get_event().start_mark
            raise yaml.MarkedYAMLError(problem="found another document", problem_mark=mark)
        return value

    def _value(self, where: Where, event: Any) -> object:
        line = event.start_mark.line + 1
        if len(where) > _DEEPEST:
            raise _TooDeepError(line)
        scalar = isinstance(event, yaml.ScalarEvent)
        if scalar and event.start_mark.line in self.aside:
            self._set_aside(where, self.aside[event.start_mark.line])
        # The line of a list or of fields is that of its name; the line of a single value is its own.
        if scalar or where not in self.document.marks:
            self.document.marks[where] = Mark(line, event.value if scalar else None)
        if isinstance(event, yaml.AliasEvent):
            self.document.refuse(
                where, f"refers to another place by '*{event.anchor}'", "write the value out"
            )
            return None
        if event.tag not in {None, "!"}:
            self.document.refuse(where, "has a tag (a word that begins with '!')", "remove the tag")
        if scalar:
            return self._scalar(where, event)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(where)
        return self._fields(where)

    def _set_aside(self, where: Where, number: int) -> None:
        """Now that its place is known, say which entry it was."""
        self.document.flawed.add(where)
        self.document.problems[number] = replace(self.document.problems[number], field=spell(where))

    def _list(self, where: Where) -> list[object]:
        values: list[object] = []
        while not isinstance(event := self.loader.get_event(), yaml.SequenceEndEvent):
            values.append(self._value((*where, len(values)), event))
        return values

    def _fields(self, where: Where) -> dict[str, object]:
        values: dict[str, object] = {}
        while not isinstance(event := self.loader.get_event(), yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            key = self._key(where, event)
            if key in values:
                first = self.document.line((*where, key))
                message, remedy = f"is written twice, first in line {first}", "keep one of the two"
                self.document.refuse((*where, key), message, remedy, line=line)
                self._value((*where, f"{key} (again)"), self.loader.get_event())
            else:
                values[key] = self._value((*where, key), self.loader.get_event())
        return values

    def _key(self, where: Where, event: Any) -> str:
        """Return a field's name; what cannot be one becomes a text that no field has."""
        line = event.start_mark.line + 1
        if not isinstance(event, yaml.ScalarEvent):
            self._value((*where, "?"), event)
            return "?"
        self.document.marks.setdefault((*where, event.value), Mark(line))
        if event.value == "<<":
            self.document.refuse((*where, "<<"), "merges fields from elsewhere", "write the fields out")
        return str(event.value)

    def _scalar(self, where: Where, event: Any) -> object:
        tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        if tag.removeprefix(_TAG) not in {"null", "bool", "int", "float", "timestamp"}:
            return event.value
        try:
            value: object = self.loader.construct_object(yaml.ScalarNode(tag, event.value, event.start_mark))
        except (ValueError, OverflowError):
            day = tag.endswith("timestamp")
            self.document.refuse(
                where,
                "is no day of the calendar" if day else "is no number that can be read",
                "correct the year, month or day" if day else "put it in quotes if it is meant as text",
                value=shorten(event.value),
            )
            return None
        return value


def written(value: object, mark: Mark | None) -> str:
    """Return a value as somebody wrote it: texts in quotes, numbers and days as typed."""
    if isinstance(value, str):
        return shorten(repr(value))
    if isinstance(value, (bool, int, float, date)):
        return shorten(mark.text if mark and mark.text else str(value))
    return ""
