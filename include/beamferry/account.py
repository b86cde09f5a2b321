"""A person's account on RDS-SSH or iCSF, made ready as the group's transfer page does by hand: what is asked for, the
calls of ``prepare_account.sh``, what it answers, and the words for it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from beamferry.beamtime import AbsolutePath, ConnectionId, Frozen, Spelling, Transport, refusal
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.registry.entries import MODELS
from beamferry.remote import script_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site

SCRIPT = "prepare_account.sh"
# A chain has three; the whole call is one argument of a shell, which takes 128 KiB.
MOST_CA_CHARACTERS = 60_000


class Host(StrEnum):
    """Where the account is."""

    RDS = "rds"
    ICSF = "icsf"

    @property
    def spoken(self) -> str:
        """Its name in sentences."""
        return "RDS-SSH" if self is Host.RDS else "iCSF"


class Mode(StrEnum):
    """What a run does."""

    PREPARE = "prepare"
    UNLINK = "unlink"


class Step(StrEnum):
    """What can be prepared."""

    WORKSPACE = "workspace"
    LINKS = "links"
    KEY_PAIR = "key pair"
    HOST_KEYS = "host keys"
    LFTP = "lftp"


LinkName = Annotated[
    str,
    Field(max_length=64),
    Spelling(
        r"[A-Za-z0-9_][A-Za-z0-9._-]*",
        "must be one plain name in the home folder",
        "write it without '/', e.g. rds_lightform",
    ),
]


class Wishes(Frozen):
    """What the trigger form was answered."""

    host: Host
    mode: Mode
    steps: tuple[Step, ...]
    facilities: tuple[str, ...]
    own_link: LinkName
    own_folder: AbsolutePath | None
    shared_link: LinkName
    shared_folder: AbsolutePath
    ca_certificate: Annotated[str, Field(max_length=MOST_CA_CHARACTERS)] | None
    icsf_connection: ConnectionId

    @field_validator("facilities")
    @classmethod
    def _known_facilities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(MODELS)):
            raise refusal(f"does not know '{unknown[0]}'", f"choose from {', '.join(sorted(MODELS))}")
        return names

    @field_validator("shared_link")
    @classmethod
    def _two_names(cls, name: str, info: ValidationInfo) -> str:
        if name == info.data.get("own_link"):
            raise refusal("must differ from the other link's name", "give each link a name of its own")
        return name

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Wishes:
        """Read the form's answers.

        Raises:
            PermanentError: an answer is none that the form offers; names all such answers.
        """
        try:
            return cls.model_validate_json(json.dumps(dict(params)))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors())
            raise PermanentError(
                "form-refused",
                f"The form was answered with what it does not take ({wrong})",
                "trigger it again",
            ) from error

    def asks_for(self, step: Step) -> bool:
        """Say whether a step is part of the run."""
        return self.mode is Mode.PREPARE and step in self.steps

    def connection(self, site: Site) -> str:
        """Return the id of the Airflow connection that leads to the account."""
        return site.rds_connection if self.host is Host.RDS else self.icsf_connection


@dataclass(frozen=True)
class Usual:
    """What the form proposes for the links, as the group's transfer page has them.

    Args:
        group: folder of the group on RDS, with one folder for each account.
        own_link: name of the link to the account's folder.
        shared_link: name of the link to the folder that all share.
        shared_folder: that folder.
    """

    group: str
    own_link: str
    shared_link: str
    shared_folder: str


def usual(site: Site) -> Usual:
    """Derive the links from where beamtimes land: on the page, ``rds_lightform`` for ``Fonseca-Lightform``."""
    root = PurePosixPath(site.destination_root)
    places = (root, *root.parents)
    shared = next((place for place in places if place.name == "shared"), root)
    group = shared.parent
    words = re.findall(r"[a-z0-9]+", group.name.lower())
    name = f"rds_{words[-1][:40] if words else 'group'}"
    return Usual(str(group), name, f"{name}_shared", str(shared))


@dataclass(frozen=True)
class Gate:
    """Where a facility lets people in by ssh.

    Args:
        facility: its name in sentences, e.g. ``Diamond``.
        host: as the registry and ssh name it.
        port: where the registry names one; else the one that ssh takes.
        accounts: log-in names there, of the registry's beamtimes.
    """

    facility: str
    host: str
    port: int | None
    accounts: tuple[str, ...]

    @property
    def label(self) -> str:
        """Host, and port where one is named; the script's answers bear it."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def words(self) -> tuple[str, str, str]:
        """The gate as the script takes it."""
        port = "" if self.port is None else str(self.port)
        return self.host, port, self.accounts[0] if self.accounts else ""


def facilities_of(beamtimes: Iterable[Beamtime]) -> tuple[str, ...]:
    """Return the facilities from which beamtimes come by ssh, by the registry's names; all where there are none."""
    return tuple(sorted({one.facility for one in _by_ssh(beamtimes)})) or tuple(sorted(MODELS))


def gates(beamtimes: Iterable[Beamtime], facilities: Iterable[str]) -> tuple[Gate, ...]:
    """Return the gates of these facilities, in a constant order; the facility's own where the registry has none."""
    wanted = set(facilities)
    found: dict[tuple[str, str, str, int], set[str]] = {}
    for one in _by_ssh(beamtimes):
        if one.facility in wanted:
            key = (one.facility, one.facility_name, one.host, one.log_in_port or 0)
            found.setdefault(key, set()).add(one.account)
    for name in wanted - {facility for facility, *_ in found}:
        # Host and name are the facility's own and need no beamtime.
        bare = MODELS[name].model_construct(facility=name)  # type: ignore[call-arg]
        found[name, bare.facility_name, bare.host, 0] = set()
    return tuple(
        Gate(spoken, host, port or None, tuple(sorted(accounts)))
        for (_, spoken, host, port), accounts in sorted(found.items())
    )


def _by_ssh(beamtimes: Iterable[Beamtime]) -> Iterator[Beamtime]:
    return (one for one in beamtimes if not one.archived and one.protocol is not Transport.FTPS)


def certificates(text: str, now: datetime) -> str:
    """Return the certificates of a PEM text, and nothing else of it.

    Raises:
        PermanentError: there is none, or one that cannot vouch for a server.
    """
    remedy = "paste the issuer's certificate as PEM, from '-----BEGIN CERTIFICATE-----' on, or leave the field empty"
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise PermanentError(
            "ca-unreadable", "The CA certificate of the form cannot be read", remedy
        ) from error
    for one in found:
        name = one.subject.rfc4514_string()
        try:
            authority = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            authority = False
        if not authority:
            raise PermanentError("ca-none", f"'{name}' is no authority's certificate", remedy)
        if one.not_valid_after_utc <= now:
            raise PermanentError(
                "ca-expired",
                f"The certificate '{name}' expired on {one.not_valid_after_utc:%Y-%m-%d}",
                remedy,
            )
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)


# --- the script's calls -------------------------------------------------------------------------------------


def prepare_command(wishes: Wishes, site: Site, gates: Iterable[Gate], ca: str) -> tuple[str, ...]:
    """Return the command that makes, or in mode ``unlink`` removes, what needs no person's yes.

    Args:
        wishes: what is asked for.
        site: the group's own side.
        gates: of the facilities that are asked for.
        ca: PEM text of ``certificates``, '' for none.
    """
    own = ("--own", wishes.own_link, usual(site).group)
    if wishes.own_folder is not None:
        own = ("--link", wishes.own_link, wishes.own_folder)
    links = (*own, "--link", wishes.shared_link, wishes.shared_folder)
    if wishes.mode is Mode.UNLINK:
        return script_command(SCRIPT, ("unlink", *links))
    keys = tuple(word for gate in gates for word in ("--key", *gate.words))
    return script_command(
        SCRIPT,
        (
            "make",
            *(("--workspace",) if wishes.asks_for(Step.WORKSPACE) else ()),
            *(links if wishes.asks_for(Step.LINKS) else ()),
            *(keys if wishes.asks_for(Step.KEY_PAIR) else ()),
            *(("--lftp", ca) if wishes.asks_for(Step.LFTP) else ()),
        ),
    )


def scan_command(gates: Iterable[Gate]) -> tuple[str, ...]:
    """Return the command that looks at the facilities' host keys, and at those that are pinned."""
    return script_command(SCRIPT, ("scan", *(word for gate in gates for word in ("--gate", *gate.words))))


def pin_command(gates: Iterable[Gate], keys: Iterable[HostKey]) -> tuple[str, ...]:
    """Return the command that pins host keys which a person has confirmed, these and no others."""
    wanted = tuple(keys)
    words: list[str] = []
    for gate in gates:
        of_gate = [f"{key.type} {key.key}" for key in wanted if key.gate == gate.label]
        if of_gate:
            words += ("--gate", *gate.words)
        for key in of_gate:
            words += ("--host-key", key)
    return script_command(SCRIPT, ("pin", *words))


# --- its answers --------------------------------------------------------------------------------------------


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


def _is_base64(key: str) -> bool:
    try:
        fingerprint(key)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class _Pinned:
    gate: str
    file: str
    marker: str
    type: str
    key: str


@dataclass(frozen=True)
class _Said:
    """A ``step`` line."""

    step: str
    subject: str
    state: State
    place: str
    reason: str
    detail: str


_STATES = {
    "made": State.MADE,
    "was-there": State.WAS_THERE,
    "changed": State.CHANGED,
    "removed": State.REMOVED,
    "was-not-there": State.WAS_NOT_THERE,
    "refused": State.REFUSED,
}


def parse_answer(text: str, host: Host, gates: Iterable[Gate]) -> Answer:
    """Return what ``prepare_account.sh`` printed, in words, and which host keys are new.

    Raises:
        TransientError: the answer is cut short, or is not that script's.
    """
    by_label = {gate.label: gate for gate in gates}
    rows: list[Row] = []
    pinned: list[_Pinned] = []
    shown: list[HostKey] = []
    lines = text.split("\n")
    try:
        if lines[-2:] != ["end", ""]:
            raise ValueError("it has no end")
        for line in lines[:-2]:
            match line.split("\t"):
                case ["account", _, _]:
                    pass
                case ["step", step, subject, state, place, reason, detail]:
                    said = _Said(step, subject, _STATES[state], place, reason, detail)
                    rows.append(_row(said, host, by_label.get(subject)))
                case ["pinned", *fields]:
                    one = _Pinned(*fields)
                    # ssh passes over a line whose key is none.
                    if _is_base64(one.key):
                        pinned.append(one)
                case ["shown", label, name, file, kind, key]:
                    shown.append(
                        HostKey(gate=by_label[label].label, name=name, file=file, type=kind, key=key)
                    )
                    fingerprint(key)
                case _:
                    raise ValueError(f"'{line[:60]}' is not its own")
    except (ValueError, KeyError, TypeError) as error:
        raise TransientError(
            "account-unreadable",
            f"{host.spoken} gave no whole answer about the account ({error})",
            "this is tried again; if it stays, see that the log-in shell there prints nothing and bash is installed",
        ) from error
    unconfirmed: list[HostKey] = []
    for gate in by_label.values():
        of_gate = [one for one in shown if one.gate == gate.label]
        settled, new = _judge(gate, of_gate, [one for one in pinned if one.gate == gate.label])
        rows += settled
        unconfirmed += new
    return Answer(rows=tuple(rows), unconfirmed=tuple(unconfirmed))


def _judge(gate: Gate, shown: list[HostKey], pinned: list[_Pinned]) -> tuple[list[Row], list[HostKey]]:
    """Return what is settled about a gate's host keys, and those of which nothing is known."""
    what = f"host key of {gate.label}"
    plain = [one for one in pinned if one.marker == "-"]
    revoked = [
        (new, old) for new in shown for old in pinned if (old.marker, old.key) == ("@revoked", new.key)
    ]
    there = [old for new in shown for old in plain if (old.type, old.key) == (new.type, new.key)]
    differ = [
        (new, old)
        for new in shown
        for old in plain
        if old.type == new.type and (new.type, new.key) not in {(one.type, one.key) for one in there}
    ]
    if shown and plain and not there and not differ:
        # What is pinned is of types that the host no longer shows: ssh would refuse it as changed, too.
        differ = [(shown[0], plain[0])]
    if revoked or differ:
        new, old = (revoked or differ)[0]
        return [_attack(what, gate, new, old)], []
    if there:
        named = ", ".join(f"{one.type} {fingerprint(one.key)}" for one in there)
        return [Row(what=what, state=State.WAS_THERE, where=f"{there[0].file}: {named}")], []
    authority = [one.file for one in pinned if one.marker == "@cert-authority"]
    if shown and authority:
        return [Row(what=what, state=State.WAS_THERE, where=f"{authority[0]}: by an authority")], []
    return [], shown


# --- the words ----------------------------------------------------------------------------------------------

_WHAT = {
    "workspace": "workspace",
    "link": "link {subject}",
    "key": "key pair for {facility} ({subject})",
    "host-key": "host key of {subject}",
    "ca": "lftp's CA certificate",
    "rc": "lftp's settings",
}
# What the script refuses, and what a person can do; {typed} is the place for a shell.
_REFUSED = {
    "failed": ("{place} cannot be made on {at} ({detail})", "ask Research IT if the reason is not plain"),
    "not-a-folder": ("{place} is there and is no folder", "move it away"),
    "other-link": ("{place} is a link to {detail} and stays", "`unlink {typed}` if nobody needs it"),
    "is-folder": (
        "{place} is a folder and stays",
        "`rmdir {typed}` if it is empty, or choose another name for the link",
    ),
    "is-file": ("{place} is a file and stays", "move it away, or choose another name for the link"),
    "no-link": ("{place} is no link and stays", "see what it is"),
    "no-target": ("There is no folder {detail} on {at}", "ask Research IT for it, or correct it in the form"),
    "ssh-settings": (
        "ssh on {at} cannot say how it reaches {subject} ({detail})",
        "correct ~/.ssh/config there",
    ),
    "unreadable": ("{place} cannot be read on {at}", "see what it is"),
    "modes": ("{place} can be read by others, so ssh does not use it", "`chmod 600 {typed}` on {at}"),
    "passphrase": (
        "{place} has a passphrase or is damaged, and at night nobody is there to type one",
        "keep it under another name",
    ),
    "token": (
        "{place} is on a token, and at night nobody is there to touch it",
        "keep it under another name",
    ),
    "half": ("Only half of the key pair {place} is there", "move away what is left of it"),
    "proxy": (
        "ssh on {at} goes to {subject} by way of another host ({detail}), so nobody can look at its key from there",
        "log in once by hand, and compare the fingerprint",
    ),
    "no-known-hosts": (
        "ssh on {at} keeps no file of known hosts for {subject} ('{place}')",
        "correct UserKnownHostsFile in ~/.ssh/config there",
    ),
    "no-answer": (
        "{subject} shows no host key to {at} ({detail})",
        "see whether it is down, or ask Research IT whether {at} may reach it",
    ),
    "revoked": (
        "{place} calls the key revoked that was to be pinned for {subject}; nothing was pinned",
        "find out who wrote that line on {at} meanwhile",
    ),
    "hides": (
        "lftp reads {place} only as long as there is no ~/.lftp, which would be made",
        "move it to ~/.lftp/rc on {at}",
    ),
}
_DIFFERS = {
    "ca": ("{place} is there with another content and stays", "move it away if it is old"),
    "rc": ("{place} is there with other settings and stays", "edit it on {at}: {detail}"),
    "host-key": (
        "{place} has got another key of {subject} since a person looked; nothing was pinned",
        "find out who wrote that line on {at} meanwhile",
    ),
}


def _row(said: _Said, host: Host, gate: Gate | None) -> Row:
    """Return a step as a row.

    Raises:
        KeyError: the script has no such step, or no such reason.
    """
    facts = {
        "subject": said.subject,
        "place": said.place,
        "typed": shlex.quote(said.place),
        "detail": said.detail,
        "at": host.spoken,
        "facility": gate.facility if gate else said.subject,
    }
    what, where = _WHAT[said.step].format(**facts), said.place
    if said.state is State.REFUSED:
        problem, remedy = _DIFFERS[said.step] if said.reason == "differs" else _REFUSED[said.reason]
        return Row(
            what=what,
            state=said.state,
            where=where,
            problem=problem.format(**facts),
            remedy=f"{remedy.format(**facts)}, then trigger this again",
        )
    if said.step == "link":
        where = f"{said.place} -> {said.detail}"
    elif said.step == "host-key":
        kind, _, key = said.detail.partition(" ")
        where = f"{said.place}: {kind} {fingerprint(key)}"
    paste = _paste(said, gate) if said.step == "key" else None
    return Row(what=what, state=said.state, where=where, paste=paste)


def _paste(said: _Said, gate: Gate | None) -> str:
    """Return the public key with the place where a person puts it."""
    who = f"as {' and as '.join(gate.accounts)}" if gate and gate.accounts else "with your account there"
    at = gate.facility if gate else said.subject
    return (
        f"{at}: log in at {said.subject} {who} and append the next line to ~/.ssh/authorized_keys; "
        f"where there is no shell, put it where {at}'s pages for users say:\n\n{said.detail}"
    )


def _attack(what: str, gate: Gate, new: HostKey, old: _Pinned) -> Row:
    if old.marker == "@revoked":
        known, forget = f"which {old.file} calls revoked", ""
    else:
        known = f"not the pinned one ({old.type} {fingerprint(old.key)} in {old.file})"
        command = shlex.join(("ssh-keygen", "-R", new.name, "-f", old.file))
        forget = f"; only if it names the new fingerprint: `{command}` there, then trigger this again"
    return Row(
        what=what,
        state=State.REFUSED,
        where=old.file,
        problem=f"{gate.label} shows the host key {new.type} {new.fingerprint}, {known}; somebody may stand in "
        "between, and nothing was changed",
        remedy=f"do not log in there, and ask {gate.facility} by telephone or on its own pages whether it changed "
        f"the key{forget}",
    )


def question(answer: Answer, host: Host) -> str:
    """Return what a person is asked before host keys are pinned, as Markdown."""
    lines = (f"| `{one.gate}` | {one.type} | `{one.fingerprint}` |" for one in answer.unconfirmed)
    return (
        f"{host.spoken} sees these host keys for the first time. **Compare each fingerprint with the one that the "
        "facility publishes or tells you**, by another way than this connection. *Approve* pins exactly these keys, "
        "*Reject* pins none.\n\n| Host | Type | Fingerprint |\n|---|---|---|\n" + "\n".join(lines)
    )


def unpinned(keys: Iterable[HostKey], why: str) -> tuple[Row, ...]:
    """Return the rows of host keys that nobody confirmed."""
    return tuple(
        Row(
            what=f"host key of {one.gate}",
            state=State.NOT_CONFIRMED,
            where=f"{one.type} {one.fingerprint}: {why}",
        )
        for one in keys
    )


def report(rows: Iterable[Row]) -> str:
    """Return the table of all that was done, then what a person pastes, then what was not done and why."""
    done = tuple(rows)
    cells = [("What", "Done", "Where"), *((row.what, row.state.value, row.where) for row in done)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    pastes = dict.fromkeys(row.paste for row in done if row.paste)
    problems = [f"{State.REFUSED}: {row.problem}: {row.remedy}" for row in done if row.problem]
    return "\n\n".join(("\n".join(lines), *pastes, *problems))


def about(error: BeamferryError, host: Host) -> BeamferryError:
    """Return an error of a connection under the name of the host that it is about; those of RDS-SSH as they are."""
    name = host.spoken
    words = (error.problem.replace("RDS-SSH", name), error.remedy.replace("RDS-SSH", name))
    return type(error)(error.code, *words)


def stopped(rows: Iterable[Row]) -> PermanentError | None:
    """Return the error of a run in which something was not done, None where all is well."""
    # A host that may be another one is worse than a link in the way.
    refused = sorted(
        (row for row in rows if row.state is State.REFUSED),
        key=lambda row: not row.what.startswith("host key"),
    )
    if not refused:
        return None
    more = f" (and {len(refused) - 1} more, see the table in the log)" if len(refused) > 1 else ""
    return PermanentError("account-not-prepared", f"{refused[0].problem}{more}", f"{refused[0].remedy}")
