"""The certificate: what was brought home and how it was proved, readable without Airflow."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen, Level
from beamferry.plan import duration, human
from beamferry.verification import Outcome, Verdict, safe, words

if TYPE_CHECKING:
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site

JSON_NAME = "certificate.json"
TEXT_NAME = "certificate.txt"
MANIFEST_NAME = "manifest.sha256"
_WIDTH = 80
_SHOWN = 50
_HEADINGS = {
    Outcome.VERIFIED: "VERIFIED: this beamtime is at RDS",
    Outcome.CHANGING: "NOT VERIFIED: the source is still changing",
    Outcome.DIFFERENT: "NOT VERIFIED: the copy differs from the source",
}


class Moved(Frozen):
    """What the run's transfer did: bytes and files that it fetched, seconds that it took."""

    bytes: int
    files: int
    seconds: int


class Certificate(Frozen):
    """Everything that a certificate says; its JSON is ``certificate.json``.

    Args:
        outcome: the verdict's outcome again, at the top for scripts.
        beamtime: the facility's name of it.
        facility: where it comes from.
        instrument: the beamline.
        source: account, host and folder at the facility.
        destination: folder on RDS.
        excluded: paths below the source that stayed behind.
        moved: what this run moved, None when it only verified.
        verdict: the comparison.
        tools: version of each tool that took part, by name.
        manifest: name of the manifest beside the certificate, None where there is none.
        run: Airflow's name of the run.
        issued_at: when this was written.
        time_zone: the site's, for the text.
    """

    schema_version: Literal[1] = 1
    outcome: Outcome
    beamtime: str
    facility: str
    instrument: str
    source: str
    destination: str
    excluded: tuple[str, ...]
    moved: Moved | None
    verdict: Verdict
    tools: dict[str, str]
    manifest: str | None
    run: str
    issued_at: AwareDatetime
    time_zone: str


def certificate_folder(destination: str) -> str:
    """Return the folder of a destination's certificate: beside the data, so that it is no part of it."""
    return f"{destination}.certificate"


def certify(
    beamtime: Beamtime,
    site: Site,
    verdict: Verdict,
    *,
    moved: Moved | None,
    tools: dict[str, str],
    manifest: bool,
    run: str,
    issued_at: datetime,
) -> Certificate:
    """Return the certificate of a verdict, whatever the verdict is: an old good one must not stay."""
    return Certificate(
        outcome=verdict.outcome,
        beamtime=beamtime.id,
        facility=beamtime.facility,
        instrument=beamtime.instrument,
        source=f"{beamtime.account}@{beamtime.host}:{beamtime.source_path}",
        destination=beamtime.destination_path(site),
        excluded=beamtime.exclude,
        moved=moved,
        verdict=verdict,
        tools=tools,
        manifest=MANIFEST_NAME if manifest else None,
        run=run,
        issued_at=issued_at,
        time_zone=site.time_zone,
    )


def to_json(certificate: Certificate) -> str:
    """Return ``certificate.json``."""
    return certificate.model_dump_json(indent=2) + "\n"


def to_text(certificate: Certificate) -> str:
    """Return ``certificate.txt``: 80 columns, the answer in its first line."""
    verdict = certificate.verdict
    rows = [
        ("Beamtime", f"{certificate.beamtime}, {certificate.instrument} at {certificate.facility.title()}"),
        ("From", _whole(certificate.source)),
        ("To", _whole(certificate.destination)),
        ("Files", f"{verdict.source.files:,}"),
        ("Size", f"{human(verdict.source.bytes)} ({verdict.source.bytes:,} bytes)"),
        ("Folders", f"{verdict.source.folders:,}"),
        ("Links", f"{verdict.source.links:,}"),
        ("Left behind", ", ".join(map(_whole, certificate.excluded)) or "nothing"),
        ("Level", f"{verdict.level}: {words(verdict.level, verdict.sampled_files)}"),
        ("Compared", _when(verdict.checked_at, certificate.time_zone)),
        ("This run", _moved(certificate.moved)),
        ("Run", safe(certificate.run)),
        ("Tools", ", ".join(f"{name} {safe(version)}" for name, version in sorted(certificate.tools.items()))),
    ]
    lines = [
        _HEADINGS[certificate.outcome],
        "=" * len(_HEADINGS[certificate.outcome]),
        "",
        *textwrap.wrap(verdict.sentence, _WIDTH, break_long_words=False, break_on_hyphens=False),
        "",
        *(line for name, value in rows for line in _row(name, value)),
        *_differences(verdict),
        "",
        "To check it yourself",
        *_checks(certificate),
        "",
        f"Written by Beamferry on {_when(certificate.issued_at, certificate.time_zone)}",
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


# A path is never broken, not even at its spaces: it is there to be copied.
_UNBROKEN = "\N{NO-BREAK SPACE}"


def _whole(path: str) -> str:
    return path.replace(" ", _UNBROKEN)


def _row(name: str, value: str) -> list[str]:
    lines = textwrap.wrap(
        value,
        _WIDTH,
        initial_indent=f"{name + ':':<13}",
        subsequent_indent=" " * 13,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_UNBROKEN, " ") for line in lines]


def _when(moment: datetime, zone: str) -> str:
    local = moment.astimezone(ZoneInfo(zone))
    return f"{moment.astimezone(ZoneInfo('UTC')):%Y-%m-%d %H:%M} UTC ({local:%d %B %Y, %H:%M %Z})"


def _moved(moved: Moved | None) -> str:
    if moved is None:
        return "compared both ends, moved nothing"
    if moved.files == 0:
        return "found nothing to move"
    return f"moved {moved.bytes:,} bytes in {moved.files:,} files in {duration(moved.seconds)}"


def _differences(verdict: Verdict) -> list[str]:
    if not verdict.named:
        return []
    shown = [f"  {item.path}: {item.kind}" for item in verdict.named[:_SHOWN]]
    left = sum(verdict.counts.values()) - len(shown)
    return ["", "Differences", *shown, *([f"  and {left:,} more"] if left else [])]


def _checks(certificate: Certificate) -> list[str]:
    """Return commands for RDS-SSH that come to the same answer without us."""
    judge = (
        # -s brings a path with spaces to the facility in one piece, whatever rsync is there.
        ("rsync", "-rlnci", "-s"),
        *((f"--exclude=/{path}",) for path in certificate.excluded),
        ("--", f"{certificate.source}/"),
        (f"{certificate.destination}/",),
    )
    lines = [
        "  content of all files, on RDS-SSH; it prints what differs, so nothing is good:",
        *" \\\n      ".join(("    " + shlex.join(judge[0]), *map(shlex.join, judge[1:]))).split("\n"),
    ]
    if certificate.manifest:
        manifest = f"{certificate_folder(certificate.destination)}/{certificate.manifest}"
        lines += [
            "  the copy against its own manifest, years from now:",
            f"    cd {shlex.quote(certificate.destination)} && sha256sum -c --quiet \\",
            f"      {shlex.quote(manifest)}",
        ]
    if certificate.verdict.level is not Level.FULL:
        lines.append("  or start a run in mode 'verify only' with verification 'full'.")
    return lines
