"""What DESY holds, listed by lftp: the same by every way, whole or refused, whatever the names are."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from desy_engine import KINDS

from beamferry import lftp
from beamferry.lab import desy_tree
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import BEAMTIME, HARD_NAMES, TOKEN, UNREADABLE
from beamferry.lab.visit import set_times, walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine

    from beamferry.lab.desy import Desy


def truth(desy: Desy, *left_out: bytes) -> list[bytes]:
    """The records that a listing must have, from the file system itself."""
    records = []
    for path, is_folder in walk(desy.tree):
        if path in left_out or any(path.startswith(one + b"/") for one in left_out):
            continue
        seen = (desy.tree / os.fsdecode(path)).stat()
        kind = b"d//0//0//" if is_folder else b"f//%d//%d//" % (seen.st_size, seen.st_mtime)
        records.append(path + b"//" + kind)
    return sorted(records)


class Folder:
    """A folder of the tests' own among the beamtime's, away again afterwards."""

    def __init__(self, desy: Desy, name: str) -> None:
        self.place = desy.tree / "processed" / name

    def __enter__(self) -> Path:
        return self.place

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_lists_the_same(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    engine = at_desy(kind)
    done = engine.dry_run()
    assert (done.code, done.errors) == (0, "")
    assert engine.listed == truth(desy, UNREADABLE, TOKEN)
    totals = lftp.parse_totals(done.stats)
    files = [record for record in engine.listed if b"//f//" in record]
    assert totals.regular_files == totals.transferred_files == len(files) == len(engine.todo)
    assert [folder.name for folder in totals.folders] == [".", "processed", "raw", "scratch_cc", "shared"]
    assert done.result["modify_window"] == 1
    # The password lives as long as the job.
    assert not engine.secret.exists()


def test_what_is_there_already_is_not_to_do(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    shutil.copytree(desy.tree, engine.destination)
    # As the transfer makes it: the group can read.
    (engine.destination / f"beamtime-metadata-{BEAMTIME}.json").chmod(0o644)
    (engine.destination / "raw" / "p07_00001.nxs").write_bytes(b"short")
    os.utime(engine.destination / "processed" / "notes.txt", (1, 1))
    shutil.rmtree(engine.destination / "raw" / "empty folder")
    (engine.destination / "shared" / "sample list.csv").unlink()
    done = engine.dry_run()
    assert engine.todo == [b"processed/notes.txt", b"raw/p07_00001.nxs", b"shared/sample list.csv"]
    totals = lftp.parse_totals(done.stats)
    assert totals.to_fetch == ("processed", "raw", "shared")
    assert [folder.new_folders for folder in totals.folders] == [0, 0, 1, 0, 0]


def test_folders_of_the_entry_and_the_files_beside_them(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy(settings={"folders": ["raw"], "tokens": True})
    done = engine.dry_run()
    assert [folder.name for folder in lftp.parse_totals(done.stats).folders] == [".", "raw"]


def test_tokens_come_when_they_are_asked_for(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy(settings={"tokens": True})
    engine.dry_run()
    assert TOKEN in engine.todo


@pytest.mark.parametrize("kind", KINDS[:3])
def test_five_thousand_files_in_a_folder(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    with Folder(desy, "many") as many:
        desy_tree.make_many(many)
        engine = at_desy(kind)
        done = engine.dry_run()
    assert (done.code, done.errors) == (0, "")
    assert sum(path.startswith(b"processed/many/") for path in engine.todo) == 5_000


# pure-ftpd shows them in no listing at all, so nobody can know of them; a reason to take SFTP.
HIDDEN = {("pure-ftpd", name) for name in (b"two\nlines", b"tab\there")}
# What makes pyftpdlib drop the connection again and again is refused too, but only after half a minute; and once it was
# led into a folder whose name it cannot decode, it finds no other one any more.
SLOW = {
    ("pyftpdlib", b"carriage\rreturn"),
    ("pure-ftpd", b"carriage\rreturn"),
    ("pyftpdlib", b"n" * 255),
    ("pyftpdlib", b"not-utf8-\xff\xfe"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name)
        for kind in KINDS[:3]
        for name in HARD_NAMES
        if (kind, name) not in SLOW and not name.endswith(b" ") and not name.startswith(b" ")
    ],
)
def test_a_name_is_listed_as_it_is_or_refused(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, name: bytes
) -> None:
    with Folder(desy, "hard") as folder:
        desy_tree.odd_names(folder, (name,))
        set_times(folder, [path for path, _ in walk(folder)], 1_600_000_000, 1000)
        engine = at_desy(kind, settings={"folders": ["processed"]})
        done = engine.dry_run()
        expected = [record for record in truth(desy) if record.startswith(b"processed/")]
    if done.code == 0:
        found = [record for record in engine.listed if record.startswith(b"processed/")]
        missing = [record for record in expected if record not in found]
        assert all((kind, name) in HIDDEN and name in record for record in missing)
        assert set(found) <= set(expected)
    else:
        # What cannot be listed is never lost in silence.
        assert done.code in {23, 65, 66}
        assert "beamferry: " in done.errors
        assert not (engine.work / "todo").exists()


def test_a_cut_listing_is_refused(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    faults = DesyFaults(desy)
    with Folder(desy, "many") as many:
        desy_tree.make_many(many, 1_200)
        with faults.listing_cut():
            done = at_desy().dry_run()
        assert done.code == 66
        assert "beamferry: unseen: processed/many/frame_" in done.errors
        with faults.listing_cut(names_too=True):
            hidden = at_desy("sftp").dry_run()
        assert hidden.code == 0


def test_a_round_number_is_told(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, "many") as many:
        desy_tree.make_many(many, 1_000)
        done = at_desy().dry_run()
    assert (done.code, done.result["round_folders"]) == (0, 1)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_folder_that_may_not_be_read_is_named(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    with Folder(desy, "closed") as closed:
        closed.mkdir(mode=0)
        done = at_desy(kind).dry_run()
        assert done.code == 23
        assert "beamferry: unlisted: processed/closed\n" in done.errors
        # What stays behind is not even looked into.
        again = at_desy(kind, settings={"exclude": [UNREADABLE.decode(), "processed/closed/"]})
        assert again.dry_run().code == 0
        closed.chmod(0o700)


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp-password"])
def test_a_wrong_password_is_one_try(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    server = desy.ftps if kind == "pyftpdlib" else desy.sftp_password
    engine = at_desy(kind, password="not it")
    before = server.attempts(accepted=False)
    done = engine.dry_run(streams=8)
    assert done.code == 67, done.errors
    assert server.attempts(accepted=False) - before == 1
    assert not engine.secret.exists()


def test_no_process_shows_the_password(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    seen: list[bytes] = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    environ = (process / "environ").read_bytes()
                    # Others on this machine, such as an Airflow of the tests', have secrets of their own.
                    if str(engine.job).encode() in environ:
                        seen.extend((environ, (process / "cmdline").read_bytes()))
                except OSError:
                    continue

    watcher = threading.Thread(target=look)
    watcher.start()
    engine.dry_run()
    over.set()
    watcher.join()
    assert any(b"lftp\0--norc" in text for text in seen)
    assert not any(desy.password.encode() in text for text in seen)


def test_a_netrc_without_the_host_is_no_anonymous_log_in(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    engine = at_desy(settings={"connection": None})
    netrc = engine.home / ".netrc"
    before = desy.ftps.attempts()
    assert "no-password: there is no" in engine.dry_run().errors
    netrc.write_text(f"machine elsewhere login {desy.account} password x\n")
    netrc.chmod(0o644)
    assert "can be read by others" in engine.dry_run().errors
    netrc.chmod(0o600)
    done = engine.dry_run()
    assert (done.code, "has no password for cdaniel" in done.errors) == (67, True)
    assert desy.ftps.attempts() == before
