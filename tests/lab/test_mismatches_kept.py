"""What the model test of truth found about remembered mismatches, as plain tests."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from engine import Engine, noise
from test_engine_verify import flip

from beamferry.beamtime import Level
from beamferry.verification import Outcome

if TYPE_CHECKING:
    from pathlib import Path

DAMAGED = "raw/frame_3.tif"


@pytest.fixture
def copied(engine: Engine) -> Engine:
    """A few files and their whole copy."""
    (engine.source / "raw").mkdir()
    for number in range(5):
        (engine.source / "raw" / f"frame_{number}.tif").write_bytes(noise(number, 1000))
    engine.fetch()
    return engine


def told(engine: Engine, level: Level = Level.SIZES) -> bool:
    """Whether a comparison names the damaged file's content."""
    done = engine.verify(level, seed=1)
    assert done.code == 0, done
    return engine.verdict(done, level).outcome is Outcome.DIFFERENT


def found(engine: Engine) -> None:
    flip(engine.destination / DAMAGED)
    assert told(engine, Level.FULL)


def touch_as(source: Path, copy: Path) -> None:
    """What somebody does with ``touch -r``."""
    modified = source.stat().st_mtime_ns
    os.utime(copy, ns=(modified, modified))


def lead_to(engine: Engine, source: Path, destination: Path) -> None:
    """Let the entry name other folders."""
    engine.source, engine.destination = source, destination
    engine.beamtime = engine.beamtime.model_copy(
        update={"source": str(source), "destination": str(destination)}
    )


@pytest.mark.parametrize("second", [0, 1, 3])
def test_a_source_of_the_first_seconds_of_all_is_fetched_again_too(copied: Engine, second: int) -> None:
    os.utime(copied.source / DAMAGED, (second, second))
    copied.fetch()
    found(copied)
    copied.fetch()
    assert (copied.destination / DAMAGED).read_bytes() == (copied.source / DAMAGED).read_bytes()
    assert not told(copied)


def test_a_copy_that_was_moved_on_rds_is_not_forgotten(copied: Engine) -> None:
    found(copied)
    moved = copied.destination.with_name("moved")
    copied.destination.rename(moved)
    touch_as(copied.source / DAMAGED, moved / DAMAGED)
    lead_to(copied, copied.source, moved)
    assert told(copied)


def test_an_entry_for_a_folder_of_it_does_not_forget_it(copied: Engine) -> None:
    found(copied)
    touch_as(copied.source / DAMAGED, copied.destination / DAMAGED)
    lead_to(copied, copied.source / "raw", copied.destination / "raw")
    assert told(copied)


def test_what_an_entry_for_a_folder_of_it_found_is_known_to_the_whole(copied: Engine) -> None:
    source, destination = copied.source, copied.destination
    lead_to(copied, source / "raw", destination / "raw")
    flip(copied.destination / "frame_3.tif")
    assert told(copied, Level.FULL)
    touch_as(copied.source / "frame_3.tif", copied.destination / "frame_3.tif")
    lead_to(copied, source, destination)
    assert told(copied)


def test_only_what_can_be_fetched_loses_its_time(copied: Engine) -> None:
    """The only copy keeps what it has, where the source has lost the file or the entry leaves it out."""
    found(copied)
    (copied.source / DAMAGED).rename(copied.source / "kept")
    touch_as(copied.source / "kept", copied.destination / DAMAGED)
    kept = (copied.destination / DAMAGED).stat().st_mtime_ns
    shutil.rmtree(copied.work)
    copied.dry_run()
    assert (copied.destination / DAMAGED).stat().st_mtime_ns == kept


def test_a_dry_run_does_not_lose_what_a_damaged_memory_held(copied: Engine) -> None:
    """The next comparison makes it anew: what only says so must not take the damage away."""
    found(copied)
    touch_as(copied.source / DAMAGED, copied.destination / DAMAGED)
    (memory,) = (copied.home / ".beamferry" / "mismatches").glob("[!.]*")
    memory.write_bytes(memory.read_bytes()[:-3])
    copied.fetch()
    assert told(copied)
    assert copied.memory == [DAMAGED]


def cut_memory(engine: Engine) -> None:
    (memory,) = (engine.home / ".beamferry" / "mismatches").glob("[!.]*")
    memory.write_bytes(memory.read_bytes()[:-3])


def test_a_damaged_memory_is_told_of_to_an_entry_for_a_folder_of_it(copied: Engine) -> None:
    found(copied)
    cut_memory(copied)
    touch_as(copied.source / DAMAGED, copied.destination / DAMAGED)
    lead_to(copied, copied.source / "raw", copied.destination / "raw")
    assert told(copied)


def test_a_damaged_memory_is_told_of_where_the_copy_was_moved(copied: Engine) -> None:
    found(copied)
    cut_memory(copied)
    moved = copied.destination.with_name("moved")
    copied.destination.rename(moved)
    touch_as(copied.source / DAMAGED, moved / DAMAGED)
    lead_to(copied, copied.source, moved)
    assert told(copied)


def test_a_copy_that_was_moved_while_the_source_was_is_not_forgotten(copied: Engine) -> None:
    found(copied)
    moved, source = copied.destination.with_name("moved"), copied.source.with_name("other")
    copied.destination.rename(moved)
    copied.source.rename(source)
    touch_as(source / DAMAGED, moved / DAMAGED)
    lead_to(copied, source, moved)
    assert told(copied)
