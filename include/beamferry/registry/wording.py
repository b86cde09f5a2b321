"""What pydantic finds wrong, said to the person who wrote the entry."""

from __future__ import annotations

import difflib
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, get_args

from beamferry.registry.document import written

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

    from beamferry.registry.document import Document
    from beamferry.registry.problem import Where


def report(document: Document, where: Where, model: type[BaseModel], error: ValidationError) -> None:
    """Note in the document each thing that is wrong with what stands at a place.

    Args:
        document: the file.
        where: place of the fields that do not fit the model.
        model: what they should have been.
        error: what pydantic said.
    """
    for details in error.errors(include_url=False):
        place = (*where, *details["loc"])
        # What could not be read at all has been reported, and is in the way of all other checks.
        if place in document.flawed:
            continue
        message, remedy = _words(model, details)
        # An unknown field may well be a password.
        secret = details["type"] in {"extra_forbidden", "missing"}
        value = "" if secret else written(details["input"], document.marks.get(place))
        document.refuse(place, message, remedy, value=value)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return what somebody may have meant by a word, or None."""
    close = difflib.get_close_matches(word[:80].lower().replace("-", "_"), list(known), n=1)
    return close[0] if close else None


def choice(value: object, words: Iterable[str]) -> tuple[str, str]:
    """Return what to say where one of some words is expected: (what is wrong, what to do)."""
    known = list(words)
    *most, last = known
    meant = nearest(value, known) if isinstance(value, str) else None
    message = f"must be {', '.join(most)} or {last}" if most else f"must be {last}"
    return message, f"did you mean '{meant}'?" if meant else "write one of these" if most else f"write {last}"


def _words(model: type[BaseModel], details: ErrorDetails) -> tuple[str, str]:
    """Return (what is wrong, what to do)."""
    kind, context = details["type"], details.get("ctx", {})
    name = str(details["loc"][0]) if details["loc"] else ""
    if kind == "refusal":
        return context["must"], context["remedy"]
    if kind == "extra_forbidden":
        meant = nearest(name, model.model_fields)
        fields = ", ".join(model.model_fields)
        return "is no known field", f"did you mean '{meant}'?" if meant else f"the fields are {fields}"
    description = (model.model_fields[name].description or "").rstrip(".")
    if kind == "missing":
        return "is missing", f"write it: {description[:1].lower()}{description[1:]}"
    if kind == "literal_error":
        return choice(details["input"], map(str, get_args(model.model_fields[name].annotation)))
    if details["input"] is None:
        return "has no value", "write one, or remove the line"
    return _TYPES.get(kind, _other)(details["input"], context, description)


def _text(value: Any, _context: Any, _description: str) -> tuple[str, str]:
    if isinstance(value, (dict, list)):
        return "must be a single text", "write one value behind the colon"
    kind = {bool: "yes or no", date: "a day", datetime: "a time"}.get(type(value), "a number")
    return f"must be text, but YAML reads it as {kind}", "write it in quotes"


def _number(value: Any, _context: Any, _description: str) -> tuple[str, str]:
    quoted = isinstance(value, str) and value.strip().isdecimal()
    return "must be a whole number", "remove the quotes" if quoted else "write digits only"


def _day(value: Any, _context: Any, _description: str) -> tuple[str, str]:
    if isinstance(value, datetime):
        return "must be a day without a time", "write it as year-month-day, e.g. 2021-05-03"
    return "must be a day", "write it as year-month-day without quotes, e.g. 2021-05-03"


def _yes_or_no(_value: Any, _context: Any, _description: str) -> tuple[str, str]:
    return "must be true or false", "write true or false without quotes"


def _list(_value: Any, _context: Any, _description: str) -> tuple[str, str]:
    return "must be a list", "write it in brackets, e.g. [first, second]"


def _at_least(_value: Any, context: Any, description: str) -> tuple[str, str]:
    return f"must be {context['ge']} or more", f"correct the value ({description})"


def _at_most(_value: Any, context: Any, description: str) -> tuple[str, str]:
    return f"must be {context['le']} or less", f"correct the value ({description})"


def _too_long(_value: Any, context: Any, _description: str) -> tuple[str, str]:
    return f"must not be longer than {context['max_length']} characters", "shorten it"


def _other(_value: Any, _context: Any, description: str) -> tuple[str, str]:
    return "is not valid here", f"compare with what the field is for ({description})"


_TYPES = {
    "string_type": _text,
    "string_too_long": _too_long,
    "int_type": _number,
    "bool_type": _yes_or_no,
    "date_type": _day,
    "tuple_type": _list,
    "greater_than_equal": _at_least,
    "less_than_equal": _at_most,
}
