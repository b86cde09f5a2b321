"""A link that came home is the account's own; moved into the way of another beamtime, it leads nothing out."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest
from engine import MIB, noise

from beamferry import access, lftp_complaints
from beamferry.access import first_error, parse_facts
from beamferry.beamtime import Level
from beamferry.complaints import interpret_exit
from beamferry_agent.destination import open_partial, remove_partial, resolve
from beamferry_agent.marks import mark
from beamferry_agent.opening import open_copies
from beamferry_agent.places import ForeignError, PlaceError
from beamferry_agent.trial import try_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from desy_engine import DesyEngine
    from engine import Engine, Outcome

    from beamferry.errors import BeamferryError

JOBS = ("probe", "dry_run", "transfer", "verify")
NAME = "authorized_keys"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the account's own, as its ~/.ssh, and what else a transfer would come by."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / NAME).write_text("mine\n")
    (folder / NAME).chmod(0o600)
    os.utime(folder / NAME, (5 * 10**8, 5 * 10**8))
    return folder


def untouched(outside: Path) -> bool:
    found = (outside / NAME).stat()
    kept = (found.st_mode & 0o7777, found.st_mtime) == (0o600, 5 * 10**8)
    return (
        kept
        and [path.name for path in outside.iterdir()] == [NAME]
        and (outside / NAME).read_text() == "mine\n"
    )


def brought_home(engine: Engine, outside: Path, share: Path) -> Path:
    """A link from the facility, where rsync has put it at RDS."""
    (engine.source / "link").symlink_to(outside)
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    engine.fetch()
    link = engine.destination / "link"
    assert link.is_symlink()
    assert link.lstat().st_uid == os.geteuid()
    assert link.lstat().st_dev == share.stat().st_dev
    return link


def ended(done: Outcome, job: str) -> str:
    assert done.code == 70, (job, done)
    return done.errors


def told(error: BeamferryError | None, link: Path) -> None:
    assert error is not None
    assert error.code == "destination-unusable"
    assert f"{link} is a link, and below destination_root no link is followed" in error.problem


@pytest.mark.parametrize("place", ["2021", "2021/cm12345-1"], ids=["the folder above", "the folder itself"])
@pytest.mark.parametrize("job", JOBS)
def test_over_rsync(engine: Engine, outside: Path, job: str, place: str) -> None:
    root = engine.destination.parent
    link = brought_home(engine, outside, root)
    other = root / "2021" / "cm12345-1"
    engine.beamtime = engine.beamtime.model_copy(update={"destination": str(other)})
    (engine.source / NAME).write_bytes(noise("large", 12 * MIB))
    (engine.source / "link").unlink()
    assert engine.dry_run().code == 0
    (root / place).parent.mkdir(exist_ok=True)
    link.rename(root / place)
    errand = access.errand(engine.beamtime, engine.site)
    if job == "probe":
        error = first_error(access.judge(parse_facts(engine.probe()), engine.beamtime, engine.site))
    else:
        done = {
            "dry_run": engine.dry_run,
            "transfer": lambda: engine.transfer(range_threshold=MIB),
            "verify": lambda: engine.verify(Level.SIZES),
        }[job]()
        error = interpret_exit(70, ended(done, job), errand)
    told(error, root / place)
    assert untouched(outside)


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
@pytest.mark.parametrize("job", JOBS)
def test_over_lftp(
    engine: Engine, at_desy: Callable[..., DesyEngine], outside: Path, job: str, kind: str
) -> None:
    at_home = at_desy(kind, settings={"folders": ["processed"]})
    link = brought_home(engine, outside, at_home.destination.parent)
    assert at_home.dry_run().code == 0
    link.rename(at_home.destination)
    if job == "probe":
        error = next((found.error for found in at_home.probe() if found.error is not None), None)
    else:
        done = {
            "dry_run": at_home.dry_run,
            "transfer": lambda: at_home.transfer("processed"),
            "verify": lambda: at_home.verify(Level.SIZES),
        }[job]()
        errand = access.errand(at_home.beamtime, at_home.site)
        error = lftp_complaints.interpret_exit(70, ended(done, job), errand)
    told(error, at_home.destination)
    assert untouched(outside)


@pytest.mark.parametrize(
    "there", ["", "diamond", "diamond/i12/visit"], ids=["nothing", "a part", "all of it"]
)
def test_what_is_remembered_of_a_destination_is_found_by_its_path_as_before(
    tmp_path: Path, there: str
) -> None:
    (tmp_path / "rds" / there).mkdir(parents=True)
    assert resolve(f"{tmp_path}/rds/./diamond/i12/visit") == f"{tmp_path.resolve()}/rds/diamond/i12/visit"


@pytest.mark.parametrize("rest", ["../own", "diamond/../../own"])
def test_nothing_above_the_root_is_a_destination(tmp_path: Path, rest: str) -> None:
    (tmp_path / "rds" / "diamond").mkdir(parents=True)
    with pytest.raises(PlaceError):
        resolve(f"{tmp_path}/rds/./{rest}")


# --- once the transfer has begun ------------------------------------------------------------------------------------


@pytest.fixture
def destination(tmp_path: Path, outside: Path) -> Path:
    """What the transfer has looked at and made; a link of the account's own has its place by now."""
    (tmp_path / "rds").mkdir()
    (tmp_path / "rds" / "visit").symlink_to(outside)
    return tmp_path / "rds" / "visit"


def test_no_unfinished_file_of_another_beamtime_is_removed_through_it(engine: Engine, tmp_path: Path) -> None:
    root = engine.destination.parent
    other = root / "2021" / "cm12345-1"
    theirs = tmp_path / "theirs" / other.name / ".beamferry-partial" / ".beamferry-temporary" / "1"
    theirs.mkdir(parents=True)
    (theirs / "scan.nxs").write_text("unfinished\n")
    engine.beamtime = engine.beamtime.model_copy(update={"destination": str(other)})
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    assert engine.dry_run().code == 0
    shim = engine.shims / "rsync"
    swap = f"[ -L {root}/2021 ] || {{ mv {root}/2021 {root}/aside && ln -s {tmp_path}/theirs {root}/2021; }}"
    shim.write_text(f'#!/bin/sh\ncase " $* " in *" --stats "*) {swap} ;; esac\nexec /usr/bin/rsync "$@"\n')
    shim.chmod(0o755)
    engine.transfer()
    assert (root / "2021").is_symlink()
    assert (theirs / "scan.nxs").read_text() == "unfinished\n"


@pytest.mark.parametrize("at", ["", "raw/"], ids=["beside the folders", "in a folder"])
def test_no_range_goes_through_it(destination: Path, outside: Path, at: str) -> None:
    name = f"{at}{NAME}".encode()
    refused = re.escape(f"{destination} is a link")
    with pytest.raises(ForeignError, match=refused), open_partial(str(destination), name):
        pass
    with pytest.raises(ForeignError, match=refused):
        remove_partial(str(destination), name)
    assert untouched(outside)


def test_nothing_is_opened_to_the_group_through_it(destination: Path, outside: Path, tmp_path: Path) -> None:
    listed = tmp_path / "closed"
    listed.write_bytes(NAME.encode() + b"//f//0//0//\0")
    with pytest.raises(ForeignError):
        open_copies(str(destination), str(listed), ".", access="read", group="own")
    assert untouched(outside)


def test_no_names_are_tried_through_it(destination: Path, outside: Path) -> None:
    made = outside.stat().st_mtime_ns
    with pytest.raises(ForeignError):
        try_names(str(destination), str(destination.parent))
    assert outside.stat().st_mtime_ns == made


@pytest.mark.parametrize("below", ["", "raw"], ids=["itself", "a folder above"])
def test_no_copy_gets_another_time_through_it(destination: Path, outside: Path, below: str) -> None:
    if below:
        destination.unlink()
        (outside / below).mkdir()
        (outside / NAME).rename(outside / below / NAME)
        destination.symlink_to(outside)
    before = (outside / below / NAME).stat().st_mtime
    with pytest.raises(PlaceError):
        mark(os.fsencode(destination / below), [(NAME.encode(), None)])
    assert (outside / below / NAME).stat().st_mtime == before
