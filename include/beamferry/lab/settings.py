"""The names of the real hosts and places, and what a lab remembers between its starts."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.lab.keys import write_private
from beamferry.lab.root import namespaces_refused

if TYPE_CHECKING:
    from pathlib import Path

RDS_NAME = "rds-ssh.itservices.manchester.ac.uk"
DIAMOND_NAME = "ssh.diamond.ac.uk"
# An account like the one on the group's transfer page, with our own user number behind it.
ACCOUNT = "mbcx9cd4"
VISIT = "mg25682-2"
INSTRUMENT = "i12"
ENDED = date(2021, 5, 3)
SOURCE = f"/dls/{INSTRUMENT}/data/2021/{VISIT}"
RDS_MOUNT = "/mnt/eps01-rds/Fonseca-Lightform"
DESTINATION_ROOT = f"{RDS_MOUNT}/shared"
ADDRESSES = {"rds": "127.0.0.1", "diamond": "127.0.0.2", "mail": "127.0.0.1"}


@dataclass(frozen=True)
class Settings:
    """What a lab remembers between its starts.

    Args:
        ports: TCP port by service: rds, diamond, mail.
        namespaces: whether the hosts have file systems of their own.
        reason: why they have not, in the machine's words.
        visit: size in bytes and seed of the visit that is there.
    """

    ports: dict[str, int]
    namespaces: bool
    reason: str
    visit: tuple[int, int] | None

    def save(self, record: Path) -> None:
        """Write the record that ``load`` reads."""
        write_private(record, json.dumps(asdict(self)))

    @classmethod
    def load(cls, record: Path) -> Settings | None:
        """Return what was remembered, or nothing if the lab is new.

        Raises:
            PermanentError: the record is damaged.
        """
        if not record.exists():
            return None
        try:
            found = json.loads(record.read_text())
            visit = found.pop("visit")
            return cls(**found, visit=(int(visit[0]), int(visit[1])) if visit else None)
        except (ValueError, TypeError, KeyError, IndexError):
            raise PermanentError(
                "lab-settings", f"{record} is damaged", "remove the lab's folder and start it again"
            ) from None

    @classmethod
    def choose(cls, before: Settings | None, namespaces: bool | None) -> Settings:
        """Return the settings for a start: free ports unless remembered, namespaces if allowed.

        Raises:
            PermanentError: namespaces are asked for and refused.
        """
        if before is not None and namespaces in {None, before.namespaces}:
            return before
        refused = "switched off" if namespaces is False else namespaces_refused()
        if namespaces and refused:
            raise PermanentError(
                "lab-needs-namespaces", f"this machine allows no namespaces: {refused}", "start without them"
            )
        ports = before.ports if before else {name: _free_port(place) for name, place in ADDRESSES.items()}
        return cls(ports, not refused, refused or "", before.visit if before else None)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
