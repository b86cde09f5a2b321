"""lftp and what it depends on, killed and cut off at random moments: every file is whole in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest
from engine import noise
from test_lftp_listing import Folder

from beamferry.lab.desy_faults import DesyFaults

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Job

    from beamferry.lab.desy import Desy

FILES, SMALLEST, LARGEST = 40, 20_000, 500_000
# Bytes per second: all of it then takes some ten seconds, so that there is something to kill.
LIMIT = 1_000_000
TRIES = 30


def children(job: Job, name: str) -> list[int]:
    """Processes of the job by their name."""
    found = []
    for process in psutil.process_iter(["name"]):
        try:
            if process.info["name"] == name and os.getpgid(process.pid) == job.process.pid:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found


def strike(engine: DesyEngine, job: Job, chance: random.Random) -> str:
    """Kill or cut off one thing, and say what it was."""
    desy, kind = engine.desy, engine.kind
    server = {"pyftpdlib": desy.ftps, "pure-ftpd": desy.pure}.get(kind)
    what = chance.choice(("lftp", "ssh" if kind == "sftp" else "lftp", "leader", "all", "server"))
    if what in {"lftp", "ssh"}:
        for number in chance.sample(there := children(job, what), min(len(there), chance.randint(1, 2))):
            os.kill(number, signal.SIGKILL)
    elif what == "leader":
        os.kill(job.process.pid, signal.SIGKILL)
    elif what == "all":
        job.kill(signal.SIGKILL)
    elif server is not None:
        # All connections drop.
        server.stop()
        server.start()
    else:
        for session in desy.sftp.sessions():
            os.kill(session.pid, signal.SIGKILL)
    return what


def run_with_kills(desy: Desy, engine: DesyEngine, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    with Folder(desy, "kills") as folder:
        folder.mkdir()
        for number in range(FILES):
            size = chance.randint(SMALLEST, LARGEST)
            (folder / f"frame {number:02}.dat").write_bytes(noise(number, size))
        assert engine.dry_run().code == 0
        struck: list[str] = []
        code = -1
        for _ in range(kills + TRIES):
            engine.hand_over()
            arguments = list(engine.transfer_arguments("processed", streams=4))
            arguments[arguments.index("--limit") + 1] = str(LIMIT)
            job = engine.start("lftp_transfer", tuple(arguments))
            while len(struck) < kills and job.process.poll() is None:
                try:
                    job.process.wait(timeout=chance.uniform(0.3, 1.5))
                except subprocess.TimeoutExpired:
                    struck.append(strike(engine, job, chance))
            code = job.process.wait(timeout=100)
            # What the agent does before it starts the next one: nothing of the old may go on.
            # It may have ended by itself: an lftp whose step is gone has nobody to tell.
            with suppress(ProcessLookupError):
                job.kill(signal.SIGKILL) if code < 0 else None
            if code == 0 and len(struck) < kills:
                # It was done before the last strike: once more from the beginning.
                for file in (engine.destination / "processed" / "kills").iterdir():
                    file.unlink()
            elif code == 0:
                break
        assert (code, len(struck)) == (0, kills), struck
        for file in folder.iterdir():
            copy = engine.destination / "processed" / "kills" / file.name
            assert subprocess.run(("cmp", file, copy), check=False).returncode == 0, (file.name, struck)
        assert not (engine.destination / ".beamferry-partial").exists()


def test_three_kills(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    run_with_kills(desy, at_desy("pyftpdlib"), 3, seed=3)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd", "sftp"])
def test_twenty_kills(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    run_with_kills(desy, at_desy(kind), 20, seed=20)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_twenty_drops(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    """Data and control connections break off again and again, at ever other places."""
    chance = random.Random(20)
    engine = at_desy("pyftpdlib")
    with Folder(desy, "kills") as folder:
        folder.mkdir()
        for number in range(FILES):
            (folder / f"frame {number:02}.dat").write_bytes(noise(number, chance.randint(SMALLEST, LARGEST)))
        assert engine.dry_run().code == 0
        for _ in range(10):
            with DesyFaults(desy).data_dropped(chance.randint(30_000, 300_000)):
                engine.transfer("processed", streams=4)
            with DesyFaults(desy).control_dropped(seconds=chance.uniform(0.3, 2)):
                engine.transfer("processed", streams=4)
            kept = sorted((engine.destination / "processed" / "kills").iterdir())
            for file in chance.sample(kept, len(kept) // 2):
                file.unlink()
        assert engine.transfer("processed", streams=4).code == 0
        for file in folder.iterdir():
            copy = engine.destination / "processed" / "kills" / file.name
            assert subprocess.run(("cmp", file, copy), check=False).returncode == 0, file.name
