"""Who this Airflow is among those that share an account on RDS-SSH."""

from __future__ import annotations

import secrets
import socket
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import conf

from beamferry.remote.starts import Owner

if TYPE_CHECKING:
    from beamferry.airflow.state import BeamtimeState


def installation(state: BeamtimeState) -> Owner:
    """Return the id by which this installation's jobs are known, made once and kept in its database, and its name.

    One id for each beamtime: its tasks run one after the other, so that two never make one in the same moment.
    """
    known = state.get("installation")
    if known is None:
        known = {"id": secrets.token_hex(8)}
        state.set("installation", known)
    return Owner(str(known["id"]), conf.get("api", "base_url", fallback="") or socket.gethostname())
