"""Faults on demand: each is a context manager that breaks one thing and mends it on the way out."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.lab.keys import make_key, write_private
from beamferry.lab.settings import DESTINATION_ROOT, RDS_MOUNT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.lab.host import Host
    from beamferry.lab.lab import Lab
    from beamferry.lab.root import Root

GREETING = "*** Scheduled maintenance on Tuesday ***"


@contextmanager
def _modes(*places: tuple[Path, int]) -> Iterator[None]:
    """Give places other modes for a while."""
    before = [(place, stat.S_IMODE(place.lstat().st_mode)) for place, _ in places]
    try:
        for place, mode in places:
            place.chmod(mode)
        yield
    finally:
        for place, mode in reversed(before):
            place.chmod(mode)


class Faults:
    """What can go wrong in a lab that runs.

    Args:
        lab: the lab.
    """

    def __init__(self, lab: Lab) -> None:
        """Break ``lab``."""
        self.lab = lab

    # Hosts.

    @contextmanager
    def stopped(self, host: Host) -> Iterator[None]:
        """Nobody answers on the host's port; sessions that are open go on."""
        host.stop()
        try:
            yield
        finally:
            host.start()

    @contextmanager
    def killed(self, host: Host) -> Iterator[None]:
        """The host's sshd and all sessions are killed, detached jobs run on; nobody answers until the end."""
        host.kill()
        try:
            yield
        finally:
            host.start()

    @contextmanager
    def crashed(self, host: Host) -> Iterator[None]:
        """Everything on the host is killed, detached jobs too, as when it reboots; it is back at the end."""
        host.crash()
        try:
            yield
        finally:
            host.start()

    # Keys.

    @contextmanager
    def key_removed(self, host: Host) -> Iterator[None]:
        """The host accepts no key any more."""
        before = host.authorized_keys.read_text()
        write_private(host.authorized_keys, "")
        try:
            yield
        finally:
            write_private(host.authorized_keys, before)

    @contextmanager
    def host_key_replaced(self, host: Host) -> Iterator[None]:
        """The host shows another key than the pinned one."""
        shown, kept = host.host_key_files(), host.host_key_files(kept=True)
        for now, later in zip(shown, kept, strict=True):
            now.rename(later)
        try:
            make_key(host.host_key, "impostor")
            host.start()
            yield
        finally:
            for now, later in zip(kept, shown, strict=True):
                now.rename(later)
            host.start()

    @contextmanager
    def diamond_host_key_unknown(self) -> Iterator[None]:
        """RDS-SSH has never seen Diamond's host key."""
        self.lab.pin_diamond(None)
        try:
            yield
        finally:
            self.lab.pin_diamond(self.lab.diamond.pinned)

    # Log-in shells and tools.

    @contextmanager
    def shell_noise(self, host: Host, line: str = GREETING) -> Iterator[None]:
        """The host's log-in shell prints a line before every command."""
        host.greet(line)
        try:
            yield
        finally:
            host.greet(None)

    @contextmanager
    def log_ins_begin(self, host: Host, script: str) -> Iterator[None]:
        """The host's log-in shell runs a script before every command, which may never come to the command."""
        host.begin_log_ins(script)
        try:
            yield
        finally:
            host.greet(None)

    @contextmanager
    def tool_missing(self, host: Host, *tools: str) -> Iterator[None]:
        """New log-ins on the host do not find these tools."""
        host.hidden = tools
        host.start()
        try:
            yield
        finally:
            host.hidden = ()
            host.start()

    # The account on RDS-SSH.

    @contextmanager
    def home_of_size(self, size: int) -> Iterator[None]:
        """Our folder in the home of RDS-SSH is another, empty one that holds this many bytes, rounded up to pages."""
        root, place = self._rds_root(), f"{self.lab.rds.home_inside}/.beamferry"
        (self.lab.rds.home / ".beamferry").mkdir(mode=0o700, exist_ok=True)
        owner = f"uid={os.getuid()},gid={os.getgid()}"
        root.run("mount", "-t", "tmpfs", "-o", f"mode=0700,{owner},size={size}", "tmpfs", place)
        try:
            yield
        finally:
            root.run("umount", "-l", place)

    # The visit.

    @contextmanager
    def visit_missing(self) -> Iterator[None]:
        """The visit's folder does not exist."""
        visit = self.lab.visit_folder
        away = self.lab.away(visit)
        visit.rename(away)
        try:
            yield
        finally:
            away.rename(visit)

    @contextmanager
    def visit_unreadable(self) -> Iterator[None]:
        """The account may not look into the visit's folder."""
        with _modes((self.lab.visit_folder, 0)):
            yield

    @contextmanager
    def files_unreadable(self, *paths: bytes) -> Iterator[None]:
        """The account may not read these files or folders of the visit, given relative to it."""
        with _modes(*((self.lab.visit_folder / os.fsdecode(path), 0) for path in paths)):
            yield

    # The destination.

    def _rds_root(self) -> Root:
        if self.lab.rds.root is None:
            raise PermanentError(
                "lab-needs-namespaces",
                f"this fault needs a file system of RDS-SSH's own: {self.lab.settings.reason}",
                "run it as root or where user namespaces are allowed",
            )
        return self.lab.rds.root

    @contextmanager
    def destination_unmounted(self, *, folder_stays: bool = False) -> Iterator[None]:
        """The storage is not mounted on RDS-SSH.

        Args:
            folder_stays: whether an empty folder of the destination's name is there all the same.
        """
        root = self._rds_root()
        root.run("umount", "-l", RDS_MOUNT)
        below = root.outside(DESTINATION_ROOT)
        try:
            if folder_stays:
                below.mkdir()
            yield
        finally:
            root.run("rm", "-rf", "--", DESTINATION_ROOT)
            root.run("mount", "--bind", f"/lab/{root.binds[RDS_MOUNT].name}", RDS_MOUNT)

    @contextmanager
    def destination_read_only(self) -> Iterator[None]:
        """The storage is mounted read-only."""
        root = self._rds_root()
        self._remount(root, "ro")
        try:
            yield
        finally:
            self._remount(root, "rw")

    def _remount(self, root: Root, mode: str) -> None:
        options = (root.mount_options(RDS_MOUNT) or "").split(",")
        # All other options again: an ordinary user may not drop what the mount below has.
        words = ["remount", "bind", mode, *(word for word in options if word not in {"ro", "rw"})]
        root.run("mount", "-o", ",".join(words), RDS_MOUNT)

    @contextmanager
    def destination_of_size(self, size: int, inodes: int | None = None) -> Iterator[None]:
        """The storage is another, empty one that holds this much.

        Args:
            size: bytes, rounded up to pages.
            inodes: files, folders and links in all, three of them taken already; unlimited when left out.
        """
        root = self._rds_root()
        limit = f",nr_inodes={inodes}" if inodes else ""
        root.run("mount", "-t", "tmpfs", "-o", f"mode=0755,size={size}{limit}", "tmpfs", RDS_MOUNT)
        try:
            root.outside(DESTINATION_ROOT).mkdir()
            yield
        finally:
            root.run("umount", "-l", RDS_MOUNT)

    # The way to Diamond.

    @contextmanager
    def diamond_by_way_of(self, address: str, port: int) -> Iterator[None]:
        """RDS-SSH reaches Diamond through this address and port, e.g. a slow proxy."""
        self.lab.route_diamond(address, port)
        try:
            yield
        finally:
            self.lab.route_diamond()

    # Mail.

    @contextmanager
    def mail_stopped(self) -> Iterator[None]:
        """No mail server answers."""
        self.lab.mail.stop()
        try:
            yield
        finally:
            self.lab.mail.start()
