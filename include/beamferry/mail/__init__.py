"""Mails: what people are told, as text and as HTML that reads well on a phone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from beamferry.alerts import Kind, Urgency
from beamferry.plan import count, human

if TYPE_CHECKING:
    from datetime import datetime

    from beamferry.alerts import Digest, Item

# Longer subjects are cut by every phone.
_SUBJECT = 150
_BAR = 20
# How much each urgency matters, in words: colour is never the only sign.
WORDS = {
    Urgency.LOST: "act today",
    Urgency.URGENT: "urgent",
    Urgency.SOON: "soon",
    Urgency.NOTICE: "for your information",
    Urgency.GOOD: "all is well",
}
# Each reads well on white; the word beside it says the same to those who see no colours.
_COLOURS = {
    Urgency.LOST: "#b00020",
    Urgency.URGENT: "#b00020",
    Urgency.SOON: "#8a4b00",
    Urgency.NOTICE: "#1a4f8b",
    Urgency.GOOD: "#1b6e2e",
}


@dataclass(frozen=True)
class Message:
    """One mail, ready to be sent; both texts say the same."""

    recipient: str
    subject: str
    text: str
    html: str

    def as_email(self, sender: str, at: datetime) -> EmailMessage:
        """Return the message with its headers, marked as written by a machine so that nobody's absence answers."""
        mail = addressed(sender, self.recipient, self.subject, at)
        mail.set_content(self.text)
        mail.add_alternative(self.html, subtype="html")
        return mail


def addressed(sender: str, recipients: str, subject: str, at: datetime) -> EmailMessage:
    """Return an empty mail with its headers; ``subject`` is cut to one line."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipients
    mail["Subject"] = one_line(subject)
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2].strip("> ") or None)
    mail["Auto-Submitted"] = "auto-generated"
    return mail


def digest(mail: Digest, *, rehearsal: bool = False) -> Message:
    """Return the daily mail; its subject is the most urgent thing in it.

    Raises:
        ValueError: there is nothing to tell.
    """
    if not mail.items:
        raise ValueError("a digest needs something to tell")
    mail = _without_controls(mail)
    first, *others = mail.items
    more = f" (and {count(len(others), 'more beamtime')})" if others else ""
    return _message(
        mail.recipient,
        f"{headline(first)}{more}",
        "digest",
        {"mail": mail, "intro": _intro(mail)},
        rehearsal=rehearsal,
    )


def notice(recipient: str, item: Item, at: str, *, rehearsal: bool = False) -> Message:
    """Return the mail about one thing that just happened: a failure, a certificate, a log-in that is wanted."""
    item = _item_without_controls(item)
    return _message(recipient, headline(item), "notice", {"item": item, "at": at}, rehearsal=rehearsal)


def all_well(mail: Digest) -> Message:
    """Return the weekly summary: that the alarm lives, and how far everything is."""
    mail = _without_controls(mail)
    whole = count(mail.safe, "beamtime")
    rest = f", {len(mail.items)} under way" if mail.items else ""
    return _message(
        mail.recipient,
        f"Beamferry this week: {whole} verified{rest}",
        "digest",
        {"mail": mail, "intro": _intro_of_week(mail)},
        rehearsal=False,
    )


def headline(item: Item) -> str:
    """Return the most urgent fact of a beamtime in one line, e.g. for a subject."""
    name = f"{item.id} ({item.instrument})"
    if item.alert.kind is Kind.CERTIFICATE:
        return f"Home and verified: {name}"
    share = percent(item)
    known = "how much is home is not known" if share is None else f"{share} % is home"
    if item.alert.kind in {Kind.PROBLEM, Kind.LOG_IN}:
        return f"{item.alert.headline}: {name} – {known}, {tape(item)}"
    return f"{item.alert.headline}: {name} – {known}"


def percent(item: Item) -> int | None:
    """Return how much is at RDS, rounded down so that only everything is 100; None where it is not known."""
    if item.bytes_done is None or item.bytes_total is None or item.bytes_total == 0:
        return None
    return min(100, item.bytes_done * 100 // item.bytes_total)


def tape(item: Item) -> str:
    """Return the countdown in words."""
    if item.days_left < 0:
        return f"tape began {count(-item.days_left, 'day')} ago"
    return {0: "tape today", 1: "tape tomorrow"}.get(item.days_left, f"tape in {item.days_left} days")


def amount(item: Item) -> str:
    """Return what is at RDS of what there is."""
    if item.bytes_done is None or item.bytes_total is None:
        return "How much is at RDS is not known yet"
    done, total = human(item.bytes_done), human(item.bytes_total)
    if done == total and item.bytes_done < item.bytes_total:
        # What is rounded must not look like all of it.
        return f"All but {human(item.bytes_total - item.bytes_done)} of {total} at RDS"
    return f"{done} of {total} at RDS"


def bar(item: Item) -> str:
    """Return the share at RDS as characters for the plain text."""
    share = percent(item)
    if share is None:
        return f"[{'?' * _BAR}]"
    full = share * _BAR // 100
    return f"[{'#' * full}{'.' * (_BAR - full)}] {share} %"


def steps(item: Item) -> tuple[str, str]:
    """Return what to do as a sentence and, where a command is to be typed, that command by itself, else ''."""
    if item.alert.kind is not Kind.LOG_IN:
        return item.alert.todo, ""
    sentence, colon, command = item.alert.todo.partition(": ")
    return (f"{sentence}:", command) if colon else (sentence, "")


def _intro(mail: Digest) -> str:
    number = len(mail.items)
    needs = "One beamtime needs" if number == 1 else f"{number} beamtimes need"
    safe = f" {count(mail.safe, 'other')} verified complete." if mail.safe else ""
    return f"{needs} your attention, the most urgent first.{safe}"


def _intro_of_week(mail: Digest) -> str:
    safe = f"{count(mail.safe, 'beamtime')} verified complete. " if mail.safe else ""
    return f"{safe}Nothing new needs you. This mail shows that the alerts are alive."


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("beamferry.mail"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",), default=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals.update(
        percent=percent,
        tape=tape,
        amount=amount,
        bar=bar,
        steps=steps,
        words=WORDS,
        colours=_COLOURS,
        good=Urgency.GOOD,
        urgent=Urgency.URGENT,
    )
    return found


def _message(
    recipient: str, subject: str, template: str, values: dict[str, Any], *, rehearsal: bool
) -> Message:
    if rehearsal:
        subject = f"Rehearsal: {subject}"
    subject = one_line(subject)
    values = values | {"rehearsal": rehearsal, "subject": subject}
    text, html = (
        _templates().get_template(f"{template}.{kind}.j2").render(values) for kind in ("txt", "html")
    )
    return Message(recipient, subject, text, html)


def one_line(text: str) -> str:
    """Return a text fit for a header: nothing in it can begin a line of its own."""
    plain = " ".join(_printable(text).split())
    return plain if len(plain) <= _SUBJECT else f"{plain[: _SUBJECT - 1]}…"


def _printable(text: str) -> str:
    """Return a text without what could begin a line, turn its direction, or fit into no encoding."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _item_without_controls(item: Item) -> Item:
    """Return a beamtime whose texts cannot pretend to be lines of the mail itself."""
    alert = item.alert
    return replace(
        item,
        alert=replace(
            alert,
            headline=_printable(alert.headline),
            detail=_printable(alert.detail),
            todo=_printable(alert.todo),
        ),
        id=_printable(item.id),
        facility=_printable(item.facility),
        instrument=_printable(item.instrument),
        title=_printable(item.title),
        tape=_printable(item.tape),
        link=_printable(item.link),
        also=tuple(_printable(line) for line in item.also),
    )


def _without_controls(mail: Digest) -> Digest:
    return replace(
        mail,
        items=tuple(_item_without_controls(item) for item in mail.items),
        board=_printable(mail.board),
        warning=_printable(mail.warning),
    )
