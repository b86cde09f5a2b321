"""The certificate: what was brought home and how it was proved, readable without Airflow."""

from __future__ import annotations

import shlex
import textwrap
from datetime import UTC
from itertools import groupby
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime

from beamferry.beamtime import CERTIFICATE_SUFFIX, Frozen, GroupAccess, Level, Transport
from beamferry.census import SAMPLE_BYTES
from beamferry.group import permissions
from beamferry.metadata import Metadata
from beamferry.plan import count, duration, human
from beamferry.verification import Outcome, Verdict, chance_to_find, safe, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site

JSON_NAME = "certificate.json"
TEXT_NAME = "certificate.txt"
MANIFEST_NAME = "manifest.sha256"
_WIDTH = 80
_SHOWN = 50
_COLUMN = 13
_UNBROKEN = "\N{NO-BREAK SPACE}"
# What the samples are worth is told for this share of damaged files.
_ONE_IN = 100
_NEARLY_SURE = 0.99
_HEADINGS = {
    Outcome.VERIFIED: "VERIFIED at level '{level}': this beamtime is at RDS",
    Outcome.CHANGING: "STILL CHANGING: not verified yet, as the source changed meanwhile",
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
        facility_name: as sentences name it.
        metadata: what the facility itself says of the beamtime, None where it says nothing.
        protocol: how the data came.
        group_access: what the group may do with the copy, None where its file system keeps no modes, and in older ones.
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
    facility_name: str | None = None
    metadata: Metadata | None = None
    protocol: Transport = Transport.RSYNC
    group_access: GroupAccess | None = None


def certificate_folder(destination: str) -> str:
    """Return the folder of a destination's certificate: beside the data, so that it is no part of it."""
    return destination + CERTIFICATE_SUFFIX


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
    metadata: Metadata | None = None,
    keeps_modes: bool = True,
) -> Certificate:
    """Return the certificate of a verdict, whatever the verdict is: an old good one must not stay."""
    return Certificate(
        outcome=verdict.outcome,
        beamtime=beamtime.id,
        facility=beamtime.facility,
        instrument=beamtime.instrument,
        source=f"{beamtime.account}@{beamtime.host}:{beamtime.source_path}",
        destination=beamtime.destination_path(site),
        excluded=beamtime.left_behind,
        moved=moved,
        verdict=verdict,
        # Versions are what hosts print: nothing of it may act on a terminal.
        tools={name: safe(version) for name, version in sorted(tools.items())},
        manifest=MANIFEST_NAME if manifest else None,
        run=safe(run),
        issued_at=issued_at,
        time_zone=site.time_zone,
        facility_name=beamtime.facility_name,
        metadata=metadata,
        protocol=beamtime.protocol,
        group_access=beamtime.access_of_group(site) if keeps_modes else None,
    )


def to_json(certificate: Certificate) -> str:
    """Return ``certificate.json``."""
    return certificate.model_dump_json(indent=2) + "\n"


def _about(metadata: Metadata | None, zone: str) -> Iterator[tuple[str, str]]:
    """Yield what the facility says of the beamtime; its words have passed ``parse_metadata``."""
    if metadata is None:
        return
    if metadata.title:
        yield "Title", metadata.title
    if metadata.proposal:
        yield "Proposal", metadata.proposal
    if metadata.pi:
        yield "PI", metadata.pi
    if metadata.begin and metadata.end:
        days = [f"{moment.astimezone(ZoneInfo(zone)):%d %B %Y}" for moment in (metadata.begin, metadata.end)]
        yield "Shifts", " to ".join(days)
    if metadata.readme:
        yield (
            "Note",
            "the facility names files that some systems cannot hold: README.non-conformant-files.txt",
        )


def to_text(certificate: Certificate) -> str:
    """Return ``certificate.txt``: the answer in its first line; only what is to be copied exceeds 80 columns."""
    verdict, zone = certificate.verdict, certificate.time_zone
    heading = _HEADINGS[certificate.outcome].format(level=verdict.level)
    facility = certificate.facility_name or certificate.facility.title()
    rows = [
        ("Beamtime", f"{certificate.beamtime}, {certificate.instrument} at {facility}"),
        *_about(certificate.metadata, zone),
        ("From", _whole(certificate.source)),
        ("To", _whole(certificate.destination)),
        ("Files", count(verdict.source.files, "file")),
        ("Size", f"{human(verdict.source.bytes)} ({verdict.source.bytes:,} bytes)"),
        ("Besides", f"{count(verdict.source.folders, 'folder')}, {count(verdict.source.links, 'link')}"),
        ("Left behind", ", ".join(map(_whole, certificate.excluded)) or "nothing"),
        *permissions(certificate.group_access, certificate.protocol, verdict.unsafe_modes),
        ("Level", f"{verdict.level}: {words(verdict.level, verdict.sampled_files)}"),
        *(("Samples", text) for text in _samples(verdict)),
        ("Compared", _when(verdict.checked_at, zone)),
        ("This run", _moved(certificate.moved)),
        ("Run", certificate.run),
    ]
    lines = [
        heading,
        "=" * len(heading),
        "",
        *_wrapped(verdict.sentence),
        "",
        *(line for name, value in rows for line in _wrapped(value, f"{name + ':':<{_COLUMN}}")),
        *_differences(verdict),
        "",
        "To check it yourself, on RDS-SSH",
        *_checks(certificate),
        "",
        *_wrapped(
            ", ".join(f"{name}: {version}" for name, version in certificate.tools.items()) or "not known",
            f"{'Tools:':<{_COLUMN}}",
        ),
        *_wrapped(f"by Beamferry, {_when(certificate.issued_at, zone)}", f"{'Written:':<{_COLUMN}}"),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _whole(path: str) -> str:
    """Keep a path from being broken at its blanks: it is there to be copied. No path holds the stand-in."""
    return path.replace(" ", _UNBROKEN)


def _wrapped(text: str, first: str = "") -> list[str]:
    lines = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_UNBROKEN, " ") for line in lines]


def _when(moment: datetime, zone: str) -> str:
    local = moment.astimezone(ZoneInfo(zone))
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC ({local:%d %B %Y, %H:%M %Z})"


def _moved(moved: Moved | None) -> str:
    if moved is None:
        return "compared both ends and moved nothing"
    if moved.files == 0:
        return "found nothing to move"
    rate = f", {human(moved.bytes // moved.seconds)}/s" if moved.seconds else ""
    return (
        f"moved {human(moved.bytes)} ({moved.bytes:,} bytes) in {count(moved.files, 'file')} within "
        f"{duration(moved.seconds)}{rate}"
    )


def _samples(verdict: Verdict) -> Iterator[str]:
    """Say what the samples are worth, for those who would take them for more."""
    files, sampled = verdict.source.files, verdict.sampled_files
    if verdict.level is not Level.SAMPLED or sampled == 0:
        return
    chosen = (
        f"{human(verdict.sampled_bytes)} in {sampled:,} of {count(files, 'file')}, chosen at random as long as "
        f"they fit into {human(SAMPLE_BYTES)}"
    )
    if files >= _ONE_IN and sampled <= files:
        chance = chance_to_find(files, files // _ONE_IN, sampled)
        # 100 % is for level full.
        shown = f"{chance:.0%}" if chance < _NEARLY_SURE else f"more than {_NEARLY_SURE:.0%}"
        chosen += f"; were 1 file in {_ONE_IN} damaged, they would show it with a probability of {shown}"
    yield chosen


def _differences(verdict: Verdict) -> Iterator[str]:
    """Name the first differences of each kind and count the rest."""
    for kind, group in groupby(verdict.few(_SHOWN), key=lambda item: item.kind):
        shown = [f"  {item.path}" for item in group]
        left = verdict.counts[kind] - len(shown)
        yield ""
        yield from _wrapped(f"{verdict.amount(kind)}:")
        yield from shown
        if left:
            yield f"  and {left:,} more"


def _checks(certificate: Certificate) -> Iterator[str]:
    """Give commands that come to the same answer without Beamferry."""
    # Over FTP and SFTP no one command compares content.
    if certificate.protocol is Transport.RSYNC:
        yield "  the content of all files; it prints what differs, so nothing is good:"
        # -s brings a path with blanks to the facility in one piece, whatever rsync is there.
        yield from _command(
            (
                ("rsync", "-s", "-rlnci"),
                *((f"--exclude=/{path}",) for path in certificate.excluded),
                ("--", f"{certificate.source}/"),
                (f"{certificate.destination}/",),
            )
        )
    if certificate.manifest:
        manifest = f"{certificate_folder(certificate.destination)}/{certificate.manifest}"
        yield "  the copy against its own manifest, years from now; again nothing is good:"
        yield f"    cd {shlex.quote(certificate.destination)} &&"
        yield from _command((("sha256sum", "-c", "--quiet"), (manifest,)))
    if certificate.verdict.level is not Level.FULL:
        yield "  all content by Airflow: start a run in mode 'verify only' with"
        yield "  verification 'full'."


def _command(parts: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Lay a command out in lines that can be pasted."""
    yield " \\\n".join(
        f"{'    ' if at == 0 else '      '}{shlex.join(part)}" for at, part in enumerate(parts)
    )
