"""VERIFIED is said only of what is so: random lives of a beamtime, by rsync and by lftp, against a plain oracle."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from counts import Counts
from lives import lives
from machine import Truth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks import Chain

KINDS = ("rsync", "ftps", "sftp")
# Of ten sequences so many go by each.
SHARES = {"rsync": 8, "ftps": 1, "sftp": 1}
# So many are tried by one process.
PARTS = {"rsync": 200, "ftps": 50, "sftp": 50}


@pytest.fixture
def counts(chain: Chain, capsys: pytest.CaptureFixture[str]) -> Iterator[Counts]:
    found = Counts()
    Truth.chain, Truth.counts = chain, found
    yield found
    with capsys.disabled():
        print(f"\n{found.text()}", flush=True)


def begun(kind: str, counts: Counts) -> Truth:
    """A beamtime that is home."""
    machine: Truth = type("Truth", (Truth,), {"kind": kind})()
    machine.begin(chosen={0, 1}, odd=0, link=True)
    machine.sync(level="full", samples=3, seed=1, streams=2)
    return machine


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_found_to_differ_is_not_forgotten(counts: Counts, kind: str) -> None:
    machine = begun(kind, counts)
    try:
        machine.damage_destination(things=[("flip", 0, 1)])
        machine.verify_only(level="full", samples=3, seed=1)
        assert machine.remembered
        machine.verify_only(level="sizes", samples=3, seed=1)
        machine.sync(level="sampled", samples=1, seed=2, streams=2)
        machine.settle(seed=3)
    finally:
        machine.teardown()


def somebody(machine: Truth, what: str) -> None:
    """Let a person do one thing."""
    match what:
        case "gives the copies their sources' times":
            machine.damage_destination(things=[("retime", 0, 1)])
        case "moves the copy":
            machine.happens_on_rds("moved")
        case "names a folder of it, or all of it again":
            machine.change_entry("narrow", 0)
        case "leaves the file out, or not any more":
            machine.change_entry("exclude", 2)
        case "names the destination by a link":
            machine.change_entry("destination", 2)
        case "names the folder itself":
            machine.change_entry("destination", 0)
        case "names another source":
            machine.change_entry("source", 5)
        case "damages what is remembered":
            machine.happens_on_rds("memory damaged")
        case "fetches":
            machine.sync(level="sizes", samples=1, seed=4, streams=1)


TIMES, MOVES, FOLDER = (
    "gives the copies their sources' times",
    "moves the copy",
    "names a folder of it, or all of it again",
)
LEAVES_OUT = "leaves the file out, or not any more"


@pytest.mark.parametrize("kind", ["rsync", "sftp"])
@pytest.mark.parametrize(
    "steps",
    [
        (TIMES,),
        (MOVES, TIMES),
        (FOLDER, TIMES),
        (MOVES, FOLDER, TIMES),
        (FOLDER, TIMES, FOLDER, TIMES),
        (LEAVES_OUT, "fetches", LEAVES_OUT, TIMES),
        ("names the destination by a link", "fetches", TIMES, "names the folder itself"),
        ("names another source", TIMES),
        ("damages what is remembered", TIMES),
    ],
)
def test_nothing_that_somebody_does_makes_it_verified(
    counts: Counts, kind: str, steps: tuple[str, ...]
) -> None:
    machine: Truth = type("Truth", (Truth,), {"kind": kind})()
    try:
        machine.begin(chosen={1}, odd=2, link=False, how="copied")
        at = machine.at_destination.paths("f").index(b"raw/b.dat")
        machine.damage_destination(things=[("flip", at, 1)])
        machine.verify_only(level="full", samples=1, seed=1)
        assert len(machine.remembered) == 1
        for step in steps:
            somebody(machine, step)
        machine.verify_only(level="sizes", samples=1, seed=2)
        assert machine.steps[-1].startswith("  -> NOT VERIFIED")
    finally:
        machine.teardown()


@pytest.mark.parametrize("kind", ["rsync", "sftp"])
@pytest.mark.parametrize("below", [False, True], ids=["itself", "a folder above"])
def test_a_destination_by_a_link_comes_to_no_verdict(counts: Counts, kind: str, *, below: bool) -> None:
    machine: Truth = type("Truth", (Truth,), {"kind": kind})()
    try:
        machine.begin(chosen={1}, odd=2, link=False, how="copied")
        somebody(machine, "names the destination by a link")
        if below:
            somebody(machine, "names a folder of it, or all of it again")
        machine.sync(level="sizes", samples=1, seed=4, streams=1)
        assert machine.steps[-1].startswith("  -> no verdict: destination-unusable")
        machine.verify_only(level="sizes", samples=1, seed=2)
        assert machine.steps[-1].startswith("  -> no verdict: destination-unusable")
    finally:
        machine.teardown()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "number"), [("rsync", 10), ("ftps", 1), ("sftp", 1)])
def test_short_lives(counts: Counts, kind: str, number: int) -> None:
    """The same each time; new ones are tried by ``./run truth``."""
    lives(kind, number, 1)


def parts(wanted: int) -> list[tuple[str, int]]:
    """Cut so many sequences into parts of a few minutes, the slowest first."""
    cut = []
    for kind in reversed(KINDS):
        left = max(1, wanted * SHARES[kind] // sum(SHARES.values()))
        while left > 0:
            cut.append((kind, min(left, PARTS[kind])))
            left -= PARTS[kind]
    return cut


@pytest.mark.long
@pytest.mark.timeout(0)
def test_long_lives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = int(os.environ.get("TRUTH_SEQUENCES", "2000"))
    first = int(os.environ.get("TRUTH_SEED", "0")) or time.time_ns() // 1_000_000_000
    together = Counts()

    def live(at: int, kind: str, number: int) -> int:
        """Try a part in a process of its own, and tell how far all are."""
        kept = tmp_path / str(at)
        program = (sys.executable, "-m", "lives", kind, str(number), str(first + at), str(kept))
        code = subprocess.run(program, cwd=Path(__file__).parent, check=False).returncode
        together.add(pickle.loads(kept.read_bytes()))
        print(f"{together.sequences} sequences, {together.verified} times VERIFIED", flush=True)
        return code

    with capsys.disabled(), ThreadPoolExecutor(os.cpu_count() or 2) as at_once:
        codes = [at_once.submit(live, at, *part) for at, part in enumerate(parts(wanted))]
        wait(codes)
        print(f"\n{together.text()}\nthe first seed was {first}", flush=True)
    assert {code.result() for code in codes} == {0}
