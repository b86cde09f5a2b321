"""How long the board's API takes with 500 beamtimes: Airflow's own app, its middlewares, and SQLite.

    python tests/bench/board.py [BEAMTIMES] [--requests 20]

Prints server times of the first request and of the others, their sizes, and the share of the database. Exit 1 when
the median misses its bar of 300 ms.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

BAR = 0.3
sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("beamtimes", type=int, nargs="?", default=500)
    parser.add_argument("--requests", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        from board_server import prepare  # noqa: PLC0415

        return measure(prepare(Path(folder)), chosen.beamtimes, chosen.requests)


def measure(path: Path, beamtimes: int, requests: int) -> int:
    from airflow.api_fastapi.app import create_app  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from fastapi.testclient import TestClient  # noqa: PLC0415

    from beamferry.registry import load  # noqa: PLC0415
    from board_records import fill, write_registry  # noqa: PLC0415

    write_registry(path, beamtimes)
    registry = load(path)
    if registry.problems:
        raise SystemExit(registry.problems[0])
    with create_session() as session:
        fill(session, registry, datetime.now(UTC))
    with TestClient(create_app("core")) as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        taken = []
        for _ in range(requests + 1):
            begun = time.perf_counter()
            answer = client.get("/beamferry/api/beamtimes")
            taken.append(time.perf_counter() - begun)
            answer.raise_for_status()
        first, *others = taken
        begun = time.perf_counter()
        one = client.get(f"/beamferry/api/beamtimes/{registry.beamtimes[1].key}")
        alone = time.perf_counter() - begun
    size = answer.num_bytes_downloaded
    print(
        f"{len(answer.json()['beamtimes'])} beamtimes: first request {first * 1000:.0f} ms, then median "
        f"{statistics.median(others) * 1000:.0f} ms, worst {max(others) * 1000:.0f} ms ({len(others)} requests)"
    )
    print(
        f"{len(answer.content):,} bytes of JSON, {size:,} over the wire ({answer.headers['content-encoding']})"
    )
    print(f"one beamtime: {alone * 1000:.0f} ms, {len(one.content):,} bytes")
    return int(statistics.median(others) > BAR)


if __name__ == "__main__":
    sys.exit(main())
