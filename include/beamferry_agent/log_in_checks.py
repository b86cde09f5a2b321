"""What a log-in needs on this host: whether ~/.netrc has a password, and whether ssh takes its own configuration."""

import re
import subprocess
from typing import List, NamedTuple, Sequence

from beamferry_agent.environment import tool_environment


def netrc_has(content: bytes, host: bytes, account: bytes) -> bool:
    """Say whether a netrc has a password for an account, or for whatever account, at a host."""
    words = content.split()
    here, login = False, b""
    for at, name in enumerate(words):
        value = words[at + 1] if at + 1 < len(words) else b""
        if name == b"machine":
            here, login = value == host, b""
        if here and name == b"login":
            login = value
        if here and name == b"password" and login in (b"", account):
            return True
    return False


class _Said(NamedTuple):
    code: int
    words: bytes


def settings_complaint(words: Sequence[str], host: str) -> bytes:
    """Return ssh's words where it refuses its own configuration, '' otherwise: lftp hands on the last of them alone."""
    done = _said([*words, "-G", "--", host])
    if done.code == 0:
        return b""
    # An older ssh knows no -G, and says so in other words.
    refused = re.search(b" bad configuration options|Bad owner or permissions on ", done.words)
    return done.words if refused else b""


def _said(command: List[str]) -> _Said:
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=tool_environment(),
    )
    return _Said(done.returncode, done.stderr)
