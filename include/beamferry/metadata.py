"""DESY's metadata file of a beamtime: what it is about, in the keys of today's files and of older ones."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen
from beamferry.errors import PermanentError

# What a title or a name may take of the asset state.
TEXT_LIMIT = 300
README_LIMIT = 4000
# Control characters, and those that are not seen but hide or turn round what stands beside them.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+"
)
# Today's key, then that of older files.
_KEYS = {
    "number": ("beamtimeId", "beamtime-id"),
    "title": ("title",),
    "instrument": ("beamlineAlias", "beamline_alias", "beamline"),
    "proposal": ("proposalId", "proposal-id"),
    "begin": ("eventStart", "event-start"),
    "end": ("eventEnd", "event-end"),
    "retention": ("retentionPeriod", "retention-period"),
    "path": ("corePath", "core-path"),
}


class Metadata(Frozen):
    """What the facility itself says of a beamtime; None where it says nothing.

    Args:
        title: of the proposal.
        instrument: beamline, by the facility's own name.
        proposal: its number.
        begin: first shift.
        end: last shift.
        pi: name of the principal investigator, only where the registry asks for personal data.
        retention: how long the data stays on disk, in the facility's words.
        path: where the facility keeps it.
        readme: README.non-conformant-files.txt, None where there is none.
    """

    schema_version: Literal[1] = 1
    title: str | None = None
    instrument: str | None = None
    proposal: str | None = None
    begin: AwareDatetime | None = None
    end: AwareDatetime | None = None
    pi: str | None = None
    retention: str | None = None
    path: str | None = None
    readme: str | None = None


def parse_metadata(raw: bytes, beamtime: str, *, personal_data: bool) -> Metadata:
    """Return what ``beamtime-metadata-<id>.json`` says.

    Args:
        raw: the file's bytes.
        beamtime: the number that it must be of.
        personal_data: whether the principal investigator's name is kept.

    Raises:
        PermanentError: ``metadata-unreadable``: it is no JSON object, or another beamtime's.
    """
    try:
        found = json.loads(raw.decode("utf-8-sig"))
    # The first two are ValueErrors too: the order matters.
    except UnicodeDecodeError:
        raise _unreadable(beamtime, "it is not in UTF-8") from None
    except json.JSONDecodeError as error:
        raise _unreadable(beamtime, f"it is no JSON from line {error.lineno} on") from None
    except (ValueError, RecursionError):
        raise _unreadable(beamtime, "its brackets are nested too deep, or a number is too long") from None
    if not isinstance(found, dict):
        raise _unreadable(beamtime, "it is no JSON object")
    values = {field: _first(found, keys) for field, keys in _KEYS.items()}
    number = values["number"]
    # Its name says whose it is where the file itself does not.
    if number is not None and _text(number) != beamtime:
        raise _unreadable(beamtime, f"it is that of another beamtime, {_text(number) or 'without a number'}")
    return Metadata(
        title=_text(values["title"]),
        instrument=_text(values["instrument"]),
        proposal=_text(values["proposal"]),
        begin=_moment(values["begin"]),
        end=_moment(values["end"]),
        pi=_name(found.get("pi")) if personal_data else None,
        retention=_text(values["retention"]),
        path=_text(values["path"]),
    )


def readme_text(raw: bytes) -> str:
    """Return a README as text that can be shown, its lines kept, up to ``README_LIMIT`` characters."""
    lines = raw.decode("utf-8", "replace").splitlines()
    text = "\n".join(_UNSEEN.sub(" ", line).rstrip() for line in lines).strip()
    if len(text) <= README_LIMIT:
        return text
    return text[:README_LIMIT] + "\n(cut here; the file itself comes with the data)"


def _first(found: dict[str, Any], keys: tuple[str, ...]) -> object:
    return next((found[key] for key in keys if found.get(key) is not None), None)


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return _line(str(value)) or None


def _line(text: str) -> str:
    # A lone surrogate is valid in JSON and in nothing that stores text.
    plain = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(_UNSEEN.sub(" ", plain).split())[:TEXT_LIMIT]


def _moment(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _name(person: object) -> str | None:
    if not isinstance(person, dict):
        return None
    parts = (_text(person.get(key)) for key in ("firstname", "lastname"))
    # Addresses are not kept, even where somebody typed one as a name.
    return " ".join(part for part in parts if part and "@" not in part)[:TEXT_LIMIT] or None


def _unreadable(beamtime: str, reason: str) -> PermanentError:
    return PermanentError(
        "metadata-unreadable",
        f"beamtime-metadata-{beamtime}.json cannot be read ({reason})",
        "the transfer does not need it; if the number is another beamtime's, correct the entry's id",
    )
