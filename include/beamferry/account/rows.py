"""What became of an account: lines of the table at the end, and host keys that a person has to confirm."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Annotated

from beamferry.beamtime import Frozen, Spelling


class State(StrEnum):
    """What became of a step."""

    MADE = "made"
    WAS_THERE = "was there"
    CHANGED = "made private"
    REMOVED = "removed"
    WAS_NOT_THERE = "was not there"
    NOT_CONFIRMED = "not confirmed"
    REFUSED = "NOT DONE"


class Row(Frozen):
    """One line of the table at the end.

    Args:
        what: what it is about.
        state: what became of it.
        where: the place, and what it is or leads to.
        paste: for a person to paste somewhere, with the words that say where.
        problem: why it was not done.
        remedy: what a person can do about that.
    """

    what: str
    state: State
    where: str
    paste: str | None = None
    problem: str | None = None
    remedy: str | None = None


class HostKey(Frozen):
    """A host key that a facility shows: of which gate, and under which name it would be pinned in which file."""

    gate: str
    name: str
    file: str
    type: Annotated[str, Spelling(r"[a-z0-9@.-]{1,64}", "must be a type of key", "scan again")]
    key: Annotated[str, Spelling(r"[A-Za-z0-9+/]{1,3000}={0,2}", "must be base64", "scan again")]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key as ``ssh-keygen -l`` writes it."""
        return fingerprint(self.key)


class Answer(Frozen):
    """What a call of the script led to: rows that are settled, and host keys that a person has to confirm."""

    rows: tuple[Row, ...]
    unconfirmed: tuple[HostKey, ...] = ()


def fingerprint(key: str) -> str:
    """Return the SHA-256 fingerprint of a public key's base64.

    Raises:
        ValueError: it is no base64.
    """
    try:
        blob = base64.b64decode(key, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {key[:20]}") from error
    return "SHA256:" + base64.b64encode(sha256(blob).digest()).decode().rstrip("=")


def is_base64(key: str) -> bool:
    """Say whether a text can be a public key."""
    try:
        fingerprint(key)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Pinned:
    """A line of known_hosts for a gate."""

    gate: str
    file: str
    marker: str
    type: str
    key: str


@dataclass(frozen=True)
class Said:
    """A ``step`` line."""

    step: str
    subject: str
    state: State
    place: str
    reason: str
    detail: str
