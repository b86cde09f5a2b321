from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from email import message_from_bytes, policy
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner
from watching import SITE, beamtime, before_tape, home, plan, problem, rate, utc

from beamferry import mail
from beamferry.alerts import Digest, Item, Kind
from beamferry.cli_alerts import mail_app
from beamferry.digest import Watched, deliver, digest, item, quiet
from beamferry.known import Known
from beamferry.ledger import Ledger
from beamferry.mail import WORDS
from beamferry.mail.samples import ITEMS, messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OF = beamtime(1)
NOW = before_tape(OF, 3)
ME = "group@example.ac.uk"


def watched(known: Known, number: int = 1, **changed: object) -> Watched:
    return Watched(beamtime(number, **changed), known, Ledger(), "https://airflow/dags/x")


def one(known: Known) -> Item:
    found, _ = digest(ME, [watched(known)], SITE, NOW)
    return found.items[0]


class _Text(HTMLParser):
    """The text of a page as a person reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self.tags.append(tag)
        self._silent = tag == "style"

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


def read(html: str) -> str:
    page = _Text()
    page.feed(html)
    return " ".join(" ".join(page.words).split())


def test_text_and_html_say_the_same() -> None:
    known = Known(plan=plan(OF, NOW), problem=problem(NOW - timedelta(hours=1)))
    found, _ = digest(ME, [watched(known), watched(Known(), 2)], SITE, NOW)
    for message in (mail.digest(found), mail.notice(ME, found.items[0], found.at), mail.all_well(found)):
        texts = [" ".join(text.split()).lower() for text in (message.text, read(message.html))]
        for shown in found.items if message.subject != mail.headline(found.items[0]) else found.items[:1]:
            alert = shown.alert
            for fact in (
                shown.id,
                alert.headline,
                alert.detail,
                alert.todo,
                shown.tape,
                mail.amount(shown),
                *shown.also,
            ):
                assert fact
                for text in texts:
                    assert fact.lower() in text


def test_the_most_urgent_comes_first_and_speaks_in_the_subject() -> None:
    late = watched(Known(plan=plan(beamtime(2), NOW)), 2, ended=beamtime().ended.replace(day=28))
    soon = watched(Known(plan=plan(OF, NOW)))
    found, told = digest(ME, [late, soon], SITE, NOW)
    assert next(shown.id for shown in found.items) == "mg25682-1"
    message = mail.digest(found)
    assert message.subject.startswith("Goes to tape in 3 days: mg25682-1 (i12) – 60 % is home")
    assert set(told) >= {"diamond_mg25682-1"}


def test_what_is_not_known_is_never_shown_as_nothing() -> None:
    message = mail.digest(digest(ME, [watched(Known())], SITE, NOW)[0])
    for text in (message.text, read(message.html), message.subject):
        assert "not known" in text
        assert "0 %" not in text


def test_what_is_rounded_does_not_look_like_all_of_it() -> None:
    shown = replace(one(Known(plan=plan(OF, NOW))), bytes_done=99_999_999_970, bytes_total=100_000_000_000)
    assert mail.amount(shown) == "All but 30 bytes of 100.0 GB at RDS"
    assert mail.amount(replace(shown, bytes_done=100_000_000_000)) == "100.0 GB of 100.0 GB at RDS"
    assert mail.amount(replace(shown, bytes_done=60_000_000_000)) == "60.0 GB of 100.0 GB at RDS"


def test_almost_everything_is_not_everything() -> None:
    shown = replace(one(Known(plan=plan(OF, NOW))), bytes_done=99_999, bytes_total=100_000)
    assert mail.percent(shown) == 99
    assert mail.percent(replace(shown, bytes_done=0)) == 0


@given(st.text())
def test_nothing_in_a_text_begins_a_header_or_a_tag(text: str) -> None:
    hostile = f"{text}\r\nBcc: x@example.com\r\n\r\n<script>alert(1)</script>"
    alert = replace(one(Known(plan=plan(OF, NOW))).alert, headline=hostile, detail=hostile, todo=hostile)
    shown = replace(one(Known(plan=plan(OF, NOW))), alert=alert, title=hostile)
    message = mail.notice(ME, shown, "today")
    assert "\n" not in message.subject
    assert "\r" not in message.subject
    assert "<script" not in message.html
    # What a beamtime says stays indented below its name: it can write no line of the mail's own.
    own = [line for line in message.text.splitlines() if line and not line.startswith("  ")]
    assert [line.split(" ")[0] for line in own] == ["mg25682-1", "today", "--", "Beamferry."]
    sent = message_from_bytes(
        bytes(message.as_email("beamferry@example.ac.uk", utc(2026, 4, 1))), policy=policy.default
    )
    assert sent["Bcc"] is None
    assert sent["To"] == ME
    assert sent["Auto-Submitted"] == "auto-generated"


def test_a_mail_carries_both_texts() -> None:
    sent = message_from_bytes(
        bytes(messages()["digest"].as_email("Beamferry <b@example.ac.uk>", utc(2026, 4, 1))),
        policy=policy.default,
    )
    assert [part.get_content_type() for part in sent.iter_parts()] == ["text/plain", "text/html"]
    assert sent["Message-ID"].endswith("@example.ac.uk>")


def test_a_command_to_paste_stays_on_one_line() -> None:
    message = messages()["log-in"]
    assert re.search(
        r"ssh -M -S ~/.beamferry/session -fN mbcx9cd4@ssh.diamond.ac.uk$", message.text, re.MULTILINE
    )


def test_what_is_told_at_once_is_left_to_its_task_for_some_minutes() -> None:
    known = Known(plan=plan(OF, NOW), problem=problem(NOW - timedelta(minutes=14)))
    young, _ = digest(ME, [watched(known)], SITE, NOW)
    assert young.items[0].alert.kind is Kind.TAPE
    assert "The transfer failed" not in young.items[0].also
    later, _ = digest(ME, [watched(known)], SITE, NOW + timedelta(minutes=1))
    assert "The transfer failed" in {later.items[0].alert.headline, *later.items[0].also}


def test_a_rehearsal_says_so() -> None:
    found, _ = digest(ME, [watched(Known())], SITE, NOW)
    message = mail.digest(found, rehearsal=True)
    assert message.subject.startswith("Rehearsal: ")
    assert "REHEARSAL" in message.text
    assert "Rehearsal" in read(message.html)


def test_problems_of_the_registry_are_in_the_digest() -> None:
    found, _ = digest(ME, [watched(Known())], SITE, NOW, warning="2 problems in the registry")
    message = mail.digest(found)
    assert "2 problems in the registry" in message.text
    assert "2 problems in the registry" in message.html


class _Page(HTMLParser):
    """What colours, ground and size each text has: its own and its parents' styles, then the rules for the dark."""

    def __init__(self, rules: dict[str, dict[str, str]]) -> None:
        super().__init__()
        self.rules = rules
        self.open: list[tuple[str, dict[str, str]]] = [("", {})]
        self.found: list[tuple[str, dict[str, str]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        style = dict(_declarations(given.get("style", "")))
        for name in given.get("class", "").split():
            style |= self.rules.get(name, {})
        if tag != "meta":
            self.open.append((tag, self.open[-1][1] | style))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open[-1][0] not in {"style", "title"}:
            self.found.append((data.strip(), self.open[-1][1]))


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for part in style.split(";"):
        name, colon, value = part.partition(":")
        if colon:
            yield name.strip(), value.replace("!important", "").strip()


def _dark(html: str) -> dict[str, dict[str, str]]:
    rules: dict[str, dict[str, str]] = {}
    block = html.partition("prefers-color-scheme: dark) {")[2].partition("</style>")[0]
    for names, style in re.findall(r"([^{}]+)\{([^}]*)\}", block):
        for name in names.split(","):
            rules.setdefault(name.strip().removeprefix("."), {}).update(_declarations(style))
    return rules


@pytest.mark.parametrize("name", messages())
@pytest.mark.parametrize("dark", [False, True])
def test_every_text_is_large_and_stands_out_from_its_ground(name: str, dark: bool) -> None:
    html = messages()[name].html
    rules = _dark(html)
    assert {"card", "text", "small", "todo", "full", "u0", "u1", "u2", "u3", "u4"} <= set(rules)
    page = _Page(rules if dark else {})
    page.feed(html)
    assert len(page.found) > 5
    for text, style in page.found:
        assert _contrast(style["color"], style["background"]) >= 4.5, (text, style)
        assert int(style["font-size"].removesuffix("px")) >= 16, text


@pytest.mark.parametrize("name", messages())
def test_a_mail_fetches_nothing_when_it_is_read(name: str) -> None:
    html = messages()[name].html
    page = _Text()
    page.feed(html)
    assert not {"img", "link", "script", "iframe", "object", "form", "video"} & set(page.tags)
    assert "url(" not in html
    assert "@import" not in html


def _contrast(one_colour: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((light(one_colour), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("shown", ITEMS, ids=lambda shown: shown.alert.kind)
def test_every_fact_of_every_kind_is_in_both_texts(shown: Item) -> None:
    alert, message = shown.alert, mail.notice(ME, shown, "Monday")
    facts = [
        shown.id,
        shown.facility,
        shown.instrument,
        shown.title,
        alert.headline,
        alert.detail,
        alert.todo,
    ]
    facts += [mail.amount(shown), *shown.also]
    facts += [] if mail.percent(shown) is None else [f"{mail.percent(shown)} %"]
    # Colour is never the only sign.
    facts += [WORDS[alert.urgency]]
    if alert.kind is not Kind.CERTIFICATE:
        facts += [shown.tape, mail.tape(shown).removeprefix("tape ")]
    for text in (message.text, read(message.html)):
        plain = " ".join(text.split()).lower()
        assert [fact for fact in facts if fact.lower() not in plain] == []
    assert shown.link in message.text
    assert f'href="{shown.link}"' in message.html


def test_the_samples_show_every_kind() -> None:
    assert {shown.alert.kind for shown in ITEMS} == set(Kind)
    shown = " ".join(message.text for message in messages().values())
    assert [item.id for item in ITEMS if item.id not in shown] == []


@pytest.mark.parametrize(
    ("done", "widths"),
    [(0, ["100"]), (9, ["100"]), (410, ["41", "59"]), (999, ["99", "1"]), (1000, ["100"])],
)
def test_the_bar_is_as_long_as_what_is_home(done: int, widths: list[str]) -> None:
    html = mail.notice(ME, replace(ITEMS[1], bytes_done=done, bytes_total=1000), "Monday").html
    assert re.findall(r'<td class="(?:full|rest)" width="(\d+)%"', html) == widths
    assert ('class="full"' in html) is (done >= 10)


def test_what_is_not_known_has_no_bar() -> None:
    unknown = next(shown for shown in ITEMS if shown.bytes_done is None)
    assert 'class="rest"' not in mail.notice(ME, unknown, "Monday").html


def test_the_preview_writes_each_mail_twice(tmp_path: Path) -> None:
    done = CliRunner().invoke(mail_app, [str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    names = {file.name for file in (tmp_path / "new").iterdir()}
    assert names == {f"{name}.{kind}" for name in messages() for kind in ("html", "txt")}
    assert (tmp_path / "new" / "failed.txt").read_text().startswith("Subject: The transfer failed: mg25682-3")


def test_fifty_beamtimes_are_one_mail_in_order() -> None:
    many = [
        replace(
            watched(Known(plan=plan(beamtime(n), NOW)), n),
            link=f"https://airflow.group.physics.example.ac.uk/dags/beamtime_diamond_mg25682-{n}",
        )
        for n in range(1, 51)
    ]
    message = mail.digest(digest(ME, many, SITE, NOW)[0])
    assert message.subject.endswith("(and 49 more beamtimes)")
    assert message.html.count('class="card"') == 50
    # Gmail hides what comes after 102 kB.
    assert len(message.html.encode()) < 100_000


def test_a_digest_needs_something_to_tell() -> None:
    with pytest.raises(ValueError, match="something to tell"):
        mail.digest(Digest(ME, (), "now", 3, ""))


def test_what_was_sent_is_remembered_and_not_sent_again() -> None:
    kept: dict[str, Ledger] = {}
    sent: list[Digest] = []
    first = watched(Known(plan=plan(OF, NOW)))

    def keep(one: Watched) -> None:
        kept[one.beamtime.key] = one.ledger

    assert deliver(ME, [first], SITE, NOW, keep=keep, send=sent.append) is not None
    again = Watched(first.beamtime, first.known, kept[OF.key])
    assert deliver(ME, [again], SITE, NOW, keep=keep, send=sent.append) is None
    assert len(sent) == 1


def test_the_ledger_is_written_before_the_mail_is_sent() -> None:
    order: list[str] = []

    def keep(one: Watched) -> None:
        order.append("confirmed" if all(entry.confirmed for entry in one.ledger.entries) else "written")

    deliver(
        ME, [watched(Known(plan=plan(OF, NOW)))], SITE, NOW, keep=keep, send=lambda _: order.append("sent")
    )
    assert order == ["written", "sent", "confirmed"]


def test_the_weekly_summary_counts_what_is_safe() -> None:
    everything = [watched(home(NOW)), watched(Known(plan=plan(beamtime(2), NOW)), 2)]
    found = quiet(ME, everything, SITE, NOW)
    assert found.safe == 1
    assert mail.all_well(found).subject == "Beamferry this week: 1 beamtime verified, 1 under way"


def test_a_failure_names_the_countdown_in_its_subject() -> None:
    known = Known(plan=plan(OF, NOW), problem=problem(NOW - timedelta(hours=1)))
    alert = next(a for a in digest(ME, [watched(known)], SITE, NOW)[1][OF.key] if a.kind is Kind.PROBLEM)
    subject = mail.headline(item(watched(known), SITE, (alert,), NOW))
    assert subject == "The transfer failed: mg25682-1 (i12) – 60 % is home, tape in 3 days"


def test_the_weekly_summary_leaves_out_nobody_that_is_under_way() -> None:
    early = before_tape(OF, 30)
    calm = watched(Known(plan=plan(OF, early), rate=rate(early)))
    assert calm.due(SITE, early) == ()
    found = quiet(ME, [calm], SITE, early)
    assert [shown.alert.headline for shown in found.items] == ["On its way"]
    assert "40.0 GB" in mail.all_well(found).text
