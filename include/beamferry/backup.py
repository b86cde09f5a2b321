"""A backup of what cannot be had again: Airflow's database, the registry, keys and connections."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AwareDatetime, Field

from beamferry import database_copy
from beamferry.beamtime import Frozen
from beamferry.database_copy import Kind
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import BinaryIO

# Of the archive; a higher one holds what this version knows nothing of.
FORMAT = 1
MANIFEST = "manifest.json"
DATABASES: Mapping[Kind, str] = {"sqlite": "database.sqlite", "postgres": "database.sql"}
REGISTRY = "registry.yaml"
CONNECTIONS = "connections.env"
# In the folder of ./run up: without the first nobody can read the passwords of the database's connections.
_OF_HOME = ("fernet_key", "passwords.json")
_NAME = r"(?:(?:home|secrets|keys)/)?[A-Za-z0-9_][A-Za-z0-9._-]*"


@dataclass(frozen=True)
class Installation:
    """Where an Airflow with Beamferry keeps what matters.

    Args:
        home: AIRFLOW_HOME.
        registry: the registry's file.
        database: SQLAlchemy's address of Airflow's database.
        secrets: a folder of secrets of the group's server, None where there is none.
        keys: private keys that the connections name.
        connections: those of the environment, by the variable's name.
    """

    home: Path
    registry: Path
    database: str = field(repr=False)
    secrets: Path | None = None
    keys: tuple[Path, ...] = ()
    connections: Mapping[str, str] = field(default_factory=dict, repr=False)


class Versions(Frozen):
    """What made a backup, or what is installed here."""

    beamferry: str
    airflow: str


class Held(Frozen):
    """One file of a backup; ``place`` is where a key was, ``mode`` its permissions."""

    name: Annotated[str, Field(pattern=f"^{_NAME}$")]
    bytes: int
    sha256: str
    mode: Annotated[int, Field(ge=0, le=0o777)]
    place: Annotated[str, Field(pattern="^/")] | None = None


class Manifest(Frozen):
    """What a backup holds; ``format`` is the version of its form."""

    format: int
    made_at: AwareDatetime
    versions: Versions
    database: Kind
    files: tuple[Held, ...]


def back_up(installation: Installation, target: Path, *, versions: Versions, now: datetime) -> Manifest:
    """Write a backup whole or not at all, readable by this account alone; Airflow may run meanwhile.

    Raises:
        PermanentError: ``target`` is there already, or something that belongs into the backup cannot be read.
    """
    if target.exists():
        raise PermanentError("backup-exists", f"{target} is there already", "name another file")
    database = database_copy.kind(installation.database)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".beamferry-") as folder:
            staging = Path(folder)
            database_copy.copy(installation.database, staging / "database")
            files = {DATABASES[database]: staging / "database", **_files(installation, staging)}
            # What is measured is a copy, too: the registry may change before it is in the archive.
            copies = {name: staging / f"{number}" for number, name in enumerate(files)}
            for name, path in files.items():
                shutil.copy(path, copies[name])
            held = tuple(_held(name, files[name], copies[name]) for name in files)
            manifest = Manifest(format=FORMAT, made_at=now, versions=versions, database=database, files=held)
            archive = staging / "archive"
            _write(archive, manifest, copies)
            archive.rename(target)
    except OSError as error:
        raise PermanentError(
            "backup-unreadable",
            f"The backup could not be made ({error.strerror}: {error.filename})",
            "see that the file can be read, and that the backup's folder can be written and is not full",
        ) from error
    return manifest


def _files(installation: Installation, staging: Path) -> dict[str, Path]:
    """Return everything but the database, by its name in the backup."""
    found = {REGISTRY: installation.registry}
    for name in _OF_HOME:
        if (installation.home / name).is_file():
            found[f"home/{name}"] = installation.home / name
    if installation.secrets is not None:
        for path in sorted(installation.secrets.iterdir()):
            # The group's server finds its registry by a link beside the secrets.
            if path.is_file() and not path.name.startswith(".") and not path.samefile(installation.registry):
                found[f"secrets/{path.name}"] = path
    for number, key in enumerate(sorted(set(installation.keys))):
        # A key among the secrets is in the backup as one of them.
        if installation.secrets is None or key.parent != installation.secrets:
            found[f"keys/{number}"] = key
    if installation.connections:
        found[CONNECTIONS] = staging / CONNECTIONS
        with private(found[CONNECTIONS]) as file:
            file.write(_exports(installation.connections))
    return found


def _exports(connections: Mapping[str, str]) -> bytes:
    """Return the lines that a shell reads."""
    return "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in sorted(connections.items())
    ).encode()


def _held(name: str, path: Path, copied: Path) -> Held:
    if not re.fullmatch(_NAME, name):
        raise PermanentError(
            "backup-name", f"{path} has a name that a backup cannot hold", "use letters, digits and . _ -"
        )
    with copied.open("rb") as file:
        found = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    place = str(path.absolute()) if name.startswith("keys/") else None
    return Held(name=name, bytes=found.st_size, sha256=digest, mode=found.st_mode & 0o777, place=place)


def private(path: Path) -> BinaryIO:
    """Open a new file that this account alone can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _write(archive: Path, manifest: Manifest, sources: Mapping[str, Path]) -> None:
    with private(archive) as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=6) as tar:
            text = manifest.model_dump_json(indent=2).encode()
            tar.addfile(_entry(MANIFEST, len(text), 0o600, manifest.made_at), io.BytesIO(text))
            for held in manifest.files:
                with sources[held.name].open("rb") as content:
                    tar.addfile(_entry(held.name, held.bytes, held.mode, manifest.made_at), content)
        file.flush()
        os.fsync(file.fileno())


def _entry(name: str, size: int, mode: int, made_at: datetime) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, int(made_at.timestamp())
    return entry
