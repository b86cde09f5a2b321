"""The words for what became of an account."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from beamferry.account.rows import Answer, HostKey, Pinned, Row, Said, State, fingerprint
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamferry.account.wishes import Gate, Host

_WHAT = {
    "workspace": "workspace",
    "link": "link {subject}",
    "key": "key pair for {facility} ({subject})",
    "host-key": "host key of {subject}",
    "ca": "lftp's CA certificate",
    "rc": "lftp's settings",
}
# What the script refuses, and what a person can do; {typed} is the place for a shell.
REFUSED = {
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


def row(said: Said, host: Host, gate: Gate | None) -> Row:
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
        problem, remedy = _DIFFERS[said.step] if said.reason == "differs" else REFUSED[said.reason]
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


def _paste(said: Said, gate: Gate | None) -> str:
    """Return the public key with the place where a person puts it."""
    who = f"as {' and as '.join(gate.accounts)}" if gate and gate.accounts else "with your account there"
    at = gate.facility if gate else said.subject
    return (
        f"{at}: log in at {said.subject} {who} and append the next line to ~/.ssh/authorized_keys; "
        f"where there is no shell, put it where {at}'s pages for users say:\n\n{said.detail}"
    )


def attack(what: str, gate: Gate, new: HostKey, old: Pinned) -> Row:
    """Return that a facility shows another key than the pinned one, or one that was revoked."""
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
