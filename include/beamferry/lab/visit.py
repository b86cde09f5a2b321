"""A made-up visit at Diamond: real file formats, a tree as beamlines leave it, names that break tools.

The same size and seed give the same bytes, names and times.
"""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SIZES = {"small": 3_000_000, "demo": 300_000_000}
DEFAULT_SEED = 25682
# How long ago a demonstration's beamtimes ended, so that the days to tape count down as they do for users.
SINCE_VISIT = timedelta(days=5)
# What is never fetched from Diamond.
EXCLUDED = b"tmp"
# 1 May 2021, 09:00 UTC: the visit's first file; later ones follow within the two days of the visit.
_BEGAN = 1_619_859_600
_VISIT_SECONDS = 172_800
_SMALLEST = 1_000_000
# From this size on, frames are as large as a real detector's.
_LARGE = 50_000_000
_SCANS = (
    "raw/i12-51001.nxs",
    "raw/i12-51002.nxs",
    "raw/i12-51003.nxs",
    "processed/i12-51001-reduced.nxs",
)

# Names that are legal on Diamond's file system and that quoting, templates, listings or encodings get wrong.
ODD_NAMES: tuple[bytes, ...] = (
    b"two  spaces and a tail ",
    b" leading space",
    b'it\'s "quoted" `twice`',
    b"$(touch owned) ${HOME} $$",
    b"{{ params.x }} {% raw %}",
    b"two\nlines",
    b"tab\tand\rreturn",
    b"-rf",
    b"--delete",
    b"host:colon",
    b"12:30:45.txt",
    "Prüfkörper_α→β_試料".encode(),
    # The same letters as one code point and as two: two files here, one file on some other systems.
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"not-utf8-\xff\xfe",
    b"scan.sh",
    b"literal \\#012 backslash-hash",
    b"back\\slash",
    b"star* question? [a-z] #hash ~tilde",
    b"semi;colon & pipe | less < more >",
    b"percent %s %P %0d",
    b"UPPER",
    b"upper",
    b".hidden",
    b"~",
    b"n" * 255,
)


def size_in_bytes(size: str, sizes: Mapping[str, int] = SIZES) -> int:
    """Return the bytes of ``small``, ``demo`` or a plain number; ``sizes`` are those of another facility's tree.

    Raises:
        PermanentError: it is neither.
    """
    if size in sizes:
        return sizes[size]
    if size.isascii() and size.isdigit():
        return int(size)
    raise PermanentError(
        "lab-size", f"no such size of visit: {size!r}", "take small, demo or a number of bytes"
    )


def make_visit(folder: Path, size: int, seed: int = DEFAULT_SEED) -> None:
    """Make the visit in ``folder``, which must not exist; about ``size`` bytes without its ``tmp/``.

    Raises:
        PermanentError: the size is too small to hold every format.
    """
    if size < _SMALLEST:
        raise PermanentError("lab-size", f"a visit of {size} bytes is too small", f"take {_SMALLEST} or more")
    from beamferry.lab.frames import Detector  # noqa: PLC0415 - the formats' libraries take a second to load

    detector = Detector(side=128 if size < _LARGE else 512, seed=seed)
    for name in (
        "jpegs",
        "processing/scans",
        "processed",
        "raw",
        "rawdata",
        "spool/empty",
        "tmp/cache",
        "xml",
    ):
        (folder / name).mkdir(parents=True)
    detector.write_nexus([*(folder / name for name in _SCANS)], size * 50 // 100)
    detector.write_tiff(folder / "rawdata" / "51004-pco1", size * 30 // 100)
    detector.write_cbf(folder / "rawdata" / "51005-pilatus", size * 20 // 100)
    _notes(folder, min(2_000, 40 + size // 150_000))
    _odd_names(folder)
    _links(folder)
    (folder / "tmp" / "cache" / "recomputable.bin").write_bytes(bytes(range(256)) * 1000)
    # Data that a beamline has sealed: readable, but neither files nor folder may be written.
    sealed = folder / "raw" / "sealed"
    sealed.mkdir()
    (sealed / "dark.tif").write_bytes(detector.tiff())
    (sealed / "dark.tif").chmod(0o440)
    set_times(folder, sorted(path for path, _ in walk(folder)), _BEGAN, _VISIT_SECONDS)
    sealed.chmod(0o550)


def remove_visit(folder: Path) -> None:
    """Remove a visit, sealed folders too."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o700)
    shutil.rmtree(folder)


def must_arrive(folder: Path) -> list[bytes]:
    """Return every path below the visit that belongs at the destination, sorted; folders and links too."""
    return sorted(path for path, _ in walk(folder) if path.split(b"/")[0] != EXCLUDED)


def walk(folder: Path) -> Iterator[tuple[bytes, bool]]:
    """Yield every path below ``folder``, relative to it, with whether it is a folder; each folder's names sorted."""

    def below(place: bytes) -> Iterator[tuple[bytes, bool]]:
        with os.scandir(os.path.join(bytes(folder), place)) as found:  # noqa: PTH118 - names need not be text
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            path = place + b"/" + entry.name if place else entry.name
            yield path, entry.is_dir(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from below(path)

    return below(b"")


def write_names(files: Path, folders: Path, names: tuple[bytes, ...]) -> None:
    """Write a file of every name, and a folder with a file; where the system cannot hold one, the error says which."""
    for number, name in enumerate(names):
        (files / os.fsdecode(name)).write_bytes(b"file number %d of an odd name\n" % number)
        inner = folders / os.fsdecode(name)
        inner.mkdir()
        (inner / "frame.txt").write_bytes(b"in folder number %d\n" % number)


def set_times(folder: Path, paths: Sequence[bytes], began: int, seconds: int) -> None:
    """Give the paths, and the folder itself, times in their order from ``began`` on, within so many seconds."""
    step = seconds / max(1, len(paths))
    for number, path in enumerate(paths):
        # Whole seconds and fractions both occur.
        when = int((began + number * step) * 1_000_000_000) // 1_000 * 1_000
        os.utime(os.path.join(bytes(folder), path), ns=(when, when), follow_symlinks=False)  # noqa: PTH118
    os.utime(folder, (began, began))


def _notes(folder: Path, count: int) -> None:
    """Write many small text files and the beamline's XML."""
    angles = [step / 10 for step in range(90)]
    for number in range(count):
        place = folder / "processing" / "scans" / f"{number // 100:03}"
        place.mkdir(exist_ok=True)
        text = "\n".join(f"{number} {angle:.3f} {number * angle % 97:.4f}" for angle in angles)
        (place / f"fit_{number:05}.dat").write_text(f"# scan angle intensity\n{text}\n")
    for number in range(1, 4):
        (folder / "xml" / f"visit-{number}.xml").write_text(
            f'<?xml version="1.0"?>\n<scan number="5100{number}" beamline="i12"/>\n'
        )
    (folder / "processed" / "empty.dat").touch()


def _odd_names(folder: Path) -> None:
    """Write what has an odd name, in the middle of the visit and at its top."""
    files, folders = folder / "processing" / "odd files", folder / "processing" / "odd folders"
    files.mkdir()
    folders.mkdir()
    write_names(files, folders, ODD_NAMES)
    # Odd at the top, too, where words become arguments first.
    (folder / "-n").write_text("looks like an option\n")
    (folder / "raw data: day 2").mkdir()
    (folder / "raw data: day 2" / "log book.txt").write_text("Tuesday, beam dump at 14:20\n")
    deep = folder.joinpath("processing", *(f"level {number}" for number in range(20)))
    deep.mkdir(parents=True)
    (deep / "bottom.txt").touch()


def _links(folder: Path) -> None:
    """Make links within the tree, out of it, to nothing, and to themselves."""
    links = folder / "processing" / "links"
    links.mkdir()
    (links / "inside").symlink_to("../../raw/i12-51001.nxs")
    (links / "folder").symlink_to("../scans")
    (links / "outside").symlink_to("/dls_sw/i12/software/README")
    (links / "up").symlink_to("../../../mg25682-1/processed")
    (links / "dangling").symlink_to("no such file")
    (links / "loop").symlink_to("loop")
    (links / "odd -> arrow").symlink_to("target with\nnewline and \\#012")
