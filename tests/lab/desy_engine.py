"""The scripts that run lftp, under a real bash, against the lab's DESY: RDS-SSH is this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from engine import Scripts

from beamferry import lftp, lftp_access
from beamferry.access import parse_facts
from beamferry.beamtime import Level, Site
from beamferry.facilities.desy import DesyBeamtime
from beamferry.lab.desy_tree import BEAMTIME, UNREADABLE
from beamferry.rsync import POSIX, Traits
from beamferry_agent.probe_request import ProbeRequest

if TYPE_CHECKING:
    from pathlib import Path

    from engine import Outcome

    from beamferry.access import Facts, Finding
    from beamferry.lab.desy import Desy

# The lab's log-ins: two servers of FTPS, a key, a password asked for by ssh.
KINDS = ("pyftpdlib", "pure-ftpd", "sftp", "sftp-password")


@dataclass
class DesyEngine(Scripts):
    """One beamtime between the lab's DESY and a destination folder here."""

    desy: Desy
    folder: Path
    kind: str
    key: Path
    settings: dict[str, Any] = field(default_factory=dict)
    password: str | None = None
    # What the destination can keep, as the probe would say.
    traits: Traits = POSIX

    def __post_init__(self) -> None:
        self.prepare()
        self.destination = self.folder / "rds" / "beamtime"
        self.secret = self.folder / "secret"
        self.destination.parent.mkdir()
        # A share with something in it is what a mounted one looks like.
        (self.destination.parent / "other group's").mkdir()
        self.site = Site(destination_root=str(self.destination.parent))
        over_ssh = self.kind.startswith("sftp")
        port = {"pyftpdlib": self.desy.ftps.port, "pure-ftpd": self.desy.pure.port}.get(self.kind)
        usual: dict[str, Any] = {
            "id": BEAMTIME,
            "facility": "desy",
            "instrument": "p07",
            "account": self.desy.account,
            "ended": date(2020, 12, 7),
            "transport": "sftp" if over_ssh else "ftps",
            "registered": None if over_ssh else date(2020, 12, 1),
            "connection": None if self.kind == "sftp" else "desy",
            "port": port,
            "server": None if over_ssh else self.desy.ftps.address,
            "ca_file": None if over_ssh else str(self.desy.ca_file),
            "destination": str(self.destination),
            "exclude": [UNREADABLE.decode()],
        }
        self.beamtime = DesyBeamtime(**usual | self.settings)
        if over_ssh:
            self._lead_ssh()

    def _lead_ssh(self) -> None:
        """Lead DESY's name to one of the lab's servers, as ~/.ssh/config would."""
        known = self.folder / "known_hosts"
        known.write_text(f"psftp.desy.de {self.desy.sftp.pinned}\n")
        server = self.desy.sftp if self.kind == "sftp" else self.desy.sftp_password
        self.shim_ssh(
            f"Host {self.beamtime.host}\n HostName {server.address}\n Port {server.port}\n"
            f" HostKeyAlias psftp.desy.de\n UserKnownHostsFile {known}\n IdentitiesOnly yes\n"
            + (f" IdentityFile {self.key}\n" if self.kind == "sftp" else " IdentityFile none\n")
        )

    def hand_over(self) -> None:
        """Put the password where the script looks for it, as the operator does before each job."""
        if self.beamtime.connection is not None:
            self.secret.touch(mode=0o600)
            self.secret.write_text(self.desy.password if self.password is None else self.password)

    def facts(self) -> Facts:
        """What the probe sees."""
        self.hand_over()
        arguments = lftp.probe_arguments(self.beamtime, self.site, str(self.secret))
        return parse_facts(self.asked("probe", ProbeRequest("lftp", arguments).to_json()))

    def probe(self) -> tuple[Finding, ...]:
        """What the probe finds, judged."""
        return lftp_access.judge(self.facts(), self.beamtime, self.site, datetime.now(UTC).date())

    def dry_run(self, *, streams: int = 3) -> Outcome:
        self.hand_over()
        arguments = lftp.dry_run_arguments(
            str(self.work), self.beamtime, self.site, str(self.secret), self.traits, streams=streams
        )
        return self.run("lftp_dry_run", arguments)

    def transfer_arguments(self, folder: str, *, streams: int = 3) -> tuple[str, ...]:
        return lftp.transfer_arguments(
            str(self.work),
            self.beamtime,
            self.site,
            str(self.secret),
            self.traits,
            folder=folder,
            streams=streams,
        )

    def transfer(self, folder: str, *, streams: int = 3, limit_kib: int | None = None) -> Outcome:
        self.hand_over()
        return self.run("lftp_transfer", self.transfer_arguments(folder, streams=streams), limit_kib)

    def verify(self, level: Level = Level.SAMPLED, *, streams: int = 3) -> Outcome:
        self.hand_over()
        arguments = lftp.verify_arguments(
            str(self.work),
            self.beamtime,
            self.site,
            str(self.secret),
            self.traits,
            level=level,
            streams=streams,
            seed=7,
        )
        return self.run("lftp_verify", arguments)

    @property
    def listed(self) -> list[bytes]:
        """Records of the source's census."""
        return (self.work / "source.census").read_bytes().split(b"\0")[:-1]

    @property
    def todo(self) -> list[bytes]:
        """Paths of the files to fetch."""
        return [record.split(b"//", 1)[0] for record in (self.work / "todo").read_bytes().split(b"\0")[:-1]]
