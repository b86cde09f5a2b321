"""Host keys: what a facility shows, what is pinned, and pinning what a person has confirmed."""

import os
import re
from typing import Iterator, List, Tuple

from beamferry_agent.account_steps import Steps, one_line, reason_of
from beamferry_agent.answers import PinnedKey, ShownKey
from beamferry_agent.ssh_settings import Way, run

# A facility that does not answer must not keep a person waiting.
_SCAN_SECONDS = 30
_TYPE = re.compile(r"[a-z0-9@.-]+\Z")
_KEY = re.compile(r"[A-Za-z0-9+/]+=*\Z")


def scan(steps: Steps, way: Way) -> None:
    """Tell which keys are pinned for a host, and which it shows."""
    if not way.host:
        steps.refuse("host-key", way.label, "", "ssh-settings", way.trouble)
    elif way.proxy:
        steps.refuse("host-key", way.label, "", "proxy", way.proxy)
    elif not way.known_hosts.startswith("/") or "%" in way.known_hosts:
        steps.refuse("host-key", way.label, way.known_hosts, "no-known-hosts")
    else:
        steps.pinned += _known(way)
        shown, complaint = _shown(way)
        steps.shown += shown
        if not shown:
            detail = "{} port {}".format(way.host, way.port) + (": " + complaint if complaint else "")
            steps.refuse("host-key", way.label, "", "no-answer", detail)


def pin(steps: Steps, way: Way, kind: str, key: str) -> None:
    """Add a confirmed key to the file of known hosts, unless another one stands there.

    Raises ValueError when it is no key.
    """
    if not _TYPE.match(kind) or not _KEY.match(key):
        raise ValueError("no host key: {} {}".format(kind, key[:40]))
    whole, there = "{} {}".format(kind, key), ""
    for known in _known(way):
        if known.marker == "@revoked" and known.key == key:
            steps.refuse("host-key", way.label, known.file, "revoked", whole)
            return
        if known.marker == "-" and known.key == key:
            steps.tell("host-key", way.label, "was-there", known.file, whole)
            return
        if known.marker == "-" and known.type == kind:
            there = known.file
    # Somebody may have pinned one since the look that a person approved.
    if there:
        steps.refuse("host-key", way.label, there, "differs", whole)
        return
    try:
        _append(way.known_hosts, "{} {}\n".format(way.name, whole))
    except OSError as error:
        steps.refuse("host-key", way.label, way.known_hosts, "failed", reason_of(error))
    else:
        steps.tell("host-key", way.label, "made", way.known_hosts, whole)


def _append(file: str, line: str) -> None:
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "a+b") as lines:
        # A last line without its end would swallow ours.
        if lines.tell():
            lines.seek(-1, os.SEEK_END)
            if lines.read(1) != b"\n":
                line = "\n" + line
        lines.write(line.encode())
        lines.flush()
        os.fsync(lines.fileno())


def _known(way: Way) -> List[PinnedKey]:
    """Return each line that ssh would believe of a host."""
    return [
        PinnedKey(*map(one_line, (way.label, file, *fields)))
        for file in way.known_hosts_files
        if os.access(file, os.R_OK)
        for fields in _lines_of(way.name, file)
    ]


def _lines_of(name: str, file: str) -> Iterator[Tuple[str, str, str]]:
    # The names of a line may be hashed: ssh-keygen finds them all the same.
    _, said, _ = run(("ssh-keygen", "-F", name, "-f", file))
    for line in said.splitlines():
        words = line.split()
        if line.startswith("@") and len(words) >= 4:
            yield words[0], words[2], words[3]
        elif not line.startswith(("#", "@")) and len(words) >= 3:
            yield "-", words[1], words[2]


def _shown(way: Way) -> Tuple[List[ShownKey], str]:
    """Return the keys that a host shows, or none and what was complained of."""
    command = ("ssh-keyscan", "-T", "10", "-t", "ed25519,ecdsa,rsa", "-p", way.port, "--", way.host)
    _, said, complaint = run(command, _SCAN_SECONDS)
    found = set()
    for line in said.splitlines():
        words = line.split()
        if len(words) >= 3 and not line.startswith("#") and _TYPE.match(words[1]) and _KEY.match(words[2]):
            found.add((words[1], words[2]))
    shown = [ShownKey(way.label, way.name, way.known_hosts, kind, key) for kind, key in sorted(found)]
    told = [line for line in complaint.splitlines() if not line.startswith("#")]
    return shown, " ".join(told[-3:])
