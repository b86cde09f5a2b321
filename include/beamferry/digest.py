"""From what is known of all beamtimes to what one person is told today, most urgent first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from beamferry.alerts import Alert, Digest, Item, Kind, RecipientRefusedError, Urgency
from beamferry.deadlines import due
from beamferry.outlook import days_left, outlook
from beamferry.plan import deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site
    from beamferry.known import Known
    from beamferry.ledger import Ledger

# What is told at once is told by the task itself, within this time; both must not tell it.
_GRACE = timedelta(minutes=15)


@dataclass(frozen=True)
class Watched:
    """One beamtime as the alerts see it.

    Args:
        beamtime: the registry's entry.
        known: what its asset says.
        ledger: who was told what of it.
        link: address of its DAG in Airflow, '' where none is known.
    """

    beamtime: Beamtime
    known: Known
    ledger: Ledger
    link: str = ""

    def recipients(self, site: Site) -> tuple[str, ...]:
        """Return who is told of it: the group's addresses, then the entry's own."""
        return tuple(dict.fromkeys((*site.notify, *self.beamtime.notify)))

    def outstanding(self, site: Site, recipient: str, now: datetime) -> tuple[Alert, ...]:
        """Return what this recipient has still to be told, most urgent first."""
        if recipient not in self.recipients(site):
            return ()
        return self.ledger.outstanding(self.due(site, now), recipient)

    def due(self, site: Site, now: datetime) -> tuple[Alert, ...]:
        """Return what is true of it and worth telling, most urgent first."""
        return due(self.beamtime, site, self.known, now, first_seen=self.ledger.first_seen)

    def ripe(self, site: Site, recipient: str, now: datetime, *, at_once: bool = False) -> tuple[Alert, ...]:
        """Return what is outstanding and was not just left to the task that tells it at once.

        With ``at_once`` only what should have been told at once, and was not.
        """
        found = self.outstanding(site, recipient, now)
        return tuple(
            alert for alert in found if (not at_once if alert.since is None else now - alert.since >= _GRACE)
        )


def recipients(watched: Iterable[Watched], site: Site) -> tuple[str, ...]:
    """Return everybody who is told of any of them."""
    return tuple(dict.fromkeys(name for one in watched for name in one.recipients(site)))


def item(one: Watched, site: Site, alerts: tuple[Alert, ...], now: datetime) -> Item:
    """Return a beamtime's place in a mail; the first of its alerts speaks, the others are named."""
    beamtime, known = one.beamtime, one.known
    begins = deadline(beamtime, site).astimezone(ZoneInfo(site.time_zone))
    first, *others = alerts
    return Item(
        alert=first,
        id=beamtime.id,
        facility=beamtime.facility_name,
        instrument=beamtime.instrument,
        title="",
        tape=f"{begins:%A %-d %B %Y}",
        days_left=days_left(beamtime.tape_day, site, now),
        bytes_done=known.bytes_done,
        bytes_total=known.bytes_total,
        link=one.link,
        also=tuple(alert.headline for alert in others if alert.kind is not Kind.CERTIFICATE),
    )


def digest(
    recipient: str,
    watched: Iterable[Watched],
    site: Site,
    now: datetime,
    *,
    board: str = "",
    warning: str = "",
    at_once: bool = False,
) -> tuple[Digest, dict[str, tuple[Alert, ...]]]:
    """Return one person's mail, and by beamtime's key the alerts that it tells him of; no item means no mail.

    Args:
        recipient: mail address.
        watched: all beamtimes.
        site: the group's own side.
        now: the present, aware.
        board: address of the board in Airflow, '' where none is known.
        warning: what keeps beamtimes from being watched, '' where nothing does.
        at_once: only what should have been told at once, and was not.
    """
    known = _of(recipient, watched, site)
    ripe = {one.beamtime.key: one.ripe(site, recipient, now, at_once=at_once) for one in known}
    told = {key: alerts for key, alerts in ripe.items() if alerts}
    return _mail(recipient, known, told, site, now, board, warning), told


def _of(recipient: str, watched: Iterable[Watched], site: Site) -> list[Watched]:
    return [one for one in watched if not one.beamtime.archived and recipient in one.recipients(site)]


def _mail(
    recipient: str,
    known: Iterable[Watched],
    told: Mapping[str, tuple[Alert, ...]],
    site: Site,
    now: datetime,
    board: str,
    warning: str,
) -> Digest:
    """Return a mail with those that have alerts, and the count of those without that are safe."""
    items, safe = [], 0
    for one in known:
        if alerts := told.get(one.beamtime.key):
            items.append(item(one, site, alerts, now))
        else:
            safe += one.known.complete
    items.sort(key=lambda found: (-found.alert.urgency, found.days_left, found.id))
    return Digest(recipient, tuple(items), in_words(now, site), safe, board, warning)


def deliver(
    recipient: str,
    watched: Iterable[Watched],
    site: Site,
    now: datetime,
    *,
    board: str = "",
    warning: str = "",
    at_once: bool = False,
    keep: Callable[[Watched], None],
    send: Callable[[Digest], None],
) -> Digest | None:
    """Tell one person what is outstanding, at most once in one mail, and remember it; returns what was sent.

    Args:
        recipient: mail address.
        watched: all beamtimes.
        site: the group's own side.
        now: the present, aware.
        board: address of the board in Airflow, '' where none is known.
        warning: what keeps beamtimes from being watched, '' where nothing does.
        at_once: only what should have been told at once, and was not.
        keep: stores the ledger of a beamtime.
        send: hands the mail to the server; what it raises is passed on.
    """
    known = list(watched)
    mail, told = digest(recipient, known, site, now, board=board, warning=warning, at_once=at_once)
    if not mail.items:
        return None
    affected = [(one, told[one.beamtime.key]) for one in known if one.beamtime.key in told]
    settle(affected, recipient, now, keep=keep, send=lambda: send(mail))
    return mail


def settle(
    told: Iterable[tuple[Watched, tuple[Alert, ...]]],
    recipient: str,
    now: datetime,
    *,
    keep: Callable[[Watched], None],
    send: Callable[[], None],
) -> list[Watched]:
    """Write down what a mail tells, send it, and confirm it; returns the beamtimes with their ledgers of afterwards.

    A crash before ``send`` returns leaves lines without confirmation: the next mail tells them again. So does a
    crash right after it, which is the one case in which somebody is told twice. That the server refused the recipient
    is written down too, and raised.
    """
    written = [
        (replace(one, ledger=one.ledger.written(alerts, recipient, now)), alerts) for one, alerts in told
    ]
    for one, _ in written:
        keep(one)
    try:
        send()
    except RecipientRefusedError as error:
        for one, alerts in written:
            keep(replace(one, ledger=one.ledger.refused(alerts, recipient, now, error.words)))
        raise
    confirmed = [replace(one, ledger=one.ledger.confirmed(alerts, recipient, now)) for one, alerts in written]
    for one in confirmed:
        keep(one)
    return confirmed


def in_words(now: datetime, site: Site) -> str:
    """Return a moment in the site's zone as mails show it, e.g. ``Monday 8 June 2026, 07:10``."""
    return f"{now.astimezone(ZoneInfo(site.time_zone)):%A %-d %B %Y, %H:%M}"


def quiet(
    recipient: str,
    watched: Iterable[Watched],
    site: Site,
    now: datetime,
    *,
    board: str = "",
    warning: str = "",
) -> Digest:
    """Return the weekly summary of one person: what is safe, and how far the rest is, told before or not."""
    known = _of(recipient, watched, site)
    under_way = {
        one.beamtime.key: one.due(site, now) or (_on_its_way(one, site, now),)
        for one in known
        if not one.known.complete
    }
    return _mail(recipient, known, under_way, site, now, board, warning)


def _on_its_way(one: Watched, site: Site, now: datetime) -> Alert:
    """Return what is said of a beamtime that needs nobody yet."""
    return Alert(
        one.beamtime.key,
        Kind.TAPE,
        None,
        deadline(one.beamtime, site),
        Urgency.NOTICE,
        "On its way",
        outlook(one.beamtime, site, one.known, now),
        "Nothing for now: the nightly runs go on.",
    )
