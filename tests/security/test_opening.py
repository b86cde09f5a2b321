"""Opening copies to the group opens nothing but copies, whatever a member of the group puts in their place."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from beamferry_agent.opening import open_copies

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another account")


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A copy that is closed to the group; beside the share the account's own key."""
    copy = tmp_path / "share" / "visit"
    (copy / "raw").mkdir(parents=True)
    for name in ("scan.nxs", "raw/frame.tif"):
        (copy / name).write_text(name)
        (copy / name).chmod(0o600)
    (copy / "raw").chmod(0o700)
    (tmp_path / "keys").mkdir(mode=0o700)
    (tmp_path / "keys" / "frame.tif").write_text("mine\n")
    (tmp_path / "keys" / "frame.tif").chmod(0o600)
    return copy


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def own_modes(share: Path) -> tuple[int, int]:
    keys = share.parents[1] / "keys"
    return mode(keys), mode(keys / "frame.tif")


def opened(share: Path, *records: bytes, folder: str = "raw", access: str = "read") -> dict[str, int]:
    listed = share.parents[1] / "closed"
    listed.write_bytes(b"".join(record + b"//0//0//\0" for record in records))
    return open_copies(str(share), str(listed), folder, access=access, group="own")


RAW = (b"raw//d", b"raw/frame.tif//f")


def test_what_is_listed_of_the_folder_is_opened_and_nothing_else(share: Path) -> None:
    assert opened(share, *RAW, b"scan.nxs//f") == {"opened": 2, "left": 0}
    assert (mode(share / "raw"), mode(share / "raw" / "frame.tif")) == (0o750, 0o640)
    assert mode(share / "scan.nxs") == 0o600
    assert opened(share, *RAW, b"scan.nxs//f", folder=".", access="write") == {"opened": 1, "left": 0}
    assert mode(share / "scan.nxs") == 0o660


def test_bits_that_no_copy_has_are_taken(share: Path) -> None:
    (share / "raw" / "frame.tif").chmod(0o6722)
    (share / "raw").chmod(0o6733)
    opened(share, *RAW)
    # The folder's setgid bit is the share's.
    assert (mode(share / "raw"), mode(share / "raw" / "frame.tif")) == (0o2751, 0o740)


@pytest.mark.parametrize("name", ["raw", "raw/frame.tif"])
def test_a_link_in_the_place_of_a_copy_is_not_followed(share: Path, name: str) -> None:
    place, keys = share / name, share.parents[1] / "keys"
    place.rename(share.parent / "away")
    place.symlink_to(keys if name == "raw" else keys / "frame.tif")
    opened(share, *RAW)
    assert own_modes(share) == (0o700, 0o600)


def test_another_name_of_the_accounts_own_file_is_left_alone(share: Path) -> None:
    (share / "raw" / "frame.tif").unlink()
    (share / "raw" / "frame.tif").hardlink_to(share.parents[1] / "keys" / "frame.tif")
    assert opened(share, *RAW) == {"opened": 1, "left": 1}
    assert own_modes(share) == (0o700, 0o600)


@as_root
def test_a_file_of_somebody_else_is_left_alone(share: Path) -> None:
    os.chown(share / "raw" / "frame.tif", NOBODY, NOBODY)
    assert opened(share, *RAW) == {"opened": 1, "left": 1}
    assert mode(share / "raw" / "frame.tif") == 0o600


@pytest.mark.parametrize("record", [b"../keys/frame.tif//f", b"raw/../../../keys/frame.tif//f", b"raw/..//d"])
def test_a_listed_name_leads_nowhere_else(share: Path, record: bytes) -> None:
    folder = record.split(b"/")[0].decode()
    with pytest.raises(ValueError, match="is not below"):
        opened(share, record, folder=folder)
    assert own_modes(share) == (0o700, 0o600)


def test_names_that_come_and_go_while_they_are_opened_lead_nowhere(share: Path) -> None:
    """A member of the group swaps the folder for a link and back, as fast as she can."""
    keys, over, link = share.parents[1] / "keys", threading.Event(), share.parent / "link"
    link.symlink_to(keys)

    def swap() -> None:
        while not over.is_set():
            (share / "raw").rename(share.parent / "away")
            link.rename(share / "raw")
            (share / "raw").rename(link)
            (share.parent / "away").rename(share / "raw")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        results = [opened(share, *RAW)["opened"] for _ in range(3000)]
    finally:
        over.set()
        swapper.join()
    assert own_modes(share) == (0o700, 0o600)
    # It was both seen and missed: the race was one.
    assert {0, 2} <= set(results)
