"""The lab itself: what runs, what is seen from where, and that nothing is left behind."""

from __future__ import annotations

import os
import smtplib
import socket
import stat
import subprocess
import sys
from datetime import date
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import yaml

from beamferry.errors import PermanentError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.lab import Lab, must_arrive
from beamferry.lab.host import sshd_program
from beamferry.lab.process import Process
from beamferry.lab.settings import DESTINATION_ROOT, SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["own file systems", "shared file system"])
def either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The shared lab, and one as it is where the machine refuses namespaces."""
    if request.param == "own file systems":
        request.getfixturevalue("lab")
        request.getfixturevalue("needs_namespaces_at_all")
        yield request.getfixturevalue("lab")
        return
    running = Lab(tmp_path_factory.mktemp("lab without"), namespaces=False)
    try:
        running.up("small")
        yield running
    finally:
        running.down()


@pytest.fixture(scope="module")
def needs_namespaces_at_all(lab: Lab) -> None:
    if not lab.settings.namespaces:
        pytest.skip(f"this machine allows no namespaces: {lab.settings.reason}")


def listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


def fetch(lab: Lab, *flags: str) -> subprocess.CompletedProcess[bytes]:
    """Run the seed page's command on RDS-SSH, in the group's folder."""
    command = f'cd "$1" && shift && exec rsync {" ".join(flags)} "$@"'
    source = f"{lab.account}@ssh.diamond.ac.uk:{lab.source}"
    return lab.run_on_rds(("bash", "-c", command, "bash", lab.destination_root, source, "diamond_data_rds"))


def test_the_seed_pages_dry_run_works_word_for_word(lab: Lab, needs_namespaces: None) -> None:
    command = "rsync -azvn mbcx9cd4@ssh.diamond.ac.uk:/dls/i12/data/2021/mg25682-2 diamond_data_rds"
    done = lab.run_on_rds(("bash", "-c", command))

    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.splitlines()[-1].endswith(b"(DRY RUN)")
    assert b"mg25682-2/raw/i12-51001.nxs" in done.stdout.splitlines()


def test_rsync_on_rds_brings_every_name_home(either: Lab) -> None:
    done = fetch(either, "-rlpt", "--chmod=Du+rwx,Fu+rw", "--exclude=/mg25682-2/tmp")
    arrived = either.destination / "diamond_data_rds" / "mg25682-2"

    assert done.returncode == 0, done.stderr.decode()
    assert must_arrive(arrived) == must_arrive(either.visit_folder)
    assert not (arrived / "tmp").exists()
    again = fetch(either, "-rlpt", "--chmod=Du+rwx,Fu+rw", "--exclude=/mg25682-2/tmp", "-ni")
    assert (again.returncode, again.stdout) == (0, b"")


def test_each_host_sees_only_its_own_folders(lab: Lab, needs_namespaces: None) -> None:
    def diamond_has(place: str) -> bool:
        return lab.run_on_rds(("ssh", "ssh.diamond.ac.uk", "test", "-d", place)).returncode == 0

    def rds_has(place: str) -> bool:
        return lab.run_on_rds(("test", "-d", place)).returncode == 0

    assert (diamond_has(SOURCE), rds_has(SOURCE), Path(SOURCE).exists()) == (True, False, False)
    assert (diamond_has(DESTINATION_ROOT), rds_has(DESTINATION_ROOT)) == (False, True)
    assert str(lab.folder) not in Path("/proc/self/mountinfo").read_text()


def test_the_destination_is_a_mount(lab: Lab, needs_namespaces: None) -> None:
    found = lab.run_on_rds(("findmnt", "--noheadings", "--output", "TARGET", "--target", DESTINATION_ROOT))

    assert found.stdout.decode().strip() == str(Path(DESTINATION_ROOT).parent)


def test_commands_and_sftp_begin_in_the_labs_home(either: Lab) -> None:
    client = either.rds_client()
    try:
        with client.open_sftp() as sftp:
            here = sftp.normalize(".")
    finally:
        client.close()

    assert here == either.run_on_rds(("pwd",)).stdout.decode().strip()
    assert here == either.run_on_rds(("sh", "-c", 'echo "$HOME"')).stdout.decode().strip()
    assert either.on_rds(here).samefile(either.rds_home)


def test_words_reach_rds_unchanged(either: Lab) -> None:
    words = (b"a  b", b"$(id)", b"\xff\xfe", b"two\nlines", b"-n", b"'")
    done = either.run_on_rds(("printf", "%s\\0", *words), stdin=b"")

    assert done.stdout == b"\0".join(words) + b"\0"


def test_keys_are_private(either: Lab) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(either.folder) == mode(either.rds_home) == mode(either.rds_home / ".ssh") == 0o700
    for key in (either.client.key, either.onward.key, either.rds.host_key, either.diamond.host_key):
        assert mode(key) == 0o600
    assert len({either.client.key.read_bytes(), either.onward.key.read_bytes()}) == 2


def test_starting_again_changes_nothing(either: Lab) -> None:
    def everything() -> tuple[object, ...]:
        return (either.rds.sshd, either.diamond.sshd, either.mail.process, either.rds.pinned, either.settings)

    before = everything()
    either.up()
    Lab(either.folder).up()

    assert everything() == before
    assert None not in before


def test_mail_is_kept(lab: Lab) -> None:
    message = EmailMessage()
    message["Subject"] = "Seven days left: mg25682-2 – Prüfung"
    message["To"] = "someone@example.ac.uk"
    message.set_content("87 GB are still at Diamond.")
    message.add_alternative("<p>87 GB are still at Diamond.</p>", subtype="html")
    with smtplib.SMTP(lab.mail.address, lab.mail.port) as server:
        server.send_message(message, "beamferry@example.ac.uk", ["someone@example.ac.uk"])

    kept = lab.mails()[-1]
    assert kept["subject"] == message["Subject"]
    assert kept["recipients"] == ["someone@example.ac.uk"]
    assert kept["text"].strip() == "87 GB are still at Diamond."
    assert kept["html"].strip() == "<p>87 GB are still at Diamond.</p>"


def test_the_registry_is_valid_and_names_the_labs_folders(either: Lab) -> None:
    registry = yaml.safe_load(either.registry.read_text())
    beamtime = DiamondBeamtime.model_validate(registry["beamtimes"][0])

    assert beamtime.source_path == either.source
    assert beamtime.account == either.account
    assert registry["site"]["destination_root"] == either.destination_root
    assert either.run_on_rds(("test", "-d", either.destination_root)).returncode == 0


def test_a_later_end_of_the_visit_keeps_its_source(lab: Lab) -> None:
    text = lab.registry_text(ended=date(2026, 11, 20))
    beamtime = DiamondBeamtime.model_validate(yaml.safe_load(text)["beamtimes"][0])

    assert beamtime.source_path == lab.source
    assert beamtime.year == 2026


@pytest.mark.parametrize("namespaces", [None, False])
def test_nothing_is_left_after_down(tmp_path: Path, namespaces: bool | None) -> None:
    lab = Lab(tmp_path / "lab", namespaces=namespaces)
    lab.up("small")
    lab.run_on_rds(("bash", "-c", "setsid sleep 600 </dev/null >/dev/null 2>&1 &"))
    started = [lab.rds.sshd, lab.diamond.sshd, lab.mail.process, *lab.rds.sessions()]
    started += [host.root.keeper for host in (lab.rds, lab.diamond) if host.root]
    lab.down()

    assert len([process for process in started if process]) >= 4
    assert [process for process in started if process and process.running] == []
    assert not listens(lab.rds.address, lab.rds.port)
    assert not lab.running
    lab.down()


def test_it_comes_back_after_everything_was_killed(own_lab: Lab) -> None:
    ports, pinned = own_lab.settings.ports, own_lab.rds.pinned
    keepers = [host.root.keeper for host in (own_lab.rds, own_lab.diamond) if host.root]
    for process in (own_lab.rds.sshd, own_lab.diamond.sshd, own_lab.mail.process, *keepers):
        assert process is not None
        psutil.Process(process.pid).kill()
        while process.running:
            pass
    later = Lab(own_lab.folder)
    assert not later.running
    later.up()

    assert later.running
    assert (later.settings.ports, later.rds.pinned) == (ports, pinned)
    assert later.run_on_rds(("true",)).returncode == 0


def test_a_number_that_was_given_out_again_is_not_taken_for_ours(tmp_path: Path) -> None:
    record = tmp_path / "process.json"
    ours = Process.of(os.getpid())
    assert ours is not None
    ours.save(record)
    assert Process.load(record) == ours
    Process(ours.pid, ours.started - 3600).save(record)
    assert Process.load(record) is None


def test_the_command_says_what_runs(tmp_path: Path) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"BEAMFERRY_LAB": str(tmp_path / "lab")}
        call = (sys.executable, "-m", "beamferry.lab", *words)
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=False)

    try:
        assert command("status").returncode == 1
        up = command("up", "--size", "1000000")
        assert up.returncode == 0, up.stderr
        status = command("status")
        assert status.returncode == 0
        assert status.stdout.count(" runs, ") == 3
    finally:
        down = command("down")
    assert down.returncode == 0
    assert command("status").stdout.count(" does not run, ") == 3


def test_a_size_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    call = (sys.executable, "-m", "beamferry.lab", "up", "--dir", str(tmp_path / "lab"), "--size", "huge")
    done = subprocess.run(call, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "no such size of visit: 'huge': take small, demo or a number of bytes\n"


def test_a_missing_sshd_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_arguments, **_options: None)
    with pytest.raises(PermanentError, match="apt install openssh-server"):
        sshd_program()
