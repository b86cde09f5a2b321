"""Censuses: what each end of a transfer holds, listed and compared on RDS-SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.beamtime import Level

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime, Site

# Reading this much at both ends takes about half a minute; a file is compared whole or not at all.
SAMPLE_BYTES = 8 * 1024**3


def verify_arguments(
    work: str,
    beamtime: Beamtime,
    site: Site,
    *,
    ssh: tuple[str, ...],
    level: Level,
    streams: int,
    seed: int,
    stall: int,
    group: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Return the arguments of the step "verify".

    Args:
        work: folder on RDS-SSH that keeps the lists.
        beamtime: what was fetched; its excludes are left out at both ends.
        site: where it went.
        ssh: words of ssh up to the account, ``rsync.SSH``.
        level: ``sizes``, ``sampled`` or ``full``; a listing alone is not for this step.
        streams: files read at the same time at each end.
        seed: chooses the samples; the same seed and the same files give the same samples.
        stall: seconds without a sign of the facility after which the comparison ends.
        group: words about the group that is to be able to read the copy, ``rsync.group_arguments``.
    """
    if level is Level.LISTED:
        raise ValueError("a comparison needs both ends: level must be sizes, sampled or full")
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--level", level.value),
        *("--samples", str(beamtime.samples)),
        *("--sample-bytes", str(SAMPLE_BYTES)),
        *("--seed", str(seed)),
        *("--stall", str(stall)),
        *("--host", beamtime.host),
        *("--account", beamtime.account),
        *("--source", beamtime.source_path),
        *("--destination", beamtime.destination_below_root(site)),
        *("--ssh", " ".join(ssh)),
        *group,
        *(word for path in beamtime.exclude for word in ("--exclude", path)),
    )


def manifest_arguments(
    work: str, beamtime: Beamtime, site: Site, *, streams: int, output: str, exclude: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the arguments of the step "manifest".

    Args:
        work: folder on RDS-SSH that keeps the lists.
        beamtime: what was fetched.
        site: where it went.
        streams: files read at the same time.
        output: file on RDS that gets the manifest.
        exclude: paths below the destination that are not data, e.g. the certificate's folder.
    """
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--destination", beamtime.destination_below_root(site)),
        *(word for path in exclude for word in ("--exclude", path)),
        *("--output", output),
    )
