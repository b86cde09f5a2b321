"""``beamferry up`` as a person starts it, while its parts end: a locked database, and one that is killed for ever."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from beamferry.lab.settings import free_port
from beamferry.stack import COMPONENTS, Stack
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 300.0
# SQLite's clients give up after some seconds; all parts that work with the database do so within this time.
LOCKED_SECONDS = 30.0
pytestmark = [pytest.mark.long, pytest.mark.timeout(3 * PATIENCE)]
REGISTRY = "site:\n  destination_root: /mnt/rds/shared\nbeamtimes: []\n"
# The delays are its own, but for the test that waits for all of them.
PROGRAM = "import sys; from beamferry import cli, keeping; keeping.DELAYS = {delays}; cli.app(sys.argv[1:])"


class Up:
    """A running ``beamferry up`` and its terminal."""

    def __init__(self, folder: Path, delays: tuple[float, ...]) -> None:
        registry = folder / "beamtimes.yaml"
        registry.write_text(REGISTRY)
        self.home, self.terminal = folder / "home", folder / "terminal"
        self.stack = Stack(self.home, folder, port=free_port("127.0.0.1"))
        with self.terminal.open("w") as output:
            self.process = subprocess.Popen(
                (
                    sys.executable,
                    "-c",
                    PROGRAM.format(delays=delays),
                    "up",
                    "--home",
                    str(self.home),
                    "--port",
                    str(self.stack.port),
                ),
                stdout=output,
                stderr=output,
                env={**os.environ, "BEAMFERRY_REGISTRY": str(registry), "COLUMNS": "400"},
            )

    @property
    def said(self) -> str:
        return self.terminal.read_text()

    def healthy(self) -> bool:
        try:
            found = httpx.get(f"{self.stack.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        names = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        return all(found.get(name, {}).get("status") == "healthy" for name in names)

    def wait(self, look: object, what: str) -> None:
        wait_for(look, lambda: f"{what}; it said: {self.said}", PATIENCE)  # type: ignore[arg-type]


@pytest.fixture
def up(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Up]:
    made = Up(tmp_path, getattr(request, "param", (1.0, 5.0, 15.0, 30.0, 60.0)))
    try:
        made.wait(lambda: "Ctrl-C stops everything" in made.said, "it is up")
        yield made
    finally:
        made.process.terminate()
        made.process.wait(120)


def test_a_database_that_is_locked_for_a_while_stops_nothing_for_good(up: Up) -> None:
    before = {name: up.stack.pid(name) for name in COMPONENTS}
    lock = sqlite3.connect(up.home / "airflow.db", isolation_level=None, timeout=60)
    lock.execute("BEGIN EXCLUSIVE")
    unlocked_from = time.monotonic() + LOCKED_SECONDS
    up.wait(
        lambda: time.monotonic() > unlocked_from and "ended by itself" in up.said,
        "a part ended while the database was locked",
    )
    lock.execute("ROLLBACK")
    lock.close()
    up.wait(
        lambda: all(up.stack.pid(name) for name in COMPONENTS) and "was started again" in up.said,
        "all run again",
    )
    assert {name: up.stack.pid(name) for name in COMPONENTS} != before
    up.wait(up.healthy, "Airflow is well again")
    assert up.process.poll() is None


@pytest.mark.parametrize("up", [(0.1, 0.2)], indirect=True)
def test_what_ends_again_and_again_is_given_up_with_one_sentence(up: Up) -> None:
    def ended() -> bool:
        number = up.stack.pid("scheduler")
        if number is not None:
            os.kill(number, signal.SIGKILL)
        return up.process.poll() is not None

    up.wait(ended, "it gave up")
    assert up.process.returncode == 1
    last = up.said.strip().splitlines()[-1]
    assert last.startswith("Airflow's scheduler ended 3 times within 10 minutes; the last line of ")
    assert f"{up.home / 'scheduler.log'} is: " in last
    assert "Traceback" not in up.said
    # Nothing is left running without anybody who watches it.
    assert [name for name in COMPONENTS if up.stack.pid(name) is not None] == []
