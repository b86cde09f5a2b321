"""The exact commands that a run would execute, for people who want to see or repeat them."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from beamferry import access, census, rsync
from beamferry.certificate import MANIFEST_NAME, certificate_folder
from beamferry.remote import Job, script_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.beamtime import Beamtime, Site


def commands(beamtime: Beamtime, site: Site) -> Iterator[tuple[str, str]]:
    """Yield a title and a command line for each step, as they run on RDS-SSH in the account's home folder."""
    work = Job(beamtime.key, "transfer").work
    limit = beamtime.bandwidth_limit
    base = rsync.rsync_command(beamtime, site, flat=False, limit=None if limit is None else limit * 1024)
    yield "by hand, without Beamferry: what is to do", shlex.join((base[0], "-n", "--stats", *base[1:]))
    yield "by hand, without Beamferry: the transfer on one stream", shlex.join(base)
    steps = (
        ("verify_access", "probe.sh", access.probe_arguments(beamtime, site)),
        ("dry_run", "dry_run.sh", rsync.dry_run_arguments(work, beamtime, site, flat=False)),
        (
            "transfer",
            "transfer.sh",
            rsync.transfer_arguments(
                work,
                beamtime,
                site,
                flat=False,
                streams=beamtime.streams,
                bandwidth_limit=beamtime.bandwidth_limit,
            ),
        ),
        (
            "verify_sizes",
            "verify.sh",
            census.verify_arguments(
                work,
                beamtime,
                site,
                ssh=rsync.SSH,
                level=beamtime.verification,
                streams=beamtime.streams,
                seed=0,
            ),
        ),
        (
            "certify, with a manifest",
            "manifest.sh",
            census.manifest_arguments(
                work,
                beamtime,
                site,
                streams=beamtime.streams,
                output=f"{certificate_folder(beamtime.destination_path(site))}/{MANIFEST_NAME}",
            ),
        ),
    )
    for title, script, arguments in steps:
        yield title, shlex.join(script_command(script, arguments))
