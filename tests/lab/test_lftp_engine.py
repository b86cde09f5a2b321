"""lftp fetches and compares: every byte, whatever breaks, and never two versions of a file in one."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from desy_engine import KINDS
from engine import noise
from test_lftp_listing import Folder

from beamferry import lftp
from beamferry.beamtime import Level
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import UNREADABLE
from beamferry.lab.visit import walk

if TYPE_CHECKING:
    from collections.abc import Callable

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


@pytest.mark.parametrize(("kind", "most"), [("pyftpdlib", 1), ("pure-ftpd", 2)])
def test_a_server_that_takes_few_connections(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, most: int
) -> None:
    engine = at_desy(kind)
    planned = engine.dry_run()
    assert planned.code == 0
    with DesyFaults(desy).connections_limited(most):
        done = engine.transfer("raw", streams=6)
    assert done.code == 0, done.errors
    assert done.result["lost"] >= 1
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


def mirror(engine: DesyEngine) -> int:
    """lftp's own mirror with pget, as people use it."""
    desy = engine.desy
    script = "\n".join(
        (
            "set ftp:ssl-force yes",
            f"set ssl:ca-file {desy.ca_file}",
            "set net:max-retries 1",
            "set net:timeout 5",
            f"open -u {desy.account},'{desy.password}' -p {desy.ftps.port} ftp://{desy.ftps.address}",
            f"mirror -c --use-pget-n=4 --no-perms processed/trap {engine.destination}/processed/trap",
        )
    )
    done = subprocess.run(
        ("lftp", "-f", "/dev/stdin"), input=script.encode(), capture_output=True, timeout=60, check=False
    )
    return done.returncode


def test_the_trap_of_pget_is_seen(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    """After a drop a file has full size and the right time; later runs take it for whole, and only content tells."""
    engine = at_desy(settings={"folders": ["processed"]})
    name = "processed/trap/scan.nxs"
    here, there = desy.tree / name, engine.destination / name
    there.parent.mkdir(parents=True)
    with Folder(desy, "trap") as folder:
        folder.mkdir()
        here.write_bytes(noise(1, 4_000_000))
        os.utime(here, (1_600_000_000, 1_600_000_000))
        # When the drops come at other moments, lftp gives up or gets through.
        for after in (300_000, 200_000, 400_000, 100_000, 500_000, 250_000):
            there.unlink(missing_ok=True)
            with DesyFaults(desy).data_dropped(after):
                mirror(engine)
                mirror(engine)
            if mirror(engine) == 0 and there.read_bytes() != here.read_bytes():
                break
        assert mirror(engine) == 0
        assert there.stat().st_size == here.stat().st_size
        assert there.stat().st_mtime == here.stat().st_mtime
        assert there.read_bytes() != here.read_bytes()

        assert engine.dry_run().code == 0
        assert name.encode() not in engine.todo
        assert engine.verify(Level.SIZES).result["content_mismatches"] == 0
        done = engine.verify(Level.FULL)
        assert (engine.work / "verify" / "mismatches").read_bytes() == name.encode() + b"\0"
        assert done.result["content_mismatches"] == 1

        # What a comparison found is fetched again, though size and time agree.
        assert fetch(engine, "processed") == [0]
        assert there.read_bytes() == here.read_bytes()
