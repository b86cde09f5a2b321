"""Each fault shows the symptom that the real one shows, and is gone afterwards."""

from __future__ import annotations

import os
import smtplib
import socket
import threading
from typing import TYPE_CHECKING

import paramiko
import pytest

from beamferry.lab import Faults, Lab
from beamferry.lab.keys import make_key
from beamferry.lab.process import Process
from beamferry.lab.settings import DESTINATION_ROOT

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

# rsync ends with ssh's own code, or with 12 where it noticed the broken stream before ssh's end.
SSH_FAILED = (12, 255)


@pytest.fixture(scope="module", params=["own file systems", "shared file system"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab for these tests alone, with and without file systems of the hosts' own."""
    running = Lab(tmp_path_factory.mktemp("faulty"), namespaces=None if "own" in request.param else False)
    if "own" in request.param and not running.settings.namespaces:
        pytest.skip(f"this machine allows no namespaces: {running.settings.reason}")
    try:
        running.up("1000000")
        yield running
        # Whatever the tests have done, a dry run works in the end.
        assert dry_run(running).returncode == 0
    finally:
        running.down()


def dry_run(lab: Lab) -> subprocess.CompletedProcess[bytes]:
    source = f"{lab.account}@ssh.diamond.ac.uk:{lab.source}/"
    return lab.run_on_rds(("rsync", "-rn", source, f"{lab.destination_root}/new"))


def on_diamond(lab: Lab, *words: str) -> subprocess.CompletedProcess[bytes]:
    return lab.run_on_rds(("ssh", "ssh.diamond.ac.uk", *words))


def test_nobody_answers_at_rds(lab: Lab, faults: Faults) -> None:
    with faults.stopped(lab.rds):
        done = lab.run_on_rds(("true",))
        assert (done.returncode, b"Connection refused" in done.stderr) == (255, True)
    assert lab.run_on_rds(("true",)).returncode == 0


def test_nobody_answers_at_diamond(lab: Lab, faults: Faults) -> None:
    with faults.stopped(lab.diamond):
        done = dry_run(lab)
        assert done.returncode in SSH_FAILED
        assert b"Connection refused" in done.stderr
    assert dry_run(lab).returncode == 0


def open_session(lab: Lab) -> tuple[paramiko.SSHClient, paramiko.Channel, int]:
    """Start a shell on RDS-SSH with a detached process beside it; return its number."""
    client = lab.rds_client()
    transport = client.get_transport()
    assert transport is not None
    channel = transport.open_session()
    channel.exec_command("setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!; cat")
    return client, channel, int(channel.makefile().readline())


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_killed_cuts_sessions_but_not_detached_jobs(lab: Lab, faults: Faults) -> None:
    client, channel, job = open_session(lab)
    with faults.killed(lab.rds):
        assert channel.recv(1) == b""
        assert alive(job)
        assert lab.run_on_rds(("true",)).returncode == 255
    client.close()
    assert lab.run_on_rds(("kill", str(job))).returncode == 0


def test_crashed_ends_detached_jobs_too(lab: Lab, faults: Faults) -> None:
    client, channel, job = open_session(lab)
    with faults.crashed(lab.rds):
        assert channel.recv(1) == b""
    client.close()
    process = Process.of(job)
    assert process is None or not process.running
    assert lab.run_on_rds(("true",)).returncode == 0


def test_diamond_accepts_the_key_no_more(lab: Lab, faults: Faults) -> None:
    with faults.key_removed(lab.diamond):
        done = dry_run(lab)
        # rsync passes ssh's code on, or gives that of its broken stream, whichever it notices first.
        assert done.returncode in {12, 255}
        assert b"Permission denied (publickey)" in done.stderr
    assert dry_run(lab).returncode == 0


def test_diamond_shows_another_host_key(lab: Lab, faults: Faults) -> None:
    with faults.host_key_replaced(lab.diamond):
        done = dry_run(lab)
        assert done.returncode == 255
        assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr
    assert dry_run(lab).returncode == 0


def test_rds_shows_another_host_key(lab: Lab, faults: Faults) -> None:
    with faults.host_key_replaced(lab.rds):
        with pytest.raises(paramiko.BadHostKeyException):
            lab.rds_client()
        assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in lab.run_on_rds(("true",)).stderr
    lab.rds_client().close()


def test_starting_the_lab_brings_the_true_host_key_back(lab: Lab) -> None:
    true = lab.diamond.pinned
    # As the fault leaves it when its program is killed half-way.
    for shown, kept in zip(lab.diamond.host_key_files(), lab.diamond.host_key_files(kept=True), strict=True):
        shown.rename(kept)
    make_key(lab.diamond.host_key, "impostor")
    lab.diamond.start()
    assert dry_run(lab).returncode in SSH_FAILED
    lab.up()

    assert lab.diamond.pinned == true
    assert dry_run(lab).returncode == 0


def test_rds_has_never_seen_diamond(lab: Lab, faults: Faults) -> None:
    with faults.diamond_host_key_unknown():
        done = dry_run(lab)
        assert done.returncode in SSH_FAILED
        assert b"Host key verification failed" in done.stderr
    assert dry_run(lab).returncode == 0


def test_noise_of_diamonds_shell_breaks_rsync(lab: Lab, faults: Faults) -> None:
    with faults.shell_noise(lab.diamond):
        assert on_diamond(lab, "true").stdout == b"*** Scheduled maintenance on Tuesday ***\n"
        done = dry_run(lab)
        assert (done.returncode, b"is your shell clean?" in done.stderr) == (2, True)
    assert on_diamond(lab, "true").stdout == b""


def test_noise_of_rds_shell(lab: Lab, faults: Faults) -> None:
    with faults.shell_noise(lab.rds, "quota: 93% $(full)"):
        assert lab.run_on_rds(("echo", "yes")).stdout == b"quota: 93% $(full)\nyes\n"
    assert lab.run_on_rds(("echo", "yes")).stdout == b"yes\n"


def test_rsync_missing_at_diamond(lab: Lab, faults: Faults) -> None:
    with faults.tool_missing(lab.diamond, "rsync", "dd"):
        done = dry_run(lab)
        assert done.returncode in {12, 127}
        assert b"rsync: command not found" in done.stderr
        assert on_diamond(lab, "dd").returncode == 127
        assert on_diamond(lab, "find", "/dev/null").returncode == 0
    assert dry_run(lab).returncode == 0


def test_rsync_missing_at_rds(lab: Lab, faults: Faults) -> None:
    with faults.tool_missing(lab.rds, "rsync"):
        assert dry_run(lab).returncode == 127
        assert on_diamond(lab, "rsync", "--version").returncode == 0
    assert dry_run(lab).returncode == 0


def test_the_visit_is_missing(lab: Lab, faults: Faults) -> None:
    with faults.visit_missing():
        done = dry_run(lab)
        assert (done.returncode, b"No such file or directory" in done.stderr) == (23, True)
    assert dry_run(lab).returncode == 0


def test_the_visit_is_not_readable(lab: Lab, faults: Faults) -> None:
    with faults.visit_unreadable():
        done = dry_run(lab)
        assert (done.returncode, b"Permission denied" in done.stderr) == (23, True)
    assert dry_run(lab).returncode == 0


def test_some_files_are_not_readable(lab: Lab, faults: Faults) -> None:
    name = b"processing/odd files/$(touch owned) ${HOME} $$"
    with faults.files_unreadable(b"raw/i12-51001.nxs", name, b"xml"):
        done = on_diamond(lab, "cat", f"{lab.source}/raw/i12-51001.nxs")
        assert b"Permission denied" in done.stderr
        assert (dry_run(lab).returncode, b"xml" in dry_run(lab).stderr) == (23, True)
    assert on_diamond(lab, "cat", f"{lab.source}/raw/i12-51001.nxs").returncode == 0


@pytest.fixture
def own_mounts(lab: Lab) -> None:
    if not lab.settings.namespaces:
        pytest.skip("needs file systems of the hosts' own")


@pytest.mark.usefixtures("own_mounts")
class TestDestination:
    def test_not_mounted(self, lab: Lab, faults: Faults) -> None:
        (lab.destination / "kept").touch()
        with faults.destination_unmounted():
            assert lab.run_on_rds(("test", "-e", DESTINATION_ROOT)).returncode == 1
        with faults.destination_unmounted(folder_stays=True):
            assert lab.run_on_rds(("ls", "-A", DESTINATION_ROOT)).stdout == b""
        assert b"kept" in lab.run_on_rds(("ls", DESTINATION_ROOT)).stdout.splitlines()

    def test_read_only(self, lab: Lab, faults: Faults) -> None:
        with faults.destination_read_only():
            done = lab.run_on_rds(("touch", f"{DESTINATION_ROOT}/touched"))
            assert b"Read-only file system" in done.stderr
        assert lab.run_on_rds(("touch", f"{DESTINATION_ROOT}/touched")).returncode == 0

    def test_full(self, lab: Lab, faults: Faults) -> None:
        with faults.destination_of_size(1_003_520):
            done = lab.run_on_rds(("dd", "if=/dev/zero", f"of={DESTINATION_ROOT}/big", "bs=64k", "count=20"))
            assert b"No space left on device" in done.stderr
            assert (lab.destination / "big").stat().st_size <= 1_003_520
        assert not (lab.destination / "big").exists()

    def test_no_inodes_left(self, lab: Lab, faults: Faults) -> None:
        with faults.destination_of_size(10_000_000, inodes=10):
            done = lab.run_on_rds(("bash", "-c", f"cd {DESTINATION_ROOT} && touch $(seq 20)"))
            assert b"No space left on device" in done.stderr
            assert 0 < len(list(lab.destination.iterdir())) < 10


def test_rds_reaches_diamond_by_way_of_a_proxy(lab: Lab, faults: Faults) -> None:
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def refuse() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.append(connection.recv(4))

        thread = threading.Thread(target=refuse)
        thread.start()
        with faults.diamond_by_way_of(*proxy.getsockname()):
            assert dry_run(lab).returncode in SSH_FAILED
        thread.join()
    assert heard == [b"SSH-"]
    assert dry_run(lab).returncode == 0


def test_no_mail_server(lab: Lab, faults: Faults) -> None:
    with faults.mail_stopped(), pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(lab.mail.address, lab.mail.port)
    with smtplib.SMTP(lab.mail.address, lab.mail.port) as server:
        assert server.noop()[0] == 250
