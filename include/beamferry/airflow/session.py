"""A session on a host, over a connection that Airflow holds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import paramiko

from beamferry.connection import RDS_SSH, explain_connection
from beamferry.remote import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.providers.ssh.hooks.ssh import SSHHook


@contextmanager
def session_over(hook: SSHHook, name: str = RDS_SSH) -> Iterator[Session]:
    """Open a connection of Airflow's to a host of this name, with this version's scripts in place.

    What the caller itself raises passes through: only the connection's own errors are explained, where they arise.

    Raises:
        PermanentError: the host shows another key, refuses the log-in, or takes no scripts.
        TransientError: the host cannot be reached, or the connection broke.
    """
    try:
        client = hook.get_conn()
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise explain_connection(error, hook.remote_host, name) from error
    with client:
        session = Session(client, name, hook.remote_host)
        session.install()
        yield session
