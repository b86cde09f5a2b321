"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from beamferry import cli
from beamferry.beamtime import Site
from beamferry.registry import load

DATA = Path(__file__).parents[1] / "data" / "registries"
REQUIRED = {
    "--id": "mg25682-9",
    "--facility": "diamond",
    "--instrument": "i12",
    "--account": "mbcx9cd4",
    "--ended": "2021-05-03",
}


def beamferry(*words: str) -> Result:
    return CliRunner().invoke(cli.app, words, catch_exceptions=False)


def add(*words: str, **changed: str) -> Result:
    options = REQUIRED | {f"--{name}": value for name, value in changed.items()}
    return beamferry("add", *(word for option in options.items() for word in option), *words)


@pytest.fixture(autouse=True)
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "beamtimes.yaml"
    path.write_bytes((DATA / "good.yaml").read_bytes())
    monkeypatch.setenv("BEAMFERRY_REGISTRY", str(path))
    return path


def test_check_is_content_with_the_registry_in_force() -> None:
    result = beamferry("check")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "3 beamtimes, no problems\n", "")


def test_check_prints_one_line_a_problem_and_fails() -> None:
    result = beamferry("check", str(DATA / "bad.yaml"))
    assert result.exit_code == 1
    assert result.stdout == (DATA / "bad.txt").read_text(encoding="utf-8")


def test_check_fails_without_a_registry(tmp_path: Path) -> None:
    result = beamferry("check", str(tmp_path / "none.yaml"))
    assert result.exit_code == 1
    assert "there is no file" in result.stdout


def test_list_begins_with_the_most_urgent() -> None:
    known = load(DATA / "good.yaml")
    assert known.site is not None
    header, *rows = (line.split() for line in cli.table(known.beamtimes, known.site, date(2023, 3, 31)))
    assert header == ["id", "facility", "instrument", "ended", "days", "to", "tape", "destination"]
    root = "/mnt/eps01-rds/Fonseca-Lightform/shared"
    assert rows == [
        ["mg25682-2", "diamond", "i12", "2021-05-03", "-657", f"{root}/diamond/i12/2021/mg25682-2"],
        ["nt33730-1", "diamond", "i15-1", "2023-02-01", "1", f"{root}/steel/nt33730-1"],
        ["lb18145-153", "diamond", "i12", "2019-11-30", "archived", f"{root}/diamond/i12/2019/lb18145-153"],
    ]


def test_list_of_nothing_is_a_header() -> None:
    assert len(cli.table((), Site(destination_root="/mnt"), date(2023, 3, 31))) == 1


def test_list_shows_the_good_and_counts_the_problems_of_the_rest() -> None:
    result = beamferry("list", str(DATA / "bad.yaml"))
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        "id",
        "mg25682-1",
        "mg25682-10",
        "mg25682-12",
    ]
    assert result.stderr == "28 problems: see beamferry check\n"


def test_schema_prints_the_committed_schema() -> None:
    committed = Path(__file__).parents[2] / "include" / "beamtimes.schema.json"
    assert json.loads(beamferry("schema").stdout) == json.loads(committed.read_bytes())


def test_add_appends_a_beamtime(registry: Path) -> None:
    fields = ("streams=8", "exclude=[tmp/, raw/a b]", "deadline=2021-07-01", "deadline_reason=moved")
    result = add(*(word for field in fields for word in ("--set", field)))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"mg25682-9 added to {registry}: its data goes to tape on 2021-07-01\n"
    beamtime = load(registry).beamtimes[-1]
    assert beamtime.id == "mg25682-9"
    assert (beamtime.streams, beamtime.exclude) == (8, ("tmp/", "raw/a b"))


def test_add_to_a_named_registry(tmp_path: Path, registry: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("site: {destination_root: /mnt}\nbeamtimes: []\n", encoding="utf-8")
    before = registry.read_bytes()
    assert add("--file", str(other)).exit_code == 0
    assert [beamtime.id for beamtime in load(other).beamtimes] == ["mg25682-9"]
    assert registry.read_bytes() == before


def test_add_says_what_is_wrong_and_changes_nothing(registry: Path) -> None:
    before = registry.read_bytes()
    result = add("--set", "strems=8", id="mg25682-2")
    assert (result.exit_code, result.stdout) == (1, "")
    title, reused, unknown = result.stderr.splitlines()
    assert title == "the new entry has 2 problems: correct what follows"
    assert reused.startswith(
        "beamtimes.yaml beamtimes[3].id: is the id of beamtimes[0] in line 8; ids are never"
    )
    assert unknown == "beamtimes.yaml beamtimes[3].strems: is no known field: did you mean 'streams'?"
    assert registry.read_bytes() == before


@pytest.mark.parametrize(
    "text", ["streams", "id=mg1-1", "streams=[", "=3 ]", "samples=*x", "exclude=" + "[" * 100_000]
)
def test_add_refuses_what_is_no_field_and_value(text: str, registry: Path) -> None:
    before = registry.read_bytes()
    result = add("--set", text)
    assert result.exit_code == 2
    assert "--set" in result.stderr
    assert registry.read_bytes() == before


@pytest.mark.parametrize("day", ["03.05.2021", "2021-02-30", ""])
def test_add_refuses_what_is_no_day(day: str) -> None:
    assert add(ended=day).exit_code == 2


@pytest.mark.parametrize("command", ["check", "list", "schema", "--help"])
def test_the_commands_do_without_airflow(command: str) -> None:
    code = (
        "import sys; from beamferry.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(sorted({'airflow', 'paramiko', 'rich'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode, done.stderr) == (0, "[]\n")
