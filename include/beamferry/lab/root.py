"""A host's own root file system, in a mount namespace; made by root, or by any user where that is allowed."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.lab.process import Process, stop, with_file_system_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def is_root() -> bool:
    """Whether the lab runs as root."""
    return os.geteuid() == 0


def bound_by_modes(command: Sequence[str]) -> tuple[str, ...]:
    """Return the command as it runs without root's power over file modes; others have none to lose."""
    drop = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
    return (*drop, *command) if is_root() else tuple(command)


def _new_namespace() -> tuple[str, ...]:
    """Return the words that start a command in a mount namespace where it may mount."""
    if is_root():
        return ("unshare", "--mount", "--propagation", "private", "--")
    return ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", "--")


def namespaces_refused() -> str | None:
    """Return why this machine lets us have no mount namespace, in the tools' words, or nothing if it does."""
    # The steps of root.sh that can be refused, in a namespace that is gone at once.
    steps = (
        "mount -t tmpfs tmpfs /tmp",
        "mkdir /tmp/old",
        "cd /tmp",
        "PATH=$PATH:/usr/sbin:/sbin pivot_root . old",
    )
    try:
        done = subprocess.run(
            (*_new_namespace(), "sh", "-c", " && ".join(steps)),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return "unshare is not installed (package util-linux)"
    return None if done.returncode == 0 else done.stderr.strip()


def passwd_text(account: str, home: str) -> str:
    """Return the machine's accounts, ``account`` as another name of the current user; both live there."""
    uid, gid = os.getuid(), os.getgid()
    lines = [f"{account}:x:{uid}:{gid}:lab:{home}:/bin/bash"]
    for entry in pwd.getpwall():
        if entry.pw_name == account:
            continue
        place, shell = (home, "/bin/bash") if entry.pw_uid == uid else (entry.pw_dir, entry.pw_shell)
        lines.append(f"{entry.pw_name}:x:{entry.pw_uid}:{entry.pw_gid}:{entry.pw_gecos}:{place}:{shell}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Root:
    """One host's root file system; lives as long as its keeper process.

    Args:
        folder: the host's folder in the lab; seen as ``/lab`` inside.
        binds: folders of the lab by the place where the host sees them.
    """

    folder: Path
    binds: Mapping[str, Path]

    @property
    def _record(self) -> Path:
        return self.folder / "keeper.json"

    @property
    def keeper(self) -> Process | None:
        """The process that keeps the namespace, if it runs."""
        return Process.load(self._record)

    def build(self, account: str, home: str) -> None:
        """Make the namespace unless it is there.

        Raises:
            PermanentError: a mount was refused.
        """
        if self.keeper is not None:
            return
        passwd = self.folder / "passwd"
        passwd.write_text(passwd_text(account, home))
        new_root = self.folder / "root"
        new_root.mkdir(exist_ok=True)
        binds: list[str] = ["--bind", str(self.folder), "/lab"]
        for place, source in self.binds.items():
            source.mkdir(parents=True, exist_ok=True)
            binds += ["--bind", str(source), place]
        words = ("--new-root", str(new_root), "--passwd", str(passwd), *binds)
        with as_file(files("beamferry.lab") / "root.sh") as script:
            done = subprocess.run(
                (*_new_namespace(), "bash", str(script), *words),
                capture_output=True,
                text=True,
                check=False,
            )
        keeper = Process.of(int(done.stdout)) if done.returncode == 0 else None
        if keeper is None:
            raise PermanentError(
                "lab-namespace",
                f"the lab's own file system for {self.folder.name} could not be made: {done.stderr.strip()}",
                "start the lab with namespaces off",
            )
        keeper.save(self._record)

    def enter(self, command: Sequence[str], *, ordinary: bool) -> tuple[str, ...]:
        """Return the command as it runs inside.

        Args:
            command: what to run.
            ordinary: as the current user; else with power over mounts.

        Raises:
            PermanentError: the namespace is not there.
        """
        keeper = self.keeper
        if keeper is None:
            raise PermanentError(
                "lab-down", f"the lab's host {self.folder.name} is not running", "run `beamferry lab up`"
            )
        target = f"--target={keeper.pid}"
        if is_root():
            return ("nsenter", target, "--mount", "--", *command)
        # Inside, the current user is called root and may mount; a second namespace gives the own number back.
        back = ("unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}", "--")
        return (
            "nsenter",
            target,
            "--user",
            "--preserve-credentials",
            "--mount",
            "--",
            *(back if ordinary else ()),
            *command,
        )

    def run(self, *command: str) -> None:
        """Run a command inside with power over mounts.

        Raises:
            PermanentError: it failed; says what it printed.
        """
        done = subprocess.run(
            self.enter(command, ordinary=False), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise PermanentError(
                "lab-mount",
                f"{' '.join(command)} failed in the lab's host {self.folder.name}: {done.stderr.strip()}",
                "stop the lab and start it again",
            )

    def outside(self, place: str) -> Path:
        """Return where a place inside is reached from outside, while the host runs."""
        keeper = self.keeper
        if keeper is None:
            raise PermanentError(
                "lab-down", f"the lab's host {self.folder.name} is not running", "run `beamferry lab up`"
            )
        return Path(f"/proc/{keeper.pid}/root{place}")

    def mount_options(self, place: str) -> str | None:
        """Return the options of the topmost mount at a place inside, or nothing if none is mounted there."""
        keeper = self.keeper
        if keeper is None:
            return None
        found = None
        for line in Path(f"/proc/{keeper.pid}/mountinfo").read_text().splitlines():
            fields = line.split(" ")
            if fields[4] == place:
                found = fields[5]
        return found

    def processes(self) -> list[Process]:
        """Return everything that runs inside, the keeper left out."""
        keeper = self.keeper
        return [] if keeper is None else with_file_system_of(keeper)

    def tear_down(self) -> None:
        """End everything inside and the namespace with it."""
        keeper = self.keeper
        if keeper is not None:
            stop([*self.processes(), keeper], grace_seconds=1.0)
        self._record.unlink(missing_ok=True)
