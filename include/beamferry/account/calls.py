"""The calls of ``prepare_account.sh``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.account.wishes import Mode, Step, usual
from beamferry.remote import script_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamferry.account.rows import HostKey
    from beamferry.account.wishes import Gate, Wishes
    from beamferry.beamtime import Site

SCRIPT = "prepare_account.sh"


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
