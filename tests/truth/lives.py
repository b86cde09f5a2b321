"""Tries sequences: ``lives.py KIND NUMBER SEED`` does so as a program of its own; two can run beside each other.

Prints how far it is and what it counted; ends with 1 when something untrue was found. The same words try the same
again.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import tempfile
from pathlib import Path
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


def main(kind: str, number: int, seeded: int, kept: str | None = None) -> int:
    """Try sequences that a seed decides, print what was tried, and keep the counts in a file if one is named."""
    import pytest
    from servers import servers
    from tasks import Chain

    # Whoever ends this ends the servers, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with servers() as up, pytest.MonkeyPatch.context() as patch:
        Truth.chain, Truth.counts = Chain(up, patch), Counts()
        shrink = (Phase.shrink,) if os.environ.get("TRUTH_SHRINK", "yes") == "yes" else ()
        try:
            lives(kind, number, seeded, phases=(Phase.generate, *shrink))
        except Untrue as lie:
            print(f"UNTRUE (tests/truth/lives.py {kind} {number} {seeded}): {lie}", flush=True)
        finally:
            if kept is None:
                print(Truth.counts.text(), flush=True)
            else:
                Path(kept).write_bytes(pickle.dumps(Truth.counts))
    return 1 if Truth.counts.shortest else 0


if __name__ == "__main__":
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="beamferry-truth-"))
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
