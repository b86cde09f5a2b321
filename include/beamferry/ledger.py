"""Who was told what: written before a mail is sent, confirmed after the server took it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from pydantic import AwareDatetime, ValidationError

from beamferry.beamtime import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from beamferry.alerts import Alert

# What is told without a count of days counts as this.
_ONCE = 0
# What was told of earlier deadlines of a kind makes room first: a line that is still due must not, or the same would be
# told every day. Two of a kind can be due at once.
KEPT_OF_A_KIND = 3
# A line takes about 200 bytes, and Airflow's REST API takes 64 kB.
KEPT = 300


class Entry(Frozen):
    """One line: a recipient and the most urgent threshold of a kind and deadline that he was told of.

    Args:
        kind: of the alert.
        deadline: that it was about; one that moved is another line.
        recipient: mail address.
        threshold: days before the deadline; smaller is more urgent and settles the larger ones.
        written: when the mail was about to be sent.
        confirmed: when the server took it, None for a crash in between, which is sent again.
    """

    kind: str
    deadline: AwareDatetime
    recipient: str
    threshold: int
    written: AwareDatetime
    confirmed: AwareDatetime | None = None

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
        return self.model_dump(mode="json")

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

    def _with(
        self, alerts: Iterable[Alert], recipient: str, written: datetime, confirmed: datetime | None
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
                )
            )
        return self.model_copy(update={"entries": tuple(_newest(entries)[-KEPT:])})


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
