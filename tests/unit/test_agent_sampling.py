"""A sample hangs on its seed and on what can be compared, and on nothing else."""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.sampling import choose, choose_sample, random_sample, seeded_bytes
from beamferry_agent.step import Step
from beamferry_agent.tools import Tools

sizes = st.lists(st.integers(1, 100), max_size=30)


def records(found: list[int]) -> list[bytes]:
    return [b"%d//f//%d" % (number, size) for number, size in enumerate(found)]


def size(record: bytes) -> int:
    return int(record.rsplit(b"//")[-1])


@given(sizes, st.integers(1, 40), st.integers(0, 500))
def test_a_sample_keeps_to_its_numbers_but_takes_one(found: list[int], samples: int, limit: int) -> None:
    candidates = records(found)
    taken = choose_sample(candidates, samples, limit)
    assert len(taken) <= samples
    assert sum(map(size, taken)) <= max(limit, size(candidates[0]) if candidates else 0)
    assert bool(taken) == bool(candidates)
    # In their order, each once, and nothing is passed over that would have fitted.
    assert [one for one in candidates if one in taken] == taken
    if len(taken) < samples:
        left = limit - sum(map(size, taken))
        after = set(candidates) - set(taken)
        assert all(size(one) > left for one in after)


# What versions in shell took: a retry after an update compares the same files.
@pytest.mark.parametrize(
    ("seed", "digest"),
    [
        (1, "008c8498788757b7ee5a3fbf3b936547566dbd6dc7234165af3dc2594a919bca"),
        (4294967295, "46077efb332883aead56aa5caf5bc63aad3752c9204d22834bdac05b37ee058e"),
    ],
)
def test_the_bytes_of_a_seed_never_change(seed: int, digest: str) -> None:
    first = b"".join(islice(seeded_bytes(seed), 2))[:6000]
    assert hashlib.sha256(first).hexdigest() == digest


@pytest.fixture
def tools(tmp_path: Path) -> tuple[Step, Tools]:
    step = Step(str(tmp_path), "verify")
    return step, Tools(step)


def test_the_same_seed_takes_the_same_files_and_another_one_others(
    tmp_path: Path, tools: tuple[Step, Tools]
) -> None:
    listed = records([100] * 200)
    common = tmp_path / "common"
    common.write_bytes(b"".join(one + b"\0" for one in listed))
    taken = [
        frozenset(random_sample(*tools, str(common), seed=seed, samples=5, limit=10_000))
        for seed in (1, 1, 2, 3)
    ]
    # As it was taken in versions in shell, too.
    assert taken[0] == taken[1] == {b"%d//f//100" % number for number in (42, 44, 120, 159, 185)}
    assert len(set(taken)) == 3
    assert all(len(one) == 5 for one in taken)
    # All of a list that has no more.
    few = tmp_path / "few"
    few.write_bytes(b"".join(one + b"\0" for one in listed[:3]))
    assert random_sample(*tools, str(few), seed=9, samples=5, limit=10_000) == set(listed[:3])
    before = len(list(Path("/proc/self/fd").iterdir()))
    random_sample(*tools, str(few), seed=9, samples=5, limit=10_000)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)), st.integers(0, 20))
def test_what_differed_before_is_always_chosen(sample: set[int], remembered: set[int], count: int) -> None:
    listed = records([1] * count)
    drawn = {one for number, one in enumerate(listed) if number in sample}
    place = Path(os.environ.get("TMPDIR", "/tmp")) / f"choose-{os.getpid()}"
    place.with_suffix(".common").write_bytes(b"".join(one + b"\0" for one in listed))
    paths = {b"%d" % number for number in remembered}
    again = choose(str(place.with_suffix(".common")), str(place.with_suffix(".chosen")), drawn, paths)
    chosen = place.with_suffix(".chosen").read_bytes().split(b"\0")[:-1]
    assert chosen == [one for number, one in enumerate(listed) if number in sample | remembered]
    assert again == len(set(range(count)) & remembered - sample)
    for suffix in (".common", ".chosen"):
        place.with_suffix(suffix).unlink()
