"""What the agent answers about an account."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.account.rows import Answer, HostKey, Pinned, Row, Said, State, fingerprint, is_base64
from beamferry.account.words import attack, row
from beamferry.errors import TransientError
from beamferry_agent.answers import AccountAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamferry.account.wishes import Gate, Host

_STATES = {
    "made": State.MADE,
    "was-there": State.WAS_THERE,
    "changed": State.CHANGED,
    "removed": State.REMOVED,
    "was-not-there": State.WAS_NOT_THERE,
    "refused": State.REFUSED,
}


def parse_answer(text: str, host: Host, gates: Iterable[Gate]) -> Answer:
    """Return what the agent printed, in words, and which host keys are new.

    Raises:
        TransientError: the answer is cut short, or is not the agent's.
    """
    by_label = {gate.label: gate for gate in gates}
    try:
        told = AccountAnswer.from_json(text)
        rows = [
            row(
                Said(one.step, one.subject, _STATES[one.state], one.place, one.reason, one.detail),
                host,
                by_label.get(one.subject),
            )
            for one in told.steps
        ]
        # ssh passes over a line whose key is none.
        pinned = [Pinned(*one) for one in told.pinned if is_base64(one.key)]
        shown = [HostKey(**one._asdict() | {"gate": by_label[one.gate].label}) for one in told.shown]
        for key in shown:
            fingerprint(key.key)
    except (ValueError, KeyError) as error:
        raise TransientError(
            "account-unreadable",
            f"{host.spoken} gave no whole answer about the account ({error})",
            "this is tried again; if it stays, see that the log-in shell there prints nothing",
        ) from error
    unconfirmed: list[HostKey] = []
    for gate in by_label.values():
        of_gate = [one for one in shown if one.gate == gate.label]
        settled, new = _judge(gate, of_gate, [one for one in pinned if one.gate == gate.label])
        rows += settled
        unconfirmed += new
    return Answer(rows=tuple(rows), unconfirmed=tuple(unconfirmed))


def _judge(gate: Gate, shown: list[HostKey], pinned: list[Pinned]) -> tuple[list[Row], list[HostKey]]:
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
        return [attack(what, gate, new, old)], []
    if there:
        named = ", ".join(f"{one.type} {fingerprint(one.key)}" for one in there)
        return [Row(what=what, state=State.WAS_THERE, where=f"{there[0].file}: {named}")], []
    authority = [one.file for one in pinned if one.marker == "@cert-authority"]
    if shown and authority:
        return [Row(what=what, state=State.WAS_THERE, where=f"{authority[0]}: by an authority")], []
    return [], shown
