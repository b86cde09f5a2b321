"""A key pair that ssh can use with nobody there."""

import os
import stat
from typing import Tuple

from beamferry_agent.account_steps import Steps, reason_of
from beamferry_agent.ssh_settings import Way, run


def make_key(steps: Steps, way: Way) -> None:
    """See that there is a key pair for a host, and tell its public half."""
    if not way.host:
        steps.refuse("key", way.label, "", "ssh-settings", way.trouble)
        return
    usual = os.path.join(steps.home, ".ssh", "id_ed25519")
    for file in way.keys:
        if os.path.exists(file):
            public, _ = _public_of(file)
            if public:
                steps.tell("key", way.label, "was-there", file, public)
                return
    # A key that the configuration names and nobody has made yet is made where it is looked for.
    wish = usual if usual in way.keys or not way.keys else way.keys[0]
    if os.path.exists(wish):
        steps.refuse("key", way.label, wish, _public_of(wish)[1])
    elif os.path.lexists(wish) or os.path.lexists(wish + ".pub"):
        steps.refuse("key", way.label, wish, "half")
    else:
        _make(steps, way, wish)


def _make(steps: Steps, way: Way, file: str) -> None:
    comment = "{}@{}".format(steps.account, steps.node)
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        code, said, complaint = run(
            ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", file)
        )
        if code != 0:
            steps.refuse("key", way.label, file, "failed", (complaint or said).strip())
            return
        steps.tell("key", way.label, "made", file, _first_line(file + ".pub"))
    except OSError as error:
        steps.refuse("key", way.label, file, "failed", reason_of(error))


def _public_of(file: str) -> Tuple[str, str]:
    """Return the public key of a private one that ssh can use, or '' and why it cannot."""
    if not os.access(file, os.R_OK):
        return "", "unreadable"
    if stat.S_IMODE(os.stat(file).st_mode) & 0o077:
        return "", "modes"
    code, public, _ = run(("ssh-keygen", "-y", "-P", "", "-f", file))
    if code != 0:
        return "", "passphrase"
    public = public.strip()
    # A key on a token waits for a finger.
    if public.startswith("sk-"):
        return "", "token"
    try:
        noted = _first_line(file + ".pub")
    except OSError:
        return public, ""
    # The public file has the comment, if it is this key's.
    return (noted if noted.split()[:2] == public.split()[:2] else public), ""


def _first_line(file: str) -> str:
    with open(file, encoding="utf-8", errors="replace") as lines:
        return lines.readline().strip()
