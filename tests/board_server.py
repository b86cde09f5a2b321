"""Airflow's API server alone over a database of made-up beamtimes: `python tests/board_server.py FOLDER COUNT PORT`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
# What somebody may have typed at a facility: markup, a word without end, and letters that turn the reading round.
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"> & 'quoted' \u202etxet " + "A" * 150


def main(folder: Path, count: int, port: str) -> None:
    """Make the database and become the server."""
    os.environ.update(
        AIRFLOW_HOME=str(folder),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(folder / "no-dags"),
        AIRFLOW__CORE__PLUGINS_FOLDER=str(REPOSITORY / "plugins"),
        AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS="True",
        AIRFLOW__LOGGING__LOGGING_LEVEL="ERROR",
        AIRFLOW__API__BASE_URL=f"http://127.0.0.1:{port}",
        BEAMFERRY_REGISTRY=str(folder / "beamtimes.yaml"),
    )
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True)
    _fill(folder / "beamtimes.yaml", count)
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
