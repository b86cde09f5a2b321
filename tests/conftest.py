"""Fixtures that start real services; a test that asks for none of them starts nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from beamferry.demo import DAG_ID
from beamferry.lab import Faults, Lab
from beamferry.lab.authority import Authority
from beamferry.lab.mail_server import MailServer
from beamferry.lab.settings import free_port
from beamferry.stack import Stack
from beamtime_runs import WATCHFUL, Runs

REPOSITORY = Path(__file__).parents[1]
# Airflow's own way of making a token, for a person who may only look.
_VIEWER = """
from airflow.api_fastapi.app import init_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
print(init_auth_manager().generate_jwt(SimpleAuthManagerUser(username="sci", role="VIEWER")))
"""

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with a small visit, shared by all tests: leave it as it was found."""
    running = Lab(tmp_path_factory.mktemp("lab"))
    try:
        running.up("small")
        yield running
    finally:
        running.down()


@pytest.fixture
def faults(lab: Lab) -> Faults:
    """Ways to break the shared lab, each undone at the end of its ``with``."""
    return Faults(lab)


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of one test's own, with a small visit."""
    running = Lab(tmp_path / "lab")
    try:
        running.up("small")
        yield running
    finally:
        running.down()


@pytest.fixture
def needs_namespaces(lab: Lab) -> None:
    """Skip where the machine gives the lab's hosts no file systems of their own."""
    if not lab.settings.namespaces:
        pytest.skip(f"this machine allows no namespaces: {lab.settings.reason}")


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The chain in a real Airflow, after the run that a new beamtime gets by itself."""
    lab = Lab(tmp_path_factory.mktemp("chain"))
    stack = None
    # A second mail server, as universities have them: with TLS, a password, and an authority of its own.
    port = free_port("127.0.0.1")
    folder = tmp_path_factory.mktemp("secure")
    secure = MailServer(folder, "127.0.0.1", port, Authority(folder / "ca"))
    try:
        secure.start()
        ended = datetime.now(ZoneInfo("Europe/London")).date() - timedelta(days=5)
        lab.up("8000000", ended=ended, desy=True)
        # DESY's beamtime is for the tests that ask for it.
        lab.registry.write_text(lab.registry_text(ended))
        stack = Stack(
            home=lab.folder / "airflow",
            dags=REPOSITORY / "dags",
            # None of those that ./run up takes: another Airflow may begin in the same moment.
            port=free_port("127.0.0.1"),
            connections={**lab.airflow_connections(), "smtp_secure": secure.connection},
            env={
                **WATCHFUL,
                "BEAMFERRY_REGISTRY": str(lab.registry),
                # What Python's TLS trusts; nothing else that these tests talk to has a certificate.
                "SSL_CERT_FILE": str(folder / "ca" / "ca.pem"),
            },
        )
        stack.start()
        stack.wait_healthy(180)
        chain = Runs(lab, stack, secure)
        path = f"/dags/{DAG_ID}"
        chain.wait(
            lambda: any(d["dag_id"] == DAG_ID for d in stack.api("GET", "/dags")["dags"]), "the DAG is there"
        )
        first = chain.wait(
            lambda: stack.api("GET", f"{path}/dagRuns")["dag_runs"],
            "a new beamtime begins to come home by itself",
        )[0]
        chain.end_of(first["dag_run_id"])
        # From here on only the tests start runs.
        stack.api("PATCH", path, {"is_paused": False})
        yield chain
    finally:
        if stack is not None:
            stack.stop()
        secure.stop()
        lab.down()


@pytest.fixture
def empty_destination(runs: Runs) -> None:
    """Nothing is at RDS yet, and nothing is known of the beamtime."""
    for folder in (runs.destination, Path(f"{runs.destination}.certificate")):
        if folder.exists():
            for path in [folder, *folder.rglob("*")]:
                if path.is_dir() and not path.is_symlink():
                    path.chmod(0o700)
            shutil.rmtree(folder)


@pytest.fixture(scope="session")
def viewer(runs: Runs) -> str:
    """A token of a person who may only look."""
    done = subprocess.run(
        [sys.executable, "-c", _VIEWER],
        env=os.environ | runs.stack.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]
