"""The password of an account at a facility, on its way from Airflow's connection to RDS-SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from beamferry.errors import PermanentError
from beamferry.remote import Job

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime
    from beamferry.remote import Session


def hand_over(session: Session, beamtime: Beamtime) -> None:
    """Put the password where only the account on RDS-SSH reads it; the job that uses it removes it.

    Raises:
        PermanentError: the Airflow connection that the entry names is not there, or has no password.
    """
    name = beamtime.secret_connection
    if name is None:
        return
    try:
        password = BaseHook.get_connection(name).password
    except AirflowNotFoundException:
        password = None
    if not password:
        raise PermanentError(
            "facility-no-password",
            f"The Airflow connection '{name}' is not there or has no password",
            f"add it under Admin, Connections with the password of {beamtime.account} at {beamtime.facility_name}",
        )
    if "\n" in password or "\r" in password or "\0" in password:
        raise PermanentError(
            "facility-no-password",
            f"The password in the Airflow connection '{name}' has a line break",
            "write it again under Admin, Connections",
        )
    secret = Job(beamtime.key, "").secret
    session.make_folder(secret.rpartition("/")[0], mode=0o700)
    session.write(secret, password.encode(), mode=0o600)
