"""When a part that ended is started again, and when that is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from beamferry.errors import PermanentError
from beamferry.keeping import DELAYS, Keeper
from beamferry.stack import COMPONENTS, Stack

if TYPE_CHECKING:
    from pathlib import Path


class Parts(Stack):
    """A stack whose parts are names."""

    running: set[str]
    now: float

    def pid(self, name: str) -> int | None:
        return 1 if name in self.running else None

    def start_component(self, name: str) -> None:
        self.running.add(name)

    def kill_component(self, name: str, sign: object = None) -> None:
        """There is nothing of it."""


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    made = Parts(tmp_path, tmp_path, port=1)
    made.running, made.now = set(COMPONENTS), 0.0
    return made


def until_it_runs(keeper: Keeper, parts: Parts, name: str) -> float:
    """Look every second, and return how long it took."""
    began = parts.now
    while name not in parts.running:
        keeper.look()
        parts.now += 1
    return parts.now - began


def test_each_time_it_takes_longer_and_at_last_it_is_given_up(parts: Parts) -> None:
    said: list[str] = []
    keeper = Keeper(parts, said.append, lambda: parts.now)
    took = []
    for _ in DELAYS:
        parts.running.remove("scheduler")
        took.append(until_it_runs(keeper, parts, "scheduler"))
    assert took == [delay + 1 for delay in DELAYS]
    assert [words.partition(";")[0] for words in said[::2]] == ["Airflow's scheduler ended by itself"] * len(
        DELAYS
    )
    (parts.home / "scheduler.log").write_text("first\n\x1b[31mdatabase is locked\n\n")
    parts.running.remove("scheduler")
    with pytest.raises(PermanentError) as caught:
        keeper.look()
    assert str(caught.value).startswith(
        f"Airflow's scheduler ended 6 times within 10 minutes; the last line of {parts.home}/scheduler.log is: "
        "[31mdatabase is locked: "
    )


def test_what_ends_once_an_hour_is_started_for_ever(parts: Parts) -> None:
    keeper = Keeper(parts, lambda _words: None, lambda: parts.now)
    for _ in range(50):
        parts.running.remove("triggerer")
        assert until_it_runs(keeper, parts, "triggerer") == DELAYS[0] + 1
        parts.now += 3600


def test_all_that_ended_are_started_each_with_its_own_delay(parts: Parts) -> None:
    said: list[str] = []
    keeper = Keeper(parts, said.append, lambda: parts.now)
    parts.running.clear()
    keeper.look()
    assert len(said) == len(COMPONENTS)
    parts.now += DELAYS[0]
    keeper.look()
    assert parts.running == set(COMPONENTS)


def test_a_log_that_is_missing_is_said(parts: Parts) -> None:
    keeper = Keeper(parts, lambda _words: None, lambda: parts.now)
    for _ in DELAYS:
        parts.running.discard("scheduler")
        until_it_runs(keeper, parts, "scheduler")
    parts.running.discard("scheduler")
    with pytest.raises(PermanentError, match="cannot be read: No such file"):
        keeper.look()
