"""What is asked of a person's account, how the script's answers are read, and the words for them."""

from __future__ import annotations

import base64
import json
import shlex
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry import account
from beamferry.account import Answer, Gate, Host, Row, State, Wishes
from beamferry.account.words import REFUSED
from beamferry.beamtime import Site
from beamferry.errors import PermanentError, TransientError
from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.lab.authority import Authority
from beamferry_agent.answers import AccountAnswer, AccountRequest, PinnedKey, ShownKey, StepAnswer

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.beamtime import Beamtime

SITE = Site(destination_root="/mnt/eps01-rds/Fonseca-Lightform/shared")
GATE = Gate("Diamond", "ssh.diamond.ac.uk", None, ("jdoe", "mbcx9cd4"))
OTHER = Gate("DESY", "psftp.desy.de", 2222, ())
NOW = datetime(2026, 11, 23, 20, tzinfo=UTC)
FORM = {
    "host": "rds",
    "mode": "prepare",
    "steps": ["workspace", "links", "key pair", "host keys"],
    "facilities": ["diamond", "desy"],
    "own_link": "rds_lightform",
    "own_folder": None,
    "shared_link": "rds_lightform_shared",
    "shared_folder": "/mnt/eps01-rds/Fonseca-Lightform/shared",
    "ca_certificate": None,
    "icsf_connection": "icsf_ssh",
}


def wishes(**choices: Any) -> Wishes:
    return Wishes.of(FORM | choices)


def diamond(**fields: Any) -> DiamondBeamtime:
    usual = {"id": "mg25682-2", "facility": "diamond", "instrument": "i12", "account": "mbcx9cd4"}
    return DiamondBeamtime(**usual | {"ended": date(2026, 11, 3)} | fields)


def desy(**fields: Any) -> DesyBeamtime:
    usual = {"id": "11010750", "facility": "desy", "instrument": "p07", "account": "cdaniel"}
    return DesyBeamtime(**usual | {"ended": date(2026, 11, 3)} | fields)


def key(seed: str) -> str:
    return base64.b64encode(seed.encode() * 8).decode()


def said(*lines: tuple[str, ...]) -> str:
    """What the agent prints: ``step``, ``shown`` and ``pinned`` lines of what became of the account."""
    of = {kind: [line[1:] for line in lines if line[0] == kind] for kind in ("step", "shown", "pinned")}
    return AccountAnswer(
        "mbcx9cd4",
        "rds1",
        [StepAnswer(*line) for line in of["step"]],
        [PinnedKey(*line) for line in of["pinned"]],
        [ShownKey(*line) for line in of["shown"]],
    ).to_json()


def shown(kind: str, seed: str, gate: Gate = GATE) -> tuple[str, ...]:
    return ("shown", gate.label, gate.host, "/home/x/.ssh/known_hosts", kind, key(seed))


def pinned(kind: str, seed: str, marker: str = "-", gate: Gate = GATE) -> tuple[str, ...]:
    return ("pinned", gate.label, "/home/x/.ssh/known_hosts", marker, kind, key(seed))


def read(*lines: tuple[str, ...]) -> Answer:
    return account.parse_answer(said(*lines), Host.RDS, (GATE, OTHER))


# --- the form -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        (
            "/mnt/eps01-rds/Fonseca-Lightform/shared",
            ("/mnt/eps01-rds/Fonseca-Lightform", "rds_lightform", "/mnt/eps01-rds/Fonseca-Lightform/shared"),
        ),
        (
            "/mnt/eps01-rds/Fonseca-Lightform/shared/beamtimes",
            ("/mnt/eps01-rds/Fonseca-Lightform", "rds_lightform", "/mnt/eps01-rds/Fonseca-Lightform/shared"),
        ),
        ("/mnt/rds/My Group/data", ("/mnt/rds/My Group", "rds_group", "/mnt/rds/My Group/data")),
        ("/data", ("/", "rds_group", "/data")),
    ],
)
def test_the_links_are_the_pages_own(root: str, expected: tuple[str, str, str]) -> None:
    usual = account.usual(Site(destination_root=root))
    assert (usual.group, usual.own_link, usual.shared_folder) == expected
    assert usual.shared_link == f"{usual.own_link}_shared"


@given(st.from_regex(r"/[A-Za-z0-9._+=@-]{1,80}(/[A-Za-z0-9._+=@-]{1,80}){0,3}", fullmatch=True))
def test_whatever_the_root_is_the_form_takes_its_own_defaults(root: str) -> None:
    try:
        site = Site(destination_root=root)
    except ValueError:
        return
    usual = account.usual(site)
    answered = wishes(
        own_link=usual.own_link, shared_link=usual.shared_link, shared_folder=usual.shared_folder
    )
    assert answered.shared_folder == usual.shared_folder


@pytest.mark.parametrize(
    "wrong",
    [
        {"own_link": "../x"},
        {"own_link": "-rf"},
        {"own_link": ".ssh"},
        {"own_link": "a\n"},
        {"own_link": "a" * 65},
        {"shared_link": "rds_lightform"},
        {"shared_folder": "/mnt/$(id)"},
        {"shared_folder": "/mnt/../etc"},
        {"own_folder": "mnt"},
        {"facilities": ["cern"]},
        {"steps": ["everything"]},
        {"host": "laptop"},
        {"icsf_connection": "a b"},
        {"more": 1},
    ],
)
def test_the_form_refuses_what_could_be_more_than_a_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(PermanentError) as caught:
        wishes(**wrong)
    assert caught.value.code == "form-refused"
    assert next(iter(wrong)) in caught.value.problem


def test_each_host_has_its_connection() -> None:
    assert wishes().connection(SITE) == "rds_ssh"
    assert wishes(host="icsf", icsf_connection="other").connection(SITE) == "other"


# --- the facilities -----------------------------------------------------------------------------------------


def test_gates_have_the_registrys_accounts_and_hosts() -> None:
    known: list[Beamtime] = [
        diamond(),
        diamond(id="mg25682-3", account="jdoe"),
        diamond(id="mg25682-4", account="gone", archived=True),
        desy(),
        desy(id="11010751", port=2222, server="sftp.example.org"),
        desy(id="11010752", transport="ftps", registered=date(2026, 11, 4), account="ftponly", port=990),
    ]
    assert account.gates(known, ["desy", "diamond"]) == (
        Gate("DESY", "psftp.desy.de", None, ("cdaniel",)),
        Gate("DESY", "sftp.example.org", 2222, ("cdaniel",)),
        Gate("Diamond", "ssh.diamond.ac.uk", None, ("jdoe", "mbcx9cd4")),
    )
    assert account.facilities_of(known[:3]) == ("diamond",)


def test_a_facility_without_a_beamtime_has_its_own_host() -> None:
    assert account.gates([], ["diamond", "desy"]) == (
        Gate("DESY", "psftp.desy.de", None, ()),
        Gate("Diamond", "ssh.diamond.ac.uk", None, ()),
    )
    assert account.facilities_of([]) == ("desy", "diamond")
    assert account.gates([diamond()], []) == ()


# --- the calls ----------------------------------------------------------------------------------------------


def test_a_call_makes_what_is_asked_for_and_nothing_else() -> None:
    whole = account.prepare_request(wishes(), SITE, (GATE, OTHER), "")
    assert AccountRequest.from_json(whole.to_json()) == whole
    assert whole == (
        "make",
        [
            ["workspace"],
            ["own", "rds_lightform", "/mnt/eps01-rds/Fonseca-Lightform"],
            ["link", "rds_lightform_shared", "/mnt/eps01-rds/Fonseca-Lightform/shared"],
            ["key", "ssh.diamond.ac.uk", "", "jdoe"],
            ["key", "psftp.desy.de", "2222", ""],
        ],
    )
    few = account.prepare_request(wishes(steps=["lftp"]), SITE, (GATE,), "PEM")
    assert few == ("make", [["lftp", "PEM"]])
    assert account.prepare_request(wishes(steps=["host keys"]), SITE, (GATE,), "") == ("make", [])


def test_unlink_is_about_links_alone() -> None:
    asked = account.prepare_request(wishes(mode="unlink", own_folder="/mnt/mine"), SITE, (GATE,), "")
    assert asked == (
        "unlink",
        [
            ["link", "rds_lightform", "/mnt/mine"],
            ["link", "rds_lightform_shared", "/mnt/eps01-rds/Fonseca-Lightform/shared"],
        ],
    )
    assert not any(wishes(mode="unlink").asks_for(step) for step in account.Step)


def test_only_confirmed_keys_are_pinned_each_at_its_gate() -> None:
    seen = read(
        shown("ssh-ed25519", "a"), shown("ssh-rsa", "b"), shown("ssh-ed25519", "c", OTHER)
    ).unconfirmed
    assert account.scan_request((GATE, OTHER)) == (
        "scan",
        [["gate", "ssh.diamond.ac.uk", "", "jdoe"], ["gate", "psftp.desy.de", "2222", ""]],
    )
    of_other = [["gate", *OTHER.words], ["host-key", "ssh-ed25519", key("c")]]
    assert account.pin_request((GATE, OTHER), seen) == (
        "pin",
        [
            ["gate", *GATE.words],
            ["host-key", "ssh-ed25519", key("a")],
            ["host-key", "ssh-rsa", key("b")],
            *of_other,
        ],
    )
    assert account.pin_request((GATE, OTHER), seen[2:]) == ("pin", of_other)


@pytest.mark.parametrize(
    ("verb", "steps"),
    [
        ("make", [["gate", "h", "", ""]]),
        ("scan", [["link", "a", "/b"]]),
        ("make", [["link", "a"]]),
        ("make", [["link", "a", "/b", "c"]]),
        ("make", [["link", "a\0", "/b"]]),
        ("make", [[]]),
        ("make", ["workspace"]),
        ("make", [["link", "a", 1]]),
        ("remove", []),
        ("make", {}),
    ],
)
def test_a_request_that_is_none_is_refused(verb: str, steps: Any) -> None:
    with pytest.raises(ValueError, match=r"must|step|NUL"):
        AccountRequest.from_json(AccountRequest(verb, steps).to_json())


# --- host keys ----------------------------------------------------------------------------------------------


def test_a_new_host_is_a_question_with_all_its_keys() -> None:
    seen = read(shown("ssh-ed25519", "a"), shown("ssh-rsa", "b"))
    assert seen.rows == ()
    asked = account.question(seen, Host.RDS)
    for one in seen.unconfirmed:
        assert f"| `ssh.diamond.ac.uk` | {one.type} | `{one.fingerprint}` |" in asked
    digest = base64.b64encode(sha256(b"a" * 8).digest()).decode().rstrip("=")
    assert seen.unconfirmed[0].fingerprint == f"SHA256:{digest}"


@pytest.mark.parametrize(
    "lines",
    [
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "a")],
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "old"), pinned("ssh-ed25519", "a")],
        [shown("ssh-ed25519", "a"), shown("ssh-rsa", "b"), pinned("ssh-rsa", "b")],
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "ca", "@cert-authority")],
    ],
)
def test_a_host_that_ssh_knows_is_no_question(lines: list[tuple[str, ...]]) -> None:
    seen = read(*lines)
    assert [row.state for row in seen.rows] == [State.WAS_THERE]
    assert seen.unconfirmed == ()


@pytest.mark.parametrize(
    "lines",
    [
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "b")],
        # One agrees, another does not: nobody changes one of his keys by accident.
        [
            shown("ssh-ed25519", "a"),
            shown("ssh-rsa", "b"),
            pinned("ssh-ed25519", "a"),
            pinned("ssh-rsa", "c"),
        ],
        # The pinned type is not shown any more.
        [shown("ssh-ed25519", "a"), pinned("ssh-rsa", "b")],
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "a", "@revoked")],
        [shown("ssh-ed25519", "a"), pinned("ssh-ed25519", "a", "@revoked"), pinned("ssh-ed25519", "a")],
    ],
)
def test_another_key_is_an_alarm_and_no_question(lines: list[tuple[str, ...]]) -> None:
    seen = read(*lines)
    (row,) = seen.rows
    assert row.state is State.REFUSED
    assert "somebody may stand in between" in (row.problem or "")
    assert "do not log in" in (row.remedy or "")
    assert seen.unconfirmed == ()
    error = account.stopped(seen.rows)
    assert error is not None
    assert error.code == "account-not-prepared"


def test_the_command_that_forgets_a_key_survives_a_shell() -> None:
    gate = Gate("DESY", "psftp.desy.de", 2222, ())
    file = "/home/a b/.ssh/known_hosts"
    seen = account.parse_answer(
        said(
            ("shown", gate.label, "[psftp.desy.de]:2222", file, "ssh-ed25519", key("a")),
            ("pinned", gate.label, file, "-", "ssh-ed25519", key("b")),
        ),
        Host.RDS,
        (gate,),
    )
    typed = (seen.rows[0].remedy or "").split("`")[1]
    assert shlex.split(typed) == ["ssh-keygen", "-R", "[psftp.desy.de]:2222", "-f", file]


def test_a_line_of_known_hosts_that_is_no_key_counts_for_nothing() -> None:
    seen = read(shown("ssh-ed25519", "a"), ("pinned", GATE.label, "/f", "-", "ssh-ed25519", "A"))
    assert len(seen.unconfirmed) == 1


def test_the_gates_are_judged_each_by_itself() -> None:
    seen = read(
        shown("ssh-ed25519", "a"), shown("ssh-ed25519", "b", OTHER), pinned("ssh-ed25519", "b", gate=OTHER)
    )
    assert [one.gate for one in seen.unconfirmed] == [GATE.label]
    assert [row.what for row in seen.rows] == [f"host key of {OTHER.label}"]


# --- answers and words --------------------------------------------------------------------------------------

WHOLE = said(
    ("step", "link", "rds_lightform", "made", "/home/x/rds_lightform", "", "/mnt/g/x"),
    shown("ssh-ed25519", "a"),
    pinned("ssh-rsa", "b"),
)


@given(st.integers(0, len(WHOLE) - 1))
def test_an_answer_that_is_cut_short_is_an_error(length: int) -> None:
    with pytest.raises(TransientError) as caught:
        account.parse_answer(WHOLE[:length], Host.RDS, (GATE,))
    assert caught.value.code == "account-unreadable"


@pytest.mark.parametrize("rows", [[["link", "n", "made"]], [["link"] * 5 + [1]], ["link"], {}, None])
def test_rows_of_another_form_are_an_error(rows: Any) -> None:
    text = json.dumps(json.loads(WHOLE) | {"steps": rows})
    for answer in (text, f"Welcome to RDS-SSH\n{WHOLE}"):
        with pytest.raises(TransientError):
            account.parse_answer(answer, Host.RDS, (GATE,))


@given(st.text())
def test_whatever_comes_back_is_read_or_named(text: str) -> None:
    fields = (*text.split("\t"), *[text] * 6)
    for answer in (text, said(("step", *fields[:6])), said(("shown", *fields[:5]))):
        with suppress(TransientError):
            account.parse_answer(answer, Host.RDS, (GATE,))


@pytest.mark.parametrize(
    "line",
    [
        ("step", "link", "n", "done", "/p", "", ""),
        ("step", "dance", "n", "made", "/p", "", ""),
        ("step", "link", "n", "refused", "/p", "mood", ""),
        ("shown", "other.example.org", "n", "/f", "ssh-rsa", key("a")),
        ("shown", GATE.label, "n", "/f", "ssh-rsa", "no base64"),
        ("shown", GATE.label, "n", "/f", "ssh | rsa", key("a")),
        ("step", "host-key", GATE.label, "made", "/f", "", "ssh-rsa A"),
    ],
)
def test_what_the_agent_never_says_is_an_error(line: tuple[str, ...]) -> None:
    with pytest.raises(TransientError):
        read(line)


REASONS = sorted({*REFUSED} - {"revoked"})


@pytest.mark.parametrize("reason", REASONS)
def test_each_refusal_names_the_place_or_the_host_and_a_remedy(reason: str) -> None:
    step = "host-key" if reason in {"proxy", "no-known-hosts", "no-answer", "ssh-settings"} else "link"
    (row,) = read(("step", step, GATE.label, "refused", "/home/x/{a} b", reason, "why {0}")).rows
    assert row.state is State.REFUSED
    assert row.problem
    assert row.remedy
    assert "/home/x/{a} b" in row.problem or GATE.label in row.problem or "why {0}" in row.problem
    assert row.remedy.endswith(", then trigger this again")


def test_what_a_person_types_survives_a_shell() -> None:
    place = "/home/a b/rds_lightform"
    (row,) = read(("step", "link", "rds_lightform", "refused", place, "other-link", "/etc")).rows
    assert shlex.split((row.remedy or "").split("`")[1]) == ["unlink", place]


def test_the_public_key_comes_with_the_accounts_it_is_for() -> None:
    public = f"ssh-ed25519 {key('a')} mbcx9cd4@rds1"
    (row,) = read(("step", "key", GATE.label, "made", "/home/x/.ssh/id_ed25519", "", public)).rows
    paste = row.paste or ""
    assert paste.splitlines()[-1] == public
    assert "as jdoe and as mbcx9cd4" in paste
    assert "authorized_keys" in paste
    (other,) = read(("step", "key", OTHER.label, "was-there", "/home/x/.ssh/id_ed25519", "", public)).rows
    assert "DESY" in (other.paste or "")


def test_the_report_has_all_rows_then_what_is_pasted_then_what_is_wrong() -> None:
    rows = (
        Row(what="link a", state=State.MADE, where="/home/x/a -> /mnt/a"),
        Row(what="key", state=State.WAS_THERE, where="/k", paste="paste this"),
        Row(what="key too", state=State.WAS_THERE, where="/k", paste="paste this"),
        Row(what="b", state=State.REFUSED, where="/b", problem="B is a file", remedy="move it"),
        Row(what="c", state=State.REFUSED, where="/c", problem="C is a file", remedy="move that"),
    )
    text = account.report(rows)
    table, pasted, *wrong = text.split("\n\n")
    lines = table.splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({len(line) for line in lines}) == 1
    assert [line.split("|")[2].strip() for line in lines[2:]] == [row.state.value for row in rows]
    assert pasted == "paste this"
    assert wrong == ["NOT DONE: B is a file: move it", "NOT DONE: C is a file: move that"]
    error = account.stopped(rows)
    assert error is not None
    assert str(error) == "B is a file (and 1 more, see the table in the log): move it"
    assert account.stopped(rows[:3]) is None
    alarm = Row(what="host key of h", state=State.REFUSED, where="/k", problem="H differs", remedy="ask")
    first = account.stopped((*rows, alarm))
    assert first is not None
    assert str(first) == "H differs (and 2 more, see the table in the log): ask"


def test_what_nobody_confirmed_is_no_error_and_not_done() -> None:
    seen = read(shown("ssh-ed25519", "a"))
    (row,) = account.unpinned(seen.unconfirmed, "a person said no")
    assert row.state is State.NOT_CONFIRMED
    assert seen.unconfirmed[0].fingerprint in row.where
    assert account.stopped((row,)) is None


def test_answers_survive_airflows_storage() -> None:
    seen = read(shown("ssh-ed25519", "a"), ("step", "link", "n", "made", "/p", "", "/t"))
    assert Answer.model_validate_json(seen.model_dump_json()) == seen


# --- certificates -------------------------------------------------------------------------------------------


def test_a_ca_comes_without_what_stands_around_it(tmp_path: Path) -> None:
    pem = Authority(tmp_path / "ca").ca_file.read_text()
    text = account.certificates(f"subject=/C=DE/CN=x\r\n{pem}\nissuer=$(id)\n", NOW)
    assert text == pem
    assert account.certificates(pem + pem, NOW) == pem + pem


@pytest.mark.parametrize(
    "text", ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "é"]
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(PermanentError) as caught:
        account.certificates(text, NOW)
    assert caught.value.code == "ca-unreadable"


def test_a_servers_own_certificate_or_an_old_one_vouches_for_nobody(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with pytest.raises(PermanentError) as caught:
        account.certificates(authority.issue(("psftp.desy.de",)).read_text(), NOW)
    assert caught.value.code == "ca-none"
    with pytest.raises(PermanentError) as caught:
        account.certificates(authority.ca_file.read_text(), NOW + timedelta(days=365 * 60))
    assert caught.value.code == "ca-expired"
