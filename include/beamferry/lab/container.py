"""The lab's hosts as containers: ``python -m beamferry.lab.container init|rds|diamond|desy``.

``init`` makes keys, certificates, trees, registry and Airflow's secrets, each in the folder that becomes ``/lab`` in
the container it is for; the others serve until they are told to end. Each container is its host: it has the real
names and ports, and a file system of its own without any namespace of ours. (Mail is ``beamferry.lab.mail``.)
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from cryptography.fernet import Fernet

from beamferry.errors import BeamferryError, PermanentError
from beamferry.lab import desy_tree, desy_way, entries
from beamferry.lab.desy import Desy
from beamferry.lab.host import Host
from beamferry.lab.keys import public_key, write_private
from beamferry.lab.lab import Lab
from beamferry.lab.mail_server import MailServer
from beamferry.lab.root import Root
from beamferry.lab.settings import (
    ACCOUNT,
    ADDRESSES,
    DESTINATION_ROOT,
    DESY_NAME,
    DIAMOND_NAME,
    PASSIVE,
    RDS_NAME,
    Settings,
)
from beamferry.lab.visit import DEFAULT_SEED, SINCE_VISIT, SIZES, make_visit, remove_visit, size_in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from beamferry.lab.process import Process

FOLDER = Path("/lab")
EVERYWHERE = "0.0.0.0"  # noqa: S104 - a container's own network
MAIL_HOST, MAIL_PORT = "mail", 1025
# Where Airflow's containers find what `init` leaves for them in `airflow/`.
SECRETS = "/run/beamferry"
_PORTS = {"rds": 22, "diamond": 22, "mail": MAIL_PORT, "desy-ftps": 21, "desy-sftp": 22}
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Container(Root):
    """A host's file system where the host is a container: it is there already."""

    def build(self, account: str, home: str) -> None:
        """Do nothing: the image has the account and its places."""

    def enter(self, command: Sequence[str], *, ordinary: bool) -> tuple[str, ...]:  # noqa: ARG002
        """Return the command as it is."""
        return tuple(command)

    def tear_down(self) -> None:
        """Do nothing: the container ends by itself."""


def _ports() -> dict[str, int]:
    """Return the ports by service: the real ones where a container has the service, else none."""
    first = {name: place.start for name, place in PASSIVE.items()}
    return {**dict.fromkeys(ADDRESSES, 0), **first, **_PORTS}


def _at_desy(desy: Desy) -> Desy:
    """Let DESY's sshd have DESY's folder: one container is all of DESY."""
    desy.sftp.folder = desy.folder
    desy.sftp.root = Container(desy.folder, {})
    return desy


def _lab(folder: Path) -> Lab:
    """Return the lab with every host under its real name; starts nothing."""
    Settings(_ports(), namespaces=True, reason="", visit=None, desy=(0, 0)).save(folder / "lab.json")
    lab = Lab(folder)
    _at_desy(lab.desy)
    for host, address in ((lab.rds, RDS_NAME), (lab.diamond, DIAMOND_NAME), (lab.desy.sftp, DESY_NAME)):
        host.root, host.address = Container(host.folder, {}), address
    return lab


def initialise(folder: Path, size: str, transport: str, today: date) -> None:
    """Make what is not there, of a lab whose folders ``rds``, ``diamond`` and ``desy`` become the containers' own.

    Args:
        folder: holds all of it.
        size: ``small``, ``demo`` or bytes; trees of another size are made anew.
        transport: ``ftps`` or ``sftp`` for the beamtime at DESY.
        today: the visits ended some days before it.

    Raises:
        PermanentError: the size or the transport is not one of these.
    """
    if transport not in {"ftps", "sftp"}:
        raise PermanentError("lab-transport", f"no such transport: {transport!r}", "take ftps or sftp")
    lab = _lab(folder)
    _trees(lab, size)
    lab.introduce()
    _desy(lab)
    _for_airflow(lab, transport, today - SINCE_VISIT)


def _trees(lab: Lab, size: str) -> None:
    """Make both beamtimes, unless those of this size are there."""
    made: tuple[tuple[Path, Mapping[str, int], Callable[[Path, int, int], None], int], ...] = (
        (lab.visit_folder, SIZES, make_visit, DEFAULT_SEED),
        (lab.desy.tree, desy_tree.SIZES, desy_tree.make_beamtime, desy_tree.DEFAULT_SEED),
    )
    for tree, sizes, make, seed in made:
        wanted, note = str(size_in_bytes(size, sizes)), tree.parent / f"{tree.name}.size"
        if note.exists() and note.read_text() == wanted:
            continue
        if tree.exists():
            remove_visit(tree)
        tree.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        make(tree, int(wanted), seed)
        note.write_text(wanted)


def _desy(lab: Lab) -> None:
    """Give DESY its keys and its certificate, and let RDS-SSH trust and find it."""
    lab.desy.sftp.prepare(public_key(lab.onward.key))
    lab.desy.install(lab.desy.authority().issue((DESY_NAME,)))
    below_home = Path(desy_way.ca_file(lab.rds)).relative_to(lab.rds.home_inside)
    write_private(lab.rds.home / below_home, lab.desy.ca_file.read_text())
    desy_way.lead_ssh(lab.onward, lab.desy, "sftp")


def _for_airflow(lab: Lab, transport: str, ended: date) -> None:
    """Write secrets, connections and registry for Airflow, and the sign that this lab has just been started."""
    place = lab.folder / "airflow"
    for name in ("database_password", "queue_password", "jwt_secret", "api_secret"):
        _once(place / name, lambda: secrets.token_hex(32))
    _once(place / "fernet_key", lambda: Fernet.generate_key().decode())
    _once(place / "passwords.json", lambda: json.dumps({"admin": "lab"}))
    write_private(place / "rds_key", lab.client.key.read_text())
    connections = entries.connections(lab)
    connections["rds_ssh"]["extra"]["key_file"] = f"{SECRETS}/rds_key"
    connections["smtp_default"] = MailServer(lab.folder, MAIL_HOST, MAIL_PORT).connection
    write_private(place / "connections.yaml", yaml.safe_dump(connections))
    write_private(place / "beamtimes.yaml", lab.registry_text(ended, desy=transport))
    write_private(place / "fresh", "")


def _once(path: Path, make: Callable[[], str]) -> None:
    if not path.exists():
        write_private(path, f"{make()}\n")


def serve(role: str, folder: Path) -> None:
    """Run the servers of one host until told to end.

    Args:
        role: ``rds``, ``diamond`` or ``desy``.
        folder: the container's ``/lab``.

    Raises:
        PermanentError: a server does not start, or one ended by itself.
    """
    further: list[Callable[[], Process | None]] = []
    if role == "desy":
        desy = _at_desy(Desy(folder, _ports(), namespaces=True))
        desy.ftps.address = EVERYWHERE
        desy.ftps.start()
        further.append(lambda: desy.ftps.process)
        host: Host = desy.sftp
    else:
        name = {"rds": RDS_NAME, "diamond": DIAMOND_NAME}[role]
        host = Host(name, folder, EVERYWHERE, _PORTS[role], ACCOUNT, Container(folder, {}))
    if role == "rds":
        Path(DESTINATION_ROOT).mkdir(mode=0o755, exist_ok=True)
    host.address = EVERYWHERE
    host.start()
    servers = (lambda: host.sshd, *further)
    while all(server() for server in servers):
        time.sleep(_LOOK_SECONDS)
    raise PermanentError("lab-ended", f"a server of {host.name} has ended", f"see its log in {folder}")


def main(role: str) -> int:
    """Do what the one argument says and return the exit code."""
    try:
        if role != "init":
            serve(role, FOLDER)
        size, transport = os.environ.get("LAB_SIZE", "small"), os.environ.get("LAB_TRANSPORT", "ftps")
        initialise(FOLDER, size, transport, datetime.now(UTC).date())
    except BeamferryError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
