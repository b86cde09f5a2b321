"""What goes wrong in a session on RDS-SSH is told by what it is, and where it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import paramiko
import pytest

from beamferry.airflow.session import session_over
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.remote import Job, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beamferry.lab import Faults, Lab
    from beamferry.lab.host import Host


class Hook:
    """Airflow's hook, for a lab."""

    remote_host = "rds-ssh.itservices.manchester.ac.uk"

    def __init__(self, lab: Lab) -> None:
        self.get_conn = lab.rds_client


def hook(lab: Lab) -> Any:
    return Hook(lab)


def broken(lab: Lab) -> Any:
    """A hook whose connection breaks as soon as it is made."""

    def get_conn() -> paramiko.SSHClient:
        raise ConnectionResetError(104, "Connection reset by peer")

    return SimpleNamespace(remote_host=Hook.remote_host, get_conn=get_conn)


def test_an_error_of_the_task_itself_stays_what_it_is(lab: Lab) -> None:
    with pytest.raises(OSError, match="No space left"), session_over(hook(lab)):
        raise OSError(28, "No space left on device")


def test_a_connection_that_breaks_is_one(lab: Lab) -> None:
    with pytest.raises(TransientError, match="VPN") as caught, session_over(broken(lab)):
        raise AssertionError("there is no session")
    assert caught.value.code == "rds-unreachable"


def run(session: Session) -> None:
    session.run(("sleep", "1"), timeout=10)


def write(session: Session) -> None:
    session.write(".beamferry/some", b"text", mode=0o600)


def read(session: Session) -> None:
    session.read(".beamferry/some")


@pytest.mark.parametrize("use", [run, write, read])
def test_a_connection_that_breaks_in_a_session_is_one(lab: Lab, use: Callable[[Session], None]) -> None:
    with session_over(hook(lab)) as session:
        channel = session.sftp.sock
        assert isinstance(channel, paramiko.Channel)
        channel.get_transport().close()
        with pytest.raises(TransientError, match=Hook.remote_host) as caught:
            use(session)
    assert caught.value.code == "rds-unreachable"


def test_a_command_that_is_lost_has_no_result(lab: Lab) -> None:
    with pytest.raises(TransientError) as caught, session_over(hook(lab)) as session:
        session.checked(("bash", "-c", "kill -9 $PPID; kill -9 $$"), timeout=10)
    assert caught.value.code == "rds-unreachable"


# The home folder of RDS-SSH.


def told(error: BeamferryError, code: str, kind: type[BeamferryError], *words: str) -> None:
    assert (error.code, type(error)) == (code, kind)
    assert [word for word in words if word not in str(error)] == []
    assert "VPN" not in str(error)


@pytest.mark.usefixtures("needs_namespaces")
def test_a_full_home_is_told_when_the_scripts_are_brought(lab: Lab, faults: Faults) -> None:
    with faults.home_of_size(64 * 1024), pytest.raises(BeamferryError) as caught, session_over(hook(lab)):
        raise AssertionError("the scripts are not there")
    told(
        caught.value,
        "rds-home-full",
        PermanentError,
        "home folder",
        "RDS-SSH",
        "No space left on device",
        "make room",
    )


@pytest.mark.usefixtures("needs_namespaces")
def test_a_home_that_fills_up_is_told_and_leaves_no_piece(lab: Lab, faults: Faults) -> None:
    with faults.home_of_size(1024 * 1024), session_over(hook(lab)) as session:
        folder = lab.rds.root.outside(f"{lab.rds.home_inside}/.beamferry") if lab.rds.root else None
        assert folder is not None
        before = sorted(path.name for path in folder.iterdir())
        with pytest.raises(BeamferryError) as caught:
            session.write(".beamferry/plan", bytes(1024 * 1024), mode=0o600)
        told(caught.value, "rds-home-full", PermanentError, "~/.beamferry/plan", "No space left on device")
        assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.usefixtures("needs_namespaces")
def test_a_command_that_finds_the_home_full_says_so(lab: Lab, faults: Faults) -> None:
    with faults.home_of_size(1024 * 1024), session_over(hook(lab)) as session:
        command = ("bash", "-c", "dd status=none if=/dev/zero of=.beamferry/big bs=1M count=4")
        with pytest.raises(BeamferryError) as caught:
            session.checked(command, timeout=10)
    told(caught.value, "rds-home-full", PermanentError, "home folder", "No space left on device")


@pytest.mark.usefixtures("needs_namespaces")
def test_a_job_that_ended_without_a_word_in_a_full_home_is_explained(lab: Lab, faults: Faults) -> None:
    with faults.home_of_size(1024 * 1024), session_over(hook(lab)) as session:
        job = Job("diamond_mg25682-2", "dry_run")
        session.make_folder(job.folder, mode=0o700)
        session.prove(job.folder)
        session.run(("bash", "-c", "cat /dev/zero >.beamferry/filler"), timeout=30)
        with pytest.raises(BeamferryError) as caught:
            session.prove(job.folder)
    told(caught.value, "rds-home-full", PermanentError, f"~/{job.folder}", "No space left on device")


@pytest.mark.usefixtures("needs_namespaces")
def test_a_home_that_is_read_only_is_told(lab: Lab, faults: Faults) -> None:
    with faults.home_of_size(1024 * 1024), session_over(hook(lab)) as session:
        assert lab.rds.root is not None
        lab.rds.root.run("mount", "-o", "remount,ro", f"{lab.rds.home_inside}/.beamferry")
        with pytest.raises(BeamferryError) as caught:
            session.write(".beamferry/plan", b"text", mode=0o600)
    told(caught.value, "rds-home-denied", PermanentError, "~/.beamferry/plan", "Read-only file system")


@pytest.fixture
def bound(far: Host) -> Iterator[Session]:
    """A session of an account that is bound by modes."""
    with paramiko.SSHClient() as client:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        key = far.folder.parent / "first"
        client.connect(far.address, far.port, far.account, key_filename=str(key), allow_agent=False)
        yield Session(client)


def test_a_folder_that_may_not_be_written_is_told(far: Host, bound: Session) -> None:
    folder = far.home / "closed"
    folder.mkdir(mode=0o500)
    try:
        with pytest.raises(BeamferryError) as caught:
            bound.write("closed/plan", b"text", mode=0o600)
    finally:
        folder.rmdir()
    told(caught.value, "rds-home-denied", PermanentError, "~/closed/plan", "Permission denied")


def test_a_file_that_may_not_be_read_is_told(far: Host, bound: Session) -> None:
    file = far.home / "closed"
    file.touch(mode=0)
    try:
        with pytest.raises(BeamferryError) as caught:
            bound.read("closed")
    finally:
        file.unlink()
    told(caught.value, "rds-home-denied", PermanentError, "~/closed", "Permission denied")


def test_a_log_in_shell_that_prints_is_told(far: Host, bound: Session) -> None:
    far.greet("*** Scheduled maintenance on Tuesday ***")
    try:
        with pytest.raises(BeamferryError) as caught:
            bound.exists("some")
    finally:
        far.greet(None)
    told(caught.value, "rds-login-shell-noise", PermanentError, "RDS-SSH", "~/.bashrc")


def test_a_file_that_stands_where_a_folder_is_wanted_is_told(lab: Lab) -> None:
    place = lab.rds.home / ".beamferry" / "file"
    place.parent.mkdir(exist_ok=True)
    place.write_text("text")
    try:
        with session_over(hook(lab)) as session, pytest.raises(BeamferryError) as caught:
            session.make_folder(".beamferry/file/folder", mode=0o700)
    finally:
        place.unlink()
    told(caught.value, "rds-home-refused", PermanentError, "~/.beamferry/file/folder", "Not a directory")


def test_a_file_that_is_not_there_is_no_error(lab: Lab) -> None:
    with session_over(hook(lab)) as session:
        assert session.read(".beamferry/none") == ""
        assert not session.exists(".beamferry/none")
        session.remove(".beamferry/none")
