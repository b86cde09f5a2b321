"""The transfer page's `mirror` against ours, FTPS over one slow link in one run.

    python tests/bench/desy.py [frames-2000 files-8] [--quick]

RDS-SSH is this machine, DESY pyftpdlib on loopback, wanproxy.c the link for control and data. Ours is all from the
start of the dry run to the end of the transfer, with 16 connections; frames come with 8 and 32, too, and at a server
that takes 5 connections. Contents are compared after every run. Exit 1 when they differ or a bar is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from installed import install, run

from beamferry import lftp
from beamferry.beamtime import Site
from beamferry.facilities.desy import DesyBeamtime
from beamferry.lab.authority import Authority
from beamferry.lab.ftps import FtpsServer
from beamferry.lab.settings import free_port
from bench import HERE, IN_ALL, PER_CONNECTION, ROUND_TRIP_MS, Case, eight_files, frames

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, PASSWORD = "cdaniel", "slow"
STREAMS, CURVE, FEW = 16, (8, 32), 5
# The page's manual set-up is its CA file alone; the host's own name is in the certificate.
NEAR, FAR = "127.0.0.1", "127.0.0.2"


def flat_frames(folder: Path, count: int) -> None:
    """Make the frames below `raw`, as they lie in one beamtime."""
    frames(folder, count)


def eight(folder: Path, mib: int) -> None:
    """Make eight files below `raw`."""
    folder.mkdir()
    eight_files(folder / "raw", mib)


CASES = (Case("frames-2000", flat_frames, 2_000, 10), Case("files-8", eight, 1024, 6))


@contextmanager
def facility(folder: Path) -> Iterator[tuple[FtpsServer, Path]]:
    """Start the server and the link to it; yields the server and the certificate of its authority."""
    compiler = shutil.which("cc")
    if compiler is None:
        sys.exit("bench: needs a C compiler for the slow link: sudo apt install gcc libc6-dev")
    proxy = folder / "wanproxy"
    subprocess.run([compiler, "-O2", "-o", proxy, HERE / "wanproxy.c"], check=True)
    authority = Authority(folder / "authority", "Beamferry bench")
    port = free_port(FAR)
    passive = next(low for low in range(20_000, 32_000, 200) if _all_free(low))
    tree = folder / "tree"
    tree.mkdir()
    server = FtpsServer(
        folder / "server",
        tree,
        FAR,
        port,
        (passive, passive + 199),
        authority.issue((NEAR, FAR)),
        ACCOUNT,
        PASSWORD,
    )
    server.start()
    link = subprocess.Popen(
        [
            proxy,
            "-o",
            str(ROUND_TRIP_MS / 2),
            "-r",
            str(PER_CONNECTION),
            "-t",
            str(IN_ALL),
            str(port),
            f"{passive}-{passive + 199}",
        ]
    )
    try:
        yield server, authority.ca_file
    finally:
        link.terminate()
        link.wait()
        server.stop()


def _all_free(low: int) -> bool:
    """Look below the ports that the kernel gives out by itself."""
    used = Path("/proc/net/tcp").read_text(encoding="ascii")
    return not any(f":{port:04X} " in used for port in range(low, low + 200))


class Bench:
    """The two ways home for one case."""

    def __init__(self, folder: Path, server: FtpsServer, ca_file: Path) -> None:
        self.server, self.ca_file = server, ca_file
        self.theirs, self.mine, self.work, self.job, self.secret = (
            folder / name for name in ("theirs", "rds/ours", "work", "job", "secret")
        )
        self.job.mkdir()
        # The share is there before any beamtime is.
        self.mine.parent.mkdir()
        self.installed = folder / "bin"
        install(self.installed)
        self.theirs.mkdir()
        self.site = Site(destination_root=str(self.mine.parent))
        self.beamtime = DesyBeamtime(
            id="11010750",
            facility="desy",
            instrument="p07",
            account=ACCOUNT,
            ended=date(2020, 12, 7),
            transport="ftps",  # type: ignore[arg-type]
            registered=date(2020, 12, 1),
            connection="desy",
            server=NEAR,
            port=server.port,
            ca_file=str(ca_file),
            destination=str(self.mine),
        )

    def seed(self) -> float:
        """Time the transfer page's commands: `open`, `user`, `mirror raw`."""
        script = (
            f"set ssl:ca-file {self.ca_file}\nopen -p {self.server.port} ftp://{NEAR}\n"
            f"user {ACCOUNT} {PASSWORD}\nmirror raw {self.theirs}/raw\n"
        )
        start = time.monotonic()
        done = subprocess.run(
            ("lftp", "-f", "/dev/stdin"), input=script.encode(), capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(f"bench: lftp: {done.stderr.decode()}")
        return time.monotonic() - start

    def _script(self, name: str, arguments: tuple[str, ...]) -> None:
        self.secret.touch(mode=0o600)
        self.secret.write_text(PASSWORD)
        run(self.installed, name, arguments, os.environ | {"BEAMFERRY_JOB": str(self.job)})

    def ours(self, streams: int) -> float:
        """Time our dry run and our transfer."""
        known: tuple[Any, ...] = (str(self.work), self.beamtime, self.site, str(self.secret))
        start = time.monotonic()
        self._script("lftp_dry_run", lftp.dry_run_arguments(*known, streams=streams))
        self._script("lftp_transfer", lftp.transfer_arguments(*known, folder="raw", streams=streams))
        return time.monotonic() - start

    def check(self, copy: Path) -> None:
        """Compare contents; ends the bench when they differ."""
        done = subprocess.run(
            ("diff", "-rq", str(self.server.root / "raw"), f"{copy}/raw"), capture_output=True, check=False
        )
        if done.returncode:
            sys.exit(f"bench: {copy.name} differs from its source: {done.stdout.decode()[:500]}")

    def forget(self) -> None:
        """Remove our copy and our lists."""
        for place in (self.mine, self.work):
            shutil.rmtree(place, ignore_errors=True)


def measure(case: Case, count: int, *, label: str, curve: bool) -> float:
    """Run a case, print its figures, and return how many times faster ours was."""
    with (
        tempfile.TemporaryDirectory(prefix="beamferry-bench-") as name,
        facility(Path(name)) as (server, ca_file),
    ):
        server.root.rmdir()
        case.make(server.root, count)
        bench = Bench(Path(name), server, ca_file)
        seed = bench.seed()
        bench.check(bench.theirs)
        print(f"bench {label} seed={seed:.2f}", flush=True)
        ratio = 0.0
        for streams, most in [
            (STREAMS, None),
            *((other, None) for other in CURVE if curve),
            *([(STREAMS, FEW)] if curve else []),
        ]:
            bench.forget()
            with server.break_with(max_connections=most) if most else nullcontext():
                ours = bench.ours(streams)
            bench.check(bench.mine)
            told = f" at a server that takes {most}" if most else ""
            print(
                f"bench {label} streams={streams} ours={ours:.2f} ratio={seed / ours:.2f}{told}", flush=True
            )
            ratio = ratio or seed / ours
        return ratio


def main() -> int:
    """Run the cases asked for and return the exit code."""
    parser = argparse.ArgumentParser(
        description="Times the transfer page's mirror against ours over a slow link."
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(case.name for case in CASES))
    parser.add_argument("--quick", action="store_true", help="a twentieth of the size, no bars")
    asked = parser.parse_args()
    unknown = set(asked.cases) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    missed = []
    print(
        f"link: {PER_CONNECTION} MB/s per connection, {IN_ALL} MB/s in all, {ROUND_TRIP_MS} ms round trip",
        flush=True,
    )
    for case in CASES:
        if asked.cases and case.name not in asked.cases:
            continue
        count = case.quick if asked.quick else case.count
        label = f"desy-{case.name}-quick" if asked.quick else f"desy-{case.name}"
        ratio = measure(case, count, label=label, curve=case.name.startswith("frames"))
        if ratio < case.bar and not asked.quick:
            missed.append(f"{case.name}: {ratio:.2f} times faster, not {case.bar}")
    for line in missed:
        print(f"bench: missed {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
