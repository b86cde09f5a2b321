"""The commands, and that rsync itself understands them."""

from __future__ import annotations

import os
import shlex
import subprocess
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from beamferry import rsync
from beamferry.beamtime import Site
from beamferry.facilities.diamond import DiamondBeamtime

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site(destination_root="/mnt/eps01-rds/Fonseca-Lightform/shared")


def visit(**settings: Any) -> DiamondBeamtime:
    entry: dict[str, Any] = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime(**entry | settings)


def test_visit_goes_from_diamond_to_rds() -> None:
    command = rsync.rsync_command(visit(), SITE, flat=False)
    assert command[-3:] == (
        "--",
        "mbcx9cd4@ssh.diamond.ac.uk:/dls/i12/data/2021/mg25682-2/",
        "/mnt/eps01-rds/Fonseca-Lightform/shared/diamond/i12/2021/mg25682-2/",
    )
    assert "--exclude=/tmp/" in command
    assert "--exclude=.beamferry-partial" in command


def test_nothing_that_loses_data_or_time() -> None:
    for traits in (rsync.POSIX, rsync.CIFS):
        words = set(rsync.rsync_command(visit(), SITE, traits, flat=True))
        assert not {word for word in words if word.startswith(("--delete", "--append", "--inplace"))}
        assert not words & {"-z", "--compress", "-a", "--partial", "--ignore-errors"}


def test_ssh_asks_nothing_and_trusts_only_pinned_hosts() -> None:
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ControlPath=none"} <= set(rsync.SSH)


def test_ssh_words_survive_being_joined_by_blanks() -> None:
    assert all(shlex.quote(word) == word for word in rsync.SSH)
    command = rsync.rsync_command(visit(), SITE, flat=False)
    assert tuple(command[command.index("-e") + 1].split(" ")) == rsync.SSH


@pytest.mark.parametrize(
    ("known", "flat"),
    [(None, False), (0, True), (rsync.FLAT_LIST_LIMIT, True), (rsync.FLAT_LIST_LIMIT + 1, False)],
)
def test_list_is_flat_only_where_its_size_is_known_to_fit(known: int | None, *, flat: bool) -> None:
    assert rsync.is_flat(known) is flat
    assert ("--no-inc-recursive" in rsync.rsync_command(visit(), SITE, flat=flat)) is flat


def test_limit_is_shared_by_the_streams_and_leaves_no_ranges() -> None:
    arguments = rsync.transfer_arguments("work", visit(), SITE, flat=True, streams=4, bandwidth_limit=10)
    assert "--bwlimit=2560" in arguments
    assert arguments[arguments.index("--range-threshold") + 1] == "0"
    free = rsync.transfer_arguments("work", visit(), SITE, flat=True, streams=4)
    assert not [word for word in free if word.startswith("--bwlimit")]
    assert int(free[free.index("--range-threshold") + 1]) == rsync.RANGE_THRESHOLD


def test_the_smallest_limit_never_becomes_none() -> None:
    # --bwlimit=0 would mean no limit at all.
    arguments = rsync.transfer_arguments("work", visit(), SITE, flat=True, streams=2000, bandwidth_limit=1)
    assert "--bwlimit=1" in arguments


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another group")
def test_everything_gets_the_shares_group_whatever_the_facility_calls_its_own(tmp_path: Path) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    source.mkdir()
    # One that has a name here, and one that has none.
    for name, group in (("named", 1), ("nameless", 61234)):
        (source / name).write_text(name)
        os.chown(source / name, -1, group)
    (source / "link").symlink_to("named")
    entry = visit(source=str(source), destination=str(destination))
    traits = rsync.Traits(modes=True, group=54321)
    *flags, _, _, target = rsync.rsync_command(entry, SITE, traits, flat=True)
    subprocess.run([*flags, "--", f"{source}/", target], check=True)
    found = [destination, *destination.iterdir()]
    assert {path.lstat().st_gid for path in found} == {54321}
    assert destination.stat().st_mode & 0o2050 == 0o2050


@pytest.mark.parametrize(
    ("traits", "mode", "linked"),
    [
        (rsync.POSIX, 0o640, True),
        (rsync.CIFS, None, True),
        (rsync.Traits(modes=False, links=False), None, False),
    ],
)
def test_rsync_does_what_the_traits_ask_for(
    tmp_path: Path, traits: rsync.Traits, mode: int | None, *, linked: bool
) -> None:
    source = tmp_path / "a source"
    (source / "tmp").mkdir(parents=True)
    (source / "frame.tif").write_text("x")
    (source / "frame.tif").chmod(0o440)
    (source / "link").symlink_to("frame.tif")
    destination = tmp_path / "destination"
    entry = visit(source=str(source), destination=str(destination))
    *flags, _, _, target = rsync.rsync_command(entry, SITE, traits, flat=True)
    done = subprocess.run([*flags, "--", f"{source}/", target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (destination / "frame.tif").stat().st_mtime == pytest.approx(
        (source / "frame.tif").stat().st_mtime
    )
    if mode is not None:
        assert (destination / "frame.tif").stat().st_mode & 0o777 == mode
    assert (destination / "link").is_symlink() is linked
    assert not (destination / "tmp").exists()
