"""Which files are compared by their content: all, or a sample that hangs on a seed, and those that differed before."""

import os
import subprocess
import threading
from contextlib import suppress
from typing import Iterable, Iterator, List, Set

from beamferry_agent.facility_shell import opened
from beamferry_agent.records import read_names, size_of
from beamferry_agent.step import Step, StepEnd
from beamferry_agent.tools import Tools

# Park and Miller's generator, see ``seeded_bytes``.
_MODULUS, _FACTOR, _WARMING = 2147483647, 16807, 20
_PIECE = 1024
# Some candidates may not fit in the bytes.
_CANDIDATES = 4


def seeded_bytes(seed: int) -> Iterator[bytes]:
    """Yield endless bytes that depend on the seed only, the same on every host and in every version."""
    x = seed % (_MODULUS - 1) + 1
    for _ in range(_WARMING):
        x = x * _FACTOR % _MODULUS
    while True:
        found = bytearray()
        for _ in range(_PIECE):
            x = x * _FACTOR % _MODULUS
            found += (x >> 7).to_bytes(3, "big")
        yield bytes(found)


def choose_sample(candidates: Iterable[bytes], samples: int, limit: int) -> List[bytes]:
    """Return candidates, in order, until there are enough.

    One that does not fit in what is left of ``limit`` bytes is passed over, but one is always taken.
    """
    taken: List[bytes] = []
    left = limit
    for record in candidates:
        if len(taken) == samples:
            break
        size = size_of(record)[1]
        if not taken or size <= left:
            taken.append(record)
            left -= size
    return taken


def random_sample(
    step: Step, tools: Tools, common: str, *, seed: int, samples: int, limit: int
) -> Set[bytes]:
    """Return a sample of a list of records PATH//f//SIZE; the same seed and the same list give the same one.

    Raises StepEnd.
    """
    # Not its stdin: that is closed for the list before the bytes are asked for.
    source, sink = os.pipe()
    words = (
        "shuf",
        "-z",
        "-n",
        str(samples * _CANDIDATES),
        "--random-source=/dev/fd/{}".format(source),
        "--",
        common,
    )
    try:
        process = tools.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, kept=(source,))
    except BaseException:
        os.close(sink)
        raise
    finally:
        os.close(source)
    stdout, stderr = opened(process.stdout), opened(process.stderr)
    threading.Thread(target=_feed, args=(sink, seed), daemon=True).start()
    with stdout, stderr:
        shuffled = read_names(stdout)
        found = set(choose_sample(shuffled, samples, limit))
        for _ in shuffled:
            pass
        step.hear(stderr.read())
    if process.wait():
        raise StepEnd(1)
    return found


def _feed(sink: int, seed: int) -> None:
    # It ends with the tool that reads it.
    with suppress(OSError), os.fdopen(sink, "wb", 0) as stream:
        for piece in seeded_bytes(seed):
            stream.write(piece)


def choose(common: str, chosen: str, sample: Set[bytes], remembered: Set[bytes]) -> int:
    """Write those records of a list that are in a sample, or whose path is remembered; count the latter."""
    again = 0
    with open(common, "rb") as records, open(chosen, "wb") as output:
        for record in read_names(records):
            is_again = record not in sample and size_of(record)[0] in remembered
            if is_again or record in sample:
                output.write(record + b"\0")
                again += is_again
    return again
