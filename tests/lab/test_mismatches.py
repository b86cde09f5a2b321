"""A file that was found to differ is never certified until it is seen to agree, whatever is run in between."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine import Engine, noise
from test_engine_verify import flip

from beamferry.beamtime import Level, Site
from beamferry.differences import Difference
from beamferry.lab.desy_faults import DesyFaults
from beamferry.verification import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy
    from beamferry.verification import Verdict

DAMAGED = "raw/frame_019.tif"


@pytest.fixture
def copied(engine: Engine) -> Engine:
    """200 files and their whole copy."""
    (engine.source / "raw").mkdir()
    for number in range(200):
        (engine.source / "raw" / f"frame_{number:03}.tif").write_bytes(noise(number, 1000))
    engine.fetch()
    return engine


def verdict(engine: Engine, level: Level = Level.SIZES, seed: int = 1) -> Verdict:
    done = engine.verify(level, seed=seed)
    assert done.code == 0, done
    return engine.verdict(done, level)


def found(copied: Engine) -> None:
    """Flip a byte and have a comparison find it."""
    flip(copied.destination / DAMAGED)
    seen = verdict(copied, Level.FULL)
    assert (seen.outcome, seen.counts) == (Outcome.DIFFERENT, {Difference.CONTENT: 1})
    assert copied.memory == [DAMAGED]


def is_told(seen: Verdict) -> bool:
    return seen.outcome is Outcome.DIFFERENT and DAMAGED in [item.path for item in seen.named]


# The seeds' samples of 20 in 200 files do not hold the damaged one.
@pytest.mark.parametrize(
    ("level", "seed"), [(Level.SIZES, 20), (Level.SAMPLED, 21), (Level.SAMPLED, 22), (Level.FULL, 20)]
)
def test_no_level_and_no_seed_forgets_it(copied: Engine, level: Level, seed: int) -> None:
    found(copied)
    for _ in range(2):
        assert is_told(verdict(copied, level, seed))


def test_a_run_after_it_fetches_it_again_by_content_and_then_it_is_verified(copied: Engine) -> None:
    found(copied)
    planned = copied.dry_run()
    assert "Number of regular files transferred: 1\n" in planned.stats, planned.stats
    assert copied.transfer().code == 0
    assert (copied.destination / DAMAGED).read_bytes() == (copied.source / DAMAGED).read_bytes()
    seen = verdict(copied, Level.SIZES)
    assert seen.outcome is Outcome.VERIFIED
    assert seen.again_files == 1
    assert "1 file that differed before now agree" in seen.sentence.replace("agrees", "agree")
    assert copied.memory == []
    assert copied.judge() == ""


def test_removing_the_jobs_files_does_not_forget_it(copied: Engine) -> None:
    found(copied)
    shutil.rmtree(copied.work)
    assert is_told(verdict(copied, Level.SIZES))


def test_an_entry_that_leaves_it_out_does_not_forget_it(copied: Engine) -> None:
    found(copied)
    whole = copied.beamtime
    copied.beamtime = whole.model_copy(update={"exclude": (DAMAGED,)})
    seen = verdict(copied, Level.FULL)
    assert seen.outcome is Outcome.DIFFERENT
    assert seen.counts == {Difference.UNRESOLVED: 1}
    assert "could not be compared again" in seen.sentence
    copied.beamtime = whole
    assert is_told(verdict(copied, Level.SIZES))


def test_another_destination_has_a_memory_of_its_own(copied: Engine) -> None:
    found(copied)
    here = copied.destination
    other = here.with_name("elsewhere")
    whole = copied.beamtime
    copied.destination, copied.beamtime = other, whole.model_copy(update={"destination": str(other)})
    copied.fetch()
    assert verdict(copied, Level.FULL).outcome is Outcome.VERIFIED
    copied.destination, copied.beamtime = here, whole
    assert is_told(verdict(copied, Level.SIZES))


def test_a_destination_under_another_name_is_the_same_one(copied: Engine) -> None:
    found(copied)
    alias = copied.folder / "alias"
    alias.symlink_to(copied.destination.parent)
    copied.site = Site(destination_root=str(alias))
    copied.beamtime = copied.beamtime.model_copy(update={"destination": str(alias / copied.destination.name)})
    assert is_told(verdict(copied, Level.SIZES))


def test_a_source_that_lost_it_leaves_it_open_until_the_copy_is_gone_too(copied: Engine) -> None:
    found(copied)
    (copied.source / DAMAGED).unlink()
    seen = verdict(copied, Level.FULL)
    assert seen.counts == {Difference.UNRESOLVED: 1}
    copied.fetch()
    assert (copied.destination / DAMAGED).exists(), "nothing at the destination is removed"
    assert verdict(copied, Level.SIZES).counts == {Difference.UNRESOLVED: 1}
    (copied.destination / DAMAGED).unlink()
    assert verdict(copied, Level.SIZES).outcome is Outcome.VERIFIED
    assert copied.memory == []


def test_a_copy_that_somebody_removed_is_missing_and_then_compared(copied: Engine) -> None:
    found(copied)
    (copied.destination / DAMAGED).unlink()
    assert verdict(copied, Level.SIZES).counts == {Difference.MISSING: 1}
    copied.fetch()
    flip(copied.destination / DAMAGED)
    assert is_told(verdict(copied, Level.SIZES)), "its memory outlives the removal"


def test_a_memory_that_is_damaged_is_put_aside_and_everything_is_compared(copied: Engine) -> None:
    found(copied)
    (memory,) = (copied.home / ".beamferry" / "mismatches").glob("[!.]*")
    for content in (b"", b"\0" * 14, memory.read_bytes()[:-3], b"beamferry mismatches 2 5\0a\0b\0c\0"):
        memory.write_bytes(content)
        done = copied.verify(Level.SIZES)
        assert done.code == 0
        assert "is not whole" in done.errors or "ends in the middle" in done.errors
        assert is_told(copied.verdict(done, Level.SIZES))
        assert copied.memory == [DAMAGED]
        memory.with_name(f"{memory.name}.damaged").unlink()


def test_a_source_that_is_read_differently_each_time_is_what_is_damaged(copied: Engine) -> None:
    flip(copied.destination / DAMAGED)
    # The facility's disk: each reading of that one file gives other bytes.
    sums = copied.far.shims / "sha256sum"
    sums.write_text(
        '#!/bin/sh\nif [ $# -eq 0 ]; then date +%s%N | /usr/bin/sha256sum; exit; fi\nexec /usr/bin/sha256sum "$@"\n'
    )
    sums.chmod(0o755)
    try:
        (copied.source / "raw" / "big.tif").write_bytes(noise("big", 2_000_000))
        shutil.copy2(copied.source / "raw" / "big.tif", copied.destination / "raw" / "big.tif")
        seen = verdict(copied, Level.FULL)
    finally:
        sums.unlink()
    # The last few of each list are read one by one, too.
    assert seen.counts[Difference.UNSTABLE] >= 1
    assert "raw/big.tif" in [item.path for item in seen.named if item.kind is Difference.UNSTABLE]
    assert "which is damaged there or being written" in seen.sentence


def test_after_a_loss_of_power_what_was_not_flushed_is_fetched_and_compared_again(copied: Engine) -> None:
    assert not (copied.work / "unflushed").exists(), "a transfer that ended has flushed"
    victim = copied.destination / "raw" / "frame_003.tif"
    # What the journal of a file system can leave: size and time as they should be, and zeros.
    kept = victim.stat()
    victim.write_bytes(bytes(1000))
    os.utime(victim, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    (copied.work / "unflushed").write_text(f"another-boot {int(victim.stat().st_ctime) - 1}\n")
    copied.dry_run()
    assert copied.transfer().code == 0
    assert victim.read_bytes() == noise(3, 1000)
    assert verdict(copied, Level.SIZES).outcome is Outcome.VERIFIED


def test_on_the_same_boot_nothing_is_suspected(copied: Engine) -> None:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (copied.work / "unflushed").write_text(f"{boot} 1\n")
    planned = copied.dry_run()
    assert "Number of regular files transferred: 0\n" in planned.stats


# --- lftp ---------------------------------------------------------------------------------------------------


def test_over_lftp_a_source_that_is_read_differently_each_time_is_what_is_damaged(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    engine = at_desy(settings={"folders": ["raw"]})
    assert engine.dry_run().code == 0
    for folder in (".", "raw"):
        assert engine.transfer(folder).code == 0
    unstable, damaged = b"raw/p07_00001.nxs", "raw/p07_00002.nxs"
    flip(engine.destination / damaged)
    with DesyFaults(desy).file_read_differently(unstable):
        done = engine.verify(Level.FULL)
    assert done.code == 0, done.errors
    seen = engine.verdict(done, Level.FULL)
    assert {(item.kind, item.path) for item in seen.named} == {
        (Difference.UNSTABLE, os.fsdecode(unstable)),
        (Difference.CONTENT, damaged),
    }
    assert "which is damaged there or being written" in seen.sentence


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_over_lftp_it_is_remembered_and_fetched_again_too(
    at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    engine = at_desy(kind)
    planned = engine.dry_run()
    assert planned.code == 0, planned
    assert engine.transfer("raw").code == 0
    victim = max(
        (path for path in (engine.destination / "raw").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    name = str(victim.relative_to(engine.destination))
    good = victim.read_bytes()
    flip(victim)
    done = engine.verify(Level.FULL)
    assert engine.memory == [name]
    for level in (Level.SIZES, Level.SAMPLED, Level.FULL):
        done = engine.verify(level)
        seen = engine.verdict(done, level)
        assert (seen.outcome, seen.counts[Difference.CONTENT]) == (Outcome.DIFFERENT, 1)
    shutil.rmtree(engine.work)
    engine.dry_run()
    assert engine.todo
    assert os.fsencode(name) in engine.todo
    assert engine.transfer("raw").code == 0
    assert victim.read_bytes() == good
    engine.verify(Level.SIZES)
    assert engine.memory == []
