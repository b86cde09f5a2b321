"""Whoever can write beside the data cannot have a certificate written anywhere else, nor forge its folder."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from beamferry.remote.archive import agent_archive
from beamferry_agent.answers import PublicationRequest
from beamferry_agent.places import FullError, PlaceError, open_root
from beamferry_agent.publication import publish

NOBODY = 65534
FILES = {"certificate.txt": "VERIFIED\nssh-ed25519 AAAA mallory\n", "certificate.json": "{}"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The group's share; beside it the account's own keys."""
    share = tmp_path / "share"
    (share / "diamond").mkdir(parents=True)
    share.chmod(0o2770)
    (tmp_path / "authorized_keys").write_text("mine\n")
    return share


def issue(root: Path, folder: Path, files: dict[str, str] | None = None) -> None:
    publish(PublicationRequest(str(root), str(folder), FILES if files is None else files, opens=True))


def kept(root: Path) -> bool:
    return (root.parent / "authorized_keys").read_text() == "mine\n"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_folder_and_files_have_their_modes_whatever_the_umask_is(root: Path, umask: int) -> None:
    folder = root / "diamond" / "i12" / "mg1-1.certificate"
    before = os.umask(umask)
    try:
        issue(root, folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) & 0o777 == 0o755
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == dict.fromkeys(
        FILES, 0o644
    )
    assert (folder / "certificate.txt").read_text() == FILES["certificate.txt"]


def test_a_link_that_waits_for_the_certificate_is_replaced_and_not_followed(root: Path) -> None:
    folder = root / "mg1-1.certificate"
    folder.mkdir(mode=0o755)
    keys = root.parent / "authorized_keys"
    for name in ("certificate.txt", "certificate.txt.new", "certificate.json"):
        (folder / name).symlink_to(keys)
    issue(root, folder)
    assert kept(root)
    assert not (folder / "certificate.txt").is_symlink()


def test_a_name_that_two_share_is_not_written_through(root: Path) -> None:
    folder = root / "mg1-1.certificate"
    folder.mkdir(mode=0o755)
    os.link(root.parent / "authorized_keys", folder / "certificate.txt")
    issue(root, folder)
    assert kept(root)


@pytest.mark.parametrize("kind", ["link", "link above", "file"])
def test_what_stands_where_the_folder_has_to_be_is_told(root: Path, kind: str) -> None:
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    folder = root / "diamond" / "mg1-1.certificate"
    if kind == "link above":
        (root / "diamond").rmdir()
        (root / "diamond").symlink_to(elsewhere)
    elif kind == "link":
        folder.symlink_to(elsewhere)
    else:
        folder.write_text("")
    with pytest.raises(PlaceError, match="is a link or a file, where a folder has to be"):
        issue(root, folder)
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o2770])
def test_a_folder_that_others_can_write_to_is_refused(root: Path, mode: int) -> None:
    folder = root / "mg1-1.certificate"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(PlaceError, match="can be written to by others"):
        issue(root, folder)
    assert list(folder.iterdir()) == []


@as_root
def test_a_folder_of_another_account_is_refused(root: Path) -> None:
    folder = root / "mg1-1.certificate"
    folder.mkdir(mode=0o755)
    os.chown(folder, NOBODY, NOBODY)
    with pytest.raises(PlaceError, match=f"belongs to somebody else, account number {NOBODY}"):
        issue(root, folder)
    assert list(folder.iterdir()) == []


def test_no_room_is_told_as_such_and_what_was_there_stays(root: Path) -> None:
    folder = root / "mg1-1.certificate"
    issue(root, folder)
    before, limit = FILES["certificate.txt"], resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(FullError, match="File too large"):
            issue(root, folder, {"certificate.txt": "x" * 2000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert (folder / "certificate.txt").read_text() == before
    assert {path.name for path in folder.iterdir()} == set(FILES)


@as_root
def test_the_way_to_the_share_follows_links_of_root_and_of_no_other(root: Path) -> None:
    way = root.parent / "way"
    way.symlink_to(root)
    issue(way, way / "mg1-1.certificate")
    assert (root / "mg1-1.certificate" / "certificate.txt").exists()
    os.lchown(way, NOBODY, NOBODY)
    with pytest.raises(PlaceError, match="is a link of somebody else"):
        issue(way, way / "mg2-1.certificate")
    assert not (root / "mg2-1.certificate").exists()


@as_root
def test_folders_on_the_way_need_not_be_readable() -> None:
    """On shared machines /home and the folder of all shares may be passed and not listed."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("no python3 is here that another account may run")
    with tempfile.TemporaryDirectory() as made:
        way = Path(made)
        share = way / "shares" / "group"
        share.mkdir(parents=True)
        for folder in (way, way / "shares"):
            folder.chmod(0o711)
        os.chown(share, NOBODY, NOBODY)
        (way / "agent.pyz").write_bytes(agent_archive())
        (way / "agent.pyz").chmod(0o644)
        asked = PublicationRequest(str(share), str(share / "mg1-1.certificate"), FILES, opens=True)
        done = subprocess.run(
            [python, "-I", str(way / "agent.pyz"), "publish"],
            input=asked.to_json(),
            capture_output=True,
            text=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        assert done.returncode == 0, done.stderr
        assert (share / "mg1-1.certificate" / "certificate.txt").exists()


def test_links_of_ones_own_lead_to_the_share_in_every_form(root: Path) -> None:
    (root.parent / "relative").symlink_to("share/../share/./")
    (root.parent / "chain").symlink_to(root.parent / "relative")
    os.close(open_root(str(root.parent / "chain" / "diamond")))
    (root.parent / "loop").symlink_to("loop")
    with pytest.raises(PlaceError, match="Too many levels"):
        open_root(str(root.parent / "loop"))


@pytest.mark.parametrize("folder", ["../elsewhere", "diamond/../../elsewhere", "../share2/x"])
def test_nothing_is_made_beside_the_share(root: Path, folder: str) -> None:
    with pytest.raises(PlaceError, match="is not below"):
        issue(root, root / folder)
    assert {path.name for path in root.parent.iterdir()} == {"share", "authorized_keys"}


@pytest.mark.parametrize("name", ["../authorized_keys", "a/b", "", ".", "..", "a\0b"])
def test_a_name_that_is_a_path_is_refused(root: Path, name: str) -> None:
    asked = PublicationRequest(str(root), str(root / "x"), {name: "text"}, opens=True)
    with pytest.raises(ValueError, match="one plain name"):
        PublicationRequest.from_json(asked.to_json())


def test_links_that_come_and_go_while_it_is_written_lead_nowhere(root: Path) -> None:
    """A member of the group swaps the folder for a link and back, as fast as she can."""
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    folder, aside = root / "mg1-1.certificate", root / "aside"
    folder.mkdir(mode=0o755)
    over = threading.Event()

    def swap() -> None:
        while not over.is_set():
            with suppress(OSError):
                folder.rename(aside)
                folder.symlink_to(elsewhere)
                folder.unlink()
                aside.rename(folder)
                continue
            # It was made anew while the other one was aside.
            shutil.rmtree(aside, ignore_errors=True)

    mallory = threading.Thread(target=swap)
    mallory.start()
    written = refused = 0
    try:
        for _ in range(100_000):
            try:
                issue(root, folder)
                written += 1
            except (PlaceError, FileNotFoundError):
                refused += 1
            if written >= 100 and refused >= 100:
                break
    finally:
        over.set()
        mallory.join()
    assert written
    assert refused
    assert list(elsewhere.iterdir()) == []
