"""A made-up beamtime at DESY: the folders and modes of the group's transfer page, names that break tools.

The same size and seed give the same bytes, names and times.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from beamferry.errors import PermanentError
from beamferry.lab.visit import set_times, walk, write_names

if TYPE_CHECKING:
    from pathlib import Path

BEAMTIME = "11010750"
INSTRUMENT = "p07"
SIZES = {"small": 3_000_000, "demo": 60_000_000}
DEFAULT_SEED = 11010
README = "README.non-conformant-files.txt"
# The account may not read it: ``raw`` cannot come home whole.
UNREADABLE = b"raw/sealed_00001.cbf"
# What is never fetched from DESY without asking: it opens the facility's data streams to its reader.
TOKEN = b"shared/asapo-token-x.txt"
# 6 December 2020, 09:00 UTC: the beamtime's first file; later ones follow within a day and a half.
_BEGAN = 1_607_245_200
_SECONDS = 130_000
_SMALLEST = 1_000_000
_LARGE = 20_000_000

# Names that FTP, SFTP and lftp carry all the same, and that quoting, templates, URLs or shells get wrong.
ODD_NAMES: tuple[bytes, ...] = (
    b"two  spaces",
    b'it\'s "quoted" `twice`',
    b"$(touch owned) ${HOME} $$",
    b"{{ params.x }} {% raw %}",
    b"-rf",
    b"--delete",
    b"host:colon",
    b"12:30:45.txt",
    "Prüfkörper_α→β_試料".encode(),
    "caf\u00e9".encode(),
    "cafe\u0301".encode(),
    b"align.sh",
    b"star* question? [a-z] {b,c}",
    b"#hash 50%25 %41",
    b"semi;colon & pipe | less < more >",
    b"arrow -> target",
    b".hidden",
    b"~",
    b"n" * 200,
)

# Names that are legal on DESY's file system and that one of the protocols or lftp loses, merges or renames.
HARD_NAMES: tuple[bytes, ...] = (
    b" leading space",
    b"trailing space ",
    b"two\nlines",
    b"carriage\rreturn",
    b"tab\there",
    # pure-ftpd lists it and refuses to send it.
    b"back\\slash",
    b"not-utf8-\xff\xfe",
    # With lftp's temporary name ``.in.NAME`` it is too long.
    b"n" * 255,
)


def metadata(beamtime: str = BEAMTIME, *, old_keys: bool = False) -> dict[str, Any]:
    """Return what DESY's metadata file says, with today's keys or those of older files."""
    person = {
        "email": "cdaniel@example.ac.uk",
        "firstname": "Christopher",
        "institute": "University of Manchester",
        "lastname": "Daniel",
        "userId": "4711",
        "username": "cdaniel",
    }
    core = f"/asap3/petra3/gpfs/{INSTRUMENT}/2020/data/{beamtime}"
    often = {
        "applicant": person,
        "beamline": INSTRUMENT,
        "beamtimeId": beamtime,
        "facility": "PETRA III",
        "leader": person,
        "pi": person,
        "proposalId": "20200123",
        "proposalType": "I",
        "title": "Ti-64, two-phase, in situ – Prüfung",
        "users": {"doorDb": ["cdaniel"], "special": [], "unknown": []},
    }
    begin, end = "2020-12-06T09:00:00+01:00", "2020-12-07T22:10:00+01:00"
    if old_keys:
        newer = {"beamline_alias": INSTRUMENT, "core-path": core, "event-start": begin, "event-end": end}
    else:
        newer = {"beamlineAlias": INSTRUMENT, "corePath": core, "eventStart": begin, "eventEnd": end}
        newer["retentionPeriod"] = "6 months on disk"
    return often | newer


def make_beamtime(folder: Path, size: int, seed: int = DEFAULT_SEED, *, old_keys: bool = False) -> None:
    """Make the beamtime in ``folder``, named by its id, which must not exist; about ``size`` bytes.

    Raises:
        PermanentError: the size is too small to hold every format.
    """
    if size < _SMALLEST:
        raise PermanentError(
            "lab-size", f"a beamtime of {size} bytes is too small", f"take {_SMALLEST} or more"
        )
    from beamferry.lab.frames import Detector  # noqa: PLC0415 - the formats' libraries take a second to load

    detector = Detector(side=128 if size < _LARGE else 512, seed=seed)
    for name in ("raw/empty folder", "processed", "scratch_cc/fits", "shared"):
        (folder / name).mkdir(parents=True)
    scans = ("raw/p07_00001.nxs", "raw/p07_00002.nxs", "processed/p07_00001-reduced.nxs")
    detector.write_nexus([folder / name for name in scans], size * 50 // 100)
    detector.write_tiff(folder / "raw" / "scan 00003 [pe1]", size * 25 // 100)
    detector.write_cbf(folder / "raw" / "scan_00004_pilatus", size * 20 // 100)
    (folder / os.fsdecode(UNREADABLE)).write_bytes(b"sealed by the beamline\n")
    (folder / "processed" / "empty.dat").touch()
    (folder / "processed" / "notes.txt").write_text("Tuesday, beam dump at 14:20\n")
    (folder / "scratch_cc" / "fits" / "fit_00001.dat").write_text("1 0.5\n2 0.7\n")
    (folder / os.fsdecode(TOKEN)).write_text("eyJhbGciOiJub25lIn0.made-up.token\n")
    (folder / "shared" / "sample list.csv").write_text("1;Ti-64\n2;Ti-6246\n")
    odd_names(folder / "raw" / "odd names", ODD_NAMES)
    (folder / README).write_text(
        "Names in this beamtime that some systems cannot hold:\n"
        + "".join(f"raw/odd names/{os.fsdecode(name)}\n" for name in ODD_NAMES if b":" in name)
    )
    path = folder / f"beamtime-metadata-{folder.name}.json"
    path.write_text(json.dumps(metadata(folder.name, old_keys=old_keys), indent=2, ensure_ascii=False))
    set_times(folder, [path for path, _ in walk(folder)], _BEGAN, _SECONDS)
    _set_modes(folder)


def odd_names(folder: Path, names: tuple[bytes, ...] = HARD_NAMES) -> None:
    """Make ``folder`` with a file of every name, and below ``folders`` a folder of every one."""
    (folder / "folders").mkdir(parents=True)
    write_names(folder, folder / "folders", names)


def make_many(folder: Path, count: int = 5_000) -> None:
    """Make ``folder``, which must not exist, with this many small files."""
    folder.mkdir()
    for number in range(count):
        (folder / f"frame_{number:06}.cbf").write_bytes(b"%d\n" % number)


def _set_modes(folder: Path) -> None:
    """Give every entry the mode that the page's listing shows: nothing may be written."""
    for path, is_folder in walk(folder):
        (folder / os.fsdecode(path)).chmod(0o550 if is_folder else 0o440)
    (folder / README).chmod(0o644)
    (folder / f"beamtime-metadata-{folder.name}.json").chmod(0o400)
    (folder / os.fsdecode(UNREADABLE)).chmod(0)
    folder.chmod(0o550)
