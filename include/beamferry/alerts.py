"""What people are told of their beamtimes: alerts as data, ready to be ordered, remembered and rendered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

from beamferry.errors import BeamferryError

if TYPE_CHECKING:
    from datetime import datetime


class Kind(StrEnum):
    """What an alert is about."""

    TAPE = "tape"
    MAY_MOVE = "may-move"
    REGISTRATION = "registration"
    FORECAST = "forecast"
    STANDSTILL = "standstill"
    NEW_DATA = "new-data"
    PROBLEM = "problem"
    LOG_IN = "log-in"
    CERTIFICATE = "certificate"


class Urgency(IntEnum):
    """How much an alert matters; the larger the sooner a person has to act."""

    GOOD = 0
    NOTICE = 1
    SOON = 2
    URGENT = 3
    LOST = 4


@dataclass(frozen=True)
class Alert:
    """One thing that a person should know of one beamtime.

    Args:
        beamtime: the beamtime's key, e.g. ``diamond_mg25682-2``.
        kind: what it is about.
        threshold: days before the deadline that were passed, None where the kind counts none.
        deadline: the moment, UTC, that it is about: a deadline that moved makes another alert.
        urgency: how much it matters.
        headline: a few words, e.g. ``Goes to tape in 3 days``.
        detail: one sentence of figures, e.g. the forecast.
        todo: one sentence that says what the person is to do.
        since: when it came about, for what is told at once; the morning's mail leaves that some minutes' time.
    """

    beamtime: str
    kind: Kind
    threshold: int | None
    deadline: datetime
    urgency: Urgency
    headline: str
    detail: str
    todo: str
    since: datetime | None = None


@dataclass(frozen=True)
class Item:
    """A beamtime in a mail: its most urgent alert and how far it is.

    Args:
        alert: what is told.
        id: the facility's own name of the beamtime.
        facility: the facility's name as people write it.
        instrument: the beamline.
        title: the experiment's title where it is known and may be shown, else ''.
        tape: when tape begins, in words of the site's zone.
        days_left: whole days until then, negative once it has begun.
        bytes_done: bytes at RDS, None where nothing is known yet.
        bytes_total: bytes of the source, None where nothing is known yet.
        link: address of the run or the DAG in Airflow, '' where none is set.
        also: headlines of what else is to be told of this beamtime.
    """

    alert: Alert
    id: str
    facility: str
    instrument: str
    title: str
    tape: str
    days_left: int
    bytes_done: int | None
    bytes_total: int | None
    link: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Digest:
    """One mail to one person.

    Args:
        recipient: mail address.
        items: most urgent first.
        at: when it was made, in words of the site's zone.
        safe: beamtimes that are verified complete and need nothing.
        board: address of the board in Airflow, '' where none is set.
        warning: what keeps beamtimes from being watched, '' where nothing does.
    """

    recipient: str
    items: tuple[Item, ...]
    at: str
    safe: int
    board: str
    warning: str = ""


class RecipientRefusedError(BeamferryError):
    """The mail server refused one recipient; what it takes from others is another matter.

    Args:
        recipient: mail address.
        words: the server's answer, beginning with its code.
    """

    def __init__(self, recipient: str, words: str) -> None:
        """Make the sentences."""
        super().__init__(
            "mail-recipient-refused",
            f"The mail server refuses mails to {recipient} ({words})",
            "correct the address under notify: in the registry, or ask who runs that mailbox",
        )
        # What an exception is made of again when it was pickled.
        self.args = (recipient, words)
        self.words = words
