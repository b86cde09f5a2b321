"""How ssh itself reaches a host, as ~/.ssh/config may give it another address, key or file of known hosts."""

import os
import subprocess
from typing import List, NamedTuple, Tuple

_SECONDS = 30

Way = NamedTuple(
    "Way",
    [
        ("label", str),
        ("host", str),
        ("port", str),
        ("name", str),
        ("proxy", str),
        ("known_hosts", str),
        ("known_hosts_files", List[str]),
        ("keys", List[str]),
        ("trouble", str),
    ],
)
Way.__doc__ = """The way to a host.

``label``: the host as it was asked for, with its port where one was named.
``host``, ``port``: where ssh connects; '' when ssh cannot say, ``trouble`` then has its words.
``name``: as the host stands in known_hosts.
``proxy``: the setting by which ssh goes there through another host, else ''.
``known_hosts``: the file that would get a new key, '' for none.
``known_hosts_files``: all that ssh reads.
``keys``: files of private keys, in ssh's order.
"""


def run(command: Tuple[str, ...], seconds: float = _SECONDS) -> Tuple[int, str, str]:
    """Return a command's exit code and what it printed; -1 with the reason when it cannot run or does not end."""
    try:
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
            env=dict(os.environ, LC_ALL="C"),
        )
    except subprocess.TimeoutExpired:
        return -1, "", "{} did not end within {:.0f} seconds".format(command[0], seconds)
    except OSError as error:
        return -1, "", "{}: {}".format(command[0], error.strerror or error)
    return done.returncode, _text(done.stdout), _text(done.stderr)


def _text(output: bytes) -> str:
    return output.decode("utf-8", "replace")


def read_way(host: str, port: str, account: str) -> Way:
    """Ask ssh for its way to a host; ``port`` and ``account`` may be ''."""
    label = "{}:{}".format(host, port) if port else host
    options: Tuple[str, ...] = ()
    if port:
        options += ("-p", port)
    if account:
        options += ("-l", account)
    code, said, complaint = run(("ssh", "-G", *options, "--", host))
    if code != 0:
        return Way(label, "", "", "", "", "", [], [], (complaint or said).strip())
    settings = [(key, value) for key, _, value in (line.partition(" ") for line in said.splitlines())]
    # Of each of these ssh has one; "none" stands for nothing.
    one = {key: value for key, value in settings if value != "none"}
    address, number = one.get("hostname", ""), one.get("port", "")
    if not address or not number.isdigit():
        return Way(label, "", "", "", "", "", [], [], "it names no host and port")
    name = one.get("hostkeyalias") or (address if number == "22" else "[{}]:{}".format(address, number))
    proxy = [key for key in ("proxyjump", "proxycommand") if key in one]
    own, shared = (_files(settings, owner + "knownhostsfile") for owner in ("user", "global"))
    keys = [_expand(value) for key, value in settings if key == "identityfile" and value != "none"]
    return Way(label, address, number, name, "".join(proxy[:1]), "".join(own[:1]), own + shared, keys, "")


def _files(settings: List[Tuple[str, str]], wanted: str) -> List[str]:
    files = [file for key, value in settings if key == wanted for file in value.split()]
    return [_expand(file) for file in files if file not in ("none", "/dev/null")]


def _expand(path: str) -> str:
    """Return a path as ssh understands it."""
    for start in ("~/", "%d/"):
        if path.startswith(start):
            return os.path.join(os.environ["HOME"], path[len(start) :])
    return path
