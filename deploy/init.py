"""Brings the database up to date, makes the pool and looks at the connections: ``python init.py``, once a start.

Exits 1 with a sentence where the connection to RDS-SSH is missing; what only single beamtimes lack is printed.
"""

from __future__ import annotations

import sys

from airflow.models.connection import Connection
from airflow.models.pool import Pool
from airflow.utils.db import upgradedb

from beamferry.airflow.dag import registry
from beamferry.airflow.policy import POOL
from beamferry.stack import POOL_ABOUT, POOL_SLOTS


def make_pool() -> None:
    """Make the pool unless it is there: its size is the group's to change."""
    if Pool.get_pool(POOL) is None:
        Pool.create_or_update_pool(name=POOL, slots=POOL_SLOTS, description=POOL_ABOUT, include_deferred=True)


def is_known(name: str) -> bool:
    """Return whether a connection is in deploy/secrets/connections.yaml or in Airflow's database."""
    try:
        Connection.get_connection_from_secrets(name)
    except Exception as error:  # noqa: BLE001 - Airflow's own kinds differ by backend; the sentence says which
        print(f"Connection {name}: {error}", file=sys.stderr)
        return False
    return True


def main() -> int:
    """Return the exit code."""
    upgradedb()
    make_pool()
    found = registry()
    for problem in found.problems:
        print(f"Registry: {problem}", file=sys.stderr)
    if found.site is None:
        return 0
    if not is_known(found.site.rds_connection):
        print(
            f"Beamferry does not start: the registry names the connection {found.site.rds_connection}, and "
            "deploy/secrets/connections.yaml has none of this name.",
            file=sys.stderr,
        )
        return 1
    if not found.site.notify:
        print("Nobody is told of deadlines: the registry's site has no notify.", file=sys.stderr)
    elif not is_known(found.site.smtp_connection):
        print(
            f"Nobody is told of deadlines: the registry names the connection {found.site.smtp_connection}, and "
            "deploy/secrets/connections.yaml has none of this name.",
            file=sys.stderr,
        )
    for beamtime in found.beamtimes:
        name = beamtime.secret_connection
        if name is not None and not beamtime.archived and not is_known(name):
            print(f"{beamtime.id} will not come home: it names the connection {name}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
