"""A certificate says in its first line what it is worth, and its commands come to the same answer."""

from __future__ import annotations

import json
import shlex
import subprocess
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import pendulum
import pytest

from beamferry import certificate
from beamferry.beamtime import Level, Site
from beamferry.certificate import Certificate, Moved, certificate_folder, certify, to_json, to_text
from beamferry.differences import Difference
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.verification import Ends, Named, Outcome, Verdict

if TYPE_CHECKING:
    from pathlib import Path

SITE = Site(destination_root="/mnt/eps01-rds/Fonseca-Lightform/shared")
END = Ends(files=20_412, bytes=87_034_154_221, folders=31, links=2, others=0, oldest=1_619_900_000)
SENTENCE = "All 20,412 files (87.0 GB) are at RDS: every size agrees and 32 files were compared byte by byte."


def visit(**settings: Any) -> DiamondBeamtime:
    entry: dict[str, Any] = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime(**entry | settings)


def verdict(**settings: Any) -> Verdict:
    usual: dict[str, Any] = {
        "outcome": Outcome.VERIFIED,
        "level": Level.SAMPLED,
        "source": END,
        "destination": END,
        "counts": {},
        "named": (),
        "sampled_files": 32,
        "sampled_bytes": 136_000_000,
        "partial_files": 0,
        "checked_at": datetime(2021, 5, 4, 4, 7, tzinfo=UTC),
        "sentence": SENTENCE,
    }
    return Verdict(**usual | settings)


def issued(
    found: Verdict | None = None, beamtime: DiamondBeamtime | None = None, **settings: Any
) -> Certificate:
    usual: dict[str, Any] = {
        "moved": Moved(bytes=87_034_154_221, files=20_412, seconds=5640),
        "tools": {
            "rsync at RDS-SSH": "3.2.7",
            "rsync at the facility": "3.1.3",
            "ssh at RDS-SSH": "OpenSSH_9.2p1",
        },
        "manifest": True,
        "run": "scheduled__2021-05-04T02:13:00+00:00",
        "issued_at": datetime(2021, 5, 4, 4, 9, tzinfo=UTC),
    }
    return certify(beamtime or visit(), SITE, found or verdict(), **usual | settings)


def differing(number: int, *, outcome: Outcome = Outcome.DIFFERENT) -> Verdict:
    kind = Difference.CHANGING if outcome is Outcome.CHANGING else Difference.MISSING
    named = tuple(Named(kind=kind, path=f"raw/frame_{at:05}.tif") for at in range(min(number, 200)))
    return verdict(
        outcome=outcome,
        counts={kind: number},
        named=named,
        sentence=f"The copy differs: {number} {kind.words}.",
    )


@pytest.mark.parametrize(
    ("found", "first"),
    [
        (verdict(), "VERIFIED at level 'sampled': this beamtime is at RDS"),
        (verdict(level=Level.SIZES), "VERIFIED at level 'sizes': this beamtime is at RDS"),
        (differing(3), "NOT VERIFIED: the copy differs from the source"),
        (
            differing(3, outcome=Outcome.CHANGING),
            "STILL CHANGING: not verified yet, as the source changed meanwhile",
        ),
    ],
)
def test_first_line_says_it(found: Verdict, first: str) -> None:
    assert to_text(issued(found)).splitlines()[0] == first
    assert json.loads(to_json(issued(found)))["outcome"] == found.outcome


def test_text_holds_what_one_asks_years_later() -> None:
    text = to_text(issued())
    for expected in (
        "Beamtime:    mg25682-2, i12 at Diamond\n",
        "From:        mbcx9cd4@ssh.diamond.ac.uk:/dls/i12/data/2021/mg25682-2\n",
        "To:          /mnt/eps01-rds/Fonseca-Lightform/shared/diamond/i12/2021/mg25682-2\n",
        "Files:       20,412 files\n",
        "Size:        87.0 GB (87,034,154,221 bytes)\n",
        "Besides:     31 folders, 2 links\n",
        "Left behind: tmp/\n",
        "Compared:    2021-05-04 04:07 UTC (04 May 2021, 05:07 BST)\n",
        "This run:    moved 87.0 GB (87,034,154,221 bytes) in 20,412 files within 1 h 34\n",
        "             min, 15.4 MB/s\n",
        "Run:         scheduled__2021-05-04T02:13:00+00:00\n",
        "Tools:       rsync at RDS-SSH: 3.2.7, ",
        "Written:     by Beamferry, 2021-05-04 04:09 UTC (04 May 2021, 05:09 BST)\n",
    ):
        assert expected in text
    assert " ".join(SENTENCE.split()) in " ".join(text.split())


@pytest.mark.parametrize(
    ("access", "said"),
    [
        ("read", "may read files and folders"),
        ("write", "may read and change files and folders"),
        ("keep", "may do what the modes at the facility say"),
    ],
)
def test_it_says_what_the_group_may_do(access: str, said: str) -> None:
    assert f"Group:       {said}\n" in to_text(issued(beamtime=visit(group_access=access)))
    # A mount that keeps no modes decides by itself.
    assert "Group:" not in to_text(issued(beamtime=visit(group_access=access), keeps_modes=False))


def test_it_says_once_which_modes_were_left_behind_and_how_often() -> None:
    def said(number: int | None) -> str:
        return " ".join(to_text(issued(verdict(unsafe_modes=number))).split())

    sentence = "setuid or setgid bit, or the leave for others to write, of"
    assert f"Modes: the {sentence} 12 files and folders stayed behind" in said(12)
    assert f"Modes: the {sentence} 1 file or folder stayed behind" in said(1)
    assert said(12).count("setuid") == 1
    for none in (0, None):
        assert "setuid" not in said(none)


def test_lines_are_short_unless_they_are_to_be_copied() -> None:
    long = "/mnt/eps01-rds/" + "/".join(["a rather long folder"] * 5)
    text = to_text(issued(differing(3), visit(destination=long)))
    for line in text.splitlines():
        assert len(line) <= 80 or long in line
        assert line == line.rstrip()
    assert f"To:          {long}\n" in text


def test_samples_are_not_taken_for_more() -> None:
    text = " ".join(to_text(issued()).split())
    assert "136.0 MB in 32 of 20,412 files, chosen at random as long as they fit into 8.6 GB" in text
    assert "were 1 file in 100 damaged, they would show it with a probability of 28%" in text
    many = " ".join(to_text(issued(verdict(sampled_files=20_000))).split())
    assert "probability of more than 99%" in many
    for level in (Level.SIZES, Level.FULL):
        assert "Samples:" not in to_text(issued(verdict(level=level)))


def test_levels_have_words_of_their_own() -> None:
    said = {level: to_text(issued(verdict(level=level, sentence="."))) for level in Level}
    assert "no content was" in said[Level.SIZES]
    assert "byte by byte" not in said[Level.SIZES].partition("To check")[0]
    assert "the content of every file byte by byte" in " ".join(said[Level.FULL].split())
    assert "every file" not in said[Level.SAMPLED].partition("To check")[0]


def test_first_differences_are_named_and_all_are_counted() -> None:
    text = to_text(issued(differing(1234)))
    assert "1,234 missing at RDS:\n  raw/frame_00000.tif\n" in text
    assert "  raw/frame_00049.tif\n  and 1,184 more\n" in text
    assert "raw/frame_00050.tif" not in text
    assert "more\n" not in to_text(issued(differing(50)))


def test_each_kind_of_difference_is_named_among_many_of_another() -> None:
    named = (
        *(Named(kind=Difference.MISSING, path=f"{at}.tif") for at in range(200)),
        Named(kind=Difference.EXTRA, path="notes.txt"),
    )
    found = verdict(
        outcome=Outcome.DIFFERENT, counts={Difference.MISSING: 200, Difference.EXTRA: 1}, named=named
    )
    text = to_text(issued(found))
    assert "200 missing at RDS:\n" in text
    assert "  and 151 more\n" in text
    assert "1 at RDS only, left as it is:\n  notes.txt\n" in text


def test_nothing_from_outside_acts_on_a_terminal() -> None:
    text = to_text(issued(tools={"rsync at the facility": "3.1\x1b[2J\n"}, run="manual\x1b]0;x\x07"))
    assert all(line.isprintable() for line in text.splitlines())
    assert "3.1\\x1b[2J\\n" in text


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (None, "compared both ends and moved nothing"),
        (Moved(bytes=0, files=0, seconds=2), "found nothing to move"),
        (Moved(bytes=5, files=1, seconds=0), "moved 5 bytes (5 bytes) in 1 file within 0 s\n"),
    ],
)
def test_what_the_run_moved(moved: Moved | None, words: str) -> None:
    assert f"This run:    {words}" in to_text(issued(moved=moved))


def test_json_is_stable_and_comes_back() -> None:
    found = issued(differing(3))
    text = to_json(found)
    assert Certificate.model_validate_json(text) == found
    shuffled = issued(differing(3), tools=dict(reversed(found.tools.items())))
    assert to_json(shuffled) == text
    assert list(json.loads(text))[:2] == ["schema_version", "outcome"]


def test_times_of_pendulum_are_taken() -> None:
    moment = pendulum.datetime(2021, 5, 4, 4, 9, tz="Europe/London")
    assert Certificate.model_validate_json(to_json(issued(issued_at=moment))).issued_at == moment
    assert "2021-05-04 03:09 UTC (04 May 2021, 04:09 BST)" in to_text(issued(issued_at=moment))


def test_certificate_lies_beside_the_data() -> None:
    assert certificate_folder("/mnt/rds/mg25682-2") == "/mnt/rds/mg25682-2.certificate"


# --- the commands in it, run ----------------------------------------------------------------------------------


def commands(text: str) -> list[list[str]]:
    """The commands of a certificate, as a person would paste them."""
    indented = [line for line in text.splitlines() if line.startswith("    ") and "To check" in text]
    start = next(at for at, line in enumerate(indented) if line.startswith("    rsync "))
    joined = "\n".join(indented[start:]).replace("\\\n", " ").replace("&&\n", "&& ")
    return [shlex.split(line) for line in joined.splitlines() if line.startswith("    ") and line[4] != " "]


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    source, destination = tmp_path / "at the facility", tmp_path / "at RDS"
    for end in (source, destination):
        (end / "raw data").mkdir(parents=True)
        (end / "raw data" / "it's a frame.tif").write_text("content")
        (end / "back\\slash").write_text("content")
    (source / "tmp").mkdir()
    (source / "tmp" / "scratch").write_text("stays behind")
    (source / "dark fields").mkdir()
    (source / "dark fields" / "1.tif").write_text("stays behind")
    return source, destination


def test_rsync_agrees_with_the_certificate(ends: tuple[Path, Path]) -> None:
    source, destination = ends
    entry = visit(exclude=("tmp/", "dark fields"))
    text = to_text(issued(beamtime=entry.model_copy(update={"destination": str(destination)})))
    judge = commands(text)[0]
    # Here the facility is a folder of this machine.
    judge[-2] = judge[-2].replace(f"mbcx9cd4@ssh.diamond.ac.uk:{entry.source_path}", str(source))

    def told() -> str:
        return subprocess.run(judge, capture_output=True, text=True, check=True).stdout

    assert told() == ""
    (destination / "raw data" / "it's a frame.tif").write_text("cOntent")
    assert "it's a frame.tif" in told()


def test_sha256sum_reads_the_manifest(ends: tuple[Path, Path]) -> None:
    _, destination = ends
    entry = visit().model_copy(update={"destination": str(destination)})
    text = to_text(issued(beamtime=entry))
    folder = destination.parent / f"{destination.name}.certificate"
    folder.mkdir()
    sums = subprocess.run(
        "sha256sum -- * */*", shell=True, cwd=destination, capture_output=True, check=False
    ).stdout
    (folder / certificate.MANIFEST_NAME).write_bytes(sums)
    line = " ".join(word if word == "&&" else shlex.quote(word) for word in commands(text)[1])
    assert subprocess.run(line, shell=True, capture_output=True, check=True).stdout == b""
    (destination / "back\\slash").write_text("flipped")
    assert subprocess.run(line, shell=True, capture_output=True, check=False).returncode == 1


def test_no_manifest_no_command_for_it() -> None:
    assert "sha256sum" not in to_text(issued(manifest=False))
    assert json.loads(to_json(issued(manifest=False)))["manifest"] is None
