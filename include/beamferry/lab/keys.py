"""Keys of the lab's hosts and accounts, and the lines that pin them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from pathlib import Path


def make_key(path: Path, comment: str) -> None:
    """Make an ed25519 pair without passphrase at ``path`` and ``path.pub`` unless it is there.

    Raises:
        PermanentError: ssh-keygen is missing.
    """
    if path.exists():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))
    try:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise PermanentError(
            "lab-needs-package", "ssh-keygen is not installed", "sudo apt install openssh-client"
        ) from None


def public_key(path: Path) -> str:
    """Return ``type base64`` of the pair at ``path``, without its comment."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def write_private(path: Path, text: str) -> None:
    """Write a file that only the owner may read, whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.touch(mode=0o600)
    new.chmod(0o600)
    new.write_text(text)
    new.rename(path)
