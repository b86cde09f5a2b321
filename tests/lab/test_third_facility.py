"""A third facility is the module of docs/adding-a-facility.md and one line: it runs as it stands there."""

from __future__ import annotations

import getpass
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine import Engine, noise

import beamferry
from beamferry.access import judge, parse_facts
from beamferry.beamtime import Level
from beamferry.registry import entries, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from beamferry.beamtime import Beamtime
    from beamferry.lab.host import Host

PACKAGE = Path(beamferry.__file__).parent
REPOSITORY = PACKAGE.parents[1]
PAGE = (REPOSITORY / "docs" / "adding-a-facility.md").read_text(encoding="utf-8")
MODULE, LISTED = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CALLS = re.findall(r"^\./run beamferry (.*)$", PAGE, re.MULTILINE)
REGISTRY = """\
site:
  destination_root: /mnt/shared
beamtimes:
  - {id: MA1, facility: esrf, instrument: id11, account: smith, ended: 2026-11-20}
"""
SHOWS = """\
import sys
from pathlib import Path
from beamferry.airflow.policy import nightly
from beamferry.registry import load
found = load(Path(sys.argv[1]))
[one] = found.beamtimes
print(one.dag_id, one.tape_day, one.source_path, one.destination_path(found.site), one.exclude)
print(nightly(one.key))
print(*(problem.message for problem in found.problems))
"""


def test_it_is_short() -> None:
    assert len(MODULE.splitlines()) < 80
    assert [line for line in LISTED.splitlines() if line and not line.startswith("from ")] == [
        "FACILITIES = (DiamondBeamtime, DesyBeamtime, EsrfBeamtime)"
    ]


@pytest.mark.parametrize("check", [("check",), ("format", "--check")], ids=" ".join)
def test_it_is_written_as_the_rest_of_the_package(check: tuple[str, ...]) -> None:
    done = subprocess.run(
        ("ruff", *check, "--stdin-filename", "include/beamferry/facilities/esrf.py", "-"),
        executable=Path(sys.executable).with_name("ruff"),
        input=MODULE,
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package with the module and the line that the page tells to write, and no more."""
    copy = tmp_path / "include" / "beamferry"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "lab"))
    facilities = copy / "facilities"
    (facilities / "esrf.py").write_text(MODULE, encoding="utf-8")
    old = (facilities / "__init__.py").read_text(encoding="utf-8")
    new, lines = re.subn(r"^FACILITIES = .*\n", LISTED, old, flags=re.MULTILINE)
    assert lines == 1
    (facilities / "__init__.py").write_text(new, encoding="utf-8")
    return copy.parent


def test_what_the_page_says_follows_by_itself(package: Path, tmp_path: Path) -> None:
    registry = tmp_path / "beamtimes.yaml"
    registry.write_text(REGISTRY)

    def python(*arguments: str) -> str:
        done = subprocess.run(
            (sys.executable, *arguments),
            capture_output=True,
            text=True,
            check=False,
            env={
                "PYTHONPATH": str(package),
                "PATH": "/usr/bin:/bin",
                "AIRFLOW_HOME": str(tmp_path / "airflow"),
                "BEAMFERRY_REGISTRY": str(registry),
            },
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def call(words: Sequence[str]) -> str:
        return python("-c", "from beamferry.cli import app; app()", *words)

    calls = {words[0]: words for words in (shlex.split(line.partition(" >")[0]) for line in CALLS)}
    assert list(calls) == ["schema", "add", "show", "doctor"]
    assert '"EsrfBeamtime"' in call(calls["schema"])
    assert "ma5678 added" in call(calls["add"])
    assert "smith@login.esrf.example:/data/visitor/ma5678/id11/" in call(calls["show"])

    shown, night, problems = python("-c", SHOWS, str(registry)).splitlines()[-3:]
    assert shown == (
        "beamtime_esrf_ma5678 2027-01-09 /data/visitor/ma5678/id11 /mnt/shared/esrf/id11/2026/ma5678 "
        "('scratch/',)"
    )
    assert re.fullmatch(r"[1-5]?[0-9] (22|23|[0-5]) \* \* \*", night)
    assert "must be a proposal" in problems


class EsrfEngine(Engine):
    """The engine's scripts with an entry of the page's facility."""

    def make_beamtime(self) -> Beamtime:
        registry = self.folder / "beamtimes.yaml"
        entry = (
            f"id: ma5678, facility: esrf, instrument: id11, account: {getpass.getuser()}, ended: 2026-11-20, "
            f"source: {self.source}, destination: {self.destination}"
        )
        registry.write_text(
            f"site: {{destination_root: {self.destination.parent}}}\nbeamtimes: [{{{entry}}}]\n"
        )
        found = load(registry)
        assert found.problems == ()
        return found.beamtimes[0]


@pytest.fixture
def esrf(far: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EsrfEngine:
    """A proposal whose host's name leads to the lab's sshd; its facility is known to the registry."""
    file = tmp_path / "esrf.py"
    file.write_text(MODULE, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("esrf", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "esrf", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(entries.MODELS, "esrf", module.EsrfBeamtime)
    return EsrfEngine(far, tmp_path / "beamtime")


def test_it_comes_home(esrf: EsrfEngine) -> None:
    assert esrf.beamtime.host == "login.esrf.example"
    frames = {f"scan 1/frame_{number}.h5": noise(number, 50_000) for number in range(5)}
    for name, content in (frames | {"scratch/notes": b"not worth it"}).items():
        (esrf.source / name).parent.mkdir(exist_ok=True)
        (esrf.source / name).write_bytes(content)

    # A share with something in it is what a mounted one looks like.
    (esrf.destination.parent / "other group's").mkdir()
    findings = judge(parse_facts(esrf.probe()), esrf.beamtime, esrf.site)
    assert [finding.sentence for finding in findings if not finding.ok] == []
    assert any("ESRF lets" in finding.sentence for finding in findings)

    assert esrf.fetch().result["files"] == 5
    home = {path: path.read_bytes() for path in esrf.destination.rglob("*") if path.is_file()}
    assert {str(path.relative_to(esrf.destination)): content for path, content in home.items()} == frames
    assert not (esrf.destination / "scratch").exists()

    verified = esrf.verify(Level.FULL)
    assert (verified.code, verified.result["sampled_files"]) == (0, 5)
    assert verified.result["only_source"] == verified.result["only_destination"] == 0
    assert verified.result["content_mismatches"] == 0
