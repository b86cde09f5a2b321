"""The package in an Airflow that somebody else operates: the wheel, copied DAG files, a registry, and nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import datetime, timedelta
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from beamferry.certificate import certificate_folder
from beamferry.demo import DAG_ID
from beamferry.lab import Lab
from beamferry.lab.settings import free_port
from beamferry.registry import load
from beamferry.stack import Stack
from beamtime_runs import PATIENCE, WATCHFUL, asset_state
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.timeout(600)

REPOSITORY = Path(__file__).parents[2]
# What an operator copies; the rest of dags/ is for those who want it.
COPIED = ("beamtimes.py", "deadlines.py", "registry_errors.py")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as an operator gets it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check")
    subprocess.run((sys.executable, *build, "--wheel-dir", str(folder), str(REPOSITORY)), check=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment that has what the wheel asks for and the wheel: no source, nothing of ours beside it.

    What the wheel asks for is linked from the tests' own environment, which takes no minute as an installation would.
    """
    folder = tmp_path_factory.mktemp("clean")
    others = folder / "others"
    others.mkdir()
    for top in _tops(_asked_for(wheel)):
        (others / top.name).symlink_to(top)
    subprocess.run((sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")), check=True)
    python = folder / "venv" / "bin" / "python"
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "others.pth").write_text(f"{others}\n")
    # With its dependencies, and with no place to fetch one from: it refuses where the wheel asks for more.
    install = ("install", "--quiet", "--no-index", "--disable-pip-version-check", str(wheel))
    subprocess.run(
        (sys.executable, "-m", "pip", "--python", str(python), *install), check=True, env=_bare_environment()
    )
    return python


def _asked_for(wheel: Path) -> set[str]:
    """Return the distributions that the wheel needs, and those that they need, without any of its extras."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    todo = [(Requirement(line), "") for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                todo += [(Requirement(line), wanted) for line in distribution(name).requires or ()]
    return {name for name, _ in seen}


def _tops(names: set[str]) -> set[Path]:
    """Return the files and folders of distributions, as they stand in the tests' own environment."""
    found: set[Path] = set()
    for name in names:
        there = distribution(name)
        for file in there.files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"}:
                found.add(Path(str(there.locate_file(top))))
    return found


def _bare_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(("PYTHON", "VIRTUAL_"))}


def test_the_wheel_holds_every_file_of_both_packages_and_no_other(wheel: Path) -> None:
    include = REPOSITORY / "include"
    wanted = {
        path.relative_to(include).as_posix()
        for package in ("beamferry", "beamferry_agent")
        for path in (include / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {name for name in held if ".dist-info/" not in name} == wanted
    for kind in ("remote/*.sh", "mail/templates/*.j2", "web/static/*.js"):
        assert any(Path(name).match(f"beamferry/{kind}") for name in held), kind


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """RDS-SSH and Diamond, with a beamtime that ended a few days ago."""
    running = Lab(tmp_path_factory.mktemp("lab"))
    try:
        running.up("small", ended=datetime.now(ZoneInfo("Europe/London")).date() - timedelta(days=5))
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patched:
        yield patched


@pytest.fixture(scope="module")
def drop_in(
    lab: Lab, clean: Path, tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """An Airflow of its own in the clean environment: the copied files, the registry at its usual place."""
    home = tmp_path_factory.mktemp("airflow")
    (home / "dags").mkdir()
    for name in COPIED:
        shutil.copyfile(REPOSITORY / "dags" / name, home / "dags" / name)
    (home / "include").mkdir()
    shutil.copyfile(lab.registry, home / "include" / "beamtimes.yaml")
    for name in set(os.environ) - set(_bare_environment()) | {"BEAMFERRY_REGISTRY"}:
        patch.delenv(name, raising=False)
    # The components run under it.
    patch.setattr(sys, "executable", str(clean))
    stack = _stack(home, lab.airflow_connections())
    try:
        stack.start()
        stack.wait_healthy(180)
        yield stack
    finally:
        stack.stop()


def _stack(home: Path, connections: dict[str, Any]) -> Stack:
    port = free_port("127.0.0.1")
    return Stack(home=home, dags=home / "dags", port=port, connections=connections, env=WATCHFUL)


@pytest.fixture(scope="module")
def ended(drop_in: Stack) -> dict[str, Any]:
    """The run that a new beamtime gets by itself, at its end."""
    found: dict[str, Any] = wait_for(
        lambda: next(iter(_ended(drop_in)), None),
        lambda: f"the beamtime came home; import errors: {drop_in.api('GET', '/importErrors')}",
        PATIENCE,
    )
    return found


def test_the_wheel_and_three_copied_files_bring_a_beamtime_home(
    drop_in: Stack, ended: dict[str, Any], lab: Lab, clean: Path
) -> None:
    where = _said(clean, drop_in, "import beamferry, sys; print(beamferry.__file__, *sys.path, sep='\\n')")
    assert Path(where[0]).is_relative_to(clean.parents[1]), where
    assert not any(Path(place).is_relative_to(REPOSITORY / "include") for place in where), where

    registry = load(drop_in.home / "include" / "beamtimes.yaml")
    assert registry.site is not None
    folder = lab.on_rds(certificate_folder(registry.beamtimes[0].destination_path(registry.site)))
    certificate = json.loads((folder / "certificate.json").read_text())
    assert (ended["state"], certificate["outcome"]) == ("success", "verified"), ended
    assert certificate["run"] == ended["dag_run_id"]
    assert drop_in.api("GET", "/importErrors")["import_errors"] == []
    for name in COPIED:
        assert (drop_in.home / "dags" / name).read_bytes() == (REPOSITORY / "dags" / name).read_bytes()

    # The page needs no copied file: Airflow finds it by the package's entry point.
    plugins = drop_in.api("GET", "/plugins")["plugins"]
    sources = [plugin["source"] for plugin in plugins if plugin["name"] == "beamferry"]
    assert len(sources) == 1, plugins
    assert "beamferry.web.plugin" in sources[0]
    assert drop_in.api("GET", "/plugins/importErrors")["import_errors"] == []
    code = httpx.get(f"{drop_in.url}/beamferry/static/board.js", timeout=30)
    assert code.content == (REPOSITORY / "include/beamferry/web/static/board.js").read_bytes()


def _ended(stack: Stack) -> list[dict[str, Any]]:
    if not any(dag["dag_id"] == DAG_ID for dag in stack.api("GET", "/dags?limit=100")["dags"]):
        return []
    runs: list[dict[str, Any]] = stack.api("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
    return [run for run in runs if run["state"] in {"success", "failed"}]


def test_a_backup_of_a_running_airflow_comes_back_in_another_one(
    drop_in: Stack, ended: dict[str, Any], lab: Lab, clean: Path, tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    # One connection is in the environment, the other in the database, which encrypts its password.
    key = tmp_path / "key"
    shutil.copy(lab.client.key, key)
    made = {"connection_id": "made", "conn_type": "ssh", "password": "of the database"}
    drop_in.api("POST", "/connections", made | {"extra": json.dumps({"key_file": str(key)})})
    archive, secret = tmp_path / "backup.tar.gz", key.read_bytes()

    beamferry = clean.with_name("beamferry")
    done = _ran((str(beamferry), "backup", str(archive)), drop_in)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert "keys/1" in done.stderr
    assert "PRIVATE" not in done.stderr + done.stdout
    before = _known(drop_in)
    assert before["certificate"]["outcome"] == "verified"
    key.unlink()

    home = tmp_path / "elsewhere"
    registry = home / "include" / "beamtimes.yaml"
    patch.setenv("BEAMFERRY_REGISTRY", str(registry))
    done = _ran((str(beamferry), "restore", str(archive), "--home", str(home)), None)
    assert f"restored {home / 'airflow.db'}" in done.stdout
    assert (key.read_bytes(), key.stat().st_mode & 0o777) == (secret, 0o600)
    assert registry.read_bytes() == lab.registry.read_bytes()
    assert "AIRFLOW_CONN_RDS_SSH" in (home / "connections.env").read_text()

    other = _stack(home, {})
    (home / "dags").mkdir()
    assert other.password == drop_in.password
    try:
        other.start_component("api-server")
        wait_for(lambda: _answers(other), lambda: (home / "api-server.log").read_text()[-2000:], PATIENCE)
        assert _known(other) == before
        runs = other.api("GET", f"/dags/{DAG_ID}/dagRuns")["dag_runs"]
        assert [(run["dag_run_id"], run["state"]) for run in runs] == [(ended["dag_run_id"], "success")]
        code = (
            "from airflow.models.connection import Connection\n"
            "print(Connection.get_connection_from_secrets('made').password)"
        )
        assert _said(clean, other, code)[-1] == "of the database"
    finally:
        other.stop()


def _known(stack: Stack) -> dict[str, Any]:
    """What Airflow knows of the beamtime."""
    return asset_state(stack.api, "rds/diamond")


def _answers(stack: Stack) -> bool:
    try:
        return httpx.get(f"{stack.url}/api/v2/version", timeout=5).is_success
    except httpx.HTTPError:
        return False


def _ran(command: tuple[str, ...], stack: Stack | None) -> subprocess.CompletedProcess[str]:
    """Run what an operator types where Airflow is, or where there is none yet."""
    environment = _bare_environment() if stack is None else stack.environment()
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_a_plugin_file_of_an_earlier_version_does_not_make_the_page_twice(
    clean: Path, tmp_path: Path
) -> None:
    plugins = tmp_path / "airflow" / "plugins"
    plugins.mkdir(parents=True)
    (plugins / "beamferry_plugin.py").write_text("from beamferry.web.plugin import BeamferryPlugin\n")
    stack = Stack(home=tmp_path / "airflow", dags=tmp_path, port=1)
    names = _said(
        clean,
        stack,
        "from airflow.plugins_manager import get_plugin_info; "
        "print('\\n'.join(found['name'] for found in get_plugin_info()))",
    )
    assert names.count("beamferry") == 1, names


def _said(python: Path, stack: Stack, code: str) -> list[str]:
    """Lines that some Python prints in the environment of Airflow's components."""
    environment = stack.environment() | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"}
    bare = _bare_environment(environment)
    return subprocess.run(
        (str(python), "-c", code), env=bare, cwd=stack.home, capture_output=True, check=True, text=True
    ).stdout.splitlines()
