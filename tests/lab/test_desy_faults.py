"""Each fault at DESY shows in a real client what the real one shows, and is gone afterwards."""

from __future__ import annotations

import ftplib
import os
import ssl
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from desy_client import answers, ftps, lftp
from test_desy_lab import contents, desy, key, port_of, ssh_config

from beamferry.lab import desy_tree
from beamferry.lab.desy_faults import DesyFaults

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from beamferry.lab.desy import Desy

# The fixtures of the other module, started anew for this one.
__all__ = ["desy", "key"]

BIG = b"raw/p07_00001.nxs"


@pytest.fixture
def faults(desy: Desy) -> Iterator[DesyFaults]:
    yield DesyFaults(desy)
    for port in (desy.ftps.port, *([] if desy.pure.refused else [desy.pure.port])):
        done = lftp(desy, port, "cls -1 processed")
        assert b"processed/notes.txt" in done.stdout, done.stderr
    desy.ftps.forget()


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd"])
@pytest.mark.parametrize(
    ("fault", "lftps", "ssls"),
    [
        ("certificate_expired", b"xpired", "certificate has expired"),
        ("certificate_of_another_host", b"ertificate verification", "IP address mismatch"),
        ("issuer_unknown", b"NOT trusted", "unable to get local issuer certificate"),
    ],
)
def test_certificates(desy: Desy, faults: DesyFaults, kind: str, fault: str, lftps: bytes, ssls: str) -> None:
    port = port_of(desy, kind)
    broken: AbstractContextManager[None] = getattr(faults, fault)()
    with broken:
        # lftp's cat would hang for good after a fatal error.
        done = lftp(desy, port, "ls")
        assert done.returncode == 1
        assert done.stdout == b""
        assert lftps in done.stderr
        with pytest.raises(ssl.SSLCertVerificationError, match=ssls):
            ftps(desy, port)


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd"])
def test_a_refused_password_is_tried_once(desy: Desy, faults: DesyFaults, kind: str) -> None:
    port = port_of(desy, kind)
    desy.ftps.forget()
    with faults.password_refused():
        # pure-ftpd lets whoever was wrong wait.
        done = lftp(desy, port, "set net:timeout 20", "ls")
        assert (done.returncode, b"530" in done.stderr) == (1, True)
    if kind == "pyftpdlib":
        assert (desy.ftps.attempts(), desy.ftps.attempts(accepted=False)) == (1, 1)


def test_a_refused_code(desy: Desy, key: Path, faults: DesyFaults, tmp_path: Path) -> None:
    desy.mfa.forget()
    ssh = ssh_config(desy, key, tmp_path, desy.mfa.port, "NumberOfPasswordPrompts 1").split()
    environment = os.environ | answers(tmp_path / "ask", desy.password, desy.code)
    with faults.code_refused():
        login = (*ssh, "-N", "psftp.desy.de")
        done = subprocess.run(login, env=environment, capture_output=True, timeout=20, check=False)
    assert (done.returncode, desy.mfa.attempts(accepted=False)) == (255, 1)


def test_nobody_answers(desy: Desy, faults: DesyFaults) -> None:
    with faults.stopped(desy.ftps):
        done = lftp(desy, desy.ftps.port, "ls")
        assert (done.returncode, b"Connection refused" in done.stderr) == (1, True)


def test_the_control_connection_breaks_off(desy: Desy, faults: DesyFaults) -> None:
    with faults.control_dropped(commands=12):
        client = ftps(desy, desy.ftps.port)
        with pytest.raises((OSError, EOFError)):
            [client.pwd() for _ in range(20)]
        client.close()
    with faults.control_dropped(seconds=0.5):
        client = ftps(desy, desy.ftps.port)
        time.sleep(1)
        with pytest.raises((OSError, EOFError)):
            client.pwd()
        client.close()
    assert len(desy.ftps.events("dropped")) >= 2
    with faults.control_dropped(commands=3):
        assert lftp(desy, desy.ftps.port, "ls").returncode == 1


def test_a_data_connection_breaks_off(desy: Desy, faults: DesyFaults, tmp_path: Path) -> None:
    # With a byte or more each time lftp goes on where it was, without end and in the end with success.
    with faults.data_dropped(0):
        done = lftp(desy, desy.ftps.port, f"get {BIG.decode()} -o {tmp_path}/always")
        assert done.returncode == 1
        assert not (tmp_path / "always").exists()
    with faults.data_dropped(100_000, once=True):
        client = ftps(desy, desy.ftps.port)
        got: list[bytes] = []
        with pytest.raises((ftplib.Error, OSError, EOFError)):
            client.retrbinary(f"RETR {BIG.decode()}", got.append)
        assert 0 < len(b"".join(got)) <= 100_000
        client.close()
        done = lftp(desy, desy.ftps.port, f"get {BIG.decode()} -o {tmp_path}/once")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "once").read_bytes() == (desy.tree / os.fsdecode(BIG)).read_bytes()


def test_data_hangs(desy: Desy, faults: DesyFaults, tmp_path: Path) -> None:
    began = time.monotonic()
    with faults.data_hangs():
        words = ("set net:timeout 1", "set net:max-retries 1", f"get {BIG.decode()} -o {tmp_path}/hung")
        done = lftp(desy, desy.ftps.port, *words)
        assert done.returncode == 1
    assert time.monotonic() - began > 1


def test_data_is_slow(desy: Desy, faults: DesyFaults, tmp_path: Path) -> None:
    size = (desy.tree / os.fsdecode(BIG)).stat().st_size
    began = time.monotonic()
    with faults.data_slow(size // 2):
        done = lftp(desy, desy.ftps.port, f"get {BIG.decode()} -o {tmp_path}/slow")
    assert done.returncode == 0, done.stderr
    assert 1.5 < time.monotonic() - began < 15
    assert (tmp_path / "slow").read_bytes() == (desy.tree / os.fsdecode(BIG)).read_bytes()


@pytest.fixture
def many(desy: Desy) -> Iterator[Path]:
    """A folder of more files than are listed."""
    place = desy.tree / "many"
    desy.tree.chmod(0o750)
    desy_tree.make_many(place, 1_200)
    yield place
    subprocess.run(("rm", "-r", str(place)), check=True)
    desy.tree.chmod(0o550)


def test_a_listing_is_cut_in_silence(desy: Desy, faults: DesyFaults, many: Path) -> None:
    def counts() -> tuple[int, int, int]:
        client = ftps(desy, desy.ftps.port)
        lines: list[str] = []
        client.dir("many", lines.append)
        found = len(list(client.mlsd("many"))), len(lines), len(client.nlst("many"))
        client.close()
        return found

    with faults.listing_cut():
        assert counts() == (1_000, 1_000, 1_200)
        done = lftp(desy, desy.ftps.port, "cls -1 many")
        assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 1_000, b"")
    with faults.listing_cut(names_too=True):
        assert counts() == (1_000, 1_000, 1_000)
    assert counts() == (1_200, 1_200, 1_200)


def test_pure_ftpd_cuts_at_its_own_limit(desy: Desy, faults: DesyFaults, many: Path) -> None:
    port = port_of(desy, "pure-ftpd")
    with faults.pure_listing_cut():
        done = lftp(desy, port, "cls -1 many")
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) in range(998, 1_003)
    done = lftp(desy, port, "cls -1 many")
    assert len(done.stdout.splitlines()) == 1_200


@pytest.mark.parametrize("how", ["append", "rewrite"])
def test_a_file_changes_while_it_is_sent(desy: Desy, faults: DesyFaults, tmp_path: Path, how: str) -> None:
    file = desy.tree / os.fsdecode(BIG)
    before, kept = file.read_bytes(), file.stat()
    with faults.file_changes(BIG, 50_000, how):  # type: ignore[arg-type]
        done = lftp(desy, desy.ftps.port, f"get {BIG.decode()} -o {tmp_path}/got")
        got, now = (tmp_path / "got").read_bytes(), file.read_bytes()
        assert now != before
        assert got != before
        # A splice of both, with the old size or more, and lftp is content.
        assert (done.returncode, got[:50_000] == before[:50_000]) == (0, True)
        assert (got == now) == (how == "append")
    assert file.read_bytes() == before
    assert (file.stat().st_mtime_ns, file.stat().st_mode) == (kept.st_mtime_ns, kept.st_mode)


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd"])
def test_one_connection_only(desy: Desy, faults: DesyFaults, kind: str, tmp_path: Path) -> None:
    port = port_of(desy, kind)
    with faults.connections_limited(1):
        first = ftps(desy, port)
        with pytest.raises((ftplib.error_temp, EOFError), match="421"):
            ftps(desy, port)
        first.quit()
        time.sleep(0.5)
        done = lftp(desy, port, f"mirror processed {tmp_path}/one")
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "one") == contents(desy.tree / "processed")
