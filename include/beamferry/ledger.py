"""Who was told what: written before a mail is sent, confirmed after the server took it, or what it said against it."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import AwareDatetime, ValidationError

from beamferry.alerts import RecipientRefusedError
from beamferry.beamtime import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, tzinfo

    from beamferry.alerts import Alert

# What is told without a count of days counts as this.
_ONCE = 0
# What was told of earlier deadlines of a kind makes room first: a line that is still due must not, or the same would be
# told every day. Two of a kind can be due at once.
KEPT_OF_A_KIND = 3
# A line takes about 200 bytes, and Airflow's REST API takes 64 kB.
KEPT = 300


class Refusal(Frozen):
    """The mail server's last word on a recipient: that it does not take mails to this address."""

    recipient: str
    at: AwareDatetime
    words: str

    @property
    def for_good(self) -> bool:
        """Whether trying again on the same day cannot help: an answer of 500 and more (RFC 5321)."""
        return self.words.startswith("5")

    @property
    def error(self) -> RecipientRefusedError:
        """The fault and its remedy in words."""
        return RecipientRefusedError(self.recipient, self.words)


class Outcome(NamedTuple):
    """What became of one mail to a recipient; ``refusal`` is what the server said against it, None if it took it."""

    at: datetime
    recipient: str
    refusal: str | None


class Entry(Frozen):
    """One line: a recipient and the most urgent threshold of a kind and deadline that he was told of.

    Args:
        kind: of the alert.
        deadline: that it was about; one that moved is another line.
        recipient: mail address.
        threshold: days before the deadline; smaller is more urgent and settles the larger ones.
        written: when the mail was about to be sent.
        confirmed: when the server took it, None for a crash in between, which is sent again.
        refusal: what the server said when it refused this recipient, None where it did not.
    """

    kind: str
    deadline: AwareDatetime
    recipient: str
    threshold: int
    written: AwareDatetime
    confirmed: AwareDatetime | None = None
    refusal: str | None = None

    def is_about(self, alert: Alert, recipient: str) -> bool:
        """Say whether this line is of an alert's kind, deadline and recipient, whatever the threshold."""
        return (self.kind, self.deadline, self.recipient) == (alert.kind.value, alert.deadline, recipient)


class Ledger(Frozen):
    """All lines of one beamtime, oldest first; ``first_seen`` is when the alerts first looked at it."""

    schema_version: Literal[1] = 1
    entries: tuple[Entry, ...] = ()
    first_seen: AwareDatetime | None = None

    @classmethod
    def read(cls, stored: object) -> Ledger:
        """Return a stored ledger; none, or one that cannot be read, is empty: told twice is better than never."""
        if stored is None:
            return cls()
        try:
            return cls.model_validate(stored, strict=False)
        except ValidationError:
            return cls()

    def stored(self) -> dict[str, Any]:
        """Return what ``read`` takes."""
        # Without what is None, so that an earlier version can read what it knows.
        return self.model_dump(mode="json", exclude_none=True)

    def outstanding(self, alerts: Iterable[Alert], recipient: str) -> tuple[Alert, ...]:
        """Return what a recipient was not yet told; a threshold that was told settles all less urgent ones."""
        return tuple(alert for alert in alerts if not self._told(alert, recipient))

    def _told(self, alert: Alert, recipient: str) -> bool:
        threshold = _threshold(alert)
        return any(
            entry.confirmed is not None and entry.is_about(alert, recipient) and entry.threshold <= threshold
            for entry in self.entries
        )

    def seen(self, now: datetime) -> Ledger:
        """Return the ledger to store when the alerts look at a beamtime."""
        return self if self.first_seen is not None else self.model_copy(update={"first_seen": now})

    def written(self, alerts: Iterable[Alert], recipient: str, now: datetime) -> Ledger:
        """Return the ledger to store before a mail with these alerts is sent."""
        return self._with(alerts, recipient, now, None)

    def confirmed(self, alerts: Iterable[Alert], recipient: str, now: datetime) -> Ledger:
        """Return the ledger to store after the server took the mail."""
        return self._with(alerts, recipient, now, now)

    def refused(self, alerts: Iterable[Alert], recipient: str, now: datetime, words: str) -> Ledger:
        """Return the ledger to store after the server refused the recipient."""
        return self._with(alerts, recipient, now, None, words)

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of the mails; one that nobody answered has no outcome."""
        return tuple(
            Outcome(entry.written, entry.recipient, entry.refusal)
            for entry in self.entries
            if entry.confirmed is not None or entry.refusal is not None
        )

    def _with(
        self,
        alerts: Iterable[Alert],
        recipient: str,
        written: datetime,
        confirmed: datetime | None,
        refusal: str | None = None,
    ) -> Ledger:
        entries = list(self.entries)
        for alert in alerts:
            threshold = _threshold(alert)
            entries = [entry for entry in entries if not entry.is_about(alert, recipient)]
            entries.append(
                Entry(
                    kind=alert.kind.value,
                    deadline=alert.deadline,
                    recipient=recipient,
                    threshold=threshold,
                    written=written,
                    confirmed=confirmed,
                    refusal=refusal,
                )
            )
        return self.model_copy(update={"entries": tuple(_newest(entries)[-KEPT:])})


class Summary(Frozen):
    """What became of one person's last weekly summary."""

    recipient: str
    at: AwareDatetime
    refusal: str | None = None


class Summaries(Frozen):
    """Who got the weekly summary; ``summary`` is the day on which an earlier version had told everybody."""

    schema_version: Literal[1] = 1
    summary: date | None = None
    people: tuple[Summary, ...] = ()

    @classmethod
    def read(cls, stored: object) -> Summaries:
        """Return what is stored; none, or what cannot be read, is empty: told twice is better than never."""
        try:
            return cls() if stored is None else cls.model_validate(stored, strict=False)
        except ValidationError:
            return cls()

    def stored(self) -> dict[str, Any]:
        """Return what ``read`` takes."""
        return self.model_dump(mode="json", exclude_none=True)

    def owed(self, recipient: str, day: date, zone: tzinfo) -> bool:
        """Say whether a person has still to get the summary of a day; who is refused for now has."""
        if self.summary == day:
            return False
        return not any(
            one.recipient == recipient and one.at.astimezone(zone).date() == day and one.refusal is None
            for one in self.people
        )

    def sent(self, recipient: str, now: datetime, refusal: str | None = None) -> Summaries:
        """Return what to store after the server took a person's summary, or refused the person."""
        others = tuple(one for one in self.people if one.recipient != recipient)
        kept = (*others, Summary(recipient=recipient, at=now, refusal=refusal))
        return self.model_copy(update={"people": kept[-KEPT:]})

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What became of the summaries."""
        return tuple(Outcome(one.at, one.recipient, one.refusal) for one in self.people)


def refusals(outcomes: Iterable[Outcome], people: Iterable[str]) -> dict[str, Refusal]:
    """Return those of these people to whom the last mail was refused, with the server's words."""
    last = {outcome.recipient: outcome for outcome in sorted(outcomes, key=lambda outcome: outcome.at)}
    found = {person: last[person] for person in people if person in last}
    return {
        person: Refusal(recipient=person, at=outcome.at, words=outcome.refusal)
        for person, outcome in found.items()
        if outcome.refusal is not None
    }


def _newest(entries: list[Entry]) -> list[Entry]:
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for entry in reversed(entries):
        seen[entry.kind, entry.recipient] += 1
        if seen[entry.kind, entry.recipient] <= KEPT_OF_A_KIND:
            kept.append(entry)
    return kept[::-1]


def _threshold(alert: Alert) -> int:
    return _ONCE if alert.threshold is None else alert.threshold
