"""The engine's scripts under a real bash, against a real sshd: RDS-SSH is this machine, Diamond the sshd."""

from __future__ import annotations

import getpass
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from beamferry import access, agent, census, remote, rsync
from beamferry.beamtime import Level, Site
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.lab.keys import make_key, public_key
from beamferry.verification import Ends, Listed, judge, request
from beamferry_agent.probe_request import ProbeRequest
from beamferry_agent.records import read_names

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from pathlib import Path

    from beamferry.beamtime import Beamtime
    from beamferry.lab.host import Host
    from beamferry.verification import Verdict
    from beamferry_agent.answers import Comparison, ComparisonRequest

MIB = 1024 * 1024


@dataclass(frozen=True)
class Outcome:
    """What a job script left behind."""

    code: int
    result: dict[str, Any]
    progress: dict[str, int]
    errors: str
    stats: str
    log: str


class Scripts:
    """A work folder for the engine's scripts, and tools of their own before those of this machine."""

    folder: Path
    # Words before a job's command that lead it into another view of the file systems.
    inside: tuple[str, ...] = ()

    def prepare(self) -> None:
        self.work, self.job, self.shims = (self.folder / name for name in ("work", "job", "shims"))
        self.home, self.installed = self.folder / "home", self.folder / "bin"
        for place in (self.job, self.shims, self.home, self.installed):
            place.mkdir(parents=True)
        for name, content in remote.bundle().items():
            (self.installed / name).write_bytes(content)

    def shim_ssh(self, text: str) -> None:
        """Let ssh read this configuration, as if it were ~/.ssh/config."""
        config = self.folder / "ssh_config"
        config.write_text(text)
        shim = self.shims / "ssh"
        shim.write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {config} "$@"\n')
        shim.chmod(0o755)

    def start(self, script: str, arguments: tuple[str, ...], limit_kib: int | None = None) -> Job:
        """Start a job script in a session of its own, as the agent does; ``limit_kib`` bounds each file."""
        for left in self.job.iterdir():
            left.unlink()
        is_step = not script.endswith(".sh")
        command = ["bash", str(self.installed / script), *arguments]
        if is_step:
            command = [sys.executable, "-I", "-B", str(self.installed / "agent.pyz"), "step", script]
        if limit_kib is not None:
            command = ["bash", "-c", f'ulimit -f {limit_kib}; exec "$@"', "bash", *command]
        with (self.job / "log").open("wb") as log:
            process = subprocess.Popen(
                [*self.inside, *command],
                stdin=subprocess.PIPE if is_step else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ
                | {
                    "HOME": str(self.home),
                    "BEAMFERRY_JOB": str(self.job),
                    "PATH": f"{self.shims}:{os.environ['PATH']}",
                },
            )
        if is_step and process.stdin:
            with process.stdin as pipe:
                pipe.write(json.dumps({"step": script, "arguments": arguments, "locks": []}).encode())
        return Job(self, process)

    def said(self, script: str, arguments: tuple[str, ...]) -> str:
        """What a script that is no job prints."""
        return subprocess.run(
            [*self.inside, "bash", str(self.installed / script), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PATH": f"{self.shims}:{os.environ['PATH']}"},
        ).stdout

    def asked(self, verb: str, request: str) -> str:
        """What the agent, as it is sent to RDS-SSH, answers."""
        return subprocess.run(
            [*self.inside, sys.executable, "-I", "-B", str(self.installed / "agent.pyz"), verb],
            input=request,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PATH": f"{self.shims}:{os.environ['PATH']}"},
        ).stdout

    def compared(self, request: ComparisonRequest) -> Comparison:
        """What the agent, as it is sent to RDS-SSH, answers."""
        done = subprocess.run(
            ["bash", str(self.installed / "agent.sh"), "compare"],
            input=request.to_json(),
            capture_output=True,
            text=True,
            check=False,
        )
        said = agent.answer(remote.Completed(done.returncode, done.stdout, done.stderr))
        return agent.read_comparison(said)

    def verdict(self, done: Outcome, level: Level, *, modify_window: int = 0) -> Verdict:
        """What the chain makes of a comparison."""
        result = done.result

        def end(name: str) -> Ends:
            return Ends(**{field: int(result[f"{name}_{field}"]) for field in Ends.model_fields})

        asked = request(
            str(self.work / "verify"),
            listed=Listed(
                only_source=int(result["only_source"]),
                only_destination=int(result["only_destination"]),
                mismatches=int(result["content_mismatches"]),
                unstable=int(result["unstable"]),
                unresolved=int(result["unresolved"]),
                closed=int(result["closed"]),
            ),
            source=end("source"),
            destination=end("destination"),
            listing_began=None,
            modify_window=int(result.get("modify_window", modify_window)),
        )
        return judge(
            self.compared(asked),
            level=level,
            source=end("source"),
            destination=end("destination"),
            sampled_files=int(result["sampled_files"]) - int(result["again_files"]),
            sampled_bytes=int(result["sampled_bytes"]),
            partial_files=int(result["destination_partials"]),
            checked_at=datetime.now(UTC),
            again_files=int(result["again_files"]),
            cached_files=int(result["cached"]),
            unsafe_modes=result.get("unsafe_modes"),
        )

    @property
    def memory(self) -> list[str]:
        """Paths that are remembered as differing, of whatever destination."""
        folder = self.home / ".beamferry" / "mismatches"
        kept = [path.read_bytes() for path in sorted(folder.glob("[!.]*")) if path.suffix != ".damaged"]
        return [os.fsdecode(item.split(b"//")[0]) for content in kept for item in content.split(b"\0")[3:-1]]

    def run(self, script: str, arguments: tuple[str, ...], limit_kib: int | None = None) -> Outcome:
        return self.start(script, arguments, limit_kib).outcome()


@dataclass
class Engine(Scripts):
    """One beamtime between a source folder at the far host and a destination folder here."""

    far: Host
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)
    # What the destination can keep, as the probe would say.
    traits: rsync.Traits = rsync.POSIX

    def __post_init__(self) -> None:
        self.prepare()
        # What a script waits for a facility; None for what it waits in earnest.
        self.seconds: int | None = None
        self.source = self.folder / "source"
        self.destination = self.folder / "rds" / "visit"
        for place in (self.source, self.destination.parent):
            place.mkdir(parents=True)
        self.site = Site(destination_root=str(self.destination.parent))
        self.beamtime = self.make_beamtime()
        self._lead_ssh()

    def make_beamtime(self) -> Beamtime:
        """The entry; another facility's where a test has one."""
        return DiamondBeamtime(
            id="mg25682-2",
            facility="diamond",
            instrument="i12",
            account=getpass.getuser(),
            ended=date(2021, 5, 3),
            source=str(self.source),
            destination=str(self.destination),
            **self.settings,
        )

    def _lead_ssh(self) -> None:
        """Lead the facility's name to the lab's sshd, as ~/.ssh/config would."""
        key = self.folder / "key"
        make_key(key, "engine")
        authorized = self.far.authorized_keys
        authorized.write_text(authorized.read_text() + public_key(key) + "\n")
        known = self.folder / "known_hosts"
        known.write_text(f"[{self.far.address}]:{self.far.port} {self.far.pinned}\n")
        self.shim_ssh(
            f"Host {self.beamtime.host}\n HostName {self.far.address}\n"
            f" Port {self.far.port}\n IdentityFile {key}\n IdentitiesOnly yes\n UserKnownHostsFile {known}\n"
        )

    def probe(self) -> str:
        """What the agent answers when it looks whether a transfer can begin."""
        arguments = self.hurried(access.probe_arguments(self.beamtime, self.site))
        return self.asked("probe", ProbeRequest("rsync", arguments).to_json())

    def hurried(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """The arguments, with what this engine waits in place of what would be waited for."""
        waits = {"--stall", "--seconds"} if self.seconds is not None else set()
        before = ("", *arguments)
        return tuple(
            str(self.seconds) if word in waits else said
            for word, said in zip(before, arguments, strict=False)
        )

    def dry_run(self, *, flat: bool = True) -> Outcome:
        arguments = rsync.dry_run_arguments(str(self.work), self.beamtime, self.site, self.traits, flat=flat)
        return self.run("dry_run", self.hurried(arguments))

    def transfer_arguments(self, *, streams: int = 3, **changed: int) -> tuple[str, ...]:
        """Arguments of the transfer, some of them changed: ``range_threshold=MIB``."""
        arguments = list(
            rsync.transfer_arguments(
                str(self.work),
                self.beamtime,
                self.site,
                self.traits,
                flat=True,
                streams=streams,
                bandwidth_limit=self.beamtime.bandwidth_limit,
            )
        )
        for name, value in changed.items():
            arguments[arguments.index(f"--{name.replace('_', '-')}") + 1] = str(value)
        return tuple(arguments)

    def transfer(self, *, limit_kib: int | None = None, **changed: int) -> Outcome:
        return self.run("transfer", self.transfer_arguments(**changed), limit_kib)

    def fetch(self, **changed: int) -> Outcome:
        """A dry run and the transfer after it, which must both succeed."""
        planned = self.dry_run()
        assert planned.code == 0, planned
        done = self.transfer(**changed)
        assert done.code == 0, done
        return done

    def verify_arguments(self, level: Level, *, seed: int = 1, streams: int = 2) -> tuple[str, ...]:
        return census.verify_arguments(
            str(self.work),
            self.beamtime,
            self.site,
            ssh=rsync.SSH,
            level=level,
            streams=streams,
            seed=seed,
            stall=rsync.STALL_SECONDS,
            group=rsync.group_arguments(self.beamtime, self.site, self.traits),
        )

    def verify(self, level: Level, *, seed: int = 1, streams: int = 2) -> Outcome:
        return self.run("verify", self.hurried(self.verify_arguments(level, seed=seed, streams=streams)))

    def listed(self, name: str) -> list[bytes]:
        """Items of a comparison's NUL-terminated lists."""
        with (self.work / "verify" / name).open("rb") as stream:
            return list(read_names(stream))

    def judge(self) -> str:
        """What rsync itself, comparing contents, finds to differ."""
        done = subprocess.run(
            ["rsync", "-rlnci", "--exclude=/tmp/", f"{self.source}/", f"{self.destination}/"],
            capture_output=True,
            check=True,
            text=True,
            env=os.environ | {"LC_ALL": "C"},
        )
        return done.stdout

    def partials(self) -> list[Path]:
        return [path for path in self.destination.rglob("*") if rsync.PARTIAL_FOLDER in path.parts]

    def whole(self) -> dict[str, int]:
        """Inode of every file that is here with its source's size and time; a file resent gets another."""
        found = {}
        for path in self.source.rglob("*"):
            name = str(path.relative_to(self.source))
            here = self.destination / name
            if path.is_file() and here.is_file():
                there, copy = path.stat(), here.stat()
                if (there.st_size, int(there.st_mtime)) == (copy.st_size, int(copy.st_mtime)):
                    found[name] = copy.st_ino
        return found

    def ranges_there(self) -> int:
        """How many ranges the transfer has noted as fetched."""
        states = [path for path in (self.work / "ranges").glob("*") if path.suffix != ".name"]
        return sum(len(state.read_text().splitlines()) - 1 for state in states if state.suffix == "")


@dataclass
class Job:
    """A job script that runs."""

    engine: Scripts
    process: subprocess.Popen[bytes]

    def outcome(self) -> Outcome:
        code = self.process.wait(timeout=100)

        def text(name: str) -> str:
            path = self.engine.job / name
            return path.read_text(errors="replace") if path.exists() else ""

        return Outcome(
            code,
            json.loads(text("result.json") or "{}"),
            json.loads(text("progress.json") or "{}"),
            text("errors"),
            text("stats"),
            text("log"),
        )

    def kill(self, number: signal.Signals) -> None:
        """Signal the whole group, as the agent does, and wait until it is gone."""
        os.killpg(self.process.pid, number)
        self.process.wait(timeout=30)
        wait_until(self._group_gone)

    def _group_gone(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        # Orphans that nobody reaps stay as zombies where the first process of a container is careless.
        states = subprocess.run(
            ["ps", "-o", "stat=", "-g", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return all(state.startswith("Z") for state in states.stdout.split())


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.01)


def noise(seed: int | str, size: int) -> bytes:
    """Return bytes that no compression and no other seed's file can stand for."""
    chance = random.Random(seed)
    return b"".join(chance.randbytes(min(MIB, size - at)) for at in range(0, size, MIB))
