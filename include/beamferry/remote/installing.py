"""Bringing the scripts to RDS-SSH from the triggerer, which may be the first of a new version to need them."""

from __future__ import annotations

import secrets

import asyncssh

from beamferry.remote import bundle, bundle_folder


async def install(conn: asyncssh.SSHClientConnection) -> None:
    """Do over a connection of asyncssh what ``Session.install`` does over one of paramiko."""
    folder = bundle_folder()
    async with conn.start_sftp_client() as sftp:
        if await sftp.exists(f"{folder}/complete"):
            return
        # Another task or triggerer may make them in this very moment.
        await sftp.makedirs(folder, asyncssh.SFTPAttrs(permissions=0o700), exist_ok=True)
        for name, content in {**bundle(), "complete": b""}.items():
            new = f"{folder}/{name}.{secrets.token_hex(8)}.new"
            async with sftp.open(new, "wb") as file:
                await sftp.chmod(new, 0o600)
                await file.write(content)
            await sftp.posix_rename(new, f"{folder}/{name}")
