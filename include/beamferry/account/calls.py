"""The requests about an account to the agent that runs in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.account.wishes import Mode, Step, usual
from beamferry_agent.answers import AccountRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamferry.account.rows import HostKey
    from beamferry.account.wishes import Gate, Wishes
    from beamferry.beamtime import Site


def prepare_request(wishes: Wishes, site: Site, gates: Iterable[Gate], ca: str) -> AccountRequest:
    """Return the request to make, or in mode ``unlink`` to remove, what needs no person's yes.

    Args:
        wishes: what is asked for.
        site: the group's own side.
        gates: of the facilities that are asked for.
        ca: PEM text of ``certificates``, '' for none.
    """
    own = ["own", wishes.own_link, usual(site).group]
    if wishes.own_folder is not None:
        own = ["link", wishes.own_link, wishes.own_folder]
    links = [own, ["link", wishes.shared_link, wishes.shared_folder]]
    if wishes.mode is Mode.UNLINK:
        return AccountRequest("unlink", links)
    wanted = (
        (Step.WORKSPACE, [["workspace"]]),
        (Step.LINKS, links),
        (Step.KEY_PAIR, [["key", *gate.words] for gate in gates]),
        (Step.LFTP, [["lftp", ca]]),
    )
    return AccountRequest("make", [words for step, each in wanted if wishes.asks_for(step) for words in each])


def scan_request(gates: Iterable[Gate]) -> AccountRequest:
    """Return the request to look at the facilities' host keys, and at those that are pinned."""
    return AccountRequest("scan", [["gate", *gate.words] for gate in gates])


def pin_request(gates: Iterable[Gate], keys: Iterable[HostKey]) -> AccountRequest:
    """Return the request to pin host keys which a person has confirmed, these and no others."""
    wanted = tuple(keys)
    steps: list[list[str]] = []
    for gate in gates:
        of_gate = [["host-key", key.type, key.key] for key in wanted if key.gate == gate.label]
        if of_gate:
            steps += [["gate", *gate.words], *of_gate]
    return AccountRequest("pin", steps)
