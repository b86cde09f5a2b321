"""The names of the real hosts and places, and what a lab remembers between its starts."""

from __future__ import annotations

import json
import secrets
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
DESY_NAME = "psftp.desy.de"
DESY_ACCOUNT = "cdaniel"
DESY_ADDRESS = "127.0.0.3"
# DESY's kinds of server share an address, as the real ones share a name.
DESY_SERVERS = ("ftps", "pure", "sftp", "password", "mfa")
ADDRESSES = {
    "rds": "127.0.0.1",
    "diamond": "127.0.0.2",
    "mail": "127.0.0.1",
    **{f"desy-{name}": DESY_ADDRESS for name in DESY_SERVERS},
}
# Data connections of the two FTPS servers; DESY's own are 30000 to 32000, below what clients are given.
PASSIVE = {"desy-ftps-passive": range(30_000, 31_000), "desy-pure-passive": range(31_000, 32_000)}
PASSIVE_COUNT = 100


@dataclass(frozen=True)
class Settings:
    """What a lab remembers between its starts.

    Args:
        ports: TCP port by service: rds, diamond, mail, DESY's; of a range for data connections, the first.
        namespaces: whether the hosts have file systems of their own.
        reason: why they have not, in the machine's words.
        visit: size in bytes and seed of the visit that is there.
        desy: the same of DESY's beamtime; nothing while the lab has no DESY.
    """

    ports: dict[str, int]
    namespaces: bool
    reason: str
    visit: tuple[int, int] | None
    desy: tuple[int, int] | None = None

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
            visit, desy = found.pop("visit"), found.pop("desy", None)
            return cls(**found, visit=_size_and_seed(visit), desy=_size_and_seed(desy))
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
        if (
            before is not None
            and namespaces in {None, before.namespaces}
            and before.ports.keys() >= _SERVICES
        ):
            return before
        refused = "switched off" if namespaces is False else namespaces_refused()
        if namespaces and refused:
            raise PermanentError(
                "lab-needs-namespaces", f"this machine allows no namespaces: {refused}", "start without them"
            )
        # A lab of an earlier release has no ports for what is new since.
        ports = _free_ports() | (before.ports if before else {})
        past = (before.visit, before.desy) if before else (None, None)
        return cls(ports, not refused, refused or "", *past)


_SERVICES = {*ADDRESSES, *PASSIVE}


def _size_and_seed(found: list[int] | None) -> tuple[int, int] | None:
    return (int(found[0]), int(found[1])) if found else None


def _free_ports() -> dict[str, int]:
    # Several labs side by side may well take the same range: a port that is taken is passed over by the servers.
    first = {name: secrets.choice(places[::PASSIVE_COUNT]) for name, places in PASSIVE.items()}
    return {name: free_port(place) for name, place in ADDRESSES.items()} | first


def free_port(address: str) -> int:
    """Return a TCP port that nobody listens on at an address."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
