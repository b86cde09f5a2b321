"""The transfer page's own rsync against ours, over one slow link in one run.

    python tests/bench/bench.py [CASE ...] [--runs 3] [--quick]

RDS-SSH is this machine, the facility an sshd on loopback, wanproxy.c the link between them. Each run times
the page's command and ours in turn; ours is all from the start of the dry run to the end of its last pass.
Contents are compared after every run. Exit 1 when they differ or a median misses its bar.
"""

from __future__ import annotations

import argparse
import getpass
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from installed import install, run

from beamferry import rsync
from beamferry.beamtime import Site
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent

# The long-distance link: MB/s of one connection and of all together, and the time there and back.
PER_CONNECTION, IN_ALL, ROUND_TRIP_MS = 13, 120, 15
STREAMS = 12
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """One thing to bring home: how to make it, and how many times faster ours has to be."""

    name: str
    make: Callable[[Path, int], None]
    count: int
    bar: float
    nothing_to_do: bool = False

    @property
    def quick(self) -> int:
        """A twentieth of the whole, for a look that takes seconds."""
        return max(1, self.count // 20)


def frames(folder: Path, count: int) -> None:
    """Make frames of 100 kB, half of them compressible by half, as the page saw 1.32 to one."""
    chance = random.Random(1)
    for number in range(count):
        scan = folder / "raw" / f"scan_{number // 1000:03}"
        scan.mkdir(parents=True, exist_ok=True)
        frame = bytearray(100_000)
        if number % 2:
            frame[::2] = chance.randbytes(50_000)
        else:
            frame[:] = chance.randbytes(100_000)
        (scan / f"frame_{number:06}.tif").write_bytes(frame)


def _large(path: Path, seed: int, size: int) -> None:
    chance = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(chance.randbytes(MIB))


def eight_files(folder: Path, mib: int) -> None:
    """Make eight incompressible files, ``mib`` MiB together."""
    folder.mkdir()
    for number in range(8):
        _large(folder / f"scan_{number}.nxs", number, mib * MIB // 8)


def one_file(folder: Path, mib: int) -> None:
    """Make one incompressible file."""
    folder.mkdir()
    _large(folder / "scan.nxs", 1, mib * MIB)


def many_files(folder: Path, count: int) -> None:
    """Make files of 600 bytes, a thousand to a folder."""
    for number in range(count):
        scan = folder / f"scan_{number // 1000:04}"
        if number % 1000 == 0:
            scan.mkdir(parents=True)
        (scan / f"frame_{number:06}.dat").write_bytes(b"%600d" % number)


CASES = (
    Case("frames-20000", frames, 20_000, 5),
    Case("files-8", eight_files, 1024, 6),
    Case("file-1", one_file, 1024, 5),
    Case("noop-200000", many_files, 200_000, 2.5, nothing_to_do=True),
)


@contextmanager
def slow_link(folder: Path) -> Iterator[Path]:
    """Start a facility and the link to it; yields a folder whose `ssh` finds the facility by its name."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench: needs a C compiler for the slow link: sudo apt install gcc libc6-dev")
    proxy = folder / "wanproxy"
    subprocess.run([compiler, "-O2", "-o", proxy, HERE / "wanproxy.c"], check=True)
    with socket.socket() as near, socket.socket() as far:
        near.bind(("127.0.0.1", 0))
        port = near.getsockname()[1]
        far.bind(("127.0.0.2", port))
    key = folder / "key"
    make_key(key, "bench")
    host = Host("facility", folder / "facility", "127.0.0.2", port, getpass.getuser(), None)
    host.prepare(public_key(key))
    host.start()
    one_way = str(ROUND_TRIP_MS / 2)
    link = subprocess.Popen([proxy, "-o", one_way, "-r", str(PER_CONNECTION), "-t", str(IN_ALL), str(port)])
    try:
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.pinned}\n")
        (folder / "ssh_config").write_text(
            f"Host ssh.diamond.ac.uk\n HostName 127.0.0.1\n Port {port}\n IdentityFile {key}\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {folder / 'known_hosts'}\n"
        )
        shims = folder / "shims"
        shims.mkdir()
        (shims / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "ssh_config"} "$@"\n')
        (shims / "ssh").chmod(0o755)
        yield shims
    finally:
        link.terminate()
        link.wait()
        host.down()


class Bench:
    """The two ways home for one case.

    Args:
        folder: where everything lies.
        shims: folder with the `ssh` that goes over the link.
    """

    def __init__(self, folder: Path, shims: Path) -> None:
        self.source = folder / "mg25682-2"
        self.theirs = folder / "diamond_data_rds"
        self.mine = folder / "rds" / "mg25682-2"
        self.work = folder / "work"
        self.job = folder / "job"
        self.job.mkdir()
        # The share is there before any beamtime is.
        self.mine.parent.mkdir()
        self.installed = folder / "bin"
        install(self.installed)
        self.environment = os.environ | {
            "PATH": f"{shims}:{os.environ['PATH']}",
            "BEAMFERRY_JOB": str(self.job),
            "LC_ALL": "C",
        }
        self.site = Site(destination_root=str(folder / "rds"))
        self.beamtime = DiamondBeamtime(
            id="mg25682-2",
            facility="diamond",
            instrument="i12",
            account=getpass.getuser(),
            ended=date(2021, 5, 3),
            source=str(self.source),
            destination=str(self.mine),
        )

    def _time(self, *commands: tuple[str, ...]) -> float:
        start = time.monotonic()
        for command in commands:
            done = subprocess.run(
                command,
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"bench: {command[:2]}: {done.stderr}")
        return time.monotonic() - start

    def seed(self, flags: str) -> float:
        """Time the transfer page's command."""
        account = f"{self.beamtime.account}@{self.beamtime.host}"
        return self._time(("rsync", flags, f"{account}:{self.source}", str(self.theirs)))

    def dry_run(self, *, known: int | None) -> float:
        """Time our dry run; ``known`` is the number of files of an earlier plan."""
        arguments = rsync.dry_run_arguments(
            str(self.work), self.beamtime, self.site, flat=rsync.is_flat(known)
        )
        return self._step("dry_run", arguments)

    def transfer(self) -> float:
        """Time our transfer with its finishing pass."""
        arguments = rsync.transfer_arguments(
            str(self.work), self.beamtime, self.site, flat=True, streams=STREAMS
        )
        return self._step("transfer", arguments)

    def _step(self, name: str, arguments: tuple[str, ...]) -> float:
        start = time.monotonic()
        run(self.installed, name, arguments, self.environment)
        return time.monotonic() - start

    def forget(self) -> None:
        """Remove both copies and our lists."""
        for place in (self.theirs, self.mine, self.work):
            shutil.rmtree(place, ignore_errors=True)

    def check(self, copy: Path) -> None:
        """Compare contents with rsync's own eyes; ends the bench when they differ."""
        command = ("rsync", "-rlnci", f"{self.source}/", f"{copy}/")
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        if done.stdout:
            sys.exit(f"bench: {copy.name} differs from its source:\n{done.stdout[:1000]}")


def measure(case: Case, count: int, runs: int, shims: Path) -> tuple[float, float, float]:
    """Return the medians of the page's and of our seconds, and our share of the link's bytes per second."""
    with tempfile.TemporaryDirectory(prefix="beamferry-bench-") as name:
        bench = Bench(Path(name), shims)
        case.make(bench.source, count)
        if case.nothing_to_do:
            for copy in (bench.theirs / bench.source.name, bench.mine):
                subprocess.run(("cp", "-a", f"{bench.source}/.", _made(copy)), check=True)
        size = sum(path.stat().st_size for path in bench.source.rglob("*") if path.is_file())
        theirs, ours = [], []
        for _ in range(runs):
            if case.nothing_to_do:
                theirs.append(bench.seed("-azvn"))
                ours.append(bench.dry_run(known=count))
                if (bench.work / "todo").read_bytes():
                    sys.exit("bench: the dry run found something to do where nothing was")
                continue
            theirs.append(bench.seed("-azv"))
            ours.append(bench.dry_run(known=None) + bench.transfer())
            bench.check(bench.theirs / bench.source.name)
            bench.check(bench.mine)
            bench.forget()
        mine = statistics.median(ours)
        moved = 0 if case.nothing_to_do else size
        return statistics.median(theirs), mine, moved / mine / (IN_ALL * 1e6)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def main() -> int:
    """Run the cases asked for and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Times the transfer page's rsync against ours over a slow link."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(case.name for case in CASES))
    parser.add_argument("--runs", type=int, default=3, help="medians are of this many (3)")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the size, one run, no bars")
    asked = parser.parse_args()
    unknown = set(asked.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    missed = []
    with tempfile.TemporaryDirectory(prefix="beamferry-bench-") as name, slow_link(Path(name)) as shims:
        link = f"{PER_CONNECTION} MB/s per connection, {IN_ALL} MB/s in all, {ROUND_TRIP_MS} ms round trip"
        print(f"link: {link}; ours uses {STREAMS} streams", flush=True)
        for case in CASES:
            if asked.cases and case.name not in asked.cases:
                continue
            count, runs = (case.quick, 1) if asked.quick else (case.count, asked.runs)
            label = f"{case.name}-quick" if asked.quick else case.name
            seed, ours, share = measure(case, count, runs, shims)
            ratio = seed / ours
            print(
                f"bench {label} seed={seed:.2f} ours={ours:.2f} ratio={ratio:.2f} link={share:.2f}",
                flush=True,
            )
            if ratio < case.bar and not asked.quick:
                missed.append(f"{case.name}: {ratio:.2f} times faster, not {case.bar}")
    for line in missed:
        print(f"bench: missed {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
