"""What stopped a connection to RDS-SSH or to another host of the university, in words."""

from __future__ import annotations

import socket

import paramiko

from beamferry.errors import PermanentError, TransientError

# As people know it.
RDS_SSH = "RDS-SSH"


def explain_connection(  # noqa: PLR0911
    error: Exception, host: str, name: str = RDS_SSH
) -> PermanentError | TransientError:
    """Return what stopped a connection, from the exception that paramiko raised.

    Args:
        error: was raised.
        host: its address, '' where the caller does not know it.
        name: of the host, as people know it.
    """
    where = f"{name} at {host}" if host else name
    if isinstance(error, paramiko.BadHostKeyException):
        return PermanentError(
            "rds-host-key-differs",
            f"{where} shows another host key than the pinned one",
            "ask Research IT whether they changed it; if so, put the new one into host_key of the connection's extras",
        )
    if isinstance(error, paramiko.AuthenticationException):
        return PermanentError(
            "rds-key-refused",
            f"{where} refused the log-in",
            "check login and key_file of the connection, and that the public key is in ~/.ssh/authorized_keys there",
        )
    if isinstance(error, paramiko.SSHException) and "not found in known_hosts" in str(error):
        return PermanentError(
            "rds-host-key-unknown",
            f"The host key of {where} is not known",
            "put it into host_key of the connection's extras after comparing its fingerprint with Research IT's",
        )
    if isinstance(error, paramiko.SFTPError):
        return PermanentError(
            "rds-login-shell-noise",
            f"{where} answers SFTP with what is none ({error}): the log-in shell there prints text",
            "remove what prints from ~/.bashrc, ~/.cshrc or ~/.profile there, or print it in interactive shells only",
        )
    if isinstance(error, OSError) and error.filename is not None:
        # A file of this machine, which has nothing to do with the way there.
        return PermanentError(
            "rds-key-file",
            f"{error.filename}, the key to {where}, cannot be read on Airflow's own machine ({error.strerror})",
            "check key_file of the connection, and that Airflow's account may read it",
        )
    if isinstance(error, socket.gaierror):
        return TransientError(
            "rds-unknown-host",
            f"The name of {name}, {host}, cannot be resolved",
            "this is tried again; check the host of the connection and whether this machine needs the VPN",
        )
    return TransientError(
        "rds-unreachable",
        f"{where} cannot be reached, or the connection broke ({str(error) or type(error).__name__})",
        "this is tried again; if it stays, check the VPN and Research IT's announcements",
    )
