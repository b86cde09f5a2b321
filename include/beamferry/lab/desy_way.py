"""How RDS-SSH reaches the lab's DESY: by the real one's name, with the certificate that vouches for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from beamferry.lab.keys import write_private

if TYPE_CHECKING:
    from beamferry.lab.desy import Desy
    from beamferry.lab.host import Host
    from beamferry.lab.ssh import Onward, SshServer

Kind = Literal["sftp", "password", "mfa"]
# The place that the group's transfer page has it at, below the home folder.
_CA = ".lftp/certs/desy.pem"


def ca_file(rds: Host) -> str:
    """Return where RDS-SSH has the certificate that vouches for DESY's FTPS."""
    return f"{rds.home_inside}/{_CA}"


def lead(onward: Onward, desy: Desy) -> None:
    """Let RDS-SSH trust DESY's certificate, find its name, and log in to it by SFTP with a key."""
    rds = onward.rds
    write_private(rds.home / _CA, desy.ca_file.read_text())
    lead_ssh(onward, desy, "sftp")
    if rds.root is not None:
        _name(rds, desy)


def lead_ssh(onward: Onward, desy: Desy, kind: Kind) -> None:
    """Let ``ssh psftp.desy.de`` on RDS-SSH arrive at one of DESY's three kinds of log-in."""
    servers: dict[Kind, SshServer] = {"sftp": desy.sftp, "password": desy.sftp_password, "mfa": desy.mfa}
    onward.lead(desy.name, servers[kind], asks=kind != "sftp")


def _name(rds: Host, desy: Desy) -> None:
    """Put DESY's name into RDS-SSH's own list of hosts."""
    root, place = rds.root, "/etc/hosts"
    if root is None:
        return
    line = f"{desy.ftps.address} {desy.name}"
    text = root.outside(place).read_text() if root.outside(place).exists() else ""
    if line in text.splitlines():
        return
    own = rds.folder / "hosts"
    machine = Path(place)
    own.write_text(
        (machine.read_text() if machine.exists() else "127.0.0.1 localhost\n").rstrip("\n") + f"\n{line}\n"
    )
    root.run("mount", "--bind", "/lab/hosts", place)
