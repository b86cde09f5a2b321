"""The commands that people are shown are those that run, and a shell takes them as they stand."""

from __future__ import annotations

import re
import shlex
import subprocess
from datetime import date
from typing import Any

import pytest

from beamferry.beamtime import Level, Site
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.remote import bundle_folder
from beamferry.show import commands

SITE = Site(destination_root="/mnt/rds")
SOURCE = "mbcx9cd4@ssh.diamond.ac.uk:/dls/i12/data/2021/mg25682-2/"
DESTINATION = "/mnt/rds/diamond/i12/2021/mg25682-2/"
# What a shell may read as more than text when no quotes are around it.
META = re.compile(r"[|&;<>()$`\\\"*?\[\]{}!#~\n]")


def visit(**settings: Any) -> DiamondBeamtime:
    entry: dict[str, Any] = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime(**entry | settings)


def shown(**settings: Any) -> dict[str, list[str]]:
    return {title: shlex.split(line) for title, line in commands(visit(**settings), SITE)}


def test_every_step_is_shown_once() -> None:
    titles = [title for title, _ in commands(visit(), SITE)]
    assert titles == [
        "by hand, without Beamferry: what is to do",
        "by hand, without Beamferry: the transfer on one stream",
        "verify_access",
        "dry_run",
        "transfer",
        "verify_sizes",
        "certify, with a manifest",
    ]


@pytest.mark.parametrize("settings", [{}, {"exclude": ("raw/dark fields",), "bandwidth_limit": 50}])
def test_a_shell_takes_each_command_as_it_stands(settings: dict[str, Any]) -> None:
    for title, line in commands(visit(**settings), SITE):
        words = shlex.split(line)
        assert shlex.join(words) == line, title
        assert META.search(re.sub(r"'[^']*'", "", line)) is None, title
        said = subprocess.run(
            ("bash", "-c", f"printf '%s\\0' {line}"), check=True, capture_output=True, text=True
        )
        assert said.stdout.split("\0")[:-1] == words, title


def test_paths_of_rsync_stand_behind_the_options() -> None:
    # The probe is told the transport by this word, and starts no rsync.
    lines = [words for title, words in shown().items() if "rsync" in words and title != "verify_access"]
    assert len(lines) == 4
    for words in lines:
        assert words[-3:] == ["--", SOURCE, DESTINATION]


def test_paths_of_our_scripts_belong_to_an_option() -> None:
    steps = shown()
    for title in ("transfer", "verify_sizes"):
        words = steps[title]
        assert words[words.index("--source") + 1] == SOURCE.split(":")[1].rstrip("/")
    for title in ("verify_access", "dry_run", "transfer", "verify_sizes", "certify, with a manifest"):
        words = steps[title]
        assert words[words.index("--destination") + 1] == "/mnt/rds/./diamond/i12/2021/mg25682-2"
    manifest = steps["certify, with a manifest"]
    assert manifest[-2:] == ["--output", f"{DESTINATION.rstrip('/')}.certificate/manifest.sha256"]


def test_steps_run_the_scripts_of_this_version() -> None:
    commands = [words for words in shown().values() if words[:2] == ["sh", f"{bundle_folder()}/own.sh"]]
    assert len(commands) == 5
    steps = {tuple(words[2:5]) for words in commands}
    names = ("dry_run", "transfer", "verify", "manifest")
    assert steps == {("probe", "rsync", "--"), *(("step", name, "--") for name in names)}


def test_by_hand_the_first_look_changes_nothing() -> None:
    steps = shown()
    look = steps["by hand, without Beamferry: what is to do"]
    transfer = steps["by hand, without Beamferry: the transfer on one stream"]
    assert look == ["rsync", "-n", "--stats", *transfer[1:]]
    assert not {"-n", "--dry-run"} & set(transfer)


def test_the_entrys_own_choices_are_shown() -> None:
    steps = shown(streams=2, bandwidth_limit=50, verification=Level.FULL, exclude=("tmp/", "raw/dark fields"))
    by_hand = steps["by hand, without Beamferry: the transfer on one stream"]
    assert {"--bwlimit=51200", "--exclude=/tmp/", "--exclude=/raw/dark fields"} <= set(by_hand)
    assert "--bwlimit=25600" in steps["transfer"]
    verify = steps["verify_sizes"]
    assert verify[verify.index("--level") + 1] == "full"
    assert verify[verify.index("--streams") + 1] == "2"


def test_without_a_limit_none_is_shown() -> None:
    assert not any(word.startswith("--bwlimit") for words in shown().values() for word in words)
