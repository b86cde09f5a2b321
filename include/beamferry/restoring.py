"""The way back from a backup: proved whole first, then put where it belongs."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from beamferry import database_copy
from beamferry.backup import CONNECTIONS, DATABASES, FORMAT, MANIFEST, REGISTRY, Manifest, private
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import IO

    from beamferry.backup import Held, Installation, Versions

# Of a backup: the group's server needs its secrets before it has a database to restore.
Part = Literal["files", "database"]
_LARGEST_MANIFEST = 1024**2
# What reading a file that is no backup, or no longer one, can come to.
_UNREADABLE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError)


def restore(
    archive: Path,
    installation: Installation,
    *,
    replace: bool,
    versions: Versions,
    now: datetime,
    only: Part | None = None,
) -> tuple[str, ...]:
    """Put back what a backup holds, and return what was put where; what is there and equal stays.

    What is replaced is kept beside it under a name with ``.before-`` and the time, except the tables of Postgres.

    Args:
        archive: a file that ``back_up`` wrote.
        installation: where it goes; its keys and connections do not matter.
        replace: whether what is there and differs may be replaced.
        versions: of what is installed here.
        now: the present, aware.
        only: one part of it; all of it when None.

    Raises:
        PermanentError: the archive is damaged or newer than what is installed here, Airflow runs, or something would
            be overwritten; nothing was changed.
    """
    try:
        installation.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            _alone(installation.home),
            tempfile.TemporaryDirectory(dir=installation.home, prefix=".restore-") as folder,
        ):
            staging = Path(folder)
            manifest = _unpack(archive, staging, versions)
            todo = [] if only == "database" else _differing(staging, manifest, installation)
            there = [str(place) for _, place, _ in todo if place.exists()]
            if only != "files":
                _refuse_other_database(manifest, installation)
                database_copy.refuse_in_use(installation.database)
                if database_copy.is_there(installation.database):
                    there.insert(0, "Airflow's database")
            if there and not replace:
                raise _would_overwrite(there)
            stamp = f".before-{now:%Y%m%dT%H%M%SZ}"
            done = [] if only == "files" else [_put_database(staging, manifest, installation, stamp)]
            for new, place, held in todo:
                _put(new, place, held.mode, stamp)
                done.append(str(place))
            return tuple(done)
    except OSError as error:
        raise PermanentError(
            "restore-stopped",
            f"The restore stopped ({error.strerror}: {error.filename})",
            "see that the backup can be read and that this place can be written and is not full, then call it again",
        ) from error


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the folder's lock, which ``./run up`` holds too while it runs."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermanentError(
                "airflow-runs", f"Airflow runs in {home}", "stop it with Ctrl-C where it was started"
            ) from None
        yield
    finally:
        os.close(lock)


def _unpack(archive: Path, staging: Path, versions: Versions) -> Manifest:
    """Put the files of an archive into a folder once all of them are proved whole."""
    for folder in ("home", "secrets", "keys"):
        (staging / folder).mkdir(mode=0o700)
    try:
        # The checksum of the whole stands at its end, and damage must not be taken for a later version.
        with gzip.open(archive) as whole:
            while whole.read(1024**2):
                continue
        with tarfile.open(archive, mode="r:gz") as tar:
            manifest = _manifest(tar, versions)
            wanted = {held.name: held for held in manifest.files}
            while member := tar.next():
                held = wanted.pop(member.name, None)
                content = tar.extractfile(member) if member.isreg() else None
                if held is None or content is None:
                    raise _damaged(f"it holds {member.name!r}, which its list does not name")
                if _unpacked(content, staging / held.name) != (held.bytes, held.sha256):
                    raise _damaged(f"{held.name} is not what it was")
    except _UNREADABLE as error:
        raise _damaged("it cannot be read to its end") from error
    if wanted:
        raise _damaged(f"{min(wanted)} is missing")
    database = DATABASES[manifest.database]
    if not {database, REGISTRY} <= {held.name for held in manifest.files}:
        raise _damaged("the database or the registry is missing")
    if manifest.database == "sqlite":
        database_copy.check_sqlite(staging / database)
    return manifest


def _manifest(tar: tarfile.TarFile, versions: Versions) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.isreg() else None
    if first is None or content is None or first.name != MANIFEST or first.size > _LARGEST_MANIFEST:
        raise _damaged("it does not begin with its list")
    text = content.read()
    found = json.loads(text)
    form = found.get("format") if isinstance(found, dict) else None
    if isinstance(form, int) and form > FORMAT:
        raise _newer(f"its form {form} is newer than the form {FORMAT} of this Beamferry", "Beamferry")
    manifest = Manifest.model_validate_json(text)
    for name in ("airflow", "beamferry"):
        made, here = getattr(manifest.versions, name), getattr(versions, name)
        if _order(made) > _order(here):
            raise _newer(
                f"it was made with {name.title()} {made}, and here is {here}", f"{name.title()} {made}"
            )
    return manifest


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _newer(reason: str, wanted: str) -> PermanentError:
    return PermanentError(
        "backup-newer",
        f"This backup is newer than what is installed: {reason}",
        f"install a later {wanted} first",
    )


def _damaged(reason: str) -> PermanentError:
    return PermanentError(
        "backup-damaged", f"This is no whole backup ({reason}); nothing was changed", "take another one"
    )


def _unpacked(content: IO[bytes], new: Path) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with private(new) as file:
        while block := content.read(1024**2):
            file.write(block)
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def _place(held: Held, installation: Installation) -> Path | None:
    """Return where a file goes, None for one that does not go anywhere by itself."""
    folder, slash, name = held.name.rpartition("/")
    if not slash:
        return {REGISTRY: installation.registry, CONNECTIONS: installation.home / CONNECTIONS}.get(name)
    if folder == "secrets":
        return None if installation.secrets is None else installation.secrets / name
    if folder == "home":
        return installation.home / name
    return None if held.place is None else Path(held.place)


def _differing(
    staging: Path, manifest: Manifest, installation: Installation
) -> list[tuple[Path, Path, Held]]:
    """Return each file that is not there as it was, and where it goes."""
    return [
        (staging / held.name, place, held)
        for held in manifest.files
        if (place := _place(held, installation)) is not None and not _same(place, staging / held.name)
    ]


def _same(place: Path, new: Path) -> bool:
    return place.is_file() and place.read_bytes() == new.read_bytes()


def _refuse_other_database(manifest: Manifest, installation: Installation) -> None:
    if manifest.database != database_copy.kind(installation.database):
        raise PermanentError(
            "backup-other-database",
            f"The backup holds a database of the kind {manifest.database}, and Airflow here has another kind",
            "let AIRFLOW__DATABASE__SQL_ALCHEMY_CONN name one of the same kind",
        )


def _would_overwrite(there: list[str]) -> PermanentError:
    return PermanentError(
        "restore-would-overwrite",
        f"The restore would overwrite {', '.join(there)}; nothing was changed",
        "restore into another folder (--home), or allow it with --replace",
    )


def _put_database(staging: Path, manifest: Manifest, installation: Installation, stamp: str) -> str:
    copied = staging / DATABASES[manifest.database]
    if manifest.database == "postgres":
        database_copy.load_postgres(installation.database, copied)
        return "Airflow's database"
    place = database_copy.sqlite_file(installation.database)
    # What SQLite would play back belongs to the old one, and goes with it.
    for beside in database_copy.BESIDE:
        old = place.with_name(place.name + beside)
        if old.exists():
            old.rename(place.with_name(f"{place.name}{stamp}{beside}"))
    _put(copied, place, 0o600, stamp)
    return str(place)


def _put(new: Path, place: Path, mode: int, stamp: str) -> None:
    """Put a file where it belongs, whole or not at all; what was there stays under another name."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=place.parent, prefix=".beamferry-", delete=False
    ) as file:  # of mode 0600
        with new.open("rb") as content:
            shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    if place.exists():
        place.rename(place.with_name(place.name + stamp))
    Path(file.name).chmod(mode)
    Path(file.name).replace(place)
