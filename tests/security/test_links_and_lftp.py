"""Links that a member of the group's share plants while lftp fetches lead nothing out of the destination."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from engine import noise
from test_lftp_listing import Folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy

SECONDS = 10
OWN, NAME, OURS = "own", "authorized_keys", "mine\n"
PARTIAL = ".beamferry-partial"
FOLDERS = ("scan", "scan/deep", "more")
FILES = 60
NOBODY = 65534


def fill(folder: Path) -> None:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        (folder / name / NAME).write_bytes(noise(name, 3_000))
        for number in range(FILES):
            (folder / name / f"frame {number}").write_bytes(noise(number, 1_000))


def outside_of(folder: Path) -> Path:
    """What is the account's own, laid out as the data is, so that each link leads to something."""
    outside = folder / "own files"
    for place in (PARTIAL, *(f"processed/{OWN}/{name}" for name in FOLDERS)):
        (outside / place).mkdir(parents=True)
        (outside / place / NAME).write_text(OURS)
    return outside


def all_there(outside: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(outside)): path.read_bytes() if path.is_file() else None
        for path in sorted(outside.rglob("*"))
    }


class Mallory:
    """Swaps each folder on the way for a link to the account's own, and back, as fast as she can."""

    def __init__(self, destination: Path, outside: Path) -> None:
        below = (
            f"processed/{OWN}/scan/deep",
            f"processed/{OWN}/scan",
            f"processed/{OWN}",
            "processed",
            PARTIAL,
        )
        self._places = [(destination / path, outside / path) for path in below]
        self._places.append((destination / "processed" / OWN / "more" / NAME, outside / PARTIAL / NAME))
        if os.geteuid() == 0:
            # Else her link would be the account's own, which may lead to the destination.
            self._places.append((destination, outside))
        self._junk = outside.with_name("junk")
        self._junk.mkdir()
        self._over = threading.Event()
        self.pause = threading.Lock()
        self.swapped = 0
        self._thread = threading.Thread(target=self._swap)

    def __enter__(self) -> Mallory:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _swap(self) -> None:
        while not self._over.is_set():
            for place, target in self._places:
                with self.pause:
                    self._swap_one(place, target)
                # Else nothing of ours would ever come to its end.
                self._over.wait(0.01)

    def _swap_one(self, place: Path, target: Path) -> None:
        aside = place.with_name("aside")
        with suppress(OSError):
            place.rename(aside)
        with suppress(OSError):
            place.symlink_to(target)
            self.swapped += 1
            if os.geteuid() == 0:
                os.chown(place, NOBODY, NOBODY, follow_symlinks=False)
        self._over.wait(0.003)
        with suppress(OSError):
            if place.is_symlink():
                place.unlink()
        with suppress(OSError):
            if not place.exists():
                aside.rename(place)
            else:
                # What is not hers she can only move.
                aside.rename(self._junk / str(self.swapped))


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_no_link_leads_lftp_out_of_the_destination(
    desy: Desy, at_desy: Callable[..., DesyEngine], tmp_path: Path, kind: str
) -> None:
    outside = outside_of(tmp_path)
    before = all_there(outside)
    codes: list[int] = []
    with Folder(desy, OWN) as folder:
        fill(folder)
        engine = at_desy(kind, settings={"folders": ["processed"]})
        assert engine.dry_run().code == 0
        with Mallory(engine.destination, outside) as mallory:
            end = time.monotonic() + SECONDS
            # Both ends of the race have to be seen, or nothing was tried.
            while (now := time.monotonic()) < end or (
                len({not code for code in codes}) < 2 and now < end + 90
            ):
                codes.append(engine.transfer("processed", streams=2).code)
                with mallory.pause:
                    shutil.rmtree(engine.destination / "processed", ignore_errors=True)
            assert mallory.swapped > 0
    assert all_there(outside) == before
    assert len({not code for code in codes}) == 2, codes
    assert {0, 11, 24, 70} >= set(codes)
