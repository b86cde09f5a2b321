"""One beamtime in full: how its transfer went, what was found, and the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.board.answers import Certificate, Command, Count, Differences, Page, Zone
from beamferry.board.rows import certificate_text
from beamferry.differences import Difference
from beamferry.plan import deadline

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site
    from beamferry.board.answers import Folder, Row, Started
    from beamferry.known import Known
    from beamferry.verification import Verdict


def page(
    line: Row,
    beamtime: Beamtime,
    site: Site,
    known: Known,
    *,
    folders: tuple[Folder, ...] | None,
    runs: tuple[Started, ...],
    commands: Iterable[tuple[str, str]],
    now: datetime,
) -> Page:
    """Return one beamtime in full.

    Args:
        line: its line on the board.
        beamtime: the registry's entry.
        site: the group's own side.
        known: what its asset says.
        folders: of the source, None where no dry run counts them one by one.
        runs: newest first.
        commands: titles and command lines.
        now: the present, aware.
    """
    course = known.whole_course
    issued = known.certificate
    return Page(
        # Fields as they are: the line is valid already, and its models stay models.
        **{name: getattr(line, name) for name in type(line).model_fields},
        now=now,
        site=Zone(time_zone=site.time_zone),
        deadline_at=deadline(beamtime, site),
        streams=None if known.plan is None else known.plan.streams,
        left=course.left,
        rates=course.rates,
        folders=folders,
        runs=runs,
        differences=None if known.verification is None else _differences(known.verification),
        certificate=None
        if issued is None
        else Certificate(
            text=certificate_text(known), issued_at=issued.at, outcome=issued.outcome, folder=issued.folder
        ),
        commands=tuple(Command(title=title, text=text) for title, text in commands),
    )


def _differences(verdict: Verdict) -> Differences:
    return Differences(
        counts=tuple(
            Count(kind=kind, count=verdict.counts[kind], text=verdict.amount(kind))
            for kind in Difference
            if kind in verdict.counts
        ),
        examples=tuple(f"{item.path} ({item.kind.words})" for item in verdict.named),
    )
