"""A consistent copy of Airflow's database while Airflow runs, and the way back: SQLite and Postgres."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["sqlite", "postgres"]
# What SQLite keeps beside a database: a copy must never meet what another one left there.
BESIDE = ("-wal", "-shm", "-journal")
# A writer holds the database for moments; whoever holds it for longer is not Airflow.
_BUSY_SECONDS = 60.0
# Before the first restored table: in the same transaction, so that a copy that fails leaves all as it was.
_CLEAR = "DROP SCHEMA public CASCADE;\nCREATE SCHEMA public;\n"
_SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
)
_TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"


def kind(url: str) -> Kind:
    """Return what sort of database an SQLAlchemy address names.

    Raises:
        PermanentError: it is neither SQLite nor Postgres.
    """
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme == "sqlite":
        return "sqlite"
    if scheme in {"postgresql", "postgres"}:
        return "postgres"
    raise PermanentError(
        "backup-database",
        f"Airflow's database is of the kind '{scheme or 'none'}', which this command cannot copy",
        "copy it with its own tools; SQLite and Postgres are known here",
    )


def sqlite_file(url: str) -> Path:
    """Return the file of an SQLite address."""
    return Path(unquote(urlsplit(url).path.removeprefix("/")))


def copy(url: str, target: Path) -> None:
    """Copy the database as it is at one moment; Airflow may go on writing meanwhile.

    Args:
        url: SQLAlchemy's address of it.
        target: a new file, which gets an SQLite database or the SQL of a Postgres one.

    Raises:
        PermanentError: it is not there, or its tool failed.
    """
    target.touch(mode=0o600)
    if kind(url) == "sqlite":
        _copy_sqlite(sqlite_file(url), target)
    else:
        options = ("--format=plain", "--no-owner", "--no-privileges", "--encoding=UTF8")
        _postgres(url, "pg_dump", *options, f"--file={target}")


def _copy_sqlite(source: Path, target: Path) -> None:
    if not source.is_file():
        raise PermanentError(
            "backup-database", f"There is no database {source}", "name Airflow's folder with --home"
        )
    try:
        with (
            closing(
                sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
            ) as old,
            closing(sqlite3.connect(target)) as new,
        ):
            # In one step: a copy in several begins anew whenever somebody writes, and so might never end.
            old.backup(new)
    except sqlite3.Error as error:
        raise PermanentError(
            "backup-database",
            f"{source} could not be copied ({error})",
            "see that it is whole and not locked",
        ) from error


def check_sqlite(copied: Path) -> None:
    """Look through a copy.

    Raises:
        PermanentError: it is no whole database.
    """
    try:
        with closing(sqlite3.connect(copied)) as database:
            found = database.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        found = [(str(error),)]
    if found != [("ok",)]:
        raise PermanentError(
            "backup-damaged",
            f"The database in the backup is damaged ({found[0][0]})",
            "take an earlier backup",
        )


def is_there(url: str) -> bool:
    """Say whether a restore would overwrite something."""
    if kind(url) == "sqlite":
        return sqlite_file(url).exists()
    return _number(url, _TABLES) > 0


def refuse_in_use(url: str) -> None:
    """Make sure that nobody works with a Postgres database; who uses an SQLite file cannot be asked.

    Raises:
        PermanentError: somebody does.
    """
    if kind(url) == "postgres" and (sessions := _number(url, _SESSIONS)):
        raise PermanentError(
            "airflow-runs",
            f"Airflow's database is in use ({sessions} sessions)",
            "stop all components of Airflow, but not the database, then call it again",
        )


def load_postgres(url: str, dump: Path) -> None:
    """Replace all that a Postgres database holds, or nothing of it.

    Raises:
        PermanentError: psql failed; the database is as it was.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as clear:
        clear.write(_CLEAR)
        clear.flush()
        options = ("--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction")
        _postgres(url, "psql", *options, f"--file={clear.name}", f"--file={dump}")


def _number(url: str, query: str) -> int:
    options = ("--no-psqlrc", "--tuples-only", "--no-align")
    return int(_postgres(url, "psql", *options, f"--command={query}"))


def _postgres(url: str, tool: str, *options: str) -> str:
    """Run one of Postgres' tools and return what it printed."""
    with _password(url) as known:
        try:
            done = subprocess.run(  # noqa: S603 - Postgres' own tools
                (tool, "--no-password", f"--dbname={_without_password(url)}", *options),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                # Notices would stand before the error.
                env=os.environ | {"PGOPTIONS": "-c client_min_messages=error"} | known,
            )
        except FileNotFoundError:
            raise PermanentError(
                "backup-tool", f"{tool} is not there", "install Postgres' client (Debian: postgresql-client)"
            ) from None
    if done.returncode != 0:
        reason = next(
            (line for line in done.stderr.splitlines() if line.strip()), f"exit code {done.returncode}"
        )
        raise PermanentError(
            "backup-database",
            f"{tool} failed ({re.sub(r'^psql:[^:]+:[0-9]+: ', '', reason)})",
            "see that the database runs, and that its client is not older than it",
        )
    return done.stdout


def _without_password(url: str) -> str:
    """Return the address as Postgres' tools take it; it becomes an argument, so the password is not in it."""
    parts = urlsplit(url)
    account, at, host = parts.netloc.rpartition("@")
    return parts._replace(scheme="postgresql", netloc=f"{account.partition(':')[0]}{at}{host}").geturl()


@contextmanager
def _password(url: str) -> Iterator[dict[str, str]]:
    """Hand the password to Postgres' tools in a file that only this account can read."""
    password = urlsplit(url).password
    if password is None:
        yield {}
        return
    escaped = unquote(password).replace("\\", "\\\\").replace(":", "\\:")
    with tempfile.NamedTemporaryFile("w") as file:  # of mode 0600
        file.write(f"*:*:*:*:{escaped}\n")
        file.flush()
        yield {"PGPASSFILE": file.name}
