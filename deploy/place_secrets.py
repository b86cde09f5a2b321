"""Puts the secrets where the containers read them: ``python place_secrets.py``, as root, before anything else starts.

The files of ``deploy/secrets`` (here ``/given``) are checked and copied into the volume that the containers mount
read-only, with the number of the image's account and mode 0400: on the host they belong to whoever runs the server.
With the lab, whose secrets ``lab-init`` has made (here ``/lab``), those are taken instead. Exits 1 with a
sentence that says what to do where something is missing; then nothing is changed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

GIVEN, LAB, PLACE = Path("/given"), Path("/lab/airflow"), Path("/run/beamferry")
# Where the registry's folder is mounted; the lab has a registry of its own.
REGISTRY = Path("/opt/beamferry/registry/beamtimes.yaml")
ACCOUNT = 50_000
# lab-init leaves it at each start and it is taken away here: without --profile lab there is none.
FRESH = "fresh"
WORDS = ("database_password", "queue_password", "jwt_secret", "api_secret", "fernet_key")
FILES = (*WORDS, "passwords.json", "connections.yaml")
_WORD = re.compile(r"[A-Za-z0-9_=-]{16,}")
_PLACEHOLDER = "FILL-IN"


class Refused(Exception):  # noqa: N818 - what it says is a sentence for a person
    """The secrets are not complete; says what to do."""


def check(folder: Path, users: str) -> None:
    """Look at a folder of secrets.

    Args:
        folder: holds the files.
        users: ``name:role,...``, as Airflow has them.

    Raises:
        Refused: a file is missing or cannot be used.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise Refused(
            f"deploy/secrets has no {', '.join(missing)}. Call deploy/prepare, which makes what is missing, fill "
            "in connections.yaml there, then start again. (For the lab: docker compose --profile lab up)"
        )
    for name in WORDS:
        if not _WORD.fullmatch((folder / name).read_text().strip()):
            raise Refused(
                f"deploy/secrets/{name} must be one word of at least 16 letters, digits, - and _. Remove it and "
                "call deploy/prepare (the database keeps its first password: see docs, secrets)"
            )
    _check_connections(folder / "connections.yaml")
    _check_users(folder / "passwords.json", users)


def _check_connections(path: Path) -> None:
    try:
        connections: Any = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise Refused(f"deploy/secrets/{path.name} is no valid YAML: {error}") from None
    if not isinstance(connections, dict) or not connections:
        raise Refused(f"deploy/secrets/{path.name} names no connection. Write rds_ssh into it")
    for name, fields in connections.items():
        if _PLACEHOLDER in json.dumps(fields):
            raise Refused(
                f"deploy/secrets/{path.name}: {name} still says {_PLACEHOLDER}. Put in your own values, or "
                "remove this connection"
            )
        extra = fields.get("extra") if isinstance(fields, dict) else None
        key = extra.get("key_file") if isinstance(extra, dict) else None
        if isinstance(key, str) and not (path.parent / Path(key).name).is_file():
            raise Refused(
                f"deploy/secrets/{path.name}: {name} names the key {key}, and deploy/secrets/{Path(key).name} is "
                f"not there. Put the private key there; the containers see it as {PLACE}/{Path(key).name}"
            )


def _check_users(path: Path, users: str) -> None:
    # Airflow would make a password for whom it knows none, and print it into its log.
    try:
        known = json.loads(path.read_text())
    except ValueError as error:
        raise Refused(f"deploy/secrets/{path.name} is no valid JSON: {error}") from None
    for name in (user.split(":")[0].strip() for user in users.split(",")):
        if not isinstance(known, dict) or not known.get(name):
            raise Refused(
                f"deploy/secrets/{path.name} has no password for {name}, whom BEAMFERRY_USERS names"
            )


def choose(given: Path, lab: Path) -> Path:
    """Return the folder that is taken: the lab's if it has just been started, else the group's own.

    Raises:
        Refused: there are both.
    """
    own = [name for name in FILES if (given / name).exists()]
    if not (lab / FRESH).exists():
        return given
    if own:
        raise Refused(
            "deploy/secrets holds a group's secrets, and the lab has its own: start the lab from another checkout, "
            "or start the server without --profile lab"
        )
    return lab


def place(source: Path, target: Path, account: int) -> None:
    """Copy the secrets, and nothing else stays in the target."""
    target.chmod(0o700)
    os.chown(target, account, 0)
    found = [
        file
        for file in sorted(source.iterdir())
        if file.is_file() and not file.name.startswith(".") and file.name != FRESH
    ]
    # Each under its own name only when it is whole: a server that runs reads them meanwhile.
    for file in found:
        new = target / f".{file.name}.new"
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        shutil.copyfile(file, new)
        new.chmod(0o400)
        os.chown(new, account, 0)
        new.replace(target / file.name)
    names = {file.name for file in found}
    if REGISTRY.name not in names:
        link = target / f".{REGISTRY.name}.new"
        link.unlink(missing_ok=True)
        link.symlink_to(REGISTRY)
        link.replace(target / REGISTRY.name)
    for old in target.iterdir():
        if old.name not in {*names, REGISTRY.name}:
            old.unlink()


def main() -> int:
    """Return the exit code."""
    try:
        source = choose(GIVEN, LAB)
        check(source, os.environ["BEAMFERRY_USERS"])
    except Refused as refused:
        print(f"Beamferry does not start: {refused}.", file=sys.stderr)
        return 1
    finally:
        (LAB / FRESH).unlink(missing_ok=True)
    place(source, PLACE, ACCOUNT)
    print(f"Secrets of {'the lab' if source == LAB else 'deploy/secrets'} are in place.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
