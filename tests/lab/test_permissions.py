"""What is written is closed to others, at every moment, as docs/security.md says."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from beamferry import access, census
from beamferry.agent import ask, ask_job
from beamferry.beamtime import Level
from beamferry.certificate import MANIFEST_NAME, certificate_folder
from beamferry.engine import Choice, engine
from beamferry.lab import Lab
from beamferry.registry import load
from beamferry.remote import Job, Session, parse_status
from beamferry.remote.starts import Owner, Started, parse_start
from beamferry.watch import Sign, leave, status_file
from permissions import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from beamferry.access import Facts
    from beamferry.beamtime import Beamtime, Site
    from beamferry.engine import Call, Engine
    from beamferry.plan import Counted

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def careless() -> Iterator[None]:
    """Everything that these tests start would let others read and write."""
    before = os.umask(0o002)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture(scope="module")
def open_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab whose account on RDS-SSH has no umask at all."""
    lab = Lab(tmp_path_factory.mktemp("open"))
    try:
        lab.up("small", ended=(datetime.now(UTC) - timedelta(days=5)).date(), desy=True)
        # bash reads it when sshd starts it.
        (lab.rds_home / ".bashrc").write_text("umask 000\n")
        yield lab
    finally:
        lab.down()


CHOICE = Choice(2, None, Level.SAMPLED, 8)


@dataclass(frozen=True)
class Chain:
    """A beamtime's jobs over one connection, as Airflow's tasks start them."""

    lab: Lab
    session: Session
    beamtime: Beamtime
    site: Site

    def secret(self, part: str) -> str | None:
        """Hand the password over, where there is one."""
        name, job = self.beamtime.secret_connection, Job(self.beamtime.key, part)
        if name is None:
            return None
        place = job.new_secret()
        self.session.make_folder(job.folder, mode=0o700)
        word = self.lab.airflow_connections()[name]["password"]
        self.session.write(place, word.encode(), mode=0o600)
        return place

    def job(self, part: str, call: Callable[[Engine], Call]) -> str:
        # The manifest does not reach out.
        tool = engine(self.beamtime, self.site, None if part == "manifest" else self.secret(part))
        job = Job(self.beamtime.key, part)
        destination = self.beamtime.destination_path(self.site)
        question = job.start("run", *call(tool), destination=destination, owner=Owner("1", "tests"))
        started = parse_start(ask_job(self.session, question, timeout=60))
        assert isinstance(started, Started), started
        while True:
            status = parse_status(ask_job(self.session, job.verb("status"), timeout=60))
            if status.state != "running":
                break
        assert status.exit_code == 0, self.session.read(f"{job.folder}/errors")
        return self.session.read(f"{job.folder}/stats")

    def dry_run(self) -> tuple[Facts, Counted]:
        """What access to it needs, and the listing."""
        secret = self.secret("probe")
        probe = engine(self.beamtime, self.site, secret).probe()
        facts = access.parse_facts(ask(self.session, "probe", probe, timeout=60))
        return facts, self.tool.totals(self.job("dry_run", lambda tool: tool.dry_run(facts, CHOICE, None)))

    def run(self) -> None:
        """All jobs of a run, and the manifest."""
        facts, totals = self.dry_run()
        for folder in self.tool.folders(totals) or (None,):
            self.job("transfer", partial(self.transfer, facts, folder))
        self.job("verify", lambda tool: tool.verify(facts, CHOICE, 1))
        self.session.make_folder(self.certificate, mode=0o755)
        arguments = census.manifest_arguments(
            Job(self.beamtime.key, "").work,
            self.beamtime,
            self.site,
            streams=2,
            output=f"{self.certificate}/{MANIFEST_NAME}",
        )
        self.job("manifest", lambda _: ("manifest", arguments))

    def transfer(self, facts: Facts, folder: str | None, tool: Engine) -> Call:
        return tool.transfer(facts, CHOICE, None, folder)

    @property
    def tool(self) -> Engine:
        return engine(self.beamtime, self.site)

    @property
    def certificate(self) -> str:
        return certificate_folder(self.beamtime.destination_path(self.site))


@pytest.fixture
def chain(open_lab: Lab, request: pytest.FixtureRequest) -> Iterator[Chain]:
    """The beamtime of a facility, by the transport that the lab's registry is to name."""
    facility, transport, further = request.param
    text = open_lab.registry_text(desy=transport)
    open_lab.registry.write_text(text.replace(f"transport: {transport}", f"transport: {transport}{further}"))
    registry = load(open_lab.registry)
    assert registry.problems == ()
    assert registry.site is not None
    beamtime = next(one for one in registry.beamtimes if one.facility == facility)
    client = open_lab.rds_client()
    try:
        yield Chain(open_lab, Session(client), beamtime, registry.site)
    finally:
        client.close()


@pytest.mark.parametrize("chain", [("diamond", "ftps", ""), ("desy", "ftps", "")], indirect=True)
def test_what_a_run_writes_on_rds_ssh_is_for_its_account_alone(chain: Chain) -> None:
    watch = Watch(chain.lab.rds_home / ".beamferry", "~/.beamferry")
    with watch.all_the_time():
        chain.session.install()
        chain.run()
    assert watch.wrong == set()
    jobs = f"~/.beamferry/jobs/{chain.beamtime.key}"
    expected = {"transfer/result.json", "work/todo", "manifest/errors"}
    assert {f"{jobs}/{name}" for name in expected} <= watch.seen
    with_secret = {name.split("/")[-2] for name in watch.seen if "/secret-" in name}
    needing = {"probe", "dry_run", "transfer", "verify"} if chain.beamtime.secret_connection else set()
    assert with_secret == needing
    assert list((watch.folder / "jobs").glob("*/*/secret*")) == []

    certificate = Watch(chain.lab.on_rds(chain.certificate), "<destination>.certificate")
    certificate.look()
    assert certificate.wrong == set()
    assert f"<destination>.certificate/{MANIFEST_NAME}" in certificate.seen
    # The data is not: others of the group work with it.
    data = chain.lab.on_rds(chain.beamtime.destination_path(chain.site))
    for path in (data, *data.rglob("*.nxs"), *data.rglob("*.cbf")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o044, path


@pytest.mark.parametrize("chain", [("desy", "sftp", "\n  connection: desy_ftps")], indirect=True)
def test_the_file_that_answers_sshs_question_is_closed_too(chain: Chain) -> None:
    chain.lab.route_desy("password")
    watch = Watch(chain.lab.rds_home / ".beamferry", "~/.beamferry")
    with watch.all_the_time():
        chain.session.install()
        chain.dry_run()
    assert watch.wrong == set()
    assert f"~/.beamferry/jobs/{chain.beamtime.key}/dry_run/question" in watch.seen


@pytest.mark.usefixtures("careless")
def test_the_sign_of_life_is_closed_whatever_the_umask_is(tmp_path: Path) -> None:
    leave(status_file({"AIRFLOW_HOME": str(tmp_path)}), Sign(at=datetime.now(UTC), mails=0, recipients=1))
    watch = Watch(tmp_path, ".airflow")
    watch.look()
    assert watch.wrong == set()
    assert ".airflow/beamferry/alerts.json" in watch.seen
