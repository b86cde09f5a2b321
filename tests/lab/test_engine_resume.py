"""A transfer that is killed, cut off or stalled goes on where it was, and resends no file that was whole."""

from __future__ import annotations

import random
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.lab.host import Host

LARGE = 192 * MIB


@pytest.fixture
def slow(far: Host, tmp_path: Path) -> Engine:
    """30 files that two streams take about four seconds for."""
    engine = Engine(far, tmp_path / "beamtime", {"bandwidth_limit": 8})
    for number in range(30):
        folder = engine.source / f"scan_{number % 3}"
        folder.mkdir(exist_ok=True)
        (folder / f"frame_{number}.tif").write_bytes(noise(number, MIB + number))
    return engine


@pytest.fixture
def large(engine: Engine) -> Engine:
    """One file that comes in ranges, over which a kill can fall."""
    (engine.source / "scan.nxs").write_bytes(noise(1, LARGE))
    assert engine.dry_run().code == 0
    return engine


def kill_in_the_ranges(engine: Engine, number: signal.Signals, fetched: int = 4) -> None:
    before = engine.ranges_there()
    job = engine.start(
        "transfer", engine.transfer_arguments(streams=2, range_threshold=MIB, range_bytes=4 * MIB)
    )
    wait_until(lambda: engine.ranges_there() >= before + fetched)
    assert job.process.poll() is None, "was over before it could be killed"
    job.kill(number)


def no_far_process(far: Host) -> bool:
    return not far.sessions()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_killed_at_random_moments_it_resends_nothing_whole(slow: Engine, number: signal.Signals) -> None:
    chance = random.Random(number)
    killed = 0
    for number_of_kills in range(4):
        assert slow.dry_run().code == 0
        before = slow.whole()
        job = slow.start("transfer", slow.transfer_arguments(streams=2))
        if number_of_kills == 3:
            # On a busy machine the first kills may all have come before the first file.
            wait_until(lambda: bool(slow.whole()))
        try:
            job.process.wait(timeout=chance.uniform(0.2, 2.5))
        except subprocess.TimeoutExpired:
            job.kill(number)
            killed += 1
        assert slow.whole().items() >= before.items()
        wait_until(lambda: no_far_process(slow.far))
    before = slow.whole()
    done = slow.fetch(streams=2)
    assert killed > 1
    assert before
    assert slow.whole().items() >= before.items()
    assert slow.judge() == ""
    assert done.result["files"] == 30 - len(before)
    assert not slow.partials()


def test_stopped_job_says_so(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    job = slow.start("transfer", slow.transfer_arguments(streams=2))
    wait_until(lambda: bool(slow.whole()))
    job.kill(signal.SIGTERM)
    done = job.outcome()
    assert (done.code, done.result["exit_code"]) == (143, 143)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["term", "kill"])
def test_killed_in_the_ranges_it_fetches_only_the_others(large: Engine, number: signal.Signals) -> None:
    kill_in_the_ranges(large, number)
    wait_until(lambda: no_far_process(large.far))
    there = large.ranges_there()
    # A new dry run, as every run begins with one, must not forget the ranges.
    done = large.fetch(streams=2, range_threshold=MIB, range_bytes=4 * MIB)
    assert large.judge() == ""
    assert done.result["ranges"] == LARGE // (4 * MIB) - there
    assert done.result["resent_bytes"] == 0
    assert not large.partials()
    assert large.ranges_there() == 0


def test_flipped_byte_in_a_range_is_mended(large: Engine) -> None:
    kill_in_the_ranges(large, signal.SIGKILL)
    state = next(path for path in (large.work / "ranges").iterdir() if path.suffix == "")
    offset = int(state.read_text().splitlines()[1])
    partial = next(path for path in large.partials() if path.name == "scan.nxs")
    with partial.open("r+b") as file:
        file.seek(offset + 1000)
        byte = file.read(1)
        file.seek(offset + 1000)
        file.write(bytes([byte[0] ^ 1]))
    done = large.transfer(streams=2, range_threshold=MIB)
    assert done.code == 0, done
    assert large.judge() == ""
    assert 0 < done.result["resent_bytes"] < MIB


def test_ranges_of_another_version_are_dropped(large: Engine) -> None:
    kill_in_the_ranges(large, signal.SIGTERM)
    (large.source / "scan.nxs").write_bytes(noise(2, LARGE // 2))
    done = large.fetch(streams=2, range_threshold=MIB, range_bytes=4 * MIB)
    assert large.judge() == ""
    assert done.result["ranges"] == LARGE // 2 // (4 * MIB)
    assert done.result["resent_bytes"] == 0


def test_file_already_whole_is_not_fetched_in_ranges(large: Engine) -> None:
    first = large.transfer(range_threshold=MIB)
    assert first.code == 0, first
    before = large.whole()
    # The same to-do list again, as when the job was killed after its last byte.
    again = large.transfer(range_threshold=MIB)
    assert again.code == 0, again
    assert large.whole() == before
    assert again.result["ranges"] == 0


def test_older_version_at_the_destination_is_the_basis(engine: Engine) -> None:
    content = noise(1, 40 * MIB)
    (engine.source / "growing.h5").write_bytes(content[: 30 * MIB])
    engine.fetch(range_threshold=MIB)
    (engine.source / "growing.h5").write_bytes(content)
    done = engine.fetch(range_threshold=MIB)
    assert engine.judge() == ""
    assert (done.result["range_files"], done.result["shards"]) == (0, 1)


def test_broken_connections_are_tried_again(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    job = slow.start("transfer", slow.transfer_arguments(streams=2))
    wait_until(lambda: bool(slow.whole()))
    for session in slow.far.sessions():
        subprocess.run(["kill", "-KILL", str(session.pid)], check=False, stderr=subprocess.DEVNULL)
    done = job.outcome()
    assert done.code == 0, done
    assert done.result["retries"] > 0
    assert slow.judge() == ""


def test_far_side_that_hangs_ends_with_75(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    job = slow.start("transfer", slow.transfer_arguments(streams=2, stall=4))
    wait_until(lambda: bool(slow.whole()))
    frozen = slow.far.sessions()
    for session in frozen:
        subprocess.run(["kill", "-STOP", str(session.pid)], check=False, stderr=subprocess.DEVNULL)
    try:
        done = job.outcome()
    finally:
        for session in frozen:
            subprocess.run(["kill", "-CONT", str(session.pid)], check=False, stderr=subprocess.DEVNULL)
    assert done.code == done.result["exit_code"] == 75
    after = slow.fetch(streams=2)
    assert after.result["files"] < 30
    assert slow.judge() == ""


def test_host_that_is_gone_ends_with_the_tools_code(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    slow.far.kill()
    try:
        done = slow.transfer(streams=2)
    finally:
        slow.far.start()
    assert done.code in {12, 255}
    assert "Connection refused" in done.errors


def test_leftover_partials_are_swept_at_the_end(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    job = slow.start("transfer", slow.transfer_arguments(streams=2))
    wait_until(lambda: bool(slow.whole()))
    job.kill(signal.SIGTERM)
    orphan = slow.destination / "scan_0" / ".beamferry-partial"
    orphan.mkdir(exist_ok=True)
    (orphan / "gone at the source").write_text("x")
    slow.fetch(streams=2)
    assert not slow.partials()


def test_the_rate_after_a_restart_is_of_what_came_since(slow: Engine) -> None:
    assert slow.dry_run().code == 0
    job = slow.start("transfer", slow.transfer_arguments(streams=2))
    wait_until(lambda: len(slow.whole()) >= 25)
    job.kill(signal.SIGKILL)
    wait_until(lambda: no_far_process(slow.far))
    left = 30 - len(slow.whole())
    assert left > 0, "was over before it could be killed"
    done = slow.transfer(streams=2)
    assert done.code == 0, done
    assert done.progress["rate"] * max(1, done.result["seconds"] - 1) <= 2 * (left + 2) * MIB
