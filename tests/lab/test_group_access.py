"""The group can open what came home, as the registry's ``group_access`` says."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from engine import MIB, Engine, noise

from beamferry.access import parse_facts

if TYPE_CHECKING:
    from pathlib import Path

# No group of this machine: a share's group is a number to those who copy.
SHARE = 54321
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
