"""A dry run onto a file system that cannot hold every name: it is refused before anything is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from engine import Engine
from test_lftp_listing import Folder

from beamferry.engine import engine as engine_of
from fuse_server import apart, mounted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy
    from beamferry.lab.host import Host


@pytest.fixture
def on_windows(far: Host, tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(far, tmp_path / "beamtime")
    with mounted("windows", engine.destination.parent) as inside:
        engine.inside = inside
        yield engine


def files(engine: Engine, *names: str) -> None:
    for name in names:
        place = engine.source / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)


def test_names_that_the_destination_cannot_hold_are_refused_before_the_transfer(on_windows: Engine) -> None:
    files(on_windows, "raw/12:30.cbf", "raw/Scan/one", "raw/scan/two", "raw/fine", "tmp/left:behind")
    (on_windows.source / "empty.").mkdir()
    (on_windows.source / "link:").symlink_to("raw/fine")
    done = on_windows.dry_run()
    assert done.code == 72
    error = engine_of(on_windows.beamtime, on_windows.site).interpret(done.code, done.errors)
    assert error is not None
    listed = (
        "raw/12:30.cbf (holds ':'), link: (holds ':'), empty./ (ends in a dot), "
        "raw/scan/ (would be taken for Scan)"
    )
    assert (error.code, error.problem) == (
        "rds-names",
        f"RDS cannot hold 4 names of mg25682-2 at {on_windows.destination}: {listed}; nothing was fetched",
    )
    assert not (on_windows.work / "todo").exists()
    assert len((on_windows.work / "names_refused").read_text().splitlines()) == 4
    # No name is in the log, which anybody may see.
    assert "12:30" not in done.log


def test_over_lftp_they_are_refused_too(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy(settings={"folders": ["processed"]})
    with Folder(desy, "own") as folder, mounted("windows", engine.destination.parent) as inside:
        folder.mkdir()
        (folder / "12:30.cbf").write_text("data")
        engine.inside = inside
        done = engine.dry_run()
        assert done.code == 72
        assert "processed/own/12:30.cbf (holds ':')" in done.errors
        assert not (engine.work / "todo").exists()


def test_what_it_can_hold_is_planned_and_names_left_behind_stop_nothing(on_windows: Engine) -> None:
    files(on_windows, "raw/fine", "raw/Scan/one", "tmp/left:behind")
    done = on_windows.dry_run()
    assert (done.code, (on_windows.work / "todo").read_text()) == (0, "8 raw/fine\n12 raw/Scan/one\n")
    assert not (on_windows.work / "names_refused").exists()


def test_a_destination_that_cannot_be_tried_is_said_to_be_one(far: Host, tmp_path: Path) -> None:
    engine = Engine(far, tmp_path / "beamtime")
    files(engine, "raw/fine")
    mount = 'mount -t tmpfs tmpfs "$0" && mkdir "$0/visit" && mount -o remount,ro "$0" && exec "$@"'
    engine.inside = (*apart(), "bash", "-c", mount, str(engine.destination.parent))
    done = engine.dry_run()
    error = engine_of(engine.beamtime, engine.site).interpret(done.code, done.errors)
    assert error is not None
    assert (error.code, error.problem) == (
        "rds-io",
        f"RDS cannot be written at {engine.destination} ({engine.destination}: Read-only file system)",
    )
    # Where there is nothing new, nothing is tried.
    (engine.source / "raw" / "fine").unlink()
    (engine.source / "raw").rmdir()
    assert engine.dry_run().code == 0
