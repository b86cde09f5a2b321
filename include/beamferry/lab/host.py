"""One host of the lab: a real sshd on loopback, with a file system of its own where that is allowed."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from beamferry.errors import PermanentError
from beamferry.lab.keys import make_key, public_key, write_private
from beamferry.lab.process import Process, stop, with_environment
from beamferry.lab.root import Root, bound_by_modes, is_root

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Marks what log-ins start, so that it is found again where there is no namespace to find it by.
_MARK = "BEAMFERRY_LAB_HOST"
_START_SECONDS = 15.0
# From this release on, sshd shuts out addresses that fail often, and all of the lab has one address.
_PENALTIES_SINCE = (9, 8)


def sshd_program() -> str:
    """Return the full path of sshd, which it wants to be called by.

    Raises:
        PermanentError: it is not installed.
    """
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise PermanentError("lab-needs-package", "sshd is not installed", "sudo apt install openssh-server")
    return found


def sftp_server_program() -> str:
    """Return the full path of the SFTP server.

    Raises:
        PermanentError: it is not installed.
    """
    places = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
    found = shutil.which("sftp-server", path=":".join(places))
    if found is None:
        raise PermanentError(
            "lab-needs-package", "sftp-server is not installed", "sudo apt install openssh-sftp-server"
        )
    return found


def _knows_penalties() -> bool:
    done = subprocess.run(("ssh", "-V"), capture_output=True, text=True, check=False)
    match = re.match(r"OpenSSH_(\d+)\.(\d+)", done.stderr)
    return match is not None and (int(match[1]), int(match[2])) >= _PENALTIES_SINCE


@dataclass
class Host:
    """A host of the lab: where it listens, who logs in, what it sees.

    Args:
        name: the name the real one has, e.g. ``ssh.diamond.ac.uk``.
        folder: the host's own folder in the lab.
        address: loopback address.
        port: TCP port.
        account: log-in name with a namespace; without one it is the current user.
        root: its own file system, or nothing where the machine refuses namespaces.
        bound_by_modes: whether root's log-in is refused what file modes refuse, as an ordinary account's is.
        banner: text that sshd shows before a log-in, '' for none.
        hidden: tools that the log-in does not find in its PATH.
    """

    name: str
    folder: Path
    address: str
    port: int
    account: str
    root: Root | None
    bound_by_modes: bool = False
    hidden: tuple[str, ...] = field(default=())
    banner: str = ""

    def __post_init__(self) -> None:
        """Without a namespace there is no other account than our own."""
        if self.root is None:
            self.account = getpass.getuser()

    # Places, seen from outside.

    @property
    def home(self) -> Path:
        """The account's home folder."""
        return self.folder / "home"

    @property
    def host_key(self) -> Path:
        """The host's private key."""
        return self.folder / "etc" / "host_ed25519"

    def host_key_files(self, *, kept: bool = False) -> tuple[Path, Path]:
        """Return private and public file of the host key, or of the true one while another is shown."""
        path = self.host_key.with_name("host_ed25519.kept") if kept else self.host_key
        return path, path.with_name(f"{path.name}.pub")

    @property
    def authorized_keys(self) -> Path:
        """Who may log in."""
        return self.folder / "etc" / "authorized_keys"

    @property
    def log(self) -> Path:
        """What sshd says."""
        return self.folder / "sshd.log"

    @property
    def shims(self) -> Path:
        """Programs that stand in for the system's own, without a namespace."""
        return self.folder / "shims"

    @property
    def _record(self) -> Path:
        return self.folder / "sshd.json"

    # The same, seen from inside.

    @property
    def home_inside(self) -> str:
        """The account's home folder as the host names it."""
        return f"/home/{self.account}" if self.root else str(self.home)

    def _inside(self, path: Path) -> str:
        return f"/lab/{path.relative_to(self.folder)}" if self.root else str(path)

    @property
    def pinned(self) -> str:
        """The host's public key, ``type base64``."""
        return public_key(self.host_key)

    @property
    def sshd(self) -> Process | None:
        """The listening sshd, if it runs."""
        return Process.load(self._record)

    def prepare(self, allowed: str) -> None:
        """Make keys, configuration and file system, and undo what faults have changed in them.

        Args:
            allowed: the public key that may log in.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / ".ssh").mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)
        key, kept = self.host_key_files(), self.host_key_files(kept=True)
        if kept[0].exists():
            for now, later in zip(kept, key, strict=True):
                now.rename(later)
        make_key(self.host_key, self.name)
        self.hidden = ()
        write_private(self.authorized_keys, f"{allowed}\n")
        self.greet(None)
        if self.root is not None:
            self.root.build(self.account, self.home_inside)

    def greet(self, line: str | None) -> None:
        """Let the log-in shell print a line at every log-in, as a careless profile does, or no more."""
        self.begin_log_ins("" if line is None else f"cat <<'GREETING'\n{line}\nGREETING\n")

    def begin_log_ins(self, script: str) -> None:
        """Let the log-in shell run a script at every log-in."""
        # bash reads .bashrc when sshd starts it, whether a person sits there or not.
        profile = self.home / ".bashrc" if self.root else self.folder / "profile"
        profile.write_text(script)

    def _shell(self) -> str:
        """Write what stands in for the log-in shell without a namespace, and return its path."""
        self.shims.mkdir(exist_ok=True)
        shell = self.shims / "shell"
        profile = shlex.quote(str(self.folder / "profile"))
        # The account's real shell can be any, and begins in its real home.
        shell.write_text(
            f'#!/bin/bash\ncd\n. {profile}\nexec bash --norc -c "${{SSH_ORIGINAL_COMMAND-bash -l}}"\n'
        )
        shell.chmod(0o700)
        return str(shell)

    def _path(self) -> str:
        places = [str(self.shims)] if self.root is None else []
        if not self.hidden:
            return ":".join([*places, SYSTEM_PATH])
        # All tools but the hidden ones, as links: the shell then says "command not found" as it should.
        tools = self.folder / "tools"
        shutil.rmtree(tools, ignore_errors=True)
        tools.mkdir()
        for place in SYSTEM_PATH.split(":"):
            for tool in Path(place).iterdir() if Path(place).is_dir() else ():
                link = tools / tool.name
                if tool.name not in self.hidden and not link.is_symlink():
                    link.symlink_to(tool)
        return ":".join([*places, self._inside(tools)])

    def _config(self) -> str:
        environment = [f'PATH="{self._path()}"', "LANG=C.UTF-8", f'{_MARK}="{self.folder}"']
        sftp = "internal-sftp"
        if self.root is None:
            environment.append(f'HOME="{self.home}"')
            # Unlike sshd's own, this one is started by the shell and begins where that has gone.
            sftp = sftp_server_program()
        lines = [
            f"# {self.pinned}",
            f"Port {self.port}",
            f"ListenAddress {self.address}",
            f'HostKey "{self._inside(self.host_key)}"',
            f'PidFile "{self._inside(self.folder / "sshd.pid")}"',
            f'AuthorizedKeysFile "{self._inside(self.authorized_keys)}"',
            f"AllowUsers {self.account}",
            "PermitRootLogin prohibit-password",
            "AuthenticationMethods publickey",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "UseDNS no",
            "StrictModes no",
            "PrintMotd no",
            "MaxStartups 100:30:200",
            "MaxSessions 64",
            f"Subsystem sftp {sftp}",
            # Only the first such line counts, so all of it is in one.
            f"SetEnv {' '.join(environment)}",
        ]
        if self.root is None:
            lines.append(f"ForceCommand {shlex.quote(self._shell())}")
        if self.banner:
            file = self.folder / "etc" / "banner"
            file.write_text(self.banner)
            lines.append(f'Banner "{self._inside(file)}"')
        if _knows_penalties():
            lines.append("PerSourcePenalties no")
        return "\n".join(lines) + "\n"

    def start(self) -> None:
        """Start sshd unless it runs with this configuration and key; returns when it greets.

        Raises:
            PermanentError: it does not start; says what it logged.
        """
        config, text = self.folder / "etc" / "sshd_config", self._config()
        if self.sshd is not None:
            if config.exists() and config.read_text() == text:
                return
            self.stop()
        write_private(config, text)
        if self.root is None and is_root():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        pid_file = self.folder / "sshd.pid"
        pid_file.unlink(missing_ok=True)
        command: tuple[str, ...] = (sshd_program(), "-f", self._inside(config), "-E", self._inside(self.log))
        if self.bound_by_modes:
            command = bound_by_modes(command)
        if self.root is not None:
            command = self.root.enter(command, ordinary=True)
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode or not self._wait(pid_file):
            logged = self.log.read_text(errors="replace").splitlines()[-3:] if self.log.exists() else []
            raise PermanentError(
                "lab-sshd",
                f"sshd of {self.name} does not start on {self.address}:{self.port}: "
                f"{done.stderr.strip()} {' / '.join(logged)}",
                "free the port, or remove the lab's folder so that it chooses another",
            )

    def _wait(self, pid_file: Path) -> bool:
        """Wait until sshd has written its number and greets; remember it."""
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if pid_file.exists() and (text := pid_file.read_text().strip()):
                process = Process.of(int(text))
                if process is None:
                    return False
                process.save(self._record)
                try:
                    with socket.create_connection((self.address, self.port), timeout=2) as connection:
                        return connection.recv(4) == b"SSH-"
                except OSError:
                    return False
            time.sleep(0.02)
        return False

    def sessions(self) -> list[Process]:
        """Return everything that log-ins have started, what they left running too."""
        listener = self.sshd
        if self.root is not None:
            found = self.root.processes()
        else:
            found = [
                *(listener.descendants() if listener else []),
                *with_environment(_MARK, str(self.folder)),
            ]
        return [process for process in found if process != listener]

    def stop(self) -> None:
        """Stop listening; sessions that are open stay, as with a real sshd."""
        if (listener := self.sshd) is not None:
            stop([listener])
        self._record.unlink(missing_ok=True)

    def kill(self) -> None:
        """Kill sshd and cut every session's connection; what the sessions had detached runs on."""
        listener = self.sshd
        servers = [p for p in (listener.descendants() if listener else []) if _is_sshd(p)]
        stop([*([listener] if listener else []), *servers], grace_seconds=0)
        self._record.unlink(missing_ok=True)

    def crash(self) -> None:
        """Kill everything that runs on the host, detached jobs too, as when the machine reboots."""
        listener = self.sshd
        stop([*([listener] if listener else []), *self.sessions()], grace_seconds=0)
        self._record.unlink(missing_ok=True)

    def down(self) -> None:
        """End the host with everything on it and its namespace."""
        self.crash()
        if self.root is not None:
            self.root.tear_down()


def _is_sshd(process: Process) -> bool:
    try:
        return Path(f"/proc/{process.pid}/comm").read_text().startswith("sshd")
    except OSError:
        return False
