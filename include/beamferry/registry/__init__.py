"""The registry: one YAML file that names the beamtimes; a bad entry costs only itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beamferry.beamtime import Beamtime, Site
from beamferry.registry.document import read_document
from beamferry.registry.entries import read_entries, read_fields
from beamferry.registry.problem import Problem, RegistryError
from beamferry.registry.wording import nearest

if TYPE_CHECKING:
    from beamferry.registry.document import Document

__all__ = ["Problem", "Registry", "RegistryError", "load", "read", "registry_path"]

# Some ten thousand entries: what is larger is not a registry, but perhaps somebody's data.
_LARGEST = 2 * 1024**2
# The file's fields, and what to do where one is missing.
_FIELDS = {
    "site": "write 'site:' with the group's destination_root on RDS",
    "beamtimes": "write 'beamtimes: []' where there are none yet",
}


@dataclass(frozen=True)
class Registry:
    """What a registry says.

    Args:
        path: the file.
        site: the group's own side; None where it is not valid, and then no beamtime can be used.
        beamtimes: the valid entries in the file's order, archived ones among them.
        problems: everything to correct, by line.
    """

    path: Path
    site: Site | None
    beamtimes: tuple[Beamtime, ...]
    problems: tuple[Problem, ...]


def registry_path() -> Path:
    """Return the registry that is in force: ``BEAMFERRY_REGISTRY``, else ``include/beamtimes.yaml``.

    The latter is the one beside the source where the package runs from its repository; where it is installed,
    the Airflow project's below ``AIRFLOW_HOME`` (by default ``~/airflow``, as in Airflow itself).
    """
    if named := os.environ.get("BEAMFERRY_REGISTRY"):
        return Path(named).expanduser().absolute()
    source_root = Path(__file__).resolve().parents[2]
    if source_root.name == "include":
        return source_root / "beamtimes.yaml"
    return Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "include" / "beamtimes.yaml"


def load(path: Path) -> Registry:
    """Return what a registry says; whatever is in the file, problems are in the result and never raised."""
    try:
        if not path.exists():
            message = f"there is no file {path}"
            remedy = "create it with a 'site:' and 'beamtimes: []', or let BEAMFERRY_REGISTRY name yours"
            return _unusable(path, message, remedy)
        # Looked at first: a pipe or a device might never end.
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return _unusable(
                path, f"{path} is no text file of at most 2 MiB", "name the registry's YAML file"
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _unusable(
            path, f"{path} cannot be read ({reason})", "check the name and who may read the file"
        )
    return read(path, data)


def _unusable(path: Path, message: str, remedy: str) -> Registry:
    return Registry(path, None, (), (Problem(path, None, "", "", message, remedy),))


def read(path: Path, data: bytes) -> Registry:
    """Return what a registry of this content would say; ``path`` only names it."""
    document = read_document(path, data)
    site, beamtimes = _contents(document)
    problems = sorted(
        document.problems, key=lambda problem: (problem.line or 0, problem.field, problem.message)
    )
    return Registry(path, site, beamtimes if site else (), tuple(problems))


def _contents(document: Document) -> tuple[Site | None, tuple[Beamtime, ...]]:
    if document.value is None and document.problems:
        return None, ()
    if not isinstance(document.value, dict):
        message = "the file is empty" if document.value is None else "the file has no fields"
        document.refuse((), message, "write 'site:' and 'beamtimes:' as the documentation shows")
        return None, ()
    fields: dict[str, Any] = document.value
    for name in fields:
        if name not in _FIELDS and (name,) not in document.flawed:
            meant = nearest(name, _FIELDS)
            remedy = f"did you mean '{meant}'?" if meant else "the file has two fields, site and beamtimes"
            document.refuse((name,), "is no known field", remedy)
    for name, remedy in _FIELDS.items():
        if name not in fields:
            document.refuse((name,), "is missing", remedy)
    site = read_fields(document, ("site",), Site, fields["site"]) if "site" in fields else None
    entries = fields.get("beamtimes")
    if entries is None:  # perhaps because all of them are commented out
        entries = []
    if not isinstance(entries, list):
        document.refuse(("beamtimes",), "must be a list", "begin each entry with '- '")
        entries = []
    return site, read_entries(document, entries, site)
