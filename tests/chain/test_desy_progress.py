"""A DESY beamtime of several folders, followed by the board's API through a whole run in a real Airflow."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from test_desy import FOLDERS, desy  # noqa: F401 - the fixture

from beamferry.lab.desy_tree import TOKEN, UNREADABLE
from beamferry.lab.visit import walk
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

pytestmark = [pytest.mark.timeout(1200), pytest.mark.long]
# Each takes longer than the least that is taken for a measured rate, so that each of the folders leaves one.
LARGE = 52_000_000
LIMIT = 4
# Eleven tasks and two large files in one run: more than the other tests wait for.
PATIENCE = 900.0
# What is said when all of it is there.
OVER = ("verify only", "all bytes are at rds", "home and verified", "verify the copy")


@pytest.fixture(scope="module")
def large(desy: Runs) -> Iterator[Runs]:  # noqa: F811
    """DESY's beamtime with a large file in two of its folders, of which nothing is at RDS."""
    old = (datetime.now(UTC) - timedelta(days=400)).timestamp()
    added = [desy.lab.desy.tree / folder / "large.bin" for folder in ("processed", "raw")]
    for path in added:
        path.write_bytes(os.urandom(LARGE))
        os.utime(path, (old, old))
    shutil.rmtree(desy.destination, ignore_errors=True)
    try:
        yield desy
    finally:
        for path in added:
            path.unlink()


@pytest.fixture(scope="module")
def token(runs: Runs) -> str:
    body = {"username": "admin", "password": runs.stack.password}
    answer = httpx.post(f"{runs.stack.url}/auth/token", json=body, timeout=30)
    return str(answer.raise_for_status().json()["access_token"])


def look(of: Runs, token: str) -> dict[str, Any]:
    address = f"{of.stack.url}/beamferry/api/beamtimes/{of.beamtime.key}"
    answer = httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=30)
    return dict(answer.raise_for_status().json())


def percent(found: dict[str, Any]) -> float:
    return 100 * float(found["bytes_done"]) / float(found["bytes_total"])


def is_there(of: Runs) -> bool:
    """Whether every file is at RDS with its size, by the two trees alone."""
    there, here = of.lab.desy.tree, of.destination
    for name, is_folder in walk(there):
        path = os.fsdecode(name)
        if is_folder or name in {UNREADABLE, TOKEN}:
            continue
        if not (here / path).is_file() or (here / path).stat().st_size != (there / path).stat().st_size:
            return False
    return True


def test_percentages_go_up_over_all_folders_and_are_100_with_the_last_byte_alone(
    large: Runs, token: str
) -> None:
    run = large.begin(bandwidth_limit=LIMIT)
    moving: list[dict[str, Any]] = []
    fetched: list[dict[str, Any]] = []

    def over() -> bool:
        tasks = large.tasks(run)
        if tasks.get("parse_totals") == "success":
            found = look(large, token)
            if not is_there(large):
                moving.append(found)
            elif all(tasks.get(f"transfer {folder}") == "success" for folder in FOLDERS):
                fetched.append(found)
        return large.state(run) in {"success", "failed"}

    wait_for(over, lambda: f"the run ended; tasks are {large.tasks(run)}", PATIENCE)
    assert large.state(run) == "success", large.tasks(run)
    shares = [percent(found) for found in (*moving, *fetched)]
    assert all(after >= before - 0.1 for before, after in pairwise(shares)), shares
    assert len(set(shares)) > 5, "it was followed while it moved"
    assert max(found["bytes_done"] for found in moving) > LARGE, "the first large folder was home"
    for found in moving:
        assert found["bytes_done"] < found["bytes_total"], found
        assert found["files_done"] < found["files_total"], found
        said = f"{found['headline']} {found['next_step']['label']} {found['next_step']['sentence']}".lower()
        assert not any(words in said for words in OVER), said
        assert found["ends_at"], found
    assert fetched
    for found in fetched:
        assert found["bytes_done"] == found["bytes_total"]
        assert found["files_done"] == found["files_total"]
    end = look(large, token)
    assert (end["state"], percent(end)) == ("safe", 100)
    kept = large.known()
    assert kept["fetched"]["transfers"] == len(FOLDERS)
    assert {f"fetched/{number}" for number in range(len(FOLDERS))} <= kept.keys()
    assert "problem" not in kept
    assert "retry" not in kept
