"""The group can open what came home, as the registry's ``group_access`` says."""

from __future__ import annotations

import os
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise
from test_lftp_listing import Folder

from beamferry import lftp
from beamferry.access import judge, parse_facts
from beamferry.beamtime import Level
from beamferry.certificate import TEXT_NAME, certificate_folder
from beamferry.differences import Difference
from beamferry.lab.desy_tree import BEAMTIME
from beamferry.verification import Outcome
from beamferry_agent.answers import PublicationRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy
    from beamferry.verification import Verdict

# No group of this machine: a share's group is a number to those who copy.
SHARE = 54321
NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another group")


def modes(folder: Path) -> dict[str, int]:
    """Modes of all below a folder, and of itself."""
    found = {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }
    assert not any(".beamferry" in name for name in found)
    return found


def closed_source(engine: Engine) -> None:
    """What a facility keeps from everybody but the account."""
    (engine.source / "raw").mkdir()
    for name in ("scan.nxs", "raw/frame.tif"):
        (engine.source / name).write_bytes(noise(name, 1000))
        (engine.source / name).chmod(0o600)
    (engine.source / "raw" / "large.h5").write_bytes(noise("large", 12 * MIB))
    (engine.source / "raw" / "large.h5").chmod(0o400)
    (engine.source / "raw").chmod(0o700)
    engine.source.chmod(0o700)


READABLE = {".": 0o750, "raw": 0o750, "scan.nxs": 0o640, "raw/frame.tif": 0o640, "raw/large.h5": 0o640}


@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (None, READABLE),
        ("read", READABLE),
        ("write", {name: mode | 0o020 for name, mode in READABLE.items()}),
        ("keep", {name: mode & 0o700 for name, mode in READABLE.items()}),
    ],
)
def test_the_group_gets_what_the_entry_says(
    engine: Engine, access: str | None, expected: dict[str, int]
) -> None:
    closed_source(engine)
    engine.beamtime = engine.beamtime.model_copy(update={"group_access": access})
    engine.fetch(range_threshold=MIB)
    assert modes(engine.destination) == expected
    assert "Number of regular files transferred: 0\n" in engine.dry_run().stats


@as_root
def test_the_share_keeps_its_group_and_its_bit_night_after_night(engine: Engine) -> None:
    """Folders lost the bit, and what the next night brought belonged to the account's own group."""
    share = engine.destination.parent
    os.chown(share, 0, SHARE)
    share.chmod(0o2770)
    closed_source(engine)
    engine.traits = parse_facts(engine.probe()).traits
    engine.fetch(range_threshold=MIB)
    (engine.source / "raw" / "second").mkdir()
    (engine.source / "raw" / "second" / "frame.tif").write_bytes(noise("second", 1000))
    (engine.source / "raw" / "second" / "large.h5").write_bytes(noise("large too", 12 * MIB))
    engine.fetch(range_threshold=MIB)
    found = [engine.destination, *engine.destination.rglob("*")]
    assert {path.stat().st_gid for path in found} == {SHARE}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_dir()} == {0o2750, 0o2755}
    assert {stat.S_IMODE(path.stat().st_mode) for path in found if path.is_file()} == {0o640, 0o644}


def seen(engine: Engine | DesyEngine) -> Verdict:
    return engine.verdict(engine.verify(Level.SIZES), Level.SIZES)


def test_a_copy_that_the_group_cannot_read_is_told_and_mended_by_the_next_sync(engine: Engine) -> None:
    closed_source(engine)
    (engine.source / "notes").mkdir()
    engine.fetch()
    assert seen(engine).outcome is Outcome.VERIFIED
    for name, mode in (("scan.nxs", 0o600), ("raw/frame.tif", 0o604), ("raw", 0o740), ("notes", 0o710)):
        (engine.destination / name).chmod(mode)
    # Somebody's own file beside the data is nobody's promise.
    (engine.destination / "mine.txt").touch(0o600)
    (engine.destination / "mine.txt").chmod(0o600)
    verdict = seen(engine)
    assert verdict.outcome is Outcome.DIFFERENT
    assert "2 files and 2 folders cannot be read by the group" in verdict.sentence
    assert [item.path for item in verdict.named if item.kind is Difference.CLOSED] == [
        "notes",
        "raw",
        "raw/frame.tif",
        "scan.nxs",
    ]
    engine.fetch()
    assert seen(engine).outcome is Outcome.VERIFIED


def test_a_destination_that_is_closed_itself_is_told_and_mended(engine: Engine) -> None:
    closed_source(engine)
    engine.fetch()
    engine.destination.chmod(0o700)
    verdict = seen(engine)
    assert (verdict.outcome, verdict.counts) == (Outcome.DIFFERENT, {Difference.CLOSED: 1})
    assert [item.path for item in verdict.named] == ["."]
    engine.fetch()
    assert seen(engine).outcome is Outcome.VERIFIED


def test_what_is_kept_as_it_is_at_the_facility_is_no_difference(engine: Engine) -> None:
    closed_source(engine)
    engine.beamtime = engine.beamtime.model_copy(update={"group_access": "keep"})
    engine.fetch()
    assert seen(engine).outcome is Outcome.VERIFIED


@as_root
def test_a_copy_that_belongs_to_another_group_than_the_shares_is_told_and_mended(engine: Engine) -> None:
    """As earlier versions left them: their group bits are for the account's own group."""
    share = engine.destination.parent
    os.chown(share, 0, SHARE)
    share.chmod(0o2770)
    closed_source(engine)
    engine.fetch()
    for path in (engine.destination, *engine.destination.rglob("*")):
        os.chown(path, 0, 0)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~stat.S_ISGID)
    # Members of the group are others to it, and can read it.
    (engine.destination / "scan.nxs").chmod(0o604)
    engine.traits = parse_facts(engine.probe()).traits
    verdict = seen(engine)
    assert verdict.counts == {Difference.CLOSED: 4}
    assert "scan.nxs" not in [item.path for item in verdict.named]
    engine.fetch()
    assert seen(engine).outcome is Outcome.VERIFIED
    found = [engine.destination, *engine.destination.rglob("*")]
    assert {path.stat().st_gid for path in found} == {SHARE}
    assert all(path.stat().st_mode & stat.S_ISGID for path in found if path.is_dir())


def certify_at(engine: Engine) -> Path:
    """Write a certificate beside the copy, as the last task of a run has the agent do."""
    folder = certificate_folder(str(engine.destination))
    opens = engine.beamtime.access_of_group(engine.site) != "keep"
    asked = PublicationRequest(str(engine.destination.parent), folder, {TEXT_NAME: "VERIFIED"}, opens=opens)
    done = subprocess.run(
        ["bash", str(engine.installed / "agent.sh"), "publish"],
        input=asked.to_json(),
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
    )
    assert done.returncode == 0, done.stderr
    return Path(folder)


@as_root
def test_the_group_can_read_the_certificate_and_its_folder(engine: Engine) -> None:
    share = engine.destination.parent
    os.chown(share, 0, SHARE)
    share.chmod(0o2770)
    folder = certify_at(engine)
    folder.chmod(0o2700)
    certify_at(engine)
    for place, mode in ((folder, 0o2750), (folder / TEXT_NAME, 0o644)):
        found = place.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (mode, SHARE)


def test_a_certificates_folder_stays_closed_where_the_entry_keeps_all_as_it_is(engine: Engine) -> None:
    engine.beamtime = engine.beamtime.model_copy(update={"group_access": "keep"})
    folder = certify_at(engine)
    folder.chmod(0o700)
    certify_at(engine)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_modes_were_left_behind_is_counted(engine: Engine) -> None:
    (engine.source / "folder").mkdir()
    for name, mode in (
        ("run", 0o4755),
        ("group", 0o2755),
        ("open", 0o666),
        ("folder", 0o3775),
        ("plain", 0o664),
    ):
        (engine.source / name).touch()
        (engine.source / name).chmod(mode)
    (engine.source / "plain").write_text("data")
    (engine.source / "tmp").mkdir()
    (engine.source / "tmp" / "left out").touch()
    (engine.source / "tmp" / "left out").chmod(0o666)
    engine.fetch()
    verdict = seen(engine)
    assert (verdict.outcome, verdict.unsafe_modes) == (Outcome.VERIFIED, 3)
    (engine.source / "folder").chmod(0o1777)
    assert seen(engine).unsafe_modes == 4
    assert b"" not in [name.split(b"//")[0] for name in engine.listed("source.census")]


# Over FTPS with the server that DESY runs, and over SFTP.
LFTP = ("pure-ftpd", "sftp")
PROCESSED = {"folders": ["processed"]}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def bring(engine: DesyEngine) -> tuple[str, ...]:
    """A dry run and what it asks for; returns the folders."""
    planned = engine.dry_run()
    assert planned.code == 0, planned.errors
    wanted = lftp.parse_totals(planned.stats).to_fetch
    for folder in wanted:
        done = engine.transfer(folder)
        assert done.code == 0, done.errors
    return wanted


def kinds(folder: Path) -> tuple[set[int], set[int]]:
    """Modes of the files and of the folders, the folder itself among them."""
    found = [folder, *folder.rglob("*")]
    assert not any(".beamferry" in str(path.relative_to(folder)) for path in found)
    modes = [(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in found]
    return {mode for is_folder, mode in modes if not is_folder}, {
        mode for is_folder, mode in modes if is_folder
    }


@pytest.mark.parametrize("kind", LFTP)
@pytest.mark.parametrize("mask", [0o077, 0o022])
@pytest.mark.parametrize(
    ("access", "expected"),
    [
        (None, ({0o644}, {0o755})),
        ("write", ({0o664}, {0o775})),
        ("keep", ({0o644}, {0o755})),
    ],
)
def test_the_group_gets_what_the_entry_says_over_lftp(
    at_desy: Callable[..., DesyEngine],
    kind: str,
    mask: int,
    access: str | None,
    expected: tuple[set[int], set[int]],
) -> None:
    engine = at_desy(kind, settings=PROCESSED | ({"group_access": access} if access else {}))
    with umask(mask):
        bring(engine)
    assert kinds(engine.destination) == expected
    assert seen(engine).outcome is Outcome.VERIFIED
    assert bring(engine) == ()


@pytest.mark.parametrize("kind", LFTP)
def test_what_the_group_cannot_read_is_mended_over_lftp(
    at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    """Size and time agree: nothing is fetched again."""
    engine = at_desy(kind, settings=PROCESSED)
    bring(engine)
    closed = ("processed/notes.txt", "processed", f"beamtime-metadata-{BEAMTIME}.json")
    inodes = {name: (engine.destination / name).stat().st_ino for name in closed}
    for name in closed:
        (engine.destination / name).chmod(0o700)
    # What the group could write to, and what is nobody's copy.
    (engine.destination / "processed" / "empty.dat").chmod(0o666)
    (engine.destination / "mine.txt").touch(0o600)
    verdict = seen(engine)
    assert verdict.outcome is Outcome.DIFFERENT
    assert "2 files and 1 folder cannot be read by the group" in verdict.sentence
    assert bring(engine) == (".", "processed")
    assert seen(engine).outcome is Outcome.VERIFIED
    assert {name: (engine.destination / name).stat().st_ino for name in closed} == inodes
    assert stat.S_IMODE((engine.destination / "processed" / "empty.dat").stat().st_mode) == 0o644
    assert stat.S_IMODE((engine.destination / "mine.txt").stat().st_mode) == 0o600
    assert bring(engine) == ()


def test_a_destination_that_is_closed_itself_is_told_and_mended_over_lftp(
    at_desy: Callable[..., DesyEngine],
) -> None:
    engine = at_desy("sftp", settings=PROCESSED)
    bring(engine)
    engine.destination.chmod(0o700)
    verdict = seen(engine)
    assert (verdict.outcome, verdict.counts) == (Outcome.DIFFERENT, {Difference.CLOSED: 1})
    assert bring(engine) == (".",)
    assert seen(engine).outcome is Outcome.VERIFIED


@as_root
@pytest.mark.parametrize("kind", LFTP)
def test_the_share_keeps_its_group_and_its_bit_over_lftp(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    engine = at_desy(kind, settings=PROCESSED)
    share = engine.destination.parent
    os.chown(share, 0, SHARE)
    share.chmod(0o2770)
    engine.traits = engine.facts().traits
    bring(engine)
    found = [engine.destination, *engine.destination.rglob("*")]
    # As earlier versions, and people who copy by hand, leave it.
    for path in found:
        os.chown(path, 0, 0)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o770)
    assert seen(engine).outcome is Outcome.DIFFERENT
    with Folder(desy, "second night") as folder:
        folder.mkdir()
        (folder / "frame.cbf").write_bytes(noise("second", 1000))
        assert bring(engine) == (".", "processed")
        assert seen(engine).outcome is Outcome.VERIFIED
    found = [engine.destination, *engine.destination.rglob("*")]
    assert "frame.cbf" in {path.name for path in found}
    assert {path.stat().st_gid for path in found} == {SHARE}
    assert all(path.stat().st_mode & stat.S_ISGID for path in found if path.is_dir())


def group_findings(engine: Engine) -> list[str]:
    facts = parse_facts(engine.probe())
    found = [finding for finding in judge(facts, engine.beamtime, engine.site) if finding.name == "group"]
    assert all(finding.ok for finding in found)
    return [finding.sentence for finding in found]


@as_root
def test_a_share_that_does_not_let_the_group_in_is_told(engine: Engine) -> None:
    share = engine.destination.parent
    os.chown(share, 0, SHARE)
    # Something is in it: it is mounted.
    (share / "other").touch()
    for mode, told in ((0o2770, []), (0o2700, [f"{share} does not let the group"])):
        share.chmod(mode)
        found = group_findings(engine)
        assert len(found) == len(told)
        assert all(one in said for one, said in zip(told, found, strict=True))
    share.chmod(0o770)
    (said,) = group_findings(engine)
    assert "belongs to the group root" in said
    share.chmod(0o2770)
    engine.destination.mkdir()
    engine.destination.chmod(0o2710)
    (said,) = group_findings(engine)
    assert f"{engine.destination} does not let the group" in said
    engine.beamtime = engine.beamtime.model_copy(update={"group_access": "keep"})
    assert group_findings(engine) == []


@as_root
@pytest.mark.parametrize("closed", [False, True])
def test_what_another_account_copied_here_stops_no_transfer_and_is_judged_by_the_comparison(
    engine: Engine, *, closed: bool
) -> None:
    """Its modes are its owner's to change; rsync ends with 23 for each night that it may not."""
    closed_source(engine)
    engine.fetch()
    theirs = engine.destination / "scan.nxs"
    os.chown(theirs, NOBODY, NOBODY)
    theirs.chmod(0o600 if closed else 0o664)
    # Root without the right to change what is not its own, as any account is.
    engine.inside = ("setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner")
    (engine.source / "raw" / "new.tif").write_bytes(noise("new", 1000))
    assert engine.dry_run().code == 0
    done = engine.transfer()
    assert (done.code, "Copies of other accounts keep their permissions: 1" in done.log) == (0, True)
    assert (engine.destination / "raw" / "new.tif").exists()
    assert seen(engine).counts == ({Difference.CLOSED: 1} if closed else {})


@as_root
def test_what_else_could_not_be_brought_is_told_beside_a_copy_of_another_account(engine: Engine) -> None:
    closed_source(engine)
    engine.fetch()
    os.chown(engine.destination / "scan.nxs", NOBODY, NOBODY)
    (engine.destination / "scan.nxs").chmod(0o664)
    engine.inside = ("setpriv", "--bounding-set=-fowner", "--inh-caps=-fowner")
    name = '": Operation not permitted (1)'
    (engine.source / name).write_text("sealed")
    (engine.source / name).chmod(0)
    assert engine.dry_run().code == 0
    assert engine.transfer().code == 23
