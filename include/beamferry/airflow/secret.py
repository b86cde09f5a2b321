"""The password of an account at a facility, on its way from Airflow's connection to RDS-SSH."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from beamferry.errors import PermanentError
from beamferry.remote import Job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.beamtime import Beamtime
    from beamferry.remote import Session


def hand_over(session: Session, beamtime: Beamtime, part: str) -> str | None:
    """Put the password where only the account on RDS-SSH reads it, and return the file; None where none is needed.

    The file is this job's and this try's alone: whoever hands one over removes no other. The job removes it at its end.

    Raises:
        PermanentError: the Airflow connection that the entry names is not there, or has no password.
    """
    name = beamtime.secret_connection
    if name is None:
        return None
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
    job = Job(beamtime.key, part)
    secret = job.new_secret()
    session.make_folder(job.folder, mode=0o700)
    session.write(secret, password.encode(), mode=0o600)
    return secret


@contextmanager
def handed_over(session: Session, beamtime: Beamtime, part: str) -> Iterator[str | None]:
    """Hand the password over for as long as it is needed, and remove it however that ends."""
    secret = hand_over(session, beamtime, part)
    try:
        yield secret
    finally:
        if secret is not None:
            session.remove(secret)
