"""Censuses, comparison and manifest: every kind of difference is found, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise
from test_engine import ODD_NAMES, odd_files

from beamferry.beamtime import Level
from beamferry.census import manifest_arguments
from beamferry_agent.records import FILE, FOLDER, LINK, OTHER, read_records

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.lab.host import Host


def records(engine: Engine, name: str) -> dict[str, tuple[str, int, int, str]]:
    with (engine.work / "verify" / name).open("rb") as stream:
        return {
            entry.path: (entry.kind, entry.size, entry.modified, entry.target)
            for entry in read_records(stream)
        }


def flip(path: Path) -> None:
    """Change one byte and nothing that a listing shows."""
    kept = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


@pytest.fixture
def copied(engine: Engine) -> Engine:
    """A small tree and its whole copy."""
    (engine.source / "raw").mkdir()
    for number in range(20):
        (engine.source / "raw" / f"frame_{number:02}.tif").write_bytes(noise(number, 1000 + number))
    (engine.source / "empty").touch()
    (engine.source / "link").symlink_to("raw")
    engine.fetch()
    return engine


def test_odd_names_are_compared_and_hashed(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime")
    odd_files(engine.source)
    engine.fetch()
    found = engine.verify(Level.FULL, streams=3)
    assert found.code == 0, found
    assert found.result["sampled_files"] == found.result["source_files"] == 2 * len(ODD_NAMES)
    assert found.result["content_mismatches"] == 0
    assert set(engine.listed("sampled")) >= set(ODD_NAMES)
    for name in ODD_NAMES:
        flip(engine.destination / os.fsdecode(name))
    assert engine.verify(Level.FULL, streams=3).result["content_mismatches"] == len(ODD_NAMES)
    assert sorted(engine.listed("mismatches")) == sorted(ODD_NAMES)

    output = engine.destination / "SHA256SUMS"
    arguments = manifest_arguments(
        str(engine.work), engine.beamtime, engine.site, streams=3, output=str(output), exclude=("deep/",)
    )
    written = engine.run("manifest", arguments)
    assert (written.code, written.result["files"]) == (0, len(ODD_NAMES))
    check = subprocess.run(
        ["sha256sum", "--strict", "-c", output.name], cwd=engine.destination, capture_output=True, check=False
    )
    assert check.returncode == 0, check.stderr
    assert check.stdout.count(b": OK\n") == len(ODD_NAMES)


def test_census_says_what_is_there(copied: Engine) -> None:
    os.mkfifo(copied.source / "fifo")
    os.utime(copied.source / "empty", (1_000_000_000.9, 1_000_000_000.9))
    (copied.source / "tmp").mkdir()
    (copied.source / "tmp" / "scratch").write_text("stays behind")
    found = copied.verify(Level.SIZES)
    assert found.code == 0, found
    source = records(copied, "source.census")
    assert source["empty"] == (FILE, 0, 1_000_000_000, "")
    assert source["link"] == (LINK, 0, 0, "raw")
    assert source["raw"] == (FOLDER, 0, 0, "")
    assert source["fifo"] == (OTHER, 0, 0, "")
    assert not [path for path in source if path.startswith("tmp")]
    assert list(source) == sorted(source)
    facts = {
        name: found.result[f"source_{name}"] for name in ("files", "bytes", "folders", "links", "oldest")
    }
    assert facts == {
        "files": 21,
        "bytes": sum(1000 + number for number in range(20)),
        "folders": 1,
        "links": 1,
        "oldest": 1_000_000_000,
    }
    assert found.result["sampled_files"] == 0


def test_every_kind_of_difference_is_found(copied: Engine) -> None:
    here, there = copied.destination, copied.source
    frames = here / "raw"
    (frames / "frame_01.tif").unlink()
    (frames / "extra").write_text("only here")
    (frames / "frame_02.tif").write_bytes(b"short")
    os.utime(frames / "frame_03.tif", (1, 1))
    (frames / "frame_04.tif").unlink()
    (frames / "frame_04.tif").mkdir()
    (here / "link").unlink()
    (here / "link").symlink_to("elsewhere")
    (there / "new folder").mkdir()
    (frames / ".beamferry-partial").mkdir()
    (frames / ".beamferry-partial" / "half").write_text("unfinished")
    found = copied.verify(Level.FULL)
    assert found.code == 0, found
    changed = {"raw/frame_02.tif", "raw/frame_03.tif", "raw/frame_04.tif", "link"}
    assert set(records(copied, "only_source")) == changed | {"raw/frame_01.tif", "new folder"}
    assert set(records(copied, "only_destination")) == changed | {"raw/extra"}
    assert (found.result["only_source"], found.result["only_destination"]) == (6, 5)
    assert found.result["destination_partials"] == 1
    # Compared are files of one size at both ends; that the time of one differs says nothing of its content.
    assert found.result["sampled_files"] == 17
    assert found.result["content_mismatches"] == 0


def test_flipped_byte_is_found_by_full_and_by_enough_samples(copied: Engine) -> None:
    flip(copied.destination / "raw" / "frame_07.tif")
    assert copied.judge() != ""
    sizes = copied.verify(Level.SIZES)
    assert (sizes.result["only_source"], sizes.result["content_mismatches"]) == (0, 0)
    for level in (Level.FULL, Level.SAMPLED):
        found = copied.verify(level)
        assert found.code == 0
        assert (found.result["sampled_files"], found.result["content_mismatches"]) == (20, 1)
        assert copied.listed("mismatches") == [b"raw/frame_07.tif"]


def test_samples_depend_on_the_seed_only(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime", {"samples": 5})
    for number in range(40):
        (engine.source / f"{number}").write_bytes(noise(number, 100))
    (engine.source / "empty").touch()
    engine.fetch()
    chosen = []
    for seed in (1, 1, 2, 3):
        found = engine.verify(Level.SAMPLED, seed=seed)
        assert (found.result["sampled_files"], found.result["sampled_bytes"]) == (5, 500)
        chosen.append(tuple(engine.listed("sampled")))
    assert chosen[0] == chosen[1]
    assert len(set(chosen)) == 3


def test_sample_keeps_to_its_bytes_but_takes_one(copied: Engine) -> None:
    def sampled(limit: int) -> int:
        arguments = [*copied.verify_arguments(Level.SAMPLED)]
        arguments[arguments.index("--sample-bytes") + 1] = str(limit)
        return int(copied.run("verify", tuple(arguments)).result["sampled_files"])

    assert (sampled(1), sampled(3100)) == (1, 3)


def test_what_cannot_be_read_at_the_source_is_an_error(copied: Engine) -> None:
    (copied.source / "raw" / "frame_03.tif").chmod(0)
    found = copied.verify(Level.FULL)
    assert found.code == found.result["exit_code"] == 23
    assert "frame_03.tif" in found.errors
    # The others were compared all the same.
    assert found.result["sampled_files"] == 19
    assert b"raw/frame_03.tif" not in copied.listed("sampled")
    # A listing needs no reading.
    assert copied.verify(Level.SIZES).code == 0
    (copied.source / "raw").chmod(0)
    try:
        blind = copied.verify(Level.SIZES)
    finally:
        (copied.source / "raw").chmod(0o755)
    assert blind.code == 23
    assert "Permission denied" in blind.errors


def test_source_that_is_gone(copied: Engine) -> None:
    shutil.rmtree(copied.source)
    gone = copied.verify(Level.SIZES)
    assert gone.code == gone.result["exit_code"] == 23
    assert str(copied.source) in gone.errors


@pytest.mark.parametrize("level", [Level.SIZES, Level.FULL])
def test_where_nothing_was_ever_fetched_all_is_missing(engine: Engine, level: Level) -> None:
    (engine.source / "raw").mkdir()
    (engine.source / "raw" / "frame").write_bytes(noise(1, 1000))
    found = engine.verify(level)
    assert found.code == 0, found
    assert (found.result["source_files"], found.result["destination_files"]) == (1, 0)
    assert set(records(engine, "only_source")) == {"raw", "raw/frame"}
    assert (found.result["sampled_files"], found.result["closed"]) == (0, 0)
    assert not engine.destination.exists()


def test_copy_that_cannot_be_entered_is_an_error_of_rds(copied: Engine) -> None:
    # Where the tests run as root no mode keeps it out.
    if os.geteuid() == 0:
        pytest.skip("root enters whatever it likes")
    copied.destination.chmod(0o600)
    try:
        shut = copied.verify(Level.SIZES)
    finally:
        copied.destination.chmod(0o755)
    assert shut.code == 23, shut
    assert f"RDS: find: {copied.destination}: Permission denied" in shut.errors


def test_host_that_is_gone(copied: Engine) -> None:
    copied.far.stop()
    try:
        gone = copied.verify(Level.SAMPLED)
    finally:
        copied.far.start()
    assert gone.code == 255
    assert "Connection refused" in gone.errors


def test_large_files_show_in_the_progress(engine: Engine) -> None:
    for number in range(3):
        (engine.source / f"{number}").write_bytes(noise(number, 2 * MIB))
    engine.fetch()
    found = engine.verify(Level.FULL)
    assert found.progress["bytes_done"] == found.progress["bytes_total"] == 6 * MIB
    assert found.progress["files_total"] == 3


def test_unreadable_copy_gives_no_manifest(copied: Engine) -> None:
    output = copied.folder / "SHA256SUMS"
    shutil.move(copied.destination / "raw", copied.folder / "raw")
    (copied.destination / "raw").symlink_to("nowhere")
    arguments = manifest_arguments(
        str(copied.work), copied.beamtime, copied.site, streams=2, output=str(output)
    )
    assert copied.run("manifest", arguments).result["files"] == 1
    shutil.rmtree(copied.destination)
    output.unlink()
    refused = copied.run("manifest", arguments)
    assert refused.code == refused.result["exit_code"] == 23
    assert not output.exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"level": "most"},
        {"seed": "x"},
        {"streams": "0"},
        {"sample-bytes": "many"},
        {"what": "1"},
        {"host": ""},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_makes_no_sense_is_refused(engine: Engine, changed: dict[str, str]) -> None:
    given = engine.verify_arguments(Level.SAMPLED)
    arguments = dict(zip(given[::2], given[1::2], strict=True))
    words = [word for name, value in changed.items() for word in (f"--{name}", value)]
    kept = [word for name, value in arguments.items() if name[2:] not in changed for word in (name, value)]
    done = engine.run("verify", (*kept, *words))
    assert (done.code, done.result["exit_code"]) == (78, 78)
    assert f"--{next(iter(changed))}" in done.errors
    assert not engine.work.exists() or not (engine.work / "verify").exists()
