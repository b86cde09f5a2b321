"""Tries sequences: ``lives.py KIND NUMBER SEED`` does so as a program of its own; two can run beside each other.

Prints how far it is, and at the end what it counted; ends with 1 when something untrue was found.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from typing import Any

from counts import Counts, Untrue
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from machine import Truth

STEPS = 6


def lives(kind: str, number: int, seeded: int | None = None, **further: Any) -> None:
    """Try so many sequences; ends at the first that shows something untrue, with a shorter one like it."""
    machine = type(f"Truth{kind.title()}", (Truth,), {"kind": kind})
    if seeded is not None:
        machine = seed(seeded)(machine)
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=number,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **further,
        ),
    )


def main(kind: str, number: int, seeded: int, part: int = 200) -> int:
    """Try them in parts, each with a seed of its own; one that fails does not keep the others from being tried."""
    import pytest
    from servers import servers
    from tasks import Chain

    found = 0
    began = time.monotonic()
    with servers() as up, pytest.MonkeyPatch.context() as patch:
        Truth.chain, Truth.counts = Chain(up, patch), Counts()
        shrink = os.environ.get("TRUTH_SHRINK", "yes") == "yes"
        phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
        for at in range(0, number, part):
            try:
                lives(kind, min(part, number - at), seeded + at, phases=phases)
            except Untrue as lie:
                found += 1
                print(f"UNTRUE (seed {seeded + at}): {lie}", flush=True)
            print(f"{Truth.counts.sequences} sequences, {time.monotonic() - began:.0f} s", flush=True)
        print(Truth.counts.text(), flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="beamferry-truth-"))
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
