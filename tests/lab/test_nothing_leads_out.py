"""Who writes at the source, or beside the data at RDS, leads no transfer out of the destination."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise
from test_lftp_listing import Folder

from beamferry import access, lftp_complaints
from beamferry.access import first_error, parse_facts
from beamferry.beamtime import Level, Site
from beamferry.census import manifest_arguments
from beamferry.complaints import interpret_exit
from beamferry.differences import Difference
from beamferry.verification import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy

PARTIAL = ".beamferry-partial"
LARGE = 12 * MIB
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of the account's own, as its ~/.ssh."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "authorized_keys").write_text("mine\n")
    return folder


def untouched(outside: Path) -> bool:
    kept = [path.name for path in outside.iterdir()] == ["authorized_keys"]
    return kept and (outside / "authorized_keys").read_text() == "mine\n"


def test_a_link_that_comes_home_is_never_written_through(engine: Engine, outside: Path) -> None:
    """The link came one night; a large file beside it, the next one, went through it into the account's files."""
    (engine.source / "raw").mkdir()
    (engine.source / "raw" / PARTIAL).symlink_to(outside)
    engine.fetch()
    assert not (engine.destination / "raw" / PARTIAL).is_symlink()
    (engine.source / "raw" / "authorized_keys").write_bytes(noise("large", LARGE))
    engine.fetch(range_threshold=MIB)
    assert untouched(outside)
    assert (engine.destination / "raw" / "authorized_keys").stat().st_size == LARGE


@pytest.mark.parametrize("threshold", [MIB, 0], ids=["ranges", "plain"])
def test_a_link_that_stands_there_already_is_not_followed(
    engine: Engine, outside: Path, threshold: int
) -> None:
    (engine.source / "raw").mkdir()
    (engine.source / "raw" / "authorized_keys").write_bytes(noise("large", LARGE))
    (engine.destination / "raw").mkdir(parents=True)
    (engine.destination / "raw" / PARTIAL).symlink_to(outside)
    assert engine.dry_run().code == 0
    done = engine.transfer(range_threshold=threshold)
    assert untouched(outside)
    if threshold:
        assert done.code == 70
        assert f"{PARTIAL} is a link or a file, where a folder has to be" in done.errors


def test_a_link_in_the_place_of_the_transfers_own_folder_is_told(engine: Engine, outside: Path) -> None:
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    engine.destination.mkdir(parents=True)
    (engine.destination / PARTIAL).symlink_to(outside)
    assert engine.dry_run().code == 0
    done = engine.transfer()
    assert done.code == 70
    assert f"{engine.destination}/{PARTIAL} is a link or a file, where a folder has to be" in done.errors
    assert untouched(outside)


def test_a_link_in_the_place_of_a_folder_with_a_large_file_is_not_followed(
    engine: Engine, outside: Path
) -> None:
    (engine.source / "raw").mkdir()
    (engine.source / "raw" / "authorized_keys").write_bytes(noise("large", LARGE))
    engine.destination.mkdir(parents=True)
    assert engine.dry_run().code == 0
    (engine.destination / "raw").symlink_to(outside)
    engine.transfer(range_threshold=MIB)
    assert untouched(outside)


@as_root
def test_a_folder_of_somebody_else_is_not_used_for_what_is_unfinished(engine: Engine) -> None:
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    (engine.destination / PARTIAL).mkdir(parents=True)
    os.chown(engine.destination / PARTIAL, NOBODY, NOBODY)
    assert engine.dry_run().code == 0
    done = engine.transfer()
    assert done.code == 70
    assert "belongs to somebody else" in done.errors


@as_root
@pytest.mark.parametrize("job", ["dry_run", "transfer", "verify"])
def test_a_destination_that_is_somebody_elses_link_is_refused(
    engine: Engine, outside: Path, job: str
) -> None:
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    assert engine.dry_run().code == 0
    engine.destination.symlink_to(outside)
    os.chown(engine.destination, NOBODY, NOBODY, follow_symlinks=False)
    done = {
        "dry_run": engine.dry_run,
        "transfer": engine.transfer,
        "verify": lambda: engine.verify(Level.SIZES),
    }[job]()
    assert done.code == 70
    assert f"{engine.destination} is a link, and below destination_root no link is followed" in done.errors
    assert untouched(outside)


@pytest.mark.parametrize("times", [1, 2], ids=["the streams", "the last pass"])
def test_a_link_that_takes_the_destinations_place_while_it_is_fetched_is_not_followed(
    engine: Engine, outside: Path, times: int
) -> None:
    """Who may write beside the folder may rename it: what was begun goes on in the folder itself, or ends."""
    (engine.source / "authorized_keys").write_text("hers\n")
    (engine.source / "more").write_text("more\n")
    assert engine.dry_run().code == 0
    started = engine.folder / "started"
    shim = engine.shims / "rsync"
    shim.write_text(
        f"#!/bin/sh\necho >>{started}\n"
        f"if [ $(wc -l <{started}) = {times} ]; then\n"
        f"  mv {engine.destination} {engine.destination}.aside\n"
        f"  ln -s {outside} {engine.destination}\n"
        'fi\nexec /usr/bin/rsync "$@"\n'
    )
    shim.chmod(0o755)
    done = engine.transfer()
    assert len(started.read_text()) >= times
    assert untouched(outside)
    if times == 1:
        assert done.code == 70
        assert "is not the folder any more" in done.errors


@pytest.mark.parametrize("above", [False, True], ids=["itself", "the folder above"])
def test_a_destination_root_by_a_link_of_our_own_is_where_it_leads(
    engine: Engine, tmp_path: Path, *, above: bool
) -> None:
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    (tmp_path / "share" / "group").mkdir(parents=True)
    root = tmp_path / "way" / "group" if above else tmp_path / "way"
    (tmp_path / "way").symlink_to("share" if above else "share/group")
    engine.site = Site(destination_root=str(root))
    engine.beamtime = engine.beamtime.model_copy(update={"destination": str(root / "a" / "visit")})
    assert "destination_refused" not in parse_facts(engine.probe()).values
    engine.fetch()
    assert (tmp_path / "share" / "group" / "a" / "visit" / "scan.nxs").read_bytes() == noise("small", 1000)
    assert engine.verify(Level.SIZES).code == 0


@pytest.mark.parametrize("above", [False, True], ids=["itself", "the folder above"])
@pytest.mark.parametrize("job", ["probe", "dry_run", "transfer", "verify", "manifest"])
def test_a_link_of_our_own_below_the_destination_root_is_refused(
    engine: Engine, outside: Path, job: str, *, above: bool
) -> None:
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    link = engine.destination
    if above:
        engine.beamtime = engine.beamtime.model_copy(update={"destination": f"{engine.destination}/visit"})
    assert engine.dry_run().code == 0
    link.symlink_to(outside)
    if job == "probe":
        facts = parse_facts(engine.probe())
        error = first_error(access.judge(facts, engine.beamtime, engine.site))
    else:
        manifest = manifest_arguments(
            str(engine.work), engine.beamtime, engine.site, streams=1, output=str(engine.folder / "manifest")
        )
        done = {
            "dry_run": engine.dry_run,
            "transfer": engine.transfer,
            "verify": lambda: engine.verify(Level.SIZES),
            "manifest": lambda: engine.run("manifest", manifest),
        }[job]()
        assert done.code == 70
        error = interpret_exit(done.code, done.errors, access.errand(engine.beamtime, engine.site))
    assert error is not None
    assert error.code == "destination-unusable"
    where = engine.beamtime.destination
    because = f"{link} is a link, and below destination_root no link is followed"
    assert error.problem == f"{where} cannot be used ({because})"
    assert "name in the entry the folder that the link leads to" in error.remedy
    assert untouched(outside)


@pytest.mark.parametrize("job", ["probe", "dry_run", "transfer", "verify"])
def test_over_lftp_it_is_refused_too(
    desy: Desy, at_desy: Callable[..., DesyEngine], outside: Path, job: str
) -> None:
    engine = at_desy(settings={"folders": ["processed"]})
    with Folder(desy, "own") as folder:
        folder.mkdir()
        (folder / "scan.nxs").write_text("data")
        assert engine.dry_run().code == 0
        engine.destination.symlink_to(outside)
        if job == "probe":
            error = next(found.error for found in engine.probe() if found.error is not None)
        else:
            done = {
                "dry_run": engine.dry_run,
                "transfer": lambda: engine.transfer("processed"),
                "verify": lambda: engine.verify(Level.SIZES),
            }[job]()
            errand = access.errand(engine.beamtime, engine.site)
            error = lftp_complaints.interpret_exit(done.code, done.errors, errand)
    assert error is not None
    assert error.code == "destination-unusable"
    assert f"{engine.destination} is a link, and below destination_root no link is followed" in error.problem
    assert untouched(outside)


def test_what_has_the_transfers_own_name_at_the_source_is_told_as_missing(engine: Engine) -> None:
    for name in ("raw", "other"):
        (engine.source / name).mkdir()
    (engine.source / "raw" / PARTIAL).mkdir()
    (engine.source / "raw" / PARTIAL / "scan.nxs").write_bytes(noise("small", 1000))
    (engine.source / "other" / PARTIAL).write_text("data")
    (engine.source / "scan.nxs").write_bytes(noise("small", 1000))
    engine.fetch()
    done = engine.verify(Level.SIZES)
    seen = engine.verdict(done, Level.SIZES)
    assert (seen.outcome, seen.counts) == (Outcome.DIFFERENT, {Difference.MISSING: 2})
    assert sorted(item.path for item in seen.named) == [f"other/{PARTIAL}", f"raw/{PARTIAL}"]


def test_over_lftp_it_is_told_too(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy(settings={"folders": ["processed"]})
    with Folder(desy, "own") as folder:
        (folder / PARTIAL).mkdir(parents=True)
        (folder / PARTIAL / "scan.nxs").write_text("data")
        assert engine.dry_run().code == 0
        assert not any(PARTIAL.encode() in path for path in engine.todo)
        assert engine.transfer("processed").code == 0
        done = engine.verify(Level.SIZES)
        seen = engine.verdict(done, Level.SIZES)
    assert f"processed/own/{PARTIAL}" in [item.path for item in seen.named if item.kind is Difference.MISSING]


def test_no_file_comes_home_that_others_could_run_as_ours_or_write_to(engine: Engine) -> None:
    for name, mode in (("run", 0o4755), ("group", 0o2755), ("open", 0o666), ("read", 0o444)):
        (engine.source / name).write_text(name)
        (engine.source / name).chmod(mode)
    (engine.source / "folder").mkdir()
    (engine.source / "folder").chmod(0o2777)
    engine.fetch()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in engine.destination.iterdir()}
    assert modes == {"run": 0o755, "group": 0o755, "open": 0o644, "read": 0o644, "folder": 0o755}
    assert "Number of regular files transferred: 0\n" in engine.dry_run().stats
