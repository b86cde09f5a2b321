"""lftp fetches and compares: every byte, whatever breaks, and never two versions of a file in one."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from desy_engine import KINDS
from engine import wait_until

from beamferry import lftp
from beamferry.beamtime import Level
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import UNREADABLE
from beamferry.lab.visit import walk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy

FOLDERS = (".", "processed", "raw", "scratch_cc", "shared")
LARGE = b"raw/p07_00001.nxs"


def fetch(engine: DesyEngine, *folders: str, streams: int = 3) -> list[int]:
    """A dry run that must succeed, and the transfer's codes folder by folder."""
    planned = engine.dry_run()
    assert planned.code == 0, planned.errors
    wanted = folders or lftp.parse_totals(planned.stats).to_fetch
    return [engine.transfer(folder, streams=streams).code for folder in wanted]


def must_be_there(engine: DesyEngine, folder: str = "") -> None:
    """Every file of the listing is at the destination, byte for byte, with its time, and nothing of ours is left."""
    files = 0
    for record in engine.listed:
        path, rest = record.split(b"//", 1)
        if not path.startswith(folder.encode()):
            continue
        here, there = engine.desy.tree / os.fsdecode(path), engine.destination / os.fsdecode(path)
        if rest.startswith(b"d"):
            assert there.is_dir()
        else:
            assert there.read_bytes() == here.read_bytes(), path
            assert int(there.stat().st_mtime) == int(here.stat().st_mtime)
            files += 1
    assert files
    if not folder:
        assert not (engine.destination / ".beamferry-partial").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_everything_arrives(at_desy: Callable[..., DesyEngine], kind: str) -> None:
    engine = at_desy(kind)
    assert fetch(engine) == [0] * len(FOLDERS)
    must_be_there(engine)
    again = engine.dry_run()
    assert (engine.todo, lftp.parse_totals(again.stats).to_fetch) == ([], ())
    done = engine.verify(Level.FULL)
    assert (done.code, done.errors) == (0, "")
    assert (done.result["only_source"], done.result["only_destination"]) == (0, 0)
    assert done.result["content_mismatches"] == 0
    with_content = [record for record in engine.listed if b"//f//" in record and b"//f//0//" not in record]
    assert done.result["sampled_files"] == len(with_content)
    assert not engine.secret.exists()


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_file_that_may_not_be_read_is_named_and_the_others_come(
    at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    engine = at_desy(kind, settings={"exclude": []})
    assert engine.dry_run().code == 0
    done = engine.transfer("raw")
    # pure-ftpd says of it that it does not exist.
    assert done.code in {23, 24}
    assert UNREADABLE.decode() in done.errors
    missing = [
        path
        for path, is_folder in walk(engine.desy.tree / "raw")
        if not is_folder and not (engine.destination / "raw" / os.fsdecode(path)).exists()
    ]
    assert missing == [UNREADABLE.split(b"/")[1]]


@pytest.mark.parametrize(("kind", "most"), [("pyftpdlib", 1), ("pyftpdlib", 3), ("pure-ftpd", 2)])
def test_a_server_that_takes_few_connections(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, most: int
) -> None:
    engine = at_desy(kind)
    planned = engine.dry_run()
    assert planned.code == 0
    with DesyFaults(desy).connections_limited(most):
        done = engine.transfer("raw", streams=6)
    assert (done.code, done.result["lost"]) == (0, 1), done.errors
    must_be_there(engine, "raw")


def test_connections_that_drop(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    engine.dry_run()
    with DesyFaults(desy).data_dropped(300_000):
        assert engine.transfer("raw").code == 0
    with DesyFaults(desy).control_dropped(commands=14):
        assert engine.transfer("processed").code == 0
    must_be_there(engine, "raw")
    must_be_there(engine, "processed")


def test_a_server_that_is_gone_is_an_error_and_no_loss(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    engine = at_desy()
    engine.dry_run()
    with DesyFaults(desy).stopped(desy.ftps):
        gone = engine.transfer("raw")
    assert (gone.code, "Connection refused" in gone.errors) == (68, True)
    assert engine.transfer("raw").code == 0
    must_be_there(engine, "raw")


def staged(engine: DesyEngine) -> int:
    folder = engine.destination / ".beamferry-partial"
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_a_kill_costs_nothing_that_was_there(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    engine = at_desy(kind)
    engine.dry_run()
    engine.hand_over()
    # Slow enough to be caught in the middle of a file, whatever the protocol.
    arguments = list(engine.transfer_arguments("raw", streams=2))
    arguments[arguments.index("--limit") + 1] = "400000"
    job = engine.start("lftp_transfer.sh", tuple(arguments))
    wait_until(lambda: staged(engine) > 200_000)
    job.kill(signal.SIGKILL)
    before = staged(engine)
    assert engine.secret.exists() == (kind == "pyftpdlib")
    done = engine.transfer("raw")
    assert (done.code, done.result["resumed_bytes"]) == (0, before)
    assert not engine.secret.exists()
    must_be_there(engine, "raw")


@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_a_file_that_changes_is_never_two_versions_in_one(
    desy: Desy, at_desy: Callable[..., DesyEngine], how: str
) -> None:
    engine = at_desy()
    engine.dry_run()
    versions = [(desy.tree / os.fsdecode(LARGE)).read_bytes()]
    # The connection drops in the middle, so that the rest comes from the new version.
    with DesyFaults(desy).file_changes(LARGE, 200_000, how):  # type: ignore[arg-type]
        first = engine.transfer("raw")
        versions.append((desy.tree / os.fsdecode(LARGE)).read_bytes())
        second = fetch(engine, "raw")
        assert (engine.destination / os.fsdecode(LARGE)).read_bytes() == versions[1]
    assert versions[0] != versions[1]
    assert (first.code, second) == ((24, [0]) if how == "append" else (0, [0]))


def test_a_full_disk_is_told(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    engine.dry_run()
    done = engine.transfer("raw", limit_kib=300)
    assert done.code == 11
    assert "File too large" in done.errors
    assert engine.transfer("raw").code == 0
    must_be_there(engine, "raw")


def test_a_folder_in_the_place_of_a_file_is_told(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    (engine.destination / os.fsdecode(LARGE) / "x").mkdir(parents=True)
    engine.dry_run()
    done = engine.transfer("raw")
    assert done.code == 11
    assert LARGE.decode() in done.errors


def test_a_flipped_byte_is_found_by_content_alone(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    assert fetch(engine) == [0] * len(FOLDERS)
    copy = engine.destination / os.fsdecode(LARGE)
    kept = copy.stat()
    with copy.open("r+b") as file:
        file.seek(300_000)
        file.write(bytes([file.read(1)[0] ^ 1]))
    os.utime(copy, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert engine.dry_run().code == 0
    assert engine.todo == []
    assert engine.verify(Level.SIZES).result["content_mismatches"] == 0
    done = engine.verify(Level.FULL)
    assert (done.code, done.result["content_mismatches"]) == (0, 1)
    assert (engine.work / "verify" / "mismatches").read_bytes() == LARGE + b"\0"


def mirror(engine: DesyEngine, target: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    """lftp's own mirror with pget, as people use it."""
    desy = engine.desy
    script = "\n".join(
        (
            "set ftp:ssl-force yes",
            f"set ssl:ca-file {desy.ca_file}",
            "set net:max-retries 1",
            "set net:timeout 5",
            *more,
            f"open -u {desy.account},'{desy.password}' -p {desy.ftps.port} ftp://{desy.ftps.address}",
            f"mirror -c --use-pget-n=4 --no-perms processed {target}/processed",
        )
    )
    return subprocess.run(
        ("lftp", "-f", "/dev/stdin"), input=script.encode(), capture_output=True, timeout=60, check=False
    )


def test_the_trap_of_pget_is_seen(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    """After a drop, pget's file has the full size; its next runs take it for whole, and only content tells."""
    engine = at_desy()
    name = "processed/p07_00001-reduced.nxs"
    here, there = desy.tree / name, engine.destination / name
    with DesyFaults(desy).data_dropped(60_000):
        mirror(engine, engine.destination)
    status = there.with_name(there.name + ".lftp-pget-status")
    assert there.exists()
    assert there.stat().st_size == here.stat().st_size
    assert there.read_bytes() != here.read_bytes()
    # What follows is how the file looks once the status is gone and the time is set, as after a cleanup by hand.
    status.unlink(missing_ok=True)
    os.utime(there, (here.stat().st_mtime, here.stat().st_mtime))
    assert mirror(engine, engine.destination).returncode == 0
    assert there.read_bytes() != here.read_bytes()

    assert engine.dry_run().code == 0
    assert name.encode() not in engine.todo
    done = engine.verify(Level.FULL)
    assert (engine.work / "verify" / "mismatches").read_bytes() == name.encode() + b"\0"
    assert done.result["content_mismatches"] == 1
