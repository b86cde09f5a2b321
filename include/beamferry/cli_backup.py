"""The command line's part for backups: what matters into one file, and back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from beamferry.backup import Installation, Versions

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

_OWN = Path(".airflow")
_CONNECTION = "AIRFLOW_CONN_"
_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
Home = Annotated[
    Path | None,
    typer.Option(help="Airflow's folder of ./run up; .airflow, or elsewhere the environment's Airflow."),
]
Secrets = Annotated[
    Path | None,
    typer.Option(help="The folder of secrets of the group's server; its files belong to the backup."),
]


@app.command()
def backup(
    target: Annotated[str, typer.Argument(help="A new file, a folder that gets one, or - for the output.")],
    home: Home = None,
    secrets: Secrets = None,
    key: Annotated[
        list[Path] | None, typer.Option(help="A further private key; those that connections name are found.")
    ] = None,
) -> None:
    """Write Airflow's database, the registry, keys and connections into one file, while Airflow runs.

    It holds secrets: whoever can read it can log in to RDS-SSH. Only you can read it where it is written; keep it so.
    """
    from beamferry.backup import back_up  # noqa: PLC0415

    now = datetime.now(UTC)
    installation = _installation(home, secrets, tuple(key or ()), keys_wanted=True)
    with tempfile.TemporaryDirectory() as aside:
        file = Path(target)
        if target == "-":
            file = Path(aside) / "backup"
        elif file.is_dir():
            file /= f"beamferry-{now:%Y%m%dT%H%M%SZ}.tar.gz"
        manifest = back_up(installation, file, versions=_versions(), now=now)
        if target == "-":
            with file.open("rb") as content:
                shutil.copyfileobj(content, sys.stdout.buffer)
            sys.stdout.buffer.flush()
    names = {held.name for held in manifest.files}
    typer.echo(f"{file if target != '-' else 'The backup'} holds {', '.join(sorted(names))}", err=True)
    if not any(name.endswith("/fernet_key") for name in names):
        typer.echo(
            "Not inside: the Fernet key of this Airflow, without which the passwords of its connections cannot "
            "be read. Keep it where its configuration has it",
            err=True,
        )


@app.command()
def restore(
    archive: Annotated[str, typer.Argument(help="What backup wrote, or - for the input.")],
    home: Home = None,
    secrets: Secrets = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace what is there; it is kept beside, but not Postgres' tables."),
    ] = False,
    only: Annotated[
        Literal["files", "database"] | None,
        typer.Option(help="One part: the files, or Airflow's database; both when left out."),
    ] = None,
) -> None:
    """Put back what a backup holds. Airflow must not run."""
    from beamferry.backup import CONNECTIONS  # noqa: PLC0415
    from beamferry.restoring import restore as put_back  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as aside:
        file = Path(archive)
        if archive == "-":
            file = Path(aside) / "backup"
            with file.open("wb") as whole:
                shutil.copyfileobj(sys.stdin.buffer, whole)
        installation = _installation(home, secrets, (), keys_wanted=False)
        now = datetime.now(UTC)
        put = put_back(file, installation, replace=replace, versions=_versions(), now=now, only=only)
    for place in put:
        typer.echo(f"restored {place}")
    connections = installation.home / CONNECTIONS
    if str(connections) in put:
        typer.echo(f"Read the connections into each terminal before you start Airflow: . {connections}")


def _versions() -> Versions:
    from beamferry.backup import Versions  # noqa: PLC0415

    return Versions(beamferry=version("beamferry"), airflow=version("apache-airflow-core"))


def _installation(
    home: Path | None, secrets: Path | None, keys: tuple[Path, ...], *, keys_wanted: bool
) -> Installation:
    """Return where things are: in the folder of ./run up, or where the environment's Airflow says."""
    from beamferry.backup import Installation  # noqa: PLC0415
    from beamferry.registry import registry_path  # noqa: PLC0415

    environment = dict(os.environ)
    if home is None and not _OWN.is_dir() and "AIRFLOW_HOME" in environment:
        folder = Path(environment["AIRFLOW_HOME"])
    else:
        folder = (home or _OWN).absolute()
        environment["AIRFLOW_HOME"] = str(folder)
        environment.setdefault(_DATABASE, f"sqlite:///{folder}/airflow.db")
        if (folder / "fernet_key").is_file():
            environment["AIRFLOW__CORE__FERNET_KEY"] = (folder / "fernet_key").read_text()
    database = environment.get(_DATABASE) or _asked(
        environment, "config", "get-value", "database", "sql_alchemy_conn"
    )
    own = {name: value for name, value in environment.items() if name.startswith(_CONNECTION)}
    found = set(keys)
    if keys_wanted:
        found |= set(_keys(own.values()))
        found |= set(_keys(_stored(environment)))
    return Installation(
        home=folder,
        registry=registry_path(),
        database=database.strip(),
        secrets=secrets,
        keys=tuple(sorted(found)),
        connections=own,
    )


def _stored(environment: Mapping[str, str]) -> Iterator[Any]:
    """Yield the connections of Airflow's database."""
    text = _asked(environment, "connections", "export", "-", "--file-format", "json")
    yield from json.loads(text[text.index("{") :]).values()


def _keys(connections: Any) -> Iterator[Path]:
    """Yield the private keys that connections name, be they JSON, an address, or already read."""
    for connection in connections:
        if isinstance(connection, str) and not connection.lstrip().startswith("{"):
            extra: Any = {name: values[0] for name, values in parse_qs(urlsplit(connection).query).items()}
        else:
            read = json.loads(connection) if isinstance(connection, str) else connection
            extra = read.get("extra") or {}
        if isinstance(extra, str):
            extra = json.loads(extra)
        if isinstance(extra, dict) and isinstance(extra.get("key_file"), str):
            yield Path(extra["key_file"])


def _asked(environment: Mapping[str, str], *words: str) -> str:
    """Return what Airflow's own command line prints; what it prints can be secret, so no error shows it."""
    from beamferry.errors import PermanentError  # noqa: PLC0415

    done = subprocess.run(  # noqa: S603 - Airflow's own command
        (sys.executable, "-m", "airflow", *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env=dict(environment) | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR"},
    )
    if done.returncode != 0:
        raise PermanentError(
            "airflow-setup", f"'airflow {' '.join(words[:2])}' failed", "call it by hand to see why"
        )
    return done.stdout
