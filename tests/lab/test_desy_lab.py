"""DESY in the lab: what lftp, sftp and ssh see of it, and that both kinds of FTPS send the same bytes."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from desy_client import SETTINGS, answers, ftps, lftp, lftp_over_ssh, run

from beamferry.errors import PermanentError
from beamferry.lab import Lab, desy_tree
from beamferry.lab.desy import Desy
from beamferry.lab.desy_tree import BEAMTIME, HARD_NAMES, UNREADABLE
from beamferry.lab.keys import make_key, public_key
from beamferry.lab.pure_ftpd import PureFtpd
from beamferry.lab.settings import Settings
from beamferry.lab.visit import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("pyftpdlib", "pure-ftpd")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("key") / "id"
    make_key(place, "tests")
    return place


@pytest.fixture(scope="module")
def desy(tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Desy]:
    """DESY by itself, without the rest of the lab."""
    settings = Settings.choose(None, None)
    running = Desy(tmp_path_factory.mktemp("desy"), settings.ports, namespaces=settings.namespaces)
    try:
        running.up(public_key(key), (desy_tree.SIZES["small"], 1), anew=False)
        yield running
    finally:
        running.down()


def port_of(desy: Desy, kind: str) -> int:
    if kind == "pure-ftpd" and desy.pure.refused:
        pytest.skip(desy.pure.refused)
    return desy.ftps.port if kind == "pyftpdlib" else desy.pure.port


def contents(folder: Path) -> dict[bytes, bytes | None]:
    """Return every file's bytes by path; folders have none."""
    return {
        path: None if is_folder else (folder / os.fsdecode(path)).read_bytes()
        for path, is_folder in walk(folder)
    }


def expected(desy: Desy, name: str = "raw") -> dict[bytes, bytes | None]:
    found = contents(desy.tree / name)
    found.pop(UNREADABLE.split(b"/")[1], None)
    return found


def ssh_config(desy: Desy, key: Path, folder: Path, port: int, *more: str) -> str:
    """Return ``ssh -F FILE`` that leads psftp.desy.de to one of the lab's ports."""
    (folder / "known").write_text(f"psftp.desy.de {desy.sftp.pinned}\n")
    lines = (
        f"Host psftp.desy.de\nHostName {desy.sftp.address}\nPort {port}\nHostKeyAlias psftp.desy.de",
        f"UserKnownHostsFile {folder}/known\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes",
        f"User {desy.account}\nIdentityFile {key}\nIdentitiesOnly yes",
        *more,
    )
    (folder / "config").write_text("\n".join(lines) + "\n")
    return f"ssh -F {folder}/config"


def test_the_tree_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        desy_tree.make_beamtime(tmp_path / name / BEAMTIME, 1_000_000, seed=3)
    a, b = tmp_path / "a" / BEAMTIME, tmp_path / "b" / BEAMTIME

    assert list(walk(a)) == list(walk(b))
    assert (a / "raw" / "p07_00001.nxs").read_bytes() == (b / "raw" / "p07_00001.nxs").read_bytes()
    assert a.joinpath("raw").stat().st_mtime_ns == b.joinpath("raw").stat().st_mtime_ns
    assert stat.S_IMODE(a.joinpath("raw").stat().st_mode) == 0o550


def test_metadata_has_either_release_of_keys() -> None:
    new, old = desy_tree.metadata(), desy_tree.metadata(old_keys=True)

    assert new["eventEnd"] == old["event-end"]
    assert new["beamtimeId"] == old["beamtimeId"] == BEAMTIME
    assert "event-end" not in new
    assert "eventEnd" not in old


@pytest.mark.parametrize("kind", KINDS)
def test_the_root_looks_as_on_the_transfer_page(desy: Desy, kind: str) -> None:
    done = lftp(desy, port_of(desy, kind), "ls -a", "cls -1")
    listing, names = done.stdout.decode().split("README", 1)[0], done.stdout.decode().splitlines()

    assert done.returncode == 0, done.stderr
    assert listing
    for line in ("dr-xr-x---", "-r--------"):
        assert any(found.startswith(line) for found in names)
    for name in (desy_tree.README, f"beamtime-metadata-{BEAMTIME}.json", "processed/", "raw/", "shared/"):
        assert name in names


@pytest.mark.parametrize("kind", KINDS)
def test_lftp_brings_every_byte_and_names_what_it_may_not_read(desy: Desy, kind: str, tmp_path: Path) -> None:
    port = port_of(desy, kind)
    done = lftp(desy, port, f"mirror raw {tmp_path}/raw")

    assert done.returncode == 1
    assert b"550" in done.stderr
    assert UNREADABLE.split(b"/")[1] in done.stderr
    assert contents(tmp_path / "raw") == expected(desy)
    whole = lftp(desy, port, f"mirror processed {tmp_path}/processed", f"mirror shared {tmp_path}/shared")
    assert whole.returncode == 0, whole.stderr
    assert contents(tmp_path / "processed") == contents(desy.tree / "processed")
    when = (tmp_path / "processed" / "notes.txt").stat().st_mtime
    assert when == int((desy.tree / "processed" / "notes.txt").stat().st_mtime)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_goes_in_clear(desy: Desy, kind: str, tmp_path: Path) -> None:
    port = port_of(desy, kind)
    plain = run(
        [
            SETTINGS.replace("ssl-force yes", "ssl-allow no").replace(
                "ssl-protect-data yes", "ssl-protect-data no"
            ),
            f"open -u {desy.account},'{desy.password}' -p {port} ftp://{desy.ftps.address}",
            "ls",
        ]
    )
    assert plain.returncode == 1
    done = lftp(desy, port, "set ftp:ssl-protect-data no", f"get processed/notes.txt -o {tmp_path}/clear")
    assert done.returncode == 1


def test_log_ins_and_connections_are_counted(desy: Desy, tmp_path: Path) -> None:
    desy.ftps.forget()
    lftp(desy, desy.ftps.port, f"mirror processed {tmp_path}/one")
    assert (desy.ftps.attempts(), desy.ftps.attempts(accepted=True), desy.ftps.most_connections()) == (
        1,
        1,
        1,
    )
    lftp(desy, desy.ftps.port, f"mirror --parallel=3 raw {tmp_path}/many")
    assert desy.ftps.most_connections() == 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_big_folder_is_listed_whole(desy: Desy, kind: str) -> None:
    port = port_of(desy, kind)
    many = desy.tree / "many"
    desy.tree.chmod(0o750)
    desy_tree.make_many(many, 1_500)
    try:
        done = lftp(desy, port, "cls -1 many")
        assert len(done.stdout.splitlines()) == 1_500
    finally:
        subprocess.run(("rm", "-r", str(many)), check=True)
        desy.tree.chmod(0o550)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", HARD_NAMES)
def test_names_that_do_not_come_through(desy: Desy, kind: str, name: bytes, tmp_path: Path) -> None:
    """What is lost is known: another outcome than this one is news for the checks before a transfer."""
    port = port_of(desy, kind)
    place = desy.tree / "hard"
    desy.tree.chmod(0o750)
    place.mkdir()
    (place / os.fsdecode(name)).write_bytes(b"hard")
    try:
        done = lftp(desy, port, f"mirror hard {tmp_path}/hard")
        arrived = contents(tmp_path / "hard") == {name: b"hard"}
        assert (done.returncode == 0 and arrived) == ((kind, name) not in LOST), done.stderr
    finally:
        subprocess.run(("rm", "-r", str(place)), check=True)
        desy.tree.chmod(0o550)


LOST = {(kind, name) for kind in KINDS for name in (b"two\nlines", b"carriage\rreturn", b"n" * 255)} | {
    ("pure-ftpd", b"tab\there"),
    ("pure-ftpd", b"back\\slash"),
}


def test_sftp_by_key_shows_the_accounts_beamtimes(desy: Desy, key: Path, tmp_path: Path) -> None:
    ssh = ssh_config(desy, key, tmp_path, desy.sftp.port, f"User {desy.sftp.account}", "BatchMode yes")
    if desy.sftp.root is None:
        pytest.skip("without namespaces the account is another")
    done = lftp_over_ssh(f"{ssh} -a -x", "cls -1", f"mirror {BEAMTIME}/raw {tmp_path}/raw")

    assert done.stdout.decode().splitlines()[0] == f"{BEAMTIME}/"
    assert UNREADABLE.split(b"/")[1] in done.stderr
    assert contents(tmp_path / "raw") == expected(desy)
    shell = subprocess.run((*ssh.split(), "psftp.desy.de", "id"), capture_output=True, check=False)
    assert shell.returncode != 0


def test_a_second_factor_is_asked_once_for_many_sessions(desy: Desy, key: Path, tmp_path: Path) -> None:
    desy.mfa.forget()
    ssh = ssh_config(desy, key, tmp_path, desy.mfa.port).split()
    way = f"{tmp_path}/socket"
    environment = os.environ | answers(tmp_path / "ask", desy.password, desy.code)
    master = (*ssh, "-M", "-S", way, "-N", "-f", "psftp.desy.de")
    subprocess.run(master, env=environment, check=True, stdin=subprocess.DEVNULL, timeout=20)
    try:
        for number in range(3):
            fetch = ("sftp", "-F", ssh[2], "-o", f"ControlPath={way}", "-b", "-", "psftp.desy.de")
            words = f"get {BEAMTIME}/processed/notes.txt {tmp_path}/notes{number}\n"
            subprocess.run(fetch, input=words.encode(), check=True, capture_output=True, timeout=20)
            assert (tmp_path / f"notes{number}").read_bytes().startswith(b"Tuesday")
        done = lftp_over_ssh(f"{' '.join(ssh)} -a -x -S {way}", f"mirror {BEAMTIME}/raw {tmp_path}/raw")
        assert UNREADABLE.split(b"/")[1] in done.stderr
        assert contents(tmp_path / "raw") == expected(desy)
        put = f"put {tmp_path}/known {BEAMTIME}/new\n"
        refused = subprocess.run(fetch, input=put.encode(), capture_output=True, timeout=20, check=False)
        assert b"ermission denied" in refused.stderr
    finally:
        subprocess.run((*ssh, "-S", way, "-O", "exit", "psftp.desy.de"), check=False, capture_output=True)
    assert (desy.mfa.attempts(), desy.mfa.attempts(accepted=True)) == (1, 1)
    assert len(desy.mfa.events("sftp")) >= 4


@pytest.mark.parametrize("words", [("wrong", "424242"), ("Strahl;zeit #07", "000000")])
def test_both_factors_count(desy: Desy, key: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    desy.mfa.forget()
    ssh = ssh_config(desy, key, tmp_path, desy.mfa.port, "NumberOfPasswordPrompts 1").split()
    environment = os.environ | answers(tmp_path / "ask", *words)
    done = subprocess.run(
        (*ssh, "-N", "psftp.desy.de"), env=environment, capture_output=True, timeout=20, check=False
    )

    assert done.returncode == 255
    assert b"Permission denied" in done.stderr
    assert desy.mfa.attempts(accepted=False) == 1


def test_a_password_alone(desy: Desy, key: Path, tmp_path: Path) -> None:
    desy.sftp_password.forget()
    ssh = ssh_config(desy, key, tmp_path, desy.sftp_password.port)
    environment = os.environ | answers(tmp_path / "ask", desy.password)
    fetch = ("sftp", "-F", ssh.split()[2], "-o", "BatchMode=no", "psftp.desy.de")
    done = subprocess.run(fetch, input=b"ls\n", env=environment, capture_output=True, timeout=20, check=False)

    assert BEAMTIME.encode() in done.stdout
    assert desy.sftp_password.attempts() == 1


def test_rsync_works_where_there_is_a_shell(desy: Desy, key: Path, tmp_path: Path) -> None:
    server = desy.mfa
    server.shell, server.code = ("bash", "-c"), None
    server.start()
    try:
        ssh = ssh_config(desy, key, tmp_path, server.port)
        environment = os.environ | answers(tmp_path / "ask", *[desy.password] * 3)
        rsync = ("rsync", "-a", "-e", ssh, f"psftp.desy.de:{desy.tree}/processed/", f"{tmp_path}/out/")
        done = subprocess.run(rsync, env=environment, capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "out") == contents(desy.tree / "processed")
        code = (*ssh.split(), "psftp.desy.de", "cat; echo out; echo err >&2; exit 7")
        said = subprocess.run(
            code, env=environment, input=b"in\n", capture_output=True, timeout=20, check=False
        )
        assert (said.returncode, said.stdout, said.stderr) == (7, b"in\nout\n", b"err\n")
    finally:
        server.shell, server.code = (), desy.code
        server.start()


def test_ftplib_agrees(desy: Desy) -> None:
    client = ftps(desy, desy.ftps.port)
    try:
        facts = dict(client.mlsd("raw", facts=["size", "unix.mode"]))
        assert facts["p07_00001.nxs"]["unix.mode"] == "0440"
        assert sorted(facts) == sorted(path.name for path in (desy.tree / "raw").iterdir())
    finally:
        client.close()


def test_a_missing_pure_ftpd_is_named_with_its_package(
    desy: Desy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_options: None)
    monkeypatch.setattr(PureFtpd, "refused", None)
    server = PureFtpd(tmp_path, desy.tree, "127.0.0.3", 1, (2, 3), desy.certificate, "a", "b")
    with pytest.raises(PermanentError, match="apt install lftp pure-ftpd openssl"):
        server.start()


def test_rds_reaches_desy_by_its_name(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    try:
        lab.up("1000000")
        assert lab.airflow_connections().keys() == {"rds_ssh", "smtp_default"}
        lab.up(desy=True)
        assert lab.running
        lab.up()
        entries = yaml.safe_load(lab.registry_text(desy="ftps"))["beamtimes"]
        assert [entry["id"] for entry in entries] == ["mg25682-2", BEAMTIME]
        found = lab.airflow_connections()["desy_ftps"]
        script = [
            SETTINGS,
            f"set ssl:ca-file {entries[1]['ca_file']}",
            f"open -u {found['login']},'{found['password']}' -p {found['port']} ftp://{found['host']}",
            f"mirror processed {lab.destination_root}/processed",
        ]
        done = lab.run_on_rds(("lftp", "-f", "/dev/stdin"), stdin="\n".join(script).encode())
        assert done.returncode == 0, done.stderr
        assert contents(lab.destination / "processed") == contents(lab.desy.tree / "processed")
        listing = lab.run_on_rds(("sftp", "-b", "-", "psftp.desy.de"), stdin=b"ls\n")
        assert BEAMTIME.encode() in listing.stdout, listing.stderr
        lab.route_desy("mfa")
        refused = lab.run_on_rds(("ssh", "-o", "BatchMode=yes", "psftp.desy.de", "true"))
        assert b"Permission denied (keyboard-interactive)" in refused.stderr
        assert "psftp" not in Path("/etc/hosts").read_text()
        processes = [lab.desy.ftps.process, lab.desy.pure.process, lab.desy.sftp.sshd, lab.desy.mfa.process]
    finally:
        lab.down()
    assert not lab.desy.running
    assert [process for process in processes if process and process.running] == []
