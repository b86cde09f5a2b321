"""The exact commands that a run would execute, for people who want to see or repeat them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from beamferry import census
from beamferry.access import Facts
from beamferry.certificate import MANIFEST_NAME, certificate_folder
from beamferry.engine import Choice, engine
from beamferry.lftp import TOP
from beamferry.remote import Job, agent_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from beamferry.beamtime import Beamtime, Site

# As on a file system that keeps everything.
_FACTS = Facts({"keeps_modes": "yes", "keeps_times": "yes", "keeps_links": "yes"})


def commands(beamtime: Beamtime, site: Site) -> Iterator[tuple[str, str]]:
    """Yield a title and a command line for each step, as they run on RDS-SSH in the account's home folder."""
    tool = engine(beamtime, site)
    choice = Choice(beamtime.streams, beamtime.bandwidth_limit, beamtime.verification, beamtime.samples)
    for title, command in tool.by_hand():
        yield f"by hand, without Beamferry: {title}", shlex.join(command)
    folder = next(iter(beamtime.chosen_folders), TOP)
    manifest = census.manifest_arguments(
        Job(beamtime.key, "manifest").work,
        beamtime,
        site,
        streams=beamtime.streams,
        output=f"{certificate_folder(beamtime.destination_path(site))}/{MANIFEST_NAME}",
    )
    probe = tool.probe()
    yield "verify_access", _by_hand("probe", probe.transport, probe.arguments)
    steps = (
        ("dry_run", tool.dry_run(_FACTS, choice, None)),
        ("transfer", tool.transfer(_FACTS, choice, None, folder)),
        ("verify_sizes", tool.verify(_FACTS, choice, 0)),
        ("certify, with a manifest", ("manifest", manifest)),
    )
    for title, (name, arguments) in steps:
        yield title, _by_hand("step", name, arguments)


def _by_hand(verb: str, name: str, arguments: Sequence[str]) -> str:
    """Return what has the agent do something, with arguments as a person would type them."""
    return shlex.join(agent_command(verb, name, "--", *arguments))
