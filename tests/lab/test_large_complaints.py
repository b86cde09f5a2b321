"""Large output of a tool changes no answer: who reads it reads it to its end, or its writer ends by a signal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from test_lftp_listing import Folder

from beamferry import remote, rsync
from beamferry.beamtime import Level

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Engine

    from beamferry.lab.desy import Desy

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = sorted(Path(remote.__file__).parent.glob("*.sh"))
# More than a pipe holds, with names as long as those of some instruments.
COMPLAINTS = 3000


def long_name(number: int) -> str:
    return f"frame_{number:04}_" + "x" * 60


def test_3000_folders_that_may_not_be_read_are_not_taken_for_a_change(engine: Engine) -> None:
    for number in range(COMPLAINTS):
        (engine.source / long_name(number)).mkdir(mode=0)
    done = engine.verify(Level.SIZES)
    assert done.code == 23, done.log
    assert "Permission denied" in done.errors


def test_3000_links_that_cannot_be_kept_end_no_transfer(engine: Engine) -> None:
    (engine.source / "frame").write_text("data")
    for number in range(COMPLAINTS):
        (engine.source / long_name(number)).symlink_to("frame")
    assert engine.dry_run().code == 0
    traits = rsync.Traits(modes=True, links=False)
    arguments = rsync.transfer_arguments(
        str(engine.work), engine.beamtime, engine.site, traits, flat=True, streams=1
    )
    done = engine.run("transfer", arguments)
    assert done.code == 0, (done.log, done.errors)
    assert (engine.destination / "frame").read_text() == "data"
    assert len((engine.job / "notes").read_text().splitlines()) == 200


def test_a_file_that_may_not_be_read_is_told_among_many_that_went_away(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    with Folder(desy, "gone") as gone:
        gone.mkdir()
        names = [long_name(number) for number in range(COMPLAINTS)]
        for name in names:
            (gone / name).write_text("data")
        engine = at_desy()
        assert engine.dry_run().code == 0
        (gone / names[0]).chmod(0)
        for name in names[1:]:
            (gone / name).unlink()
        done = engine.transfer("processed")
    assert done.code == 23, done.log
    assert names[0] in done.errors


# The rule itself: what the cases above cannot reach.

# Readers that end before their input does.
EARLY = re.compile(
    r"""(?<!\|)\|(?!\|)&?\s*(?:LC_ALL=C\s+)?(?:
        head\b
      | [ef]?grep\s+(?:-[A-Za-z]+\s+|-e\s*\S+\s+)*(?:-[A-Za-z]*[qlL][A-Za-z]*|-m)\b
      | [ef]?grep\b[^|\n]*>\s*/dev/null
      | sed\b[^|\n]*(?:\d+|/)\s*q\b
      | awk\b[^|'\n]*'[^']*\bexit\s*(?:0\b|\}|;)
      | read\b
    )""",
    re.VERBOSE,
)


def programs() -> list[Path]:
    """Every shell program of the project."""
    places = [REPOSITORY / "run", *(REPOSITORY / "deploy").iterdir(), *(REPOSITORY / "include").rglob("*.sh")]
    begin = (b"#!/bin/sh", b"#!/usr/bin/env bash", b"# shellcheck shell=")
    return [path for path in places if path.is_file() and path.read_bytes().startswith(begin)]


def test_there_are_programs_to_look_at() -> None:
    assert {path.name for path in SCRIPTS if "agent" not in path.name} <= {path.name for path in programs()}


@pytest.mark.parametrize("program", programs(), ids=lambda path: path.name)
def test_no_reader_ends_before_its_input_does(program: Path) -> None:
    lines = ["" if line.lstrip().startswith("#") else line for line in program.read_text().splitlines()]
    assert [match[0] for match in EARLY.finditer("\n".join(lines))] == []


@pytest.mark.parametrize(
    "line",
    [
        "sed x y | head -n 3",
        "cat x | grep -q .",
        "cat x |\n grep -qE 'a|b'",
        "cat x | grep -v -qx a",
        "cat x | grep a >/dev/null",
        "cat x | sed 3q",
        "cat x | awk '{ exit }'",
    ],
)
def test_the_rule_finds_them(line: str) -> None:
    assert EARLY.search(line)
