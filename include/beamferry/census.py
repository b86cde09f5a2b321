"""Censuses: what each end of a transfer holds, listed on RDS-SSH and read here record by record."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from beamferry.beamtime import Level
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import SupportsRead

    from beamferry.beamtime import Beamtime, Site

# A path has at most 4096 bytes, and so has what a link holds; the rest is numbers.
_RECORD_LIMIT = 16 * 1024
_CHUNK = 64 * 1024
# PATH//TYPE//SIZE//MTIME//LINKTARGET: no path holds '//', and the link's target, which may, comes last.
_SEPARATOR = b"//"

# Reading this much at both ends takes about half a minute; a file is compared whole or not at all.
SAMPLE_BYTES = 8 * 1024**3


class Kind(StrEnum):
    """What an entry of a census is, by the letter it has there."""

    FILE = "f"
    FOLDER = "d"
    LINK = "l"
    OTHER = "o"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a census.

    Args:
        path: below the folder that was listed; bytes that are not UTF-8 stand as lone surrogates
            (``surrogateescape``), so that the name survives the way back.
        kind: file, folder, link or anything else.
        size: bytes of a file, 0 of all others.
        modified: time of a file's last change, whole seconds since the epoch, 0 for all others.
        target: what a link holds, else ''.
    """

    path: str
    kind: Kind
    size: int
    modified: int
    target: str


def read_records(stream: SupportsRead[bytes]) -> Iterator[Entry]:
    """Yield the entries of a census, or of a difference of two, holding one record at a time.

    Args:
        stream: binary, NUL-terminated records ``PATH//TYPE//SIZE//MTIME//LINKTARGET`` of ``verify.sh``.

    Raises:
        PermanentError: a record cannot be read, or the last one is cut short.
    """
    for record in read_names(stream):
        yield _entry(record)


def read_names(stream: SupportsRead[bytes]) -> Iterator[bytes]:
    """Yield the items of a NUL-terminated list, e.g. of ``verify.sh``'s ``mismatches``, one at a time.

    Raises:
        PermanentError: the last item is cut short, or one is longer than any path can be.
    """
    rest = b""
    while chunk := stream.read(_CHUNK):
        *items, rest = (rest + chunk).split(b"\0")
        yield from items
        if len(rest) > _RECORD_LIMIT:
            raise _unreadable("an entry is longer than a path can be")
    if rest:
        raise _unreadable("it ends in the middle of an entry")


def decode_name(name: bytes) -> str:
    """Return a name as text that ``encode('utf-8', 'surrogateescape')`` turns back into the same bytes."""
    return name.decode("utf-8", "surrogateescape")


def _entry(record: bytes) -> Entry:
    path, *fields = record.split(_SEPARATOR, 4)
    try:
        kind, size, modified, target = fields
        entry = Entry(
            decode_name(path), Kind(kind.decode("ascii")), int(size), int(modified), decode_name(target)
        )
    except ValueError:
        raise _unreadable(f"{decode_name(record[:200])!r} is not an entry") from None
    if not path or entry.size < 0:
        raise _unreadable(f"{decode_name(record[:200])!r} is not an entry")
    return entry


def _unreadable(reason: str) -> PermanentError:
    return PermanentError(
        "census-unreadable",
        f"A census on RDS-SSH cannot be read ({reason})",
        "see that the home folder on RDS-SSH is not full, then clear the task verify_sizes",
    )


def verify_arguments(
    work: str,
    beamtime: Beamtime,
    site: Site,
    *,
    ssh: tuple[str, ...],
    level: Level,
    streams: int,
    seed: int,
) -> tuple[str, ...]:
    """Return the arguments of ``verify.sh``.

    Args:
        work: folder on RDS-SSH that keeps the lists.
        beamtime: what was fetched; its excludes are left out at both ends.
        site: where it went.
        ssh: words of ssh up to the account, ``rsync.SSH``.
        level: ``sizes``, ``sampled`` or ``full``; a listing alone is not for this script.
        streams: files read at the same time at each end.
        seed: chooses the samples; the same seed and the same files give the same samples.
    """
    if level is Level.LISTED:
        raise ValueError("verify.sh compares both ends: level must be sizes, sampled or full")
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--level", level.value),
        *("--samples", str(beamtime.samples)),
        *("--sample-bytes", str(SAMPLE_BYTES)),
        *("--seed", str(seed)),
        *("--host", beamtime.host),
        *("--account", beamtime.account),
        *("--source", beamtime.source_path),
        *("--destination", beamtime.destination_path(site)),
        *("--ssh", " ".join(ssh)),
        *(word for path in beamtime.exclude for word in ("--exclude", path)),
    )


def manifest_arguments(
    work: str, beamtime: Beamtime, site: Site, *, streams: int, output: str, exclude: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the arguments of ``manifest.sh``.

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
        *("--destination", beamtime.destination_path(site)),
        *(word for path in exclude for word in ("--exclude", path)),
        *("--output", output),
    )
