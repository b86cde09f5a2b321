"""A made-up visit at Diamond: real file formats, a tree as beamlines leave it, names that break tools.

The same size and seed give the same bytes, names and times.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import fabio.cbfimage
import h5py
import numpy as np
import tifffile

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Frame = NDArray[np.uint16]
    Float = NDArray[np.float32]

SIZES = {"small": 3_000_000, "demo": 300_000_000}
DEFAULT_SEED = 25682
# What is never fetched from Diamond.
EXCLUDED = b"tmp"
# 1 May 2021, 09:00 UTC: the visit's first file; later ones follow within the two days of the visit.
_BEGAN = 1_619_859_600
_VISIT_SECONDS = 172_800

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


@dataclass(frozen=True)
class Content:
    """What one size of visit is made of.

    Args:
        side: pixels along each edge of a detector frame.
        nexus_frames: frames in each of the four NeXus scans, of two bytes a pixel.
        tiff_frames: TIFF files, of two bytes a pixel.
        cbf_frames: CBF files, about one and a half bytes a pixel.
        notes: small text files.
    """

    side: int
    nexus_frames: int
    tiff_frames: int
    cbf_frames: int
    notes: int

    @classmethod
    def of(cls, size: int) -> Content:
        """Return what gives a visit of about ``size`` bytes, at least one megabyte.

        Raises:
            PermanentError: the size is too small to hold every format.
        """
        if size < 1_000_000:  # noqa: PLR2004
            raise PermanentError("lab-size", f"a visit of {size} bytes is too small", "take 1000000 or more")
        side = 128 if size < 50_000_000 else 512  # noqa: PLR2004
        frame = 2 * side * side
        return cls(
            side=side,
            nexus_frames=max(1, size * 50 // 100 // frame // 4),
            tiff_frames=max(2, size * 30 // 100 // frame),
            cbf_frames=max(2, size * 20 // 100 // (frame * 3 // 4)),
            notes=min(2_000, 40 + size // 150_000),
        )


def size_in_bytes(size: str) -> int:
    """Return the bytes of ``small``, ``demo`` or a plain number.

    Raises:
        PermanentError: it is neither.
    """
    if size in SIZES:
        return SIZES[size]
    if size.isascii() and size.isdigit():
        return int(size)
    raise PermanentError(
        "lab-size", f"no such size of visit: {size!r}", "take small, demo or a number of bytes"
    )


def make_visit(folder: Path, size: int, seed: int = DEFAULT_SEED) -> None:
    """Make the visit in ``folder``, which must not exist; about ``size`` bytes without its ``tmp/``."""
    random = np.random.default_rng(seed)
    content = Content.of(size)
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
    _nexus(folder, content, random)
    _frames(folder, content, random)
    _notes(folder, content)
    _odd_names(folder)
    _links(folder)
    (folder / "tmp" / "cache" / "recomputable.bin").write_bytes(random.bytes(200_000))
    # Data that a beamline has sealed: readable, but neither files nor folder may be written.
    sealed = folder / "raw" / "sealed"
    sealed.mkdir()
    (sealed / "dark.tif").write_bytes(_tiff(_frame(random, content.side)))
    (sealed / "dark.tif").chmod(0o440)
    _set_times(folder)
    sealed.chmod(0o550)


def remove_visit(folder: Path) -> None:
    """Remove a visit, sealed folders too."""
    for place, _, _ in os.walk(folder):
        Path(place).chmod(0o700)
    shutil.rmtree(folder)


def must_arrive(folder: Path) -> list[bytes]:
    """Return every path below the visit that belongs at the destination, sorted; folders and links too."""
    return sorted(path for path in _walk(bytes(folder)) if path.split(b"/")[0] != EXCLUDED)


def _walk(root: bytes, below: bytes = b"") -> Iterator[bytes]:
    with os.scandir(os.path.join(root, below)) as entries:  # noqa: PTH118 - names need not be text
        for entry in entries:
            path = below + b"/" + entry.name if below else entry.name
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path)


@cache
def _rings(side: int) -> Float:
    """Return what a frame shows without its noise."""
    across = np.arange(side) - side / 2
    radius = np.hypot(*np.meshgrid(across, across))
    rings = 400 * np.exp(-(((radius % (side / 6)) - side / 12) ** 2) / 18)
    counted: Float = (1200 + rings).astype(np.float32)
    return counted


def _frame(random: np.random.Generator, side: int) -> Frame:
    """Return a detector frame: rings under counting noise, so packing gains little, as with real ones."""
    counted = _rings(side)
    # Counts this high are as good as normal, which is many times quicker to draw.
    noise = random.standard_normal((side, side), dtype=np.float32) * np.sqrt(counted)
    return (counted + noise).astype(np.uint16)


def _tiff(frame: Frame) -> bytes:
    buffer = BytesIO()
    tifffile.imwrite(buffer, frame, photometric="minisblack", metadata=None)
    return buffer.getvalue()


def _nexus(folder: Path, content: Content, random: np.random.Generator) -> None:
    """Write three raw scans and a processed one, as NeXus (HDF5) files."""
    places = [f"raw/i12-5{number}.nxs" for number in (1001, 1002, 1003)]
    for place in (*places, "processed/i12-51001-reduced.nxs"):
        with h5py.File(folder / place, "w", track_order=False) as file:
            entry = file.create_group("entry1")
            entry.attrs["NX_class"] = "NXentry"
            entry["title"] = "Ti-64, two-phase, in situ"
            detector = entry.create_group("pco1_hw_hdf_nochunking")
            detector.attrs["NX_class"] = "NXdata"
            data = detector.create_dataset(
                "data",
                shape=(content.nexus_frames, content.side, content.side),
                dtype=np.uint16,
                chunks=(1, content.side, content.side),
                track_times=False,
            )
            for number in range(content.nexus_frames):
                data[number] = _frame(random, content.side)


def _frames(folder: Path, content: Content, random: np.random.Generator) -> None:
    """Write TIFF and CBF frames, one file a frame."""
    scan = folder / "rawdata" / "51004-pco1"
    scan.mkdir()
    for number in range(content.tiff_frames):
        (scan / f"p_{number:05}.tif").write_bytes(_tiff(_frame(random, content.side)))
    scan = folder / "rawdata" / "51005-pilatus"
    scan.mkdir()
    for number in range(content.cbf_frames):
        frame = _frame(random, content.side).astype(np.int32)
        fabio.cbfimage.CbfImage(data=frame).write(str(scan / f"51005_{number:05}.cbf"))


def _notes(folder: Path, content: Content) -> None:
    """Write many small text files and the beamline's XML."""
    for number in range(content.notes):
        place = folder / "processing" / "scans" / f"{number // 100:03}"
        place.mkdir(exist_ok=True)
        text = "\n".join(f"{number} {angle:.3f} {number * angle % 97:.4f}" for angle in np.arange(0, 9, 0.1))
        (place / f"fit_{number:05}.dat").write_text(f"# scan angle intensity\n{text}\n")
    for number in range(1, 4):
        (folder / "xml" / f"visit-{number}.xml").write_text(
            f'<?xml version="1.0"?>\n<scan number="5100{number}" beamline="i12"/>\n'
        )
    (folder / "processed" / "empty.dat").touch()


def _odd_names(folder: Path) -> None:
    """Write a file and a folder of every odd name; on a system that cannot hold one, the error says which."""
    for place in (b"processing/odd files", b"processing/odd folders"):
        (folder / os.fsdecode(place)).mkdir()
    for number, name in enumerate(ODD_NAMES):
        file = folder / "processing/odd files" / os.fsdecode(name)
        file.write_bytes(b"file number %d of an odd name\n" % number)
        inner = folder / "processing/odd folders" / os.fsdecode(name)
        inner.mkdir()
        (inner / "frame.txt").write_bytes(b"in folder number %d\n" % number)
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


def _set_times(folder: Path) -> None:
    """Give every entry a time within the visit, folders last since writing into them changes theirs."""
    paths = sorted(_walk(bytes(folder)), reverse=True)
    step = _VISIT_SECONDS / max(1, len(paths))
    for number, path in enumerate(reversed(paths)):
        # Whole seconds and fractions both occur.
        when = int((_BEGAN + number * step) * 1_000_000_000) // 1_000 * 1_000
        os.utime(os.path.join(bytes(folder), path), ns=(when, when), follow_symlinks=False)  # noqa: PTH118
    os.utime(folder, (_BEGAN, _BEGAN))
