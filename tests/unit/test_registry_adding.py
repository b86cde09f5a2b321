"""Adding to a registry: what is loaded is what was added, and no other byte changes."""

from __future__ import annotations

import re
import shutil
from datetime import date
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beamferry.errors import BeamferryError, TransientError
from beamferry.registry import Registry, load
from beamferry.registry.adding import add

if TYPE_CHECKING:
    from pathlib import Path

SITE = "site:\n  destination_root: /mnt/rds\n"
ENTRY = (
    "  - id: {}\n    facility: diamond\n    instrument: i12\n    account: mbcx9cd4\n    ended: 2021-05-03\n"
)
TWO = f"{SITE}beamtimes:\n{ENTRY.format('mg1-1')}{ENTRY.format('mg1-2')}"


def entry(name: str = "mg1-3", **fields: object) -> dict[str, object]:
    usual = {"id": name, "facility": "diamond", "instrument": "i12", "account": "mbcx9cd4"}
    return {**usual, "ended": date(2021, 5, 3), **fields}


def ids(registry: Registry) -> list[str]:
    return [beamtime.id for beamtime in registry.beamtimes]


BLOCK_TEXT = "    deadline_reason: >-\n      a reason\n      in two lines\n\n\n# end\n"
FLOW = "{id: mg1-1, facility: diamond, instrument: i12, account: a, ended: 2021-05-03}"
FORMS = {
    "two entries": TWO,
    "no entries": SITE + "beamtimes: []\n# afterwards\n",
    "no entries, comment": SITE + "beamtimes: [ ]   # none yet\n",
    "no entries, nothing": SITE + "beamtimes:\n",
    "no entries, nothing, no line end": SITE + "beamtimes:",
    "no entries, null": SITE + "beamtimes: ~  # none\n\n",
    "site afterwards": f"beamtimes:\n{ENTRY.format('mg1-1')}\n# about the site\n{SITE}",
    "no indentation": SITE + "beamtimes:\n" + re.sub("(?m)^  ", "", ENTRY.format("mg1-1")),
    "deep indentation": SITE + "beamtimes:  # é\n  # ü\n" + re.sub("(?m)^", "    ", ENTRY.format("mg1-1")),
    "comment inside": f"{TWO}    # streams: 8\n    # more\n\n# outside\n",
    "no line end": TWO.removesuffix("\n"),
    "windows": TWO.replace("\n", "\r\n"),
    "byte order mark": "\ufeff" + TWO,
    "flow entry": f"{SITE}beamtimes:\n  - {FLOW} # x\n",
    "block text": TWO + BLOCK_TEXT,
    "dash alone": SITE + "beamtimes:\n" + ENTRY.format("mg1-1").replace("- id", "-\n    id"),
    "a bad neighbour": TWO.replace("i12", "I12", 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_add_keeps_every_other_byte(form: str, tmp_path: Path) -> None:
    path = tmp_path / "beamtimes.yaml"
    old = FORMS[form].encode()
    path.write_bytes(old)
    path.chmod(0o640)
    before = load(path)
    added = add(path, entry(exclude=["tmp/", "spool/"]))
    after = load(path)
    assert after.beamtimes == (*before.beamtimes, added)
    assert len(after.problems) == len(before.problems)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    new = path.read_bytes()
    assert (b"\r\n" in new) == (b"\r\n" in old)
    # Without the new lines, and the brackets of an empty list, it is the old file.
    block = re.search(rb"(?m)^ *- id: mg1-3\r?\n(?:.*\n){7}", new)
    assert block is not None
    rest = new.replace(block.group(), b"")
    empty = re.compile(rb"(beamtimes:)( \[ ?\]| ~)?")
    assert empty.sub(rb"\1", rest).rstrip(b"\r\n") == empty.sub(rb"\1", old).rstrip(b"\r\n")


def test_comments_of_the_last_entry_stay_with_it(tmp_path: Path) -> None:
    path = tmp_path / "beamtimes.yaml"
    path.write_text(FORMS["comment inside"], encoding="utf-8")
    add(path, entry())
    assert "    # more\n  - id: mg1-3\n" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (TWO, {"id": "mg1-2"}),
        (TWO, {"id": "mg1-3\n"}),
        (TWO, {"account": "a; rm -rf /"}),
        (TWO, {"facility": "nowhere"}),
        (TWO, {"unknown": 1}),
        (TWO, {"destination": "/mnt/rds/diamond"}),
        (TWO, {"deadline_reason": "x\n  - id: mg9-9"}),
        (TWO.replace("/mnt", "mnt"), {}),
        (TWO.replace("mbcx9cd4", '"', 1), {}),
        (f"{SITE}beamtimes: [{FLOW}]\n", {}),
        ("{site: {destination_root: /mnt}, beamtimes: []}\n", {}),
        ("", {}),
    ],
)
def test_what_add_refuses_leaves_the_file_alone(text: str, fields: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "beamtimes.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BeamferryError):
        add(path, entry() | fields)
    assert path.read_text(encoding="utf-8") == text
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_add_does_not_undo_what_somebody_else_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "beamtimes.yaml"
    path.write_text(TWO, encoding="utf-8")

    def meanwhile(source: Path, target: Path) -> None:
        path.write_text(TWO + "# theirs\n", encoding="utf-8")

    monkeypatch.setattr(shutil, "copymode", meanwhile)
    with pytest.raises(TransientError):
        add(path, entry())
    assert path.read_text(encoding="utf-8") == TWO + "# theirs\n"


def test_add_replaces_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(TWO, encoding="utf-8")
    (tmp_path / "link.yaml").symlink_to("real.yaml")
    add(tmp_path / "link.yaml", entry())
    assert (tmp_path / "link.yaml").is_symlink()
    assert ids(load(tmp_path / "real.yaml")) == ["mg1-1", "mg1-2", "mg1-3"]


VISITS = st.from_regex(r"[a-z]{2}[1-9][0-9]{0,8}-[1-9][0-9]{0,4}", fullmatch=True)
ENTRIES = st.builds(
    entry,
    name=VISITS.filter(lambda visit: not visit.startswith("mg1-")),
    account=st.from_regex(r"[a-z_][a-z0-9_-]{0,31}", fullmatch=True),
    ended=st.dates(date(2000, 1, 1), date(2090, 12, 31)),
    deadline=st.dates(date(2091, 1, 1), date(2099, 12, 31)),
    deadline_reason=st.text(
        st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=200
    ),
    exclude=st.lists(st.from_regex(r"[A-Za-z0-9_+=@][A-Za-z0-9_+=@.]{0,20}/?", fullmatch=True), max_size=3),
    streams=st.integers(1, 16),
    manifest=st.booleans(),
)


@settings(max_examples=50)
@given(st.lists(ENTRIES, min_size=1, max_size=3, unique_by=lambda one: one["id"]), st.sampled_from([*FORMS]))
def test_what_is_added_is_what_is_loaded(
    tmp_path_factory: pytest.TempPathFactory, entries: list[dict[str, object]], form: str
) -> None:
    path = tmp_path_factory.mktemp("registry") / "beamtimes.yaml"
    path.write_bytes(FORMS[form].encode())
    for one in entries:
        add(path, one)
    for one, beamtime in zip(entries, load(path).beamtimes[-len(entries) :], strict=True):
        expected = {name: tuple(value) if isinstance(value, list) else value for name, value in one.items()}
        assert {name: getattr(beamtime, name) for name in one} == expected
