"""Backup and restore: real SQLite and Postgres databases, and archives that somebody or something has damaged."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import tarfile
import threading
import zlib
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beamferry.backup import Installation, Manifest, Versions, back_up
from beamferry.errors import PermanentError
from beamferry.restoring import restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 23, 8, 10, tzinfo=UTC)
HERE = Versions(beamferry="1.2.0", airflow="3.3.2")
REGISTRY = "site: {destination_root: /mnt}\nbeamtimes: []\n"


def make(folder: Path, **further: Any) -> Installation:
    """An installation as ./run up leaves it, its Airflow's database with two rows."""
    home = folder / "airflow"
    home.mkdir(parents=True, mode=0o700)
    (home / "fernet_key").write_text("a fernet key")
    (home / "fernet_key").chmod(0o600)
    (home / "passwords.json").write_text('{"admin": "word"}')
    (home / "jwt_secret").write_text("made anew at any time")
    (folder / "beamtimes.yaml").write_text(REGISTRY)
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        database.executescript(
            "CREATE TABLE asset_state (key TEXT, value INT); INSERT INTO asset_state VALUES ('a', 60), ('b', 40);"
        )
    return Installation(
        home=home, registry=folder / "beamtimes.yaml", database=f"sqlite:///{home}/airflow.db", **further
    )


def empty(folder: Path) -> Installation:
    """Where there is nothing yet."""
    home = folder / "airflow"
    return Installation(
        home=home, registry=folder / "beamtimes.yaml", database=f"sqlite:///{home}/airflow.db"
    )


def rows(installation: Installation) -> list[tuple[str, int]]:
    with closing(sqlite3.connect(installation.home / "airflow.db")) as database:
        return database.execute("SELECT key, value FROM asset_state ORDER BY key").fetchall()


def refused(code: str, archive: Path, installation: Installation, **further: Any) -> PermanentError:
    """The sentence of a restore that did nothing."""
    before = tree(installation.home.parent)
    choices: dict[str, Any] = {"replace": False, "versions": HERE, "now": NOW} | further
    with pytest.raises(PermanentError) as caught:
        restore(archive, installation, **choices)
    assert caught.value.code == code, caught.value
    assert tree(installation.home.parent) == before
    return caught.value


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"
    }


@dataclass
class Made:
    installation: Installation
    archive: Path
    manifest: Manifest


@pytest.fixture
def made(tmp_path: Path) -> Made:
    installation = make(tmp_path / "old")
    archive = tmp_path / "backup.tar.gz"
    return Made(installation, archive, back_up(installation, archive, versions=HERE, now=NOW))


def test_all_that_matters_comes_back_elsewhere_with_its_permissions(tmp_path: Path) -> None:
    key = tmp_path / "old" / "ssh" / "id 1"
    key.parent.mkdir(parents=True)
    key.write_text("PRIVATE")
    key.chmod(0o600)
    value = '{"conn_type": "ssh", "password": "it\'s $HOME"}'
    installation = make(tmp_path / "old", keys=(key,), connections={"AIRFLOW_CONN_RDS_SSH": value})
    archive = tmp_path / "backup.tar.gz"
    old = os.umask(0)
    try:
        manifest = back_up(installation, archive, versions=HERE, now=NOW)
        key.unlink()
        there = empty(tmp_path / "new")
        put = restore(archive, there, replace=False, versions=HERE, now=NOW)
    finally:
        os.umask(old)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert (manifest.format, manifest.versions, manifest.made_at) == (1, HERE, NOW)
    assert rows(there) == [("a", 60), ("b", 40)]
    assert there.registry.read_text() == REGISTRY
    assert key.read_text() == "PRIVATE"
    assert set(put) == {
        *(
            str(there.home / name)
            for name in ("airflow.db", "fernet_key", "passwords.json", "connections.env")
        ),
        str(there.registry),
        str(key),
    }
    shown = subprocess.run(
        (
            "sh",
            "-c",
            f'. {shlex.quote(str(there.home / "connections.env"))}; printf %s "$AIRFLOW_CONN_RDS_SSH"',
        ),
        capture_output=True,
        check=True,
        text=True,
    )
    assert shown.stdout == value
    assert there.home.stat().st_mode & 0o777 == 0o700
    for path in there.home.iterdir():
        if path.name != "passwords.json":  # was readable before
            assert path.stat().st_mode & 0o077 == 0, path
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_copy_of_a_database_that_is_written_to_is_of_one_moment(tmp_path: Path) -> None:
    installation = make(tmp_path / "old")
    stop, moved = threading.Event(), threading.Event()

    def move() -> None:
        """Shift from one row to the other, in transactions that leave the sum alone."""
        with closing(sqlite3.connect(installation.home / "airflow.db", timeout=30)) as database:
            database.execute("PRAGMA journal_mode=WAL")
            while not stop.is_set():
                with database:
                    database.execute("UPDATE asset_state SET value = value - 1 WHERE key = 'a'")
                    database.execute("UPDATE asset_state SET value = value + 1 WHERE key = 'b'")
                moved.set()

    writer = threading.Thread(target=move)
    writer.start()
    try:
        moved.wait(30)
        for number in range(5):
            archive = tmp_path / f"{number}.tar.gz"
            back_up(installation, archive, versions=HERE, now=NOW)
            there = empty(tmp_path / f"new-{number}")
            restore(archive, there, replace=False, versions=HERE, now=NOW)
            found = dict(rows(there))
            assert found["a"] + found["b"] == 100
            assert found["b"] > 40
    finally:
        stop.set()
        writer.join()


def test_nothing_is_overwritten_unless_that_is_wanted_and_then_it_is_kept(made: Made) -> None:
    there = made.installation
    with closing(sqlite3.connect(there.home / "airflow.db")) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("UPDATE asset_state SET value = 0")
    # As after a kill: SQLite would play this back into whatever is called airflow.db.
    (there.home / "airflow.db-wal").write_bytes(b"of the old database")
    there.registry.write_text("site: changed\n")
    told = refused("restore-would-overwrite", made.archive, there)
    assert "Airflow's database" in str(told)
    assert str(there.registry) in str(told)
    assert "fernet_key" not in str(told)

    restore(made.archive, there, replace=True, versions=HERE, now=NOW)
    assert rows(there) == [("a", 60), ("b", 40)]
    assert there.registry.read_text() == REGISTRY
    kept = there.registry.with_name("beamtimes.yaml.before-20261123T081000Z")
    assert kept.read_text() == "site: changed\n"
    assert (there.home / "airflow.db.before-20261123T081000Z-wal").read_bytes() == b"of the old database"
    assert not (there.home / "airflow.db-wal").exists()
    assert not list(there.home.glob("fernet_key.before*"))


def test_a_backup_does_not_overwrite_another_one(made: Made) -> None:
    before = made.archive.read_bytes()
    with pytest.raises(PermanentError) as caught:
        back_up(made.installation, made.archive, versions=HERE, now=NOW)
    assert caught.value.code == "backup-exists"
    assert made.archive.read_bytes() == before


@pytest.mark.parametrize("gone", ["beamtimes.yaml", "airflow/airflow.db"])
def test_a_backup_without_its_database_or_registry_is_none(tmp_path: Path, gone: str) -> None:
    installation = make(tmp_path / "old")
    (tmp_path / "old" / gone).unlink()
    with pytest.raises(PermanentError) as caught:
        back_up(installation, tmp_path / "backup.tar.gz", versions=HERE, now=NOW)
    assert gone.rpartition("/")[2] in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def the_same(damaged: bytes, whole: bytes) -> bool:
    """Whether gzip still gets the same content out of it."""
    try:
        return gzip.decompress(damaged) == gzip.decompress(whole)
    except (OSError, EOFError, zlib.error):
        return False


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_archive_is_refused_or_is_as_good_as_before(
    made: Made, tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, *, cut: bool
) -> None:
    whole = made.archive.read_bytes()
    at = place % len(whole)
    damaged = whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "archive").write_bytes(damaged)
    there = empty(folder / "new")
    # A few bits say nothing, as the time in gzip's own head.
    if not cut and the_same(damaged, whole):
        restore(folder / "archive", there, replace=False, versions=HERE, now=NOW)
        assert rows(there) == [("a", 60), ("b", 40)]
    else:
        refused("backup-damaged", folder / "archive", there)
    shutil.rmtree(folder)


@dataclass
class Contents:
    """An archive's list, and its files by name."""

    manifest: dict[str, Any]
    files: dict[str, bytes]


def rewritten(archive: Path, change: Callable[[Contents], object]) -> Path:
    """An archive whose list and files were changed with care: gzip and tar find nothing wrong."""
    with tarfile.open(archive) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    it = Contents(json.loads(found.pop("manifest.json")), found)
    change(it)
    target = archive.with_name("rewritten.tar.gz")
    with tarfile.open(target, "w:gz") as tar:
        for name, content in {"manifest.json": json.dumps(it.manifest).encode(), **it.files}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return target


def test_an_archive_that_was_not_changed_passes(made: Made, tmp_path: Path) -> None:
    same = rewritten(made.archive, lambda _: None)
    assert restore(same, empty(tmp_path / "new"), replace=False, versions=HERE, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.files.update({"registry.yaml": REGISTRY.replace("mnt", "tmp").encode()}),
        lambda it: it.files.update({"keys/0": b"not in the list"}),
        lambda it: it.files.pop("home/fernet_key"),
        lambda it: it.files.update({"registry.yaml": it.files["registry.yaml"] + b"more"}),
        lambda it: it.manifest["files"][1].update(name="../beamtimes.yaml"),
        lambda it: it.manifest["files"][1].update(name="home/.."),
        lambda it: it.manifest["files"][1].update(mode=0o4755),
        lambda it: it.manifest.pop("files"),
        lambda it: it.manifest.update(format="1"),
        lambda it: it.manifest.update(files=[one for one in it.manifest["files"] if "." not in one["name"]]),
    ],
)
def test_an_archive_that_does_not_fit_its_list_is_refused(made: Made, tmp_path: Path, change: Any) -> None:
    refused("backup-damaged", rewritten(made.archive, change), empty(tmp_path / "new"))


@pytest.mark.parametrize(
    "content", [b"", b"no archive at all", gzip.compress(b"no tar"), gzip.compress(b"\0" * 10240)]
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "archive").write_bytes(content)
    refused("backup-damaged", tmp_path / "archive", empty(tmp_path / "new"))


def test_a_damaged_database_is_not_put_in_the_place_of_a_good_one(made: Made, tmp_path: Path) -> None:
    database = made.installation.home / "airflow.db"
    content = database.read_bytes()
    # The first page, which says what is in it, stays.
    database.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    archive = tmp_path / "of-a-damaged-one.tar.gz"
    back_up(made.installation, archive, versions=HERE, now=NOW)
    refused("backup-damaged", archive, empty(tmp_path / "new"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "form 2"),
        ({"versions": {"airflow": "3.4.0b1", "beamferry": "1.2.0"}}, "Airflow 3.4.0b1"),
        ({"versions": {"airflow": "3.3.10", "beamferry": "1.2.0"}}, "Airflow 3.3.10"),
        ({"versions": {"airflow": "3.3.2", "beamferry": "1.10.0"}}, "Beamferry 1.10.0"),
    ],
)
def test_a_newer_backup_is_refused_with_what_to_install(
    made: Made, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    newer = rewritten(made.archive, lambda it: it.manifest.update(change))
    assert words in str(refused("backup-newer", newer, empty(tmp_path / "new"), replace=True))


def test_a_backup_of_a_newer_form_need_not_be_readable_otherwise(made: Made, tmp_path: Path) -> None:
    def change(it: Contents) -> None:
        it.manifest = {"format": 7, "content": "of years to come"}

    refused("backup-newer", rewritten(made.archive, change), empty(tmp_path / "new"))


def test_an_older_backup_is_taken(made: Made, tmp_path: Path) -> None:
    later = Versions(beamferry="1.10.0", airflow="3.3.10")
    there = empty(tmp_path / "new")
    restore(made.archive, there, replace=False, versions=later, now=NOW)
    assert rows(there) == [("a", 60), ("b", 40)]


def test_nothing_is_restored_under_an_airflow_that_runs(made: Made) -> None:
    with (made.installation.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused("airflow-runs", made.archive, made.installation, replace=True)


def test_the_secrets_of_the_groups_server_come_back_into_their_folder(tmp_path: Path) -> None:
    secrets = tmp_path / "old" / "secrets"
    secrets.mkdir(parents=True)
    key = secrets / "rds_key"
    for name in ("fernet_key", "connections.yaml", key.name, ".gitignore"):
        (secrets / name).write_text(name)
        (secrets / name).chmod(0o400)
    installation = make(tmp_path / "old", secrets=secrets, keys=(key,))
    archive = tmp_path / "backup.tar.gz"
    manifest = back_up(installation, archive, versions=HERE, now=NOW)
    assert {held.name for held in manifest.files if held.name.startswith(("secrets/", "keys/"))} == {
        "secrets/fernet_key",
        "secrets/connections.yaml",
        "secrets/rds_key",
    }
    there = replace(empty(tmp_path / "new"), secrets=tmp_path / "new" / "secrets")
    restore(archive, there, replace=False, versions=HERE, now=NOW)
    assert (tmp_path / "new" / "secrets" / "rds_key").read_text() == "rds_key"
    assert (tmp_path / "new" / "secrets" / "rds_key").stat().st_mode & 0o777 == 0o400


@pytest.mark.parametrize("url", ["mysql+pymysql://a:secretword@host/airflow", "airflow.db", ""])
def test_another_database_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    installation = replace(make(tmp_path / "old"), database=url)
    with pytest.raises(PermanentError) as caught:
        back_up(installation, tmp_path / "backup.tar.gz", versions=HERE, now=NOW)
    assert caught.value.code == "backup-database"
    assert "secretword" not in str(caught.value)
    assert "secretword" not in repr(installation)


PASSWORD = "it's: a \\ pass word/100%"


@dataclass
class Postgres:
    """A server of one test's own, on a socket in its folder, that asks for a password."""

    folder: Path
    tools: Path

    @property
    def url(self) -> str:
        return self.database("airflow")

    def database(self, name: str) -> str:
        return f"postgresql+psycopg2://airflow:{quote(PASSWORD, safe='')}@/{name}?host={self.folder}"

    def sql(self, text: str, database: str = "airflow") -> str:
        done = subprocess.run(
            (self.tools / "psql", "-XAtq", "-h", self.folder, "-U", "airflow", "-d", database, "-c", text),
            env=os.environ | {"PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("pg_dump") is None:
        pytest.skip("this machine has no Postgres (Debian: postgresql)")
    folder = tmp_path_factory.mktemp("postgres")
    # Postgres refuses to run as root.
    become: tuple[str, ...] = ()
    if os.getuid() == 0:
        become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
        os.chown(folder, 65534, 65534)
        for above in folder.parents[:-2]:
            above.chmod(above.stat().st_mode | 0o011)
    server = Postgres(folder, found[-1].parent)
    word = folder / "word"
    word.write_text(PASSWORD)
    word.chmod(0o644)
    options = ("--auth=scram-sha-256", "--username=airflow", "--pwfile", word, "--encoding=UTF8", "--no-sync")
    subprocess.run(
        (*become, server.tools / "initdb", "-D", folder / "data", *options), check=True, capture_output=True
    )
    process = subprocess.Popen(
        (
            *become,
            server.tools / "postgres",
            "-D",
            folder / "data",
            "-k",
            folder,
            "-c",
            "listen_addresses=",
            "-F",
        ),
        stdout=subprocess.DEVNULL,
        stderr=(folder / "log").open("w"),
    )
    try:
        ready = (server.tools / "pg_isready", "-q", "-h", folder)
        while subprocess.run(ready, check=False).returncode != 0:
            assert process.poll() is None, (folder / "log").read_text()
        for name in ("airflow", "elsewhere"):
            server.sql(f"CREATE DATABASE {name}", database="postgres")
        yield server
    finally:
        process.terminate()
        process.wait(30)


def test_a_postgres_database_comes_back_and_what_came_later_is_gone(
    postgres: Postgres, tmp_path: Path
) -> None:
    postgres.sql(
        "CREATE TABLE state (key TEXT PRIMARY KEY, value JSON); INSERT INTO state VALUES ('plan', '{}')"
    )
    old = replace(make(tmp_path / "old"), database=postgres.url)
    archive = tmp_path / "backup.tar.gz"
    assert back_up(old, archive, versions=HERE, now=NOW).database == "postgres"

    refused("restore-would-overwrite", archive, old)
    postgres.sql("CREATE TABLE later (key TEXT REFERENCES state); UPDATE state SET key = 'changed'")
    restore(archive, old, replace=True, versions=HERE, now=NOW)
    assert postgres.sql("SELECT key FROM state") == "plan"
    assert postgres.sql("SELECT count(*) FROM pg_tables WHERE tablename = 'later'") == "0"

    there = replace(empty(tmp_path / "new"), database=postgres.database("elsewhere"))
    restore(archive, there, replace=False, versions=HERE, now=NOW)
    assert postgres.sql("SELECT key FROM state", database="elsewhere") == "plan"
    refused("backup-other-database", archive, empty(tmp_path / "third"))


def test_a_postgres_dump_that_fails_half_way_changes_nothing(postgres: Postgres, tmp_path: Path) -> None:
    postgres.sql(
        "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE state AS SELECT 'kept' AS key"
    )
    old = replace(make(tmp_path / "old"), database=postgres.url)
    archive = tmp_path / "backup.tar.gz"
    back_up(old, archive, versions=HERE, now=NOW)

    def change(it: Contents) -> None:
        dump = it.files["database.sql"] + b"CREATE TABLE public.state (key TEXT);\n"
        it.files["database.sql"] = dump
        held = next(one for one in it.manifest["files"] if one["name"] == "database.sql")
        held.update(bytes=len(dump), sha256=hashlib.sha256(dump).hexdigest())

    told = refused("backup-database", rewritten(archive, change), old, replace=True)
    assert "already exists" in str(told)
    assert postgres.sql("SELECT key FROM state") == "kept"


def test_a_postgres_database_in_use_is_left_alone_and_no_password_is_told(
    postgres: Postgres, tmp_path: Path
) -> None:
    postgres.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE state (key TEXT)")
    old = replace(make(tmp_path / "old"), database=postgres.url)
    archive = tmp_path / "backup.tar.gz"
    back_up(old, archive, versions=HERE, now=NOW)
    user = subprocess.Popen(
        (postgres.tools / "psql", "-Xq", "-h", postgres.folder, "-U", "airflow", "-d", "airflow"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PGPASSWORD": PASSWORD},
    )
    assert user.stdin is not None
    assert user.stdout is not None
    try:
        user.stdin.write(b"\\echo there\n")
        user.stdin.flush()
        assert user.stdout.readline() == b"there\n"
        refused("airflow-runs", archive, old, replace=True)
    finally:
        user.communicate()
    wrong = replace(old, database=postgres.url.replace("pass%20word", "else"))
    with pytest.raises(PermanentError) as caught:
        back_up(wrong, tmp_path / "again.tar.gz", versions=HERE, now=NOW)
    assert "password authentication failed" in str(caught.value)
    assert "else" not in str(caught.value)
