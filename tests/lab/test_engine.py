"""Dry run and transfer: everything arrives as it is, and what goes wrong has its code."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise, wait_until

from beamferry import access, complaints
from beamferry.beamtime import Level
from beamferry.refused_names import interpret_names

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.lab.host import Host


ODD_NAMES = [
    b"new\nline",
    b"ends in newline\n",
    b"\n",
    b" leading blank",
    b"trailing blank ",
    b"-dash",
    b"-",
    b"co:lon",
    b"#hash",
    b";semicolon",
    b"literal \\#012 escape",
    b"back\\slash",
    b"\\",
    b'quote\'s "both"',
    b"$(touch owned) `touch owned`",
    b"{{ jinja }}.sh",
    b"invalid \xff\xfe utf-8",
    "caf\u00e9".encode(),
    b"x" * 255,
    b"tab\there",
    b"carriage\rreturn\r",
    b"control \x01\x7f",
    b"*[glob]?",
    b"~tilde",
]


def odd_files(folder: Path) -> None:
    """A file of every odd name, at the top and in a folder of every odd name."""
    for name in ODD_NAMES:
        (folder / os.fsdecode(name)).write_bytes(name * 3)
        deeper = folder / "deep" / os.fsdecode(name)
        deeper.mkdir(parents=True)
        (deeper / os.fsdecode(name)).write_bytes(name * 2)


def test_odd_names_arrive_byte_for_byte(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime")
    odd_files(engine.source)
    done = engine.fetch()
    assert engine.judge() == ""
    for name in ODD_NAMES:
        assert (engine.destination / os.fsdecode(name)).read_bytes() == name * 3
        assert (engine.destination / "deep" / os.fsdecode(name) / os.fsdecode(name)).read_bytes() == name * 2
    assert done.result["files"] == 2 * len(ODD_NAMES)
    # They came over the streams; the finishing pass found nothing left to fetch.
    assert "Number of regular files transferred: 0" in done.stats
    assert not engine.partials()


def test_large_files_with_odd_names_come_in_ranges(engine: Engine) -> None:
    content = noise(1, 5 * MIB)
    for name in ODD_NAMES[:8]:
        (engine.source / os.fsdecode(name)).write_bytes(content + name)
    done = engine.fetch(range_threshold=MIB)
    assert engine.judge() == ""
    assert (done.result["range_files"], done.result["ranges"]) == (8, 16)
    assert (done.result["resent_bytes"], done.result["shards"]) == (0, 0)
    assert not engine.partials()


def test_tree_of_all_kinds_and_only_the_excludes_stay(engine: Engine) -> None:
    source = engine.source
    (source / "tmp").mkdir()
    (source / "tmp" / "scratch").write_text("stays")
    (source / "raw" / "tmp").mkdir(parents=True)
    (source / "raw" / "tmp" / "not the top one").write_text("comes")
    (source / "empty folder").mkdir()
    (source / "empty file").touch()
    (source / "inside").symlink_to("raw/tmp")
    (source / "outside").symlink_to("/nowhere//f//5")
    sealed = source / "sealed"
    sealed.mkdir()
    for number in range(40):
        (sealed / f"frame_{number}.tif").write_bytes(bytes([number]) * 1000)
        (sealed / f"frame_{number}.tif").chmod(0o440)
    os.utime(sealed, (1_600_000_000, 1_600_000_000))
    sealed.chmod(0o550)
    engine.fetch(streams=4)
    assert engine.judge() == ""
    assert not (engine.destination / "tmp").exists()
    copy = engine.destination / "sealed"
    assert copy.stat().st_mode & 0o777 == 0o750
    assert int(copy.stat().st_mtime) == 1_600_000_000
    assert (copy / "frame_1.tif").stat().st_mode & 0o777 == 0o640


def test_nothing_to_do_moves_nothing(engine: Engine) -> None:
    odd_files(engine.source)
    engine.fetch()
    again = engine.fetch()
    assert (engine.work / "todo").read_text() == ""
    assert again.result["bytes"] == 0
    assert "Total transferred file size: 0 bytes" in again.stats


def test_dry_run_lists_and_changes_nothing(engine: Engine) -> None:
    (engine.source / "line\nbreak").write_bytes(b"12345")
    (engine.source / "folder").mkdir()
    planned = engine.dry_run(flat=False)
    assert (engine.work / "todo").read_text() == "5 line\\#012break\n"
    assert (engine.work / "todo.totals").read_text() == "1 5\n"
    assert planned.stats.startswith("Number of files: 3 (reg: 1, dir: 2)\n")
    assert not engine.destination.exists()


def test_failed_dry_run_leaves_no_list_behind(engine: Engine) -> None:
    (engine.source / "file").write_text("x")
    assert engine.dry_run().code == 0
    shutil.rmtree(engine.source)
    planned = engine.dry_run()
    assert planned.code == planned.result["exit_code"] == 23
    assert "No such file or directory" in planned.errors
    assert not (engine.work / "todo").exists()
    assert engine.transfer().code == 69


def test_progress_never_runs_backwards(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime", {"bandwidth_limit": 4})
    for number in range(20):
        (engine.source / f"{number}").write_bytes(noise(number, MIB))
    assert engine.dry_run().code == 0
    job = engine.start("transfer", engine.transfer_arguments(streams=2))
    seen: list[str] = []

    def ended() -> bool:
        progress = engine.job / "progress.json"
        if progress.exists() and (text := progress.read_text()) not in seen[-1:]:
            seen.append(text)
        return job.process.poll() is not None

    wait_until(ended)
    done = job.outcome()
    assert done.code == 0, done
    counts = [int(text.split('"bytes_done":')[1].split(",")[0]) for text in seen]
    assert counts == sorted(counts)
    assert any(0 < count < 20 * MIB for count in counts)
    assert (done.progress["bytes_done"], done.progress["bytes_total"]) == (20 * MIB, 20 * MIB)
    assert (done.progress["files_done"], done.progress["files_total"]) == (20, 20)


def test_unreadable_file_is_named_and_the_rest_arrives(engine: Engine) -> None:
    for name in ("first", "secret", "third"):
        (engine.source / name).write_bytes(noise(name, 5 * MIB))
    (engine.source / "secret").chmod(0)
    assert engine.dry_run().code == 0
    # In ranges as well as in shards: both leave it to rsync to say what it could not read.
    for threshold in (0, MIB):
        done = engine.transfer(range_threshold=threshold)
        assert (done.code, done.result["rsync_exit"]) == (23, 23)
        assert "secret" in done.errors
        assert "Permission denied" in done.errors
        assert {path.name for path in engine.destination.iterdir()} >= {"first", "third"}
        shutil.rmtree(engine.destination)


@pytest.mark.parametrize("threshold", [0, MIB], ids=["shards", "ranges"])
def test_full_disk_ends_with_11(engine: Engine, threshold: int) -> None:
    (engine.source / "large").write_bytes(bytes(20 * MIB))
    assert engine.dry_run().code == 0
    done = engine.transfer(range_threshold=threshold, limit_kib=10 * 1024)
    assert done.code == done.result["exit_code"] == 11
    assert done.errors
    assert not (engine.destination / "large").exists()


@pytest.mark.parametrize("threshold", [0, MIB], ids=["shards", "ranges"])
def test_source_that_changes_after_the_dry_run(engine: Engine, threshold: int) -> None:
    for name in ("stays", "grows", "vanishes", "becomes a folder"):
        (engine.source / name).write_bytes(noise(name, 5 * MIB))
    assert engine.dry_run().code == 0
    (engine.source / "vanishes").unlink()
    (engine.source / "becomes a folder").unlink()
    (engine.source / "becomes a folder").mkdir()
    with (engine.source / "grows").open("ab") as file:
        file.write(b"more")
    (engine.source / "appears").write_text("new")
    done = engine.transfer(range_threshold=threshold)
    assert done.code == 0, done
    assert engine.judge() == ""


def test_far_side_without_dd_is_fetched_by_plain_rsync(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime")
    (engine.source / "large").write_bytes(noise(1, 20 * MIB))
    far.stop()
    far.hidden = ("dd",)
    far.start()
    try:
        done = engine.fetch(range_threshold=MIB)
    finally:
        far.stop()
        far.hidden = ()
        far.start()
    assert engine.judge() == ""
    assert (done.result["range_files"], done.result["shards"]) == (0, 1)


def test_unknown_argument_is_refused(engine: Engine) -> None:
    refused = engine.run("transfer", ("--nonsense", "x"))
    assert refused.code == refused.result["exit_code"] == 78
    assert "--nonsense" in refused.errors


def test_the_moment_from_which_changes_count_is_the_beginning_of_the_listing(engine: Engine) -> None:
    (engine.source / "a").write_text("a")
    slow = engine.shims / "rsync"
    slow.write_text('#!/bin/sh\nsleep 3\nexec /usr/bin/rsync "$@"\n')
    slow.chmod(0o755)
    before = int(time.time())
    done = engine.dry_run()
    assert before <= done.result["began"] <= int(time.time()) - 3


@pytest.mark.parametrize("limit", [None, 100], ids=["streams", "limited"])
def test_a_sparse_file_takes_as_little_at_rds_and_on_the_wire(
    far: Host, tmp_path: Path, limit: int | None
) -> None:
    engine = Engine(far, tmp_path / "beamtime", {"bandwidth_limit": limit})
    sparse, whole = engine.source / "sparse.h5", engine.source / "whole.h5"
    with sparse.open("wb") as file:
        file.write(noise(1, 4096))
        file.truncate(400 * MIB)
        file.seek(200 * MIB)
        file.write(noise(2, 4096))
    whole.write_bytes(bytes(40 * MIB))
    (engine.source / "small").write_bytes(b"x")
    done = engine.fetch()
    assert engine.judge() == ""
    assert (engine.destination / "sparse.h5").stat().st_blocks * 512 < MIB
    # What a facility has written in full stays so.
    assert (engine.destination / "whole.h5").stat().st_blocks * 512 >= 40 * MIB
    assert done.result["bytes"] == 440 * MIB + 1
    assert done.result["received"] < 42 * MIB


@pytest.mark.parametrize(
    ("depth", "code"), [(15, None), (16, "rds-names"), (17, "path-too-long"), (40, "path-too-long")]
)
def test_a_path_that_linux_takes_comes_home_and_a_longer_one_is_named_in_short(
    far: Host, tmp_path: Path, depth: int, code: str | None
) -> None:
    engine = Engine(far, tmp_path / "beamtime")
    here = os.open(engine.source, os.O_RDONLY)
    for number in range(depth):
        name = f"{number:03}".ljust(250, "y")
        os.mkdir(name, dir_fd=here)
        above, here = here, os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(above)
    with open("deep.txt", "w", opener=lambda path, flags: os.open(path, flags, dir_fd=here)) as file:
        file.write("deep")
    os.close(here)
    planned = engine.dry_run()
    asked = planned.code, planned.errors, access.errand(engine.beamtime, engine.site)
    error = interpret_names(*asked) or complaints.interpret_exit(*asked)
    if code is None:
        assert error is None
        assert engine.transfer().code == 0
        assert engine.verify(Level.SIZES).result["only_source"] == 0
    else:
        assert error is not None
        assert error.code == code
        assert "000yyy" in str(error)
        assert len(str(error)) < 900
