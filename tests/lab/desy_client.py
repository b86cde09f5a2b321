"""What the tests of the lab's DESY do by hand: lftp with strict settings, ftplib, ssh with answers."""

from __future__ import annotations

import ftplib
import ssl
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from beamferry.lab.desy import Desy

SETTINGS = """\
set ftp:ssl-force yes
set ftp:ssl-protect-data yes
set net:max-retries 2
set net:timeout 5
set net:reconnect-interval-base 1
set cmd:fail-exit yes
set cmd:move-background no
set xfer:use-temp-file yes
"""


def lftp(
    desy: Desy, port: int, *commands: str, host: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run lftp against one of the FTPS servers."""
    lines = [
        SETTINGS,
        f"set ssl:ca-file {desy.ca_file}",
        f"open -u {desy.account},'{desy.password}' -p {port} ftp://{host or desy.ftps.address}",
        *commands,
    ]
    return run(lines)


def lftp_over_ssh(program: str, *commands: str) -> subprocess.CompletedProcess[bytes]:
    """Run lftp by SFTP, by way of an ssh command."""
    lines = [
        SETTINGS,
        f'set sftp:connect-program "{program}"',
        "open sftp://cdaniel:@psftp.desy.de",
        *commands,
    ]
    return run(lines)


def run(lines: list[str]) -> subprocess.CompletedProcess[bytes]:
    script = "\n".join(lines) + "\n"
    return subprocess.run(
        ("lftp", "-f", "/dev/stdin"), input=script.encode(), capture_output=True, timeout=30, check=False
    )


class Ftps(ftplib.FTP_TLS):
    """ftplib that reuses the TLS session for data, as strict servers want it."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[Any, int | None]:
        connection, size = ftplib.FTP.ntransfercmd(self, cmd, rest)
        context = self.context
        return context.wrap_socket(connection, server_hostname=self.host, session=self.sock.session), size


def ftps(desy: Desy, port: int, *, login: bool = True) -> Ftps:
    """Return a connection by ftplib that checks the certificate; the caller closes it."""
    context = ssl.create_default_context(cafile=str(desy.ca_file))
    client = Ftps(context=context, timeout=5)
    client.connect(desy.ftps.address, port)
    if login:
        client.login(desy.account, desy.password)
        client.prot_p()
    return client


def answers(folder: Path, *words: str) -> dict[str, str]:
    """Return what lets ssh take its answers from a program, one word a question."""
    folder.mkdir(exist_ok=True)
    (folder / "words").write_text("".join(f"{word}\n" for word in words))
    program = folder / "askpass"
    program.write_text(f"#!/bin/sh\nhead -n 1 '{folder}/words'\nsed -i 1d '{folder}/words'\n")
    program.chmod(0o700)
    return {"SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
