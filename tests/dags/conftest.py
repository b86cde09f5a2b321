"""An Airflow database of the tests' own, and the DAGs of a registry of the tests' choice."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Airflow reads its settings when it is first imported, so they come before any test's imports.
_HOME = tempfile.mkdtemp(prefix="beamferry-dags-")
os.environ.update(
    AIRFLOW_HOME=_HOME,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.dag_processing.dagbag import DagBag

DAGS = Path(__file__).parents[2] / "dags"


@pytest.fixture(scope="session")
def airflow_database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def dag_bag(
    airflow_database: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], DagBag]:
    """A function that parses dags/ with a registry of the given text."""
    from airflow.dag_processing.dagbag import DagBag

    def parse(registry: str) -> DagBag:
        file = tmp_path / "beamtimes.yaml"
        file.write_text(registry)
        monkeypatch.setenv("BEAMFERRY_REGISTRY", str(file))
        return DagBag(dag_folder=DAGS, bundle_path=DAGS, bundle_name="tests")

    return parse
