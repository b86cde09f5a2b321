"""A third facility is the module of docs/adding-a-facility.md and one line: it runs as it stands there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from engine import Engine, noise

import beamferry
from beamferry.access import judge, parse_facts, probe_arguments
from beamferry.beamtime import Level

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime
    from beamferry.lab.host import Host

PACKAGE = Path(beamferry.__file__).parent
PAGE = (PACKAGE.parents[1] / "docs" / "adding-a-facility.md").read_text(encoding="utf-8")
MODULE, LINE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
REGISTRY = """\
site:
  destination_root: /mnt/shared
beamtimes:
  - {id: ma5678, facility: esrf, instrument: id11, account: smith, ended: 2026-11-20}
  - {id: MA5678, facility: esrf, instrument: id11, account: smith, ended: 2026-11-20}
"""
SHOWS = """\
import sys
from pathlib import Path
from beamferry.airflow.policy import nightly
from beamferry.registry import load
from beamferry.registry.schema import schema
found = load(Path(sys.argv[1]))
[one] = found.beamtimes
print(one.dag_id, one.tape_day, one.source_path, one.destination_path(found.site), nightly(one.key).split()[2:])
print(*(problem.message for problem in found.problems))
print("EsrfBeamtime" in schema())
"""


def test_it_is_short() -> None:
    assert len(MODULE.splitlines()) < 80
    assert len(LINE.splitlines()) == 1


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package with the module and the line that the page tells to write."""
    copy = tmp_path / "include" / "beamferry"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "lab"))
    facilities = copy / "facilities"
    (facilities / "esrf.py").write_text(MODULE, encoding="utf-8")
    old = (facilities / "__init__.py").read_text(encoding="utf-8")
    added = "from beamferry.facilities.esrf import EsrfBeamtime\n"
    new = re.sub(r"^FACILITIES = .*\n", added + LINE, old, flags=re.MULTILINE)
    assert new != old
    (facilities / "__init__.py").write_text(new, encoding="utf-8")
    return copy.parent


def test_the_registry_the_dag_and_the_schema_know_it(package: Path, tmp_path: Path) -> None:
    registry = tmp_path / "beamtimes.yaml"
    registry.write_text(REGISTRY)
    done = subprocess.run(
        (sys.executable, "-c", SHOWS, str(registry)),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(package), "PATH": "/usr/bin:/bin", "AIRFLOW_HOME": str(tmp_path / "airflow")},
    )
    assert done.returncode == 0, done.stderr
    shown, problems, known = done.stdout.splitlines()[-3:]
    assert shown == (
        "beamtime_esrf_ma5678 2027-01-09 /data/visitor/ma5678/id11 /mnt/shared/esrf/id11/2026/ma5678 "
        "['*', '*', '*']"
    )
    assert "must be a proposal" in problems
    assert known == "True"


class EsrfEngine(Engine):
    """The engine's scripts with the page's facility."""

    def make_beamtime(self) -> Beamtime:
        module: Any = ModuleType("esrf")
        sys.modules["esrf"] = module
        exec(compile(MODULE, "esrf.py", "exec"), vars(module))
        made: Beamtime = module.EsrfBeamtime(
            id="ma5678",
            facility="esrf",
            instrument="id11",
            account=super().make_beamtime().account,
            ended=date(2026, 11, 20),
            source=str(self.source),
            destination=str(self.destination),
        )
        return made


def test_it_comes_home(far: Host, tmp_path: Path) -> None:
    engine = EsrfEngine(far, tmp_path / "beamtime")
    assert engine.beamtime.host == "rnice.esrf.fr"
    (engine.source / "scan 1").mkdir()
    for number in range(5):
        (engine.source / "scan 1" / f"frame_{number}.h5").write_bytes(noise(number, 50_000))

    # A share with something in it is what a mounted one looks like.
    (engine.destination.parent / "other group's").mkdir()
    probe = engine.probe()
    findings = judge(parse_facts(probe), engine.beamtime, engine.site)
    assert [finding.sentence for finding in findings if not finding.ok] == []
    assert any("ESRF lets" in finding.sentence for finding in findings)

    assert engine.fetch().result["files"] == 5
    assert engine.judge() == ""
    verified = engine.verify(Level.FULL)
    assert (verified.code, verified.result["sampled_files"]) == (0, 5)
    assert verified.result["only_source"] == verified.result["only_destination"] == 0
    assert verified.result["content_mismatches"] == 0
    assert probe_arguments(engine.beamtime, engine.site)[1] == "rnice.esrf.fr"
