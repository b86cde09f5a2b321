"""The lab as a whole: RDS-SSH, Diamond, DESY and a mail server on loopback, in one folder."""

from __future__ import annotations

import dataclasses
import fcntl
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamferry.errors import PermanentError
from beamferry.lab import desy_tree, desy_way, entries
from beamferry.lab.desy import Desy
from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key, write_private
from beamferry.lab.mail_server import MailServer
from beamferry.lab.root import Root
from beamferry.lab.settings import (
    ACCOUNT,
    ADDRESSES,
    DESTINATION_ROOT,
    DIAMOND_NAME,
    ENDED,
    RDS_MOUNT,
    RDS_NAME,
    SOURCE,
    Settings,
)
from beamferry.lab.ssh import Client, Onward
from beamferry.lab.visit import DEFAULT_SEED, make_visit, remove_visit, size_in_bytes

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from datetime import date

    import paramiko


class Lab:
    """The lab in one folder; several can run side by side.

    Args:
        folder: holds everything; made with mode 0700 when it is not there.
        namespaces: give the hosts file systems of their own; by default wherever the machine allows it.

    Raises:
        PermanentError: namespaces are asked for and refused.
    """

    def __init__(self, folder: Path, *, namespaces: bool | None = None) -> None:
        """Read what the folder remembers, or choose ports and remember them."""
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.settings = Settings.choose(Settings.load(self._record), namespaces)
        self.settings.save(self._record)
        self.rds = self._host("rds", RDS_NAME, {RDS_MOUNT: "mount"})
        self.diamond = self._host("diamond", DIAMOND_NAME, {"/dls": "dls"})
        # rsync as root at the receiving end counts on root's power over modes, so RDS-SSH keeps it.
        self.diamond.bound_by_modes = True
        self.client = Client(self.folder / "client", self.rds)
        self.onward = Onward(self.rds, self.diamond)
        self.mail = MailServer(self.folder, ADDRESSES["mail"], self.settings.ports["mail"])
        self.desy = Desy(self.folder / "desy", self.settings.ports, namespaces=self.settings.namespaces)

    def _host(self, key: str, name: str, binds: dict[str, str]) -> Host:
        folder = self.folder / key
        places = {f"/home/{ACCOUNT}": "home"} | binds
        root = Root(folder, {place: folder / source for place, source in places.items()})
        own = self.settings.namespaces
        return Host(name, folder, ADDRESSES[key], self.settings.ports[key], ACCOUNT, root if own else None)

    @property
    def _record(self) -> Path:
        return self.folder / "lab.json"

    # What is where.

    @property
    def account(self) -> str:
        """The log-in name at Diamond."""
        return self.diamond.account

    @property
    def visit_folder(self) -> Path:
        """The visit's folder, seen from outside."""
        return self.folder / "diamond" / SOURCE.lstrip("/")

    @property
    def source(self) -> str:
        """The visit's folder as Diamond names it."""
        return SOURCE if self.settings.namespaces else str(self.visit_folder)

    @property
    def destination_root(self) -> str:
        """The folder for all beamtimes as RDS-SSH names it."""
        return DESTINATION_ROOT if self.settings.namespaces else str(self._storage / "shared")

    @property
    def _storage(self) -> Path:
        return self.rds.folder / "mount"

    @property
    def destination(self) -> Path:
        """The folder for all beamtimes, seen from outside; needs the lab to run."""
        return self.on_rds(self.destination_root)

    def on_rds(self, place: str) -> Path:
        """Return where a place on RDS-SSH is reached from outside, while the lab runs."""
        return self.rds.root.outside(place) if self.rds.root else Path(place)

    @property
    def rds_home(self) -> Path:
        """Home folder on RDS-SSH, seen from outside."""
        return self.rds.home

    @property
    def registry(self) -> Path:
        """Registry file with the lab's beamtime."""
        return self.folder / "beamtimes.yaml"

    # Start, stop, say.

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let one start or stop run at a time."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def up(
        self, size: str | None = None, seed: int = DEFAULT_SEED, ended: date = ENDED, *, desy: bool = False
    ) -> None:
        """Start what does not run, make what is not there, and undo what faults have left in keys and shells.

        Args:
            size: ``small``, ``demo`` or bytes; the visit that is there stays when left out, else small.
            seed: what the visit's content is drawn from.
            ended: last day of the visit, for the registry.
            desy: whether DESY starts too; once started it belongs to the lab.

        Raises:
            PermanentError: a program is missing or something does not start.
        """
        if shutil.which("rsync") is None:
            raise PermanentError("lab-needs-package", "rsync is not installed", "sudo apt install rsync")
        with self._alone():
            self._make_visit(size, seed)
            (self._storage / "shared").mkdir(mode=0o755, parents=True, exist_ok=True)
            self.introduce()
            self.rds.start()
            self.diamond.start()
            self.mail.start()
            if desy or self.settings.desy:
                self._start_desy(size)
            write_private(
                self.registry, self.registry_text(ended, desy="ftps" if self.settings.desy else None)
            )

    def introduce(self) -> None:
        """Make the keys that are not there, and let RDS-SSH and Diamond know them and each other."""
        make_key(self.client.key, "beamferry")
        make_key(self.onward.key, f"{ACCOUNT}@rds-ssh")
        self.rds.prepare(public_key(self.client.key))
        self.diamond.prepare(public_key(self.onward.key))
        self.client.pin()
        self.pin_diamond(self.diamond.pinned)
        self.route_diamond()

    def down(self) -> None:
        """Stop everything; files stay."""
        with self._alone():
            self.rds.down()
            self.diamond.down()
            self.mail.stop()
            if self.settings.desy:
                self.desy.down()

    @property
    def running(self) -> bool:
        """Whether all of the lab runs."""
        others = not self.settings.desy or self.desy.running
        return bool(self.rds.sshd and self.diamond.sshd and self.mail.process and others)

    def status(self) -> list[str]:
        """Return in plain words what runs where."""
        lines = []
        for host, what in ((self.rds, "RDS-SSH"), (self.diamond, "Diamond")):
            runs = "runs" if host.sshd else "does not run"
            place = f"{host.address} port {host.port}, account {host.account}"
            lines.append(f"{what} ({host.name}): sshd {runs}, {place}")
        runs = "runs" if self.mail.process else "does not run"
        place = f"{self.mail.address} port {self.mail.port}, keeps {self.mail.mailbox}"
        lines.append(f"Mail: server {runs}, {place}")
        lines.append(f"Visit: {self.source} at Diamond, files in {self.visit_folder}")
        lines += self.desy.status() if self.settings.desy else []
        lines.append(f"Destination: {self.destination_root} on RDS-SSH, files in {self._storage / 'shared'}")
        if not self.settings.namespaces:
            lines.append(f"The hosts share this machine's file system ({self.settings.reason}).")
        lines.append(f"Log in: ssh -F {shlex.quote(str(self.client.config))} {RDS_NAME}")
        return lines

    def _make_visit(self, size: str | None, seed: int) -> None:
        folder, before = self.visit_folder, self.settings.visit
        away = self.away(folder)
        if away.is_dir() and not folder.exists():
            away.rename(folder)
        wanted = (
            (size_in_bytes(size), seed) if size is not None else (before or (size_in_bytes("small"), seed))
        )
        if folder.is_dir() and wanted == before:
            return
        if folder.exists():
            remove_visit(folder)
        make_visit(folder, *wanted)
        self._remember(visit=wanted)

    def _remember(self, **changed: Any) -> None:
        self.settings = dataclasses.replace(self.settings, **changed)
        self.settings.save(self._record)

    def _start_desy(self, size: str | None) -> None:
        wanted = (size_in_bytes(size or "small", desy_tree.SIZES), desy_tree.DEFAULT_SEED)
        before = self.settings.desy
        self._remember(desy=wanted if size or not before else before)
        self.desy.up(public_key(self.onward.key), wanted, anew=size is not None)
        desy_way.lead(self.onward, self.desy)

    @staticmethod
    def away(folder: Path) -> Path:
        """Return where a folder is put that is to be missing for a while."""
        return folder.with_name(f"{folder.name}.away")

    # ssh into RDS-SSH, and from there to Diamond.

    def rds_client(self) -> paramiko.SSHClient:
        """Return a connection to RDS-SSH that checks the pinned host key; the caller closes it."""
        return self.client.connect()

    def run_on_rds(
        self, argv: tuple[str | bytes, ...], *, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command on RDS-SSH and return its exit code and output, as ssh gives them."""
        return self.client.run(argv, stdin)

    def route_diamond(self, address: str | None = None, port: int | None = None) -> None:
        """Let RDS-SSH reach Diamond by way of another address and port, or directly again."""
        self.onward.route(address or self.diamond.address, port or self.diamond.port)

    def pin_diamond(self, key: str | None) -> None:
        """Let RDS-SSH know this key, ``type base64``, as Diamond's, or none."""
        self.onward.pin(key)

    def route_desy(self, kind: desy_way.Kind) -> None:
        """Let ``ssh psftp.desy.de`` on RDS-SSH arrive at the log-in by key, by password, or by two factors."""
        desy_way.lead_ssh(self.onward, self.desy, kind)

    def mails(self) -> list[dict[str, Any]]:
        """Return the messages the mail server got, oldest first; see ``mail.record_of``."""
        return self.mail.messages()

    # For Airflow.

    def airflow_connections(self) -> dict[str, dict[str, Any]]:
        """Return the connections, by id, as ``AIRFLOW_CONN_<ID>`` takes them in JSON."""
        return entries.connections(self)

    def registry_text(self, ended: date = ENDED, *, desy: str | None = None, **further: Any) -> str:
        """Return the registry with the lab's beamtime at Diamond and, on request, the one at DESY.

        Args:
            ended: last day of the visit; the source is named when another one would be derived from it.
            desy: ``ftps`` or ``sftp`` for the beamtime at DESY, which is left out otherwise.
            further: more fields of the beamtime's entry, or others in their place.
        """
        return entries.registry_text(self, ended, desy=desy, **further)
