"""What a transfer by lftp leaves behind when it is stopped, misled or kept out."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine import noise, wait_until
from test_lftp_listing import Folder

from beamferry.beamtime import Level
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import HARD_NAMES, odd_names
from beamferry.lab.visit import set_times, walk
from beamferry.lftp import parse_totals
from beamferry.verification import Outcome as Verified

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Job, Outcome

    from beamferry.lab.desy import Desy

# A word of lftp's language would end too late, or too early.
QUOTED = (b"end\\", b'\\"')
# Of all of them: what a protocol cannot carry, or its server does not send. Such names are refused by the listing.
LOST = {
    "pyftpdlib": {b" leading space", b"two\nlines", b"carriage\rreturn", b"not-utf8-\xff\xfe", b"n" * 255},
    "pure-ftpd": {
        b"two\nlines",
        b"carriage\rreturn",
        b"tab\there",
        b"back\\slash",
        b" leading space",
        b"trailing space ",
        *QUOTED,
    },
    "sftp": {b"two\nlines"},
}
BEGAN = 1_600_000_000
OWN = "own"


def start(engine: DesyEngine, *, streams: int = 2, **changed: int) -> Job:
    """Start the transfer of ``processed``, some of its arguments changed: ``stall=SECONDS``."""
    engine.hand_over()
    arguments = list(engine.transfer_arguments("processed", streams=streams))
    for name, value in changed.items():
        arguments[arguments.index(f"--{name}") + 1] = str(value)
    return engine.start("lftp_transfer", tuple(arguments))


def transfer(engine: DesyEngine, *, streams: int = 2, **changed: int) -> Outcome:
    return start(engine, streams=streams, **changed).outcome()


def planned(engine: DesyEngine) -> DesyEngine:
    done = engine.dry_run()
    assert done.code == 0, done.errors
    return engine


def staged(engine: DesyEngine) -> list[Path]:
    return [path for path in (engine.destination / ".beamferry-partial").rglob("*") if path.is_file()]


def staged_bytes(engine: DesyEngine) -> int:
    return sum(path.stat().st_size for path in staged(engine))


def placed(engine: DesyEngine) -> tuple[int, int]:
    """Bytes and files that the transfers since the dry run say they have put in place."""
    lines = [line.split() for line in (engine.work / "placed").read_text().splitlines()]
    return sum(int(size) for size, _ in lines), sum(int(files) for _, files in lines)


def must_be_whole(engine: DesyEngine) -> None:
    """``processed`` is here as it is there, with our own modes, and nothing of ours is left."""
    there, here = engine.desy.tree / "processed", engine.destination / "processed"
    umask = os.umask(0)
    os.umask(umask)
    assert sorted(walk(here)) == sorted(walk(there))
    for path, is_folder in walk(there):
        if is_folder:
            continue
        original, copy = there / os.fsdecode(path), here / os.fsdecode(path)
        assert copy.read_bytes() == original.read_bytes(), path
        assert int(copy.stat().st_mtime) == int(original.stat().st_mtime), path
        assert copy.stat().st_mode & 0o777 == 0o666 & ~umask, path
    assert not (engine.destination / ".beamferry-partial").exists()


def own(folder: Path, sizes: dict[str, int]) -> None:
    folder.mkdir()
    for name, size in sizes.items():
        (folder / name).write_bytes(noise(name, size))
        os.utime(folder / name, (BEGAN, BEGAN))


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd", "sftp"])
def test_hard_names_arrive_byte_for_byte(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    names = tuple(name for name in (*HARD_NAMES, *QUOTED) if name not in LOST[kind])
    with Folder(desy, OWN) as folder:
        odd_names(folder, names)
        set_times(folder, [path for path, _ in walk(folder)], BEGAN, 1000)
        done = transfer(planned(engine := at_desy(kind, settings={"folders": ["processed"]})))
        assert (done.code, done.errors) == (0, "")
        must_be_whole(engine)
    files = [size for *_, size in (record.split(b"//")[:3] for record in engine.listed if b"//f//" in record)]
    assert placed(engine)[1] == done.result["files"] < len(files)
    assert done.result["bytes"] == placed(engine)[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("kind", ["pure-ftpd", "sftp"])
def test_what_was_there_before_a_kill_is_not_sent_again(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, number: signal.Signals
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder, {"large.nxs": 3_000_000})
        engine = planned(at_desy(kind, settings={"folders": ["processed"]}))
        job = start(engine, limit=1_000_000, streams=1)
        wait_until(lambda: staged_bytes(engine) > 1_000_000)
        job.kill(number)
        [partial] = staged(engine)
        if number == signal.SIGTERM:
            assert job.outcome().result["exit_code"] == 143
        before = partial.stat().st_size
        with partial.open("r+b") as file:
            file.seek(500_000)
            original = file.read(1)
            file.seek(500_000)
            file.write(bytes([original[0] ^ 1]))
        done = transfer(engine)
        assert (done.code, done.result["resumed_bytes"]) == (0, before)
        copy = engine.destination / "processed" / OWN / "large.nxs"
        # The byte that we broke is still broken: only what was missing came.
        content = bytearray(noise("large.nxs", 3_000_000))
        content[500_000] ^= 1
        assert copy.read_bytes() == bytes(content)
        totals = (engine.work / "todo.totals").read_text().split()
        beside = sum(len(path.read_bytes()) for path in engine.desy.tree.iterdir() if path.is_file())
        assert placed(engine)[0] == int(totals[1]) - beside


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_a_partial_file_is_never_continued_with_another_version(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder, {"large.nxs": 3_000_000})
        engine = planned(at_desy(kind, settings={"folders": ["processed"]}))
        job = start(engine, limit=1_000_000, streams=1)
        wait_until(lambda: staged_bytes(engine) > 1_000_000)
        job.kill(signal.SIGKILL)
        # As many bytes, an hour later.
        (folder / "large.nxs").write_bytes(noise("other", 3_000_000))
        os.utime(folder / "large.nxs", (BEGAN + 3600, BEGAN + 3600))
        copy = engine.destination / "processed" / OWN / "large.nxs"
        # By the old list: what the server has now is not what was listed.
        done = transfer(engine)
        assert (done.code, done.result["changed"]) == (24, 1)
        assert "beamferry: changed: processed/own/large.nxs\n" in done.errors
        assert not copy.exists()
        # By a new list, with a piece of the old version still there.
        piece = engine.destination / ".beamferry-partial" / ".beamferry-lftp" / "of another day" / "1-1-1-1"
        piece.parent.mkdir(parents=True)
        piece.write_bytes(b"old")
        assert transfer(planned(engine)).code == 0
        piece.unlink()
        piece.parent.rmdir()
        piece.parents[1].rmdir()
        piece.parents[2].rmdir()
        must_be_whole(engine)


@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_a_file_that_changes_while_it_comes_is_to_do_again(
    desy: Desy, at_desy: Callable[..., DesyEngine], how: str
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder, {"large.nxs": 3_000_000, "other.nxs": 100_000})
        engine = planned(at_desy(settings={"folders": ["processed"]}))
        name = b"processed/own/large.nxs"
        with DesyFaults(desy).file_changes(name, 200_000, how):  # type: ignore[arg-type]
            assert transfer(engine).code == (24 if how == "append" else 0)
            assert desy.ftps.events("changed")
            planned(engine)
            assert [path for path in engine.todo if path.startswith(b"processed/")] == [name]
        os.utime(folder / "large.nxs", (BEGAN + 3600, BEGAN + 3600))
        assert transfer(planned(engine)).code == 0
        must_be_whole(engine)


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp-password"])
def test_eight_connections_try_a_wrong_password_once(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    server = desy.ftps if kind == "pyftpdlib" else desy.sftp_password
    engine = planned(at_desy(kind))
    engine.password = "not it"
    before = server.attempts(accepted=False)
    done = transfer(engine, streams=8)
    assert (done.code, done.result["files"]) == (67, 0)
    assert server.attempts(accepted=False) - before == 1
    assert not engine.secret.exists()


def test_no_process_of_the_transfer_shows_the_password(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    seen: set[bytes] = set()
    engine = planned(at_desy())
    job = start(engine, streams=4)
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        # The job's own: another test on this machine may show what it likes.
                        if os.getpgid(int(process.name)) == job.process.pid:
                            seen.add((process / name).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    done = job.outcome()
    over.set()
    watcher.join()
    assert done.code == 0
    assert any(text.startswith(b"lftp\0--norc") for text in seen)
    assert not any(desy.password.encode() in text for text in seen)
    left = [path for folder in (engine.work, engine.job) for path in folder.rglob("*") if path.is_file()]
    assert not any(desy.password.encode() in path.read_bytes() for path in left)


def test_a_server_that_hangs_ends_the_job_and_loses_nothing(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    engine = planned(at_desy(settings={"folders": ["processed"]}))
    with DesyFaults(desy).data_hangs(100_000):
        done = transfer(engine, stall=3)
    assert done.code == 75
    # Small ones came all the same, and so did the beginning of the large one.
    assert done.result["files"] == placed(engine)[1] > 0
    before = staged_bytes(engine)
    assert before >= 65_536
    done = transfer(engine)
    assert (done.code, done.result["resumed_bytes"]) == (0, before)
    must_be_whole(engine)


def test_a_server_that_hangs_over_ssh_ends_the_job(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = planned(at_desy("sftp", settings={"folders": ["processed"]}))
    job = start(engine, streams=1, limit=100_000, stall=4)
    wait_until(lambda: staged_bytes(engine) > 0)
    stopped = desy.sftp.sessions()
    for session in stopped:
        os.kill(session.pid, signal.SIGSTOP)
    try:
        done = job.outcome()
    finally:
        for session in stopped:
            os.kill(session.pid, signal.SIGCONT)
    assert done.code == 75, done.errors


def test_what_came_and_found_no_place_is_no_success(at_desy: Callable[..., DesyEngine]) -> None:
    """A file of which lftp says that it came is not there any more when it is looked at."""
    engine = planned(at_desy(settings={"folders": ["processed"]}))
    real = shutil.which("lftp")
    shim = engine.shims / "lftp"
    shim.write_text(f"#!/bin/sh\nsed '0,/^get /s/^get .* && echo/echo/' | {real} \"$@\"\n")
    shim.chmod(0o755)
    done = transfer(engine)
    assert done.code == 11
    assert "files were fetched that are not in their places at RDS" in done.errors
    shim.unlink()
    assert transfer(engine).code == 0
    must_be_whole(engine)


def test_a_folder_with_a_backslash_is_fetched_and_compared(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    name = "scan\\two"
    folder = desy.tree / name
    folder.mkdir()
    (folder / "frame.cbf").write_bytes(noise("frame", 5_000))
    try:
        engine = at_desy("sftp")
        wanted = parse_totals(engine.dry_run().stats).to_fetch
        assert name in wanted
        assert {engine.transfer(one).code for one in wanted} == {0}
        assert (engine.destination / name / "frame.cbf").read_bytes() == noise("frame", 5_000)
        compared = engine.verify(Level.FULL)
        assert engine.verdict(compared, Level.FULL).outcome is Verified.VERIFIED
    finally:
        (folder / "frame.cbf").unlink()
        folder.rmdir()


def test_a_link_in_the_place_of_a_folder_leads_nothing_out(
    at_desy: Callable[..., DesyEngine], tmp_path: Path
) -> None:
    engine = at_desy()
    outside = tmp_path / "outside"
    outside.mkdir()
    (engine.destination / "raw").mkdir(parents=True)
    (engine.destination / "processed").symlink_to(outside)
    done = transfer(planned(engine))
    assert done.code == 11
    assert "./processed: a link stands where a folder has to come\n" in done.errors
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(
    at_desy: Callable[..., DesyEngine], tmp_path: Path
) -> None:
    engine = at_desy(settings={"folders": ["processed"]})
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (engine.destination / "processed").mkdir(parents=True)
    (engine.destination / "processed" / "notes.txt").symlink_to(outside)
    assert transfer(planned(engine)).code == 0
    assert outside.read_text() == "mine"
    must_be_whole(engine)


def test_the_rate_of_a_folder_is_of_its_own_bytes(at_desy: Callable[..., DesyEngine]) -> None:
    engine = planned(at_desy())
    before = engine.transfer("raw").progress["bytes_done"]
    engine.hand_over()
    done = transfer(engine, limit=1024 * 200)
    own, seconds = done.progress["bytes_done"] - before, done.result["seconds"]
    assert 0 < own < before
    assert seconds > 0
    assert done.progress["rate"] * max(1, seconds - 1) <= own
