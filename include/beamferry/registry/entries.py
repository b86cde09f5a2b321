"""The entries of a registry: each by itself, and then what no two of them may share."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from beamferry.beamtime import CERTIFICATE_SUFFIX, Beamtime
from beamferry.facilities import FACILITIES
from beamferry.registry.document import written
from beamferry.registry.problem import Where, spell
from beamferry.registry.wording import choice, report

if TYPE_CHECKING:
    from beamferry.beamtime import Site
    from beamferry.registry.document import Document

Model = TypeVar("Model", bound=BaseModel)

MODELS: dict[str, type[Beamtime]] = {
    get_args(model.model_fields["facility"].annotation)[0]: model for model in FACILITIES
}


def read_fields(document: Document, where: Where, model: type[Model], fields: object) -> Model | None:
    """Return what stands at a place as a model; None, and problems in the document, where it is not valid."""
    if not isinstance(fields, dict):
        if where not in document.flawed:
            value = written(fields, document.marks.get(where))
            document.refuse(where, "must hold fields", "write one 'name: value' in each line", value=value)
        return None
    try:
        valid = model.model_validate(fields)
    except ValidationError as error:
        report(document, where, model, error)
        return None
    return None if where in document.flawed else valid


def read_entries(document: Document, entries: list[Any], site: Site | None) -> tuple[Beamtime, ...]:
    """Return the valid entries; the problems of the others are in the document.

    Where two entries claim the same, the earlier one keeps it. Without a site, destinations are not compared.
    """
    found: dict[Where, Beamtime] = {}
    for place, entry in enumerate(entries):
        where: Where = ("beamtimes", place)
        beamtime = read_fields(document, where, *_model(document, where, entry))
        if beamtime is not None:
            found[where] = beamtime
    for where in _reused_ids(document, len(entries)):
        found.pop(where, None)
    if site is not None:
        for where in _bad_destinations(document, found, site):
            del found[where]
    return tuple(found.values())


def _model(document: Document, where: Where, entry: Any) -> tuple[type[Beamtime], Any]:
    """Return the facility's model and the fields to check by it; without one, those that all share."""
    if not isinstance(entry, dict):
        return Beamtime, entry
    facility = entry.get("facility")
    if isinstance(facility, str):
        if facility in MODELS:
            return MODELS[facility], entry
        message, remedy = choice(facility, MODELS)
        document.refuse((*where, "facility"), message, remedy, value=written(facility, None))
    return Beamtime, {name: value for name, value in entry.items() if name in Beamtime.model_fields}


def _reused_ids(document: Document, count: int) -> list[Where]:
    """Find the entries whose id an earlier one has, were that one archived or not valid."""
    reused: list[Where] = []
    first: dict[tuple[str, str], Where] = {}
    for place in range(count):
        where: Where = ("beamtimes", place)
        facility = document.marks.get((*where, "facility"))
        name = document.marks.get((*where, "id"))
        if facility is None or name is None or not facility.text or not name.text:
            continue
        # Without regard to case: on a Windows share two such folders would be one.
        earlier = first.setdefault((facility.text, name.text.casefold()), where)
        if earlier is not where:
            message = (
                f"is the id of {spell(earlier)} in line {document.line(earlier)}; ids are never used again"
            )
            value = written(name.text, name)
            document.refuse((*where, "id"), message, "remove or correct one of the two", value=value)
            reused.append(where)
    return reused


def _bad_destinations(document: Document, found: dict[Where, Beamtime], site: Site) -> list[Where]:
    """Find the entries whose data would leave the group's folder, or mix with what is another beamtime's."""
    bad: list[Where] = []
    root = PurePosixPath(site.destination_root)
    # Who has a folder, and whether that is for the certificate; the same of the folders above.
    taken: dict[tuple[str, ...], tuple[Where, bool]] = {}
    around: dict[tuple[str, ...], tuple[Where, bool]] = {}
    for where, beamtime in found.items():
        path = beamtime.destination_path(site)
        place = (*where, "destination") if beamtime.destination else where
        if root not in PurePosixPath(path).parents:
            message, remedy = f"must be below destination_root {root}", "correct it, or leave the line out"
            document.refuse(place, message, remedy, value=repr(path))
            bad.append(where)
            continue
        # Its data and its certificate; without regard to case, again.
        own = [PurePosixPath(folder.casefold()).parts for folder in (path, path + CERTIFICATE_SUFFIX)]
        chains = [[parts[:length] for length in range(1, len(parts) + 1)] for parts in own]
        for parts, chain, is_certificate in zip(own, chains, (False, True), strict=True):
            other = around.get(parts) or next((taken[folder] for folder in chain if folder in taken), None)
            if other is not None:
                message = _clash(document, found, site, path, other, is_certificate=is_certificate)
                document.refuse(place, message, "name a destination that is apart from it")
                bad.append(where)
                break
        else:
            for parts, chain, is_certificate in zip(own, chains, (False, True), strict=True):
                taken[parts] = (where, is_certificate)
                for folder in chain:
                    around.setdefault(folder, (where, is_certificate))
    return bad


def _clash(
    document: Document,
    found: dict[Where, Beamtime],
    site: Site,
    path: str,
    other: tuple[Where, bool],
    *,
    is_certificate: bool,
) -> str:
    """Return what is wrong with a destination that has something in common with an earlier entry's folder."""
    where, theirs_is_certificate = other
    theirs = found[where].destination_path(site)
    of = f"of {spell(where)} in line {document.line(where)}"
    if is_certificate:
        return f"would put its certificate at {path + CERTIFICATE_SUFFIX!r} among the data at {theirs!r} {of}"
    if theirs_is_certificate:
        return f"would mix its data at {path!r} with the certificate at {theirs + CERTIFICATE_SUFFIX!r} {of}"
    return f"would mix its data at {path!r} with {theirs!r} {of}"
