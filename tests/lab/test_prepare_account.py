"""Preparing an account on the lab's RDS-SSH, over ssh: what is made, what stays, and what needs a person's yes."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from beamferry import account, agent
from beamferry.account import Answer, Gate, Host, HostKey, Row, State, Step, Wishes
from beamferry.lab import Faults
from beamferry.lab.keys import make_key, public_key
from beamferry.registry import read
from beamferry.remote import Session, agent_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.beamtime import Site
    from beamferry.lab import Lab
    from beamferry.lab.desy import Desy
    from beamferry_agent.answers import AccountRequest

DIAMOND = Gate("Diamond", "ssh.diamond.ac.uk", None, ("mbcx9cd4",))
DESY = Gate("DESY", "psftp.desy.de", None, ())
LFTP = (Step.LFTP,)


@dataclass(frozen=True)
class Account:
    """The account on RDS-SSH, with nothing of what is to be prepared."""

    lab: Lab
    site: Site
    session: Session

    @property
    def home(self) -> Path:
        return self.lab.rds_home

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh" / "known_hosts"

    @property
    def name(self) -> str:
        return self.lab.rds.account

    def wishes(self, *steps: Step, **choices: Any) -> Wishes:
        usual = account.usual(self.site)
        return Wishes.of(
            {
                "host": "rds",
                "mode": "prepare",
                "steps": list(steps),
                "facilities": ["diamond"],
                "own_link": usual.own_link,
                "own_folder": None,
                "shared_link": usual.shared_link,
                "shared_folder": usual.shared_folder,
                "ca_certificate": None,
                "icsf_connection": "icsf_ssh",
            }
            | choices
        )

    def _said(self, request: AccountRequest, gates: tuple[Gate, ...]) -> Answer:
        return account.parse_answer(agent.ask(self.session, "account", request, timeout=60), Host.RDS, gates)

    def make(
        self, *steps: Step, ca: str = "", gates: tuple[Gate, ...] = (DIAMOND,), **choices: Any
    ) -> tuple[Row, ...]:
        request = account.prepare_request(self.wishes(*steps, **choices), self.site, gates, ca)
        return self._said(request, gates).rows

    def unlink(self, **choices: Any) -> tuple[Row, ...]:
        return self.make(mode="unlink", **choices)

    def scan(self, *gates: Gate) -> Answer:
        return self._said(account.scan_request(gates), gates)

    def pin(self, keys: tuple[HostKey, ...], *gates: Gate) -> tuple[Row, ...]:
        return self._said(account.pin_request(gates, keys), gates).rows

    def logs_in(self) -> bool:
        done = self.lab.run_on_rds(("ssh", "-o", "StrictHostKeyChecking=yes", DIAMOND.host, "true"))
        return done.returncode == 0


@pytest.fixture
def prepared(lab: Lab) -> Iterator[Account]:
    """The account without links, keys and known hosts; what the lab has there is put back."""
    site = read(lab.registry, lab.registry.read_bytes()).site
    assert site is not None
    home = lab.rds_home
    before = home.with_name("home.before")
    shutil.copytree(home, before, symlinks=True)
    for name in ("id_ed25519", "id_ed25519.pub", "known_hosts"):
        (home / ".ssh" / name).unlink()
    # What another test of this lab may have had made.
    for link in (account.usual(site).own_link, account.usual(site).shared_link):
        (home / link).unlink(missing_ok=True)
    shutil.rmtree(home / ".lftp", ignore_errors=True)
    # The page's own folder of the person.
    own = lab.on_rds(account.usual(site).group) / lab.rds.account
    own.mkdir()
    try:
        with lab.rds_client() as client:
            session = Session(client)
            session.install()
            yield Account(lab, site, session)
    finally:
        own.rmdir()
        # The folder itself is bound into the host's file system.
        for place in home.iterdir():
            shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()
        shutil.copytree(before, home, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(before)


def states(rows: tuple[Row, ...]) -> dict[str, State]:
    return {row.what: row.state for row in rows}


def test_a_second_run_finds_what_the_first_one_made(prepared: Account) -> None:
    steps = (Step.WORKSPACE, Step.LINKS, Step.KEY_PAIR, Step.LFTP)
    first, second = prepared.make(*steps), prepared.make(*steps)
    assert [row.problem for row in first] == [None] * len(first)
    assert {row.state for row in second} == {State.WAS_THERE}
    assert [row.what for row in first] == [row.what for row in second]
    made = [row for row in first if row.state is State.MADE]
    # ~/.beamferry is there already, as the scripts live in it.
    assert len(made) == len(first) - 1

    usual = account.usual(prepared.site)
    assert str((prepared.home / usual.own_link).readlink()) == f"{usual.group}/{prepared.name}"
    assert str((prepared.home / usual.shared_link).readlink()) == usual.shared_folder
    assert prepared.lab.run_on_rds(("test", "-d", f"{usual.own_link}/.")).returncode == 0
    for place in (".beamferry", ".beamferry/jobs"):
        assert (prepared.home / place).stat().st_mode & 0o777 == 0o700
    key = prepared.home / ".ssh" / "id_ed25519"
    for place in (key, prepared.home / ".lftp" / "rc", prepared.home / ".lftp"):
        assert place.stat().st_mode & 0o077 == 0
    for rows in (first, second):
        (paste,) = (row.paste for row in rows if row.paste)
        assert paste is not None
        assert paste.endswith(key.with_name("id_ed25519.pub").read_text().strip())
        assert "mbcx9cd4" in paste
        assert "PRIVATE" not in str(rows)


def test_the_key_that_was_made_opens_the_facility_once_it_is_pasted(prepared: Account) -> None:
    rows = prepared.make(Step.KEY_PAIR)
    (paste,) = (row.paste for row in rows if row.paste)
    assert paste is not None
    prepared.pin(prepared.scan(DIAMOND).unconfirmed, DIAMOND)
    assert not prepared.logs_in()
    allowed = prepared.lab.diamond.authorized_keys
    before = allowed.read_text()
    try:
        allowed.write_text(f"{before}{paste.splitlines()[-1]}\n")
        assert prepared.logs_in()
    finally:
        allowed.write_text(before)


@pytest.mark.parametrize("kind", ["file", "folder", "other link", "dangling link"])
def test_nothing_that_is_there_gives_way_to_a_link(prepared: Account, kind: str) -> None:
    usual = account.usual(prepared.site)
    place = prepared.home / usual.own_link
    if kind == "file":
        place.write_text("mine")
    elif kind == "folder":
        # What the page's own mkdir leaves.
        place.mkdir()
    else:
        place.symlink_to("/etc" if kind == "other link" else "/nowhere")
    before = place.lstat()
    rows = states(prepared.make(Step.LINKS))
    assert rows == {f"link {usual.own_link}": State.REFUSED, f"link {usual.shared_link}": State.MADE}
    (row, _) = prepared.unlink()
    assert row.state is State.REFUSED
    assert row.problem
    assert place.name in row.problem
    (refusal, _) = prepared.make(Step.LINKS)
    assert ("rmdir" in (refusal.remedy or "")) == (kind == "folder")
    assert (place.lstat().st_ino, place.lstat().st_mtime) == (before.st_ino, before.st_mtime)
    assert list(place.iterdir()) == [] if kind == "folder" else True


def test_unlink_removes_links_that_are_ours_and_nothing_behind_them(prepared: Account) -> None:
    prepared.make(Step.LINKS)
    usual = account.usual(prepared.site)
    kept = prepared.lab.on_rds(usual.shared_folder) / "kept"
    kept.write_text("data")
    try:
        assert set(states(prepared.unlink()).values()) == {State.REMOVED}
        assert not (prepared.home / usual.own_link).is_symlink()
        assert kept.read_text() == "data"
    finally:
        kept.unlink()
    assert set(states(prepared.unlink()).values()) == {State.WAS_NOT_THERE}


def test_a_folder_that_is_not_there_gets_no_link(prepared: Account) -> None:
    (row, _) = prepared.make(Step.LINKS, own_folder=f"{account.usual(prepared.site).group}/nobody")
    assert row.state is State.REFUSED
    assert "nobody" in (row.problem or "")
    assert not (prepared.home / account.usual(prepared.site).own_link).is_symlink()


def test_a_workspace_that_others_can_read_is_closed(prepared: Account) -> None:
    jobs = prepared.home / ".beamferry" / "jobs"
    jobs.mkdir(exist_ok=True)
    jobs.chmod(0o755)
    assert State.CHANGED in [row.state for row in prepared.make(Step.WORKSPACE)]
    assert jobs.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["passphrase", "open to others", "public half alone"])
def test_a_key_that_nobody_can_use_at_night_is_told_and_stays(prepared: Account, kind: str) -> None:
    key = prepared.home / ".ssh" / "id_ed25519"
    passphrase = "secret" if kind == "passphrase" else ""
    subprocess.run(("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(key)), check=True)
    if kind == "open to others":
        key.chmod(0o644)
    elif kind == "public half alone":
        key.unlink()
    before = {place.name: place.read_bytes() for place in key.parent.glob("id_*")}
    (row,) = prepared.make(Step.KEY_PAIR)
    assert row.state is State.REFUSED
    assert row.paste is None
    word = {"passphrase": "passphrase", "open to others": "chmod 600", "public half alone": "half"}[kind]
    assert word in f"{row.problem} {row.remedy}"
    assert {place.name: place.read_bytes() for place in key.parent.glob("id_*")} == before


def test_host_keys_are_pinned_as_confirmed_and_ssh_then_knows_the_host(prepared: Account) -> None:
    assert prepared.lab.run_on_rds(("ssh", DIAMOND.host, "true")).returncode == 255
    seen = prepared.scan(DIAMOND)
    assert seen.rows == ()
    (key,) = seen.unconfirmed
    own = subprocess.run(
        ("ssh-keygen", "-lf", str(prepared.lab.diamond.host_key_files()[1])),
        capture_output=True,
        text=True,
        check=True,
    )
    assert key.fingerprint == own.stdout.split()[1]
    assert not prepared.known_hosts.exists(), "a look pins nothing"

    prepared.known_hosts.write_text("elsewhere.example.org ssh-ed25519 AAAA")
    assert [row.state for row in prepared.pin(seen.unconfirmed, DIAMOND)] == [State.MADE]
    lines = prepared.known_hosts.read_text().splitlines()
    assert lines == [
        "elsewhere.example.org ssh-ed25519 AAAA",
        f"{DIAMOND.host} {prepared.lab.diamond.pinned}",
    ]
    again = prepared.scan(DIAMOND)
    assert [row.state for row in again.rows] == [State.WAS_THERE]
    assert again.unconfirmed == ()
    assert [row.state for row in prepared.pin(seen.unconfirmed, DIAMOND)] == [State.WAS_THERE]
    assert prepared.known_hosts.read_text().splitlines() == lines
    answer = prepared.lab.run_on_rds(("ssh", DIAMOND.host, "true")).stderr
    assert b"Permission denied" in answer, "the host is known; only the key is not allowed there yet"


@pytest.mark.parametrize("hashed", [False, True])
def test_another_key_than_the_pinned_one_is_told_and_never_pinned(prepared: Account, hashed: bool) -> None:
    seen = prepared.scan(DIAMOND)
    prepared.pin(seen.unconfirmed, DIAMOND)
    if hashed:
        subprocess.run(
            ("ssh-keygen", "-q", "-H", "-f", str(prepared.known_hosts)), check=True, capture_output=True
        )
        assert DIAMOND.host not in prepared.known_hosts.read_text()
    before = prepared.known_hosts.read_bytes()
    with Faults(prepared.lab).host_key_replaced(prepared.lab.diamond):
        now = prepared.scan(DIAMOND)
        other = account.fingerprint(prepared.lab.diamond.pinned.split()[1])
    assert now.unconfirmed == ()
    (row,) = now.rows
    assert row.state is State.REFUSED
    problem = row.problem or ""
    assert other in problem
    assert seen.unconfirmed[0].fingerprint in problem
    assert "somebody may stand in between" in problem
    assert f"ssh-keygen -R {DIAMOND.host}" in (row.remedy or "")
    assert prepared.known_hosts.read_bytes() == before


def test_a_key_that_came_between_look_and_yes_stays(prepared: Account, tmp_path: Path) -> None:
    seen = prepared.scan(DIAMOND)
    make_key(tmp_path / "other", "other")
    line = f"{DIAMOND.host} {public_key(tmp_path / 'other')}\n"
    prepared.known_hosts.write_text(line)
    (row,) = prepared.pin(seen.unconfirmed, DIAMOND)
    assert row.state is State.REFUSED
    assert prepared.known_hosts.read_text() == line


def test_a_revoked_key_is_refused(prepared: Account) -> None:
    seen = prepared.scan(DIAMOND)
    line = f"@revoked * {prepared.lab.diamond.pinned}\n"
    prepared.known_hosts.write_text(line)
    (row,) = prepared.scan(DIAMOND).rows
    assert "revoked" in (row.problem or "")
    assert [one.state for one in prepared.pin(seen.unconfirmed, DIAMOND)] == [State.REFUSED]
    assert prepared.known_hosts.read_text() == line


def test_desys_sftp_is_pinned_where_ssh_looks_for_it(prepared: Account, desy: Desy) -> None:
    prepared.lab.onward.lead(desy.name, desy.sftp, asks=False)
    own = prepared.home / ".ssh" / f"known_hosts.{desy.name}"
    own.unlink()
    seen = prepared.scan(DIAMOND, DESY)
    assert [key.gate for key in seen.unconfirmed] == [DIAMOND.host, DESY.host]
    # A person said yes to one of them.
    rows = prepared.pin(seen.unconfirmed[1:], DIAMOND, DESY)
    assert [row.state for row in rows] == [State.MADE]
    assert own.read_text() == f"{desy.name} {desy.sftp.pinned}\n"
    assert not prepared.known_hosts.exists()


def test_a_host_that_does_not_answer_is_told(prepared: Account) -> None:
    with Faults(prepared.lab).stopped(prepared.lab.diamond):
        seen = prepared.scan(DIAMOND)
    (row,) = seen.rows
    assert row.state is State.REFUSED
    assert "no host key" in (row.problem or "")
    assert seen.unconfirmed == ()


def test_lftp_reads_what_was_made_and_insists_on_the_certificate(prepared: Account, desy: Desy) -> None:
    text = account.certificates(desy.ca_file.read_text(), datetime.now(UTC))
    shutil.rmtree(prepared.home / ".lftp", ignore_errors=True)
    assert set(states(prepared.make(*LFTP, ca=text)).values()) == {State.MADE}
    assert set(states(prepared.make(*LFTP, ca=text)).values()) == {State.WAS_THERE}
    ftps = desy.ftps
    address = f"ftp://{ftps.address}:{ftps.port}"
    words = (
        f"set net:max-retries 1; set net:timeout 5; open -u {desy.account},'{desy.password}' {address}; cls"
    )

    def listed() -> bool:
        (prepared.home / "words").write_text(f"{words}\n")
        done = prepared.lab.run_on_rds(("lftp", "-f", "words"))
        return done.returncode == 0 and b"raw" in done.stdout

    assert listed()
    stranger = desy.authority("stranger").ca_file.read_text()
    (prepared.home / ".lftp/certs/desy.pem").write_text(stranger)
    assert not listed(), "an issuer that is not trusted is refused"


def test_an_rc_that_differs_stays_and_the_missing_lines_are_named(prepared: Account) -> None:
    folder = prepared.home / ".lftp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rc = folder / "rc"
    text = (
        "user -u cdaniel,top-secret\n  set   ssl:verify-certificate  yes\n"
        "debug 5; set ssl:check-hostname/psftp.desy.de no\n"
        "set ftp:ssl-force on\nset sftp:auto-confirm yes\n"
    )
    rc.write_text(text)
    (row,) = prepared.make(*LFTP)
    assert row.state is State.REFUSED
    remedy = row.remedy or ""
    assert "add: set ftp:ssl-protect-data yes" in remedy
    assert "add: set ssl:verify-certificate yes" not in remedy
    assert "take out line 3 (ssl:check-hostname)" in remedy
    assert "take out line 5 (sftp:auto-confirm)" in remedy
    assert "line 4" not in remedy
    assert "secret" not in str(row)
    assert rc.read_text() == text
    # What the message says is enough.
    lines = [line for number, line in enumerate(text.splitlines(), 1) if number not in {3, 5}]
    more = [
        part.removeprefix("add: ").removesuffix(", then trigger this again")
        for part in remedy.split("; ")[:-2]
    ]
    more[0] = more[0].rpartition("add: ")[2]
    rc.write_text("\n".join((*lines, *more)))
    assert [row.state for row in prepared.make(*LFTP)] == [State.WAS_THERE]


def test_a_ca_file_of_ones_own_stays(prepared: Account, desy: Desy) -> None:
    place = prepared.home / ".lftp" / "certs" / "desy.pem"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("mine\n")
    (row, _) = prepared.make(*LFTP, ca=desy.ca_file.read_text())
    assert row.state is State.REFUSED
    assert place.read_text() == "mine\n"


def test_settings_elsewhere_are_not_hidden_by_a_new_folder(prepared: Account) -> None:
    shutil.rmtree(prepared.home / ".lftp", ignore_errors=True)
    place = prepared.home / ".config" / "lftp" / "rc"
    place.parent.mkdir(parents=True)
    place.write_text("debug 3\n")
    (row,) = prepared.make(*LFTP)
    assert row.state is State.REFUSED
    assert ".config/lftp/rc" in (row.problem or "")
    assert not (prepared.home / ".lftp").exists()


def test_a_run_waits_for_another_in_the_same_account(prepared: Account) -> None:
    request = account.prepare_request(prepared.wishes(Step.KEY_PAIR), prepared.site, (DIAMOND,), "")
    with (prepared.home / ".beamferry" / "account.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = prepared.session.run(
            ("timeout", "2", *agent_command("account")), timeout=60, request=request.to_json()
        )
        assert done.exit_code == 124
        assert not (prepared.home / ".ssh" / "id_ed25519").exists()
    assert [row.state for row in prepared.make(Step.KEY_PAIR)] == [State.MADE]


def test_a_public_file_of_another_key_is_not_what_is_pasted(prepared: Account) -> None:
    key = prepared.home / ".ssh" / "id_ed25519"
    make_key(key, "ours")
    ours = public_key(key)
    make_key(key.with_name("other"), "other")
    shutil.copy(key.with_name("other.pub"), key.with_name("id_ed25519.pub"))
    (row,) = prepared.make(Step.KEY_PAIR)
    assert row.state is State.WAS_THERE
    assert ours in (row.paste or "")


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("ProxyJump gate.example.org", "by way of another host (proxyjump)"),
        ("ProxyCommand nc %h %p", "by way of another host (proxycommand)"),
        ("UserKnownHostsFile none", "keeps no file of known hosts"),
        ("ConnectTimeout soon", "cannot say how it reaches ssh.diamond.ac.uk"),
    ],
)
def test_a_way_that_nobody_can_look_along_is_told(prepared: Account, setting: str, word: str) -> None:
    config = prepared.home / ".ssh" / "config"
    config.write_text(f"Host {DIAMOND.host}\n  {setting}\n{config.read_text()}")
    seen = prepared.scan(DIAMOND)
    (row,) = seen.rows
    assert word in (row.problem or "")
    assert seen.unconfirmed == ()


def test_a_key_is_made_where_the_configuration_looks_for_it(prepared: Account) -> None:
    config = prepared.home / ".ssh" / "config"
    place = f"{prepared.lab.rds.home_inside}/.ssh/for-diamond"
    config.write_text(config.read_text().replace(f"{prepared.lab.rds.home_inside}/.ssh/id_ed25519", place))
    (row,) = prepared.make(Step.KEY_PAIR)
    assert (row.state, row.where) == (State.MADE, place)
    assert not (prepared.home / ".ssh" / "id_ed25519").exists()
