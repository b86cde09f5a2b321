"""Airflow's API server alone over a database of made-up beamtimes: `python tests/board_server.py FOLDER COUNT PORT`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from beamferry.lab.settings import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds for the database and the server.
PATIENCE = 180.0
# What somebody may have typed at a facility: markup, a word without end, and letters that turn the reading round.
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"> & 'quoted' \u202etxet " + "A" * 150


def prepare(folder: Path) -> Path:
    """Let this process have an Airflow of its own without beamtimes; returns where its registry is to be."""
    registry = folder / "beamtimes.yaml"
    os.environ.update(
        AIRFLOW_HOME=str(folder),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(folder / "no-dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(folder / "no-plugins"),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        BEAMFERRY_REGISTRY=str(registry),
    )
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    return registry


@contextmanager
def serving(folder: Path, count: int) -> Iterator[str]:
    """Run the server with so many beamtimes in a folder; gives its address once it answers."""
    port = str(free_port("127.0.0.1"))
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
    script = (sys.executable, __file__, str(folder), str(count), port)
    with subprocess.Popen(script, stdout=subprocess.DEVNULL) as server:
        try:
            while True:
                try:
                    httpx.get(f"{url}/api/v2/monitor/health", timeout=10).raise_for_status()
                    break
                except httpx.HTTPError:
                    if server.poll() is not None or time.monotonic() > end:
                        raise
                    time.sleep(0.5)
            yield url
        finally:
            server.terminate()


def main(folder: Path, count: int, port: str) -> None:
    """Make the database and become the server."""
    registry = prepare(folder)
    os.environ["AIRFLOW__API__BASE_URL"] = f"http://127.0.0.1:{port}"
    _fill(registry, count)
    server = ("airflow", "api-server", "--host", "127.0.0.1", "--port", port, "--workers", "1")
    os.execv(sys.executable, (sys.executable, "-m", *server))


def _fill(path: Path, count: int) -> None:
    from airflow.models.asset import AssetModel  # noqa: PLC0415
    from airflow.models.asset_state_store import AssetStateStoreModel  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    from beamferry.registry import load  # noqa: PLC0415
    from board_records import fill, write_registry  # noqa: PLC0415

    write_registry(path, count)
    registry = load(path)
    with create_session() as session:
        fill(session, registry, datetime.now(UTC))
        name = registry.beamtimes[0].asset_name
        asset = session.scalars(select(AssetModel).where(AssetModel.name == name)).one()
        metadata = {"title": HOSTILE, "pi": "<b>Dr Robert</b>"}
        session.add(AssetStateStoreModel(asset_id=asset.id, key="metadata", value=json.dumps(metadata)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
