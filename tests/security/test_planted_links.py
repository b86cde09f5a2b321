"""Links that a member of the group's share plants while a job runs lead nothing out of the destination."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from beamferry_agent.destination import PARTIAL, open_partial, prepare, remove_partial, write_at
from beamferry_agent.marks import mark
from beamferry_agent.places import PlaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = 10
NAME = "authorized_keys"
OURS = "mine\n"


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    folder = tmp_path / "visit"
    (folder / "raw").mkdir(parents=True)
    (folder / "raw" / NAME).write_text("data\n")
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What is the account's own, laid out as the data is, so that each link leads to something."""
    own = tmp_path / "own"
    for folder in (own / "raw" / PARTIAL, own / PARTIAL):
        folder.mkdir(parents=True)
        (folder / NAME).write_text(OURS)
    for folder in (own, own / "raw"):
        (folder / NAME).write_text(OURS)
    os.utime(own / "raw" / NAME, (5 * 10**8, 5 * 10**8))
    return own


def all_there(outside: Path) -> dict[str, tuple[str, float]]:
    return {
        str(path.relative_to(outside)): (path.read_text(), path.stat().st_mtime)
        for path in sorted(outside.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def mallory(destination: Path, outside: Path) -> Iterator[None]:
    """Swaps each thing on the way for a link to the account's own, and back, as fast as she can."""
    over = threading.Event()
    places = (
        (destination / "raw" / PARTIAL / NAME, outside / NAME),
        (destination / "raw" / PARTIAL, outside / PARTIAL),
        (destination / "raw", outside / "raw"),
    )

    def swap() -> None:
        while not over.is_set():
            for place, target in places:
                aside = place.with_name("aside")
                with suppress(OSError):
                    place.rename(aside)
                with suppress(OSError):
                    place.symlink_to(target)
                over.wait(0.001)
                with suppress(OSError):
                    if place.is_symlink():
                        place.unlink()
                with suppress(OSError):
                    aside.rename(place)
                # Else nothing of ours would ever come to its end.
                over.wait(0.003)

    thread = threading.Thread(target=swap)
    thread.start()
    yield
    over.set()
    thread.join()


def race(do: Callable[[], bool]) -> None:
    """Do it again and again; both ends of the race have to be seen, or nothing was tried."""
    ends = {True: 0, False: 0}
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or (not all(ends.values()) and time.monotonic() < end + 9 * SECONDS):
        try:
            done = do()
        except (PlaceError, OSError):
            done = False
        ends[done] += 1
    assert all(ends.values()), ends


@pytest.mark.usefixtures("mallory")
def test_what_is_prepared_removed_and_marked_is_below_the_destination(
    destination: Path, outside: Path
) -> None:
    before = all_there(outside)

    def all_of_it() -> bool:
        prepare(str(destination), f"raw/{PARTIAL}", 0o022)
        remove_partial(str(destination), f"raw/{NAME}".encode())
        mark(os.fsencode(destination), [(f"raw/{NAME}".encode(), None)])
        return True

    race(all_of_it)
    assert all_there(outside) == before


@pytest.mark.usefixtures("mallory")
def test_the_bytes_of_a_range_go_nowhere_else(destination: Path, outside: Path) -> None:
    before = all_there(outside)

    def receive() -> bool:
        with open_partial(str(destination), f"raw/{NAME}".encode()) as partial:
            write_at(partial, b"ssh-ed25519 AAAA mallory\n", 0, str(destination))
        return True

    race(receive)
    assert all_there(outside) == before
