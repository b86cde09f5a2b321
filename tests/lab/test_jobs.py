"""Jobs on the lab's RDS-SSH with the real rsync: whatever is removed under them, one copy at a time is written."""

from __future__ import annotations

import os
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from beamferry.access import Facts
from beamferry.agent import ask_job
from beamferry.beamtime import Level
from beamferry.engine import Choice, engine
from beamferry.lab import must_arrive
from beamferry.registry import load
from beamferry.remote import Job, Session, Status, parse_status
from beamferry.remote.starts import Busy, Owner, Started, parse_start
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from beamferry.beamtime import Beamtime, Site
    from beamferry.engine import Call, Engine
    from beamferry.lab import Lab

pytestmark = pytest.mark.timeout(600)
OURS, THEIRS = Owner("1111111111111111", "ours"), Owner("2222222222222222", "theirs")
FACTS = Facts({"keeps_modes": "yes", "keeps_times": "yes", "keeps_links": "yes"})
# MiB/s: the visit then takes some ten seconds, so that there is something to remove.
SLOWLY = Choice(2, 1, Level.SAMPLED, 8)


@dataclass
class Rds:
    """The lab's RDS-SSH as an Airflow sees it."""

    lab: Lab
    session: Session
    beamtime: Beamtime
    site: Site

    @property
    def jobs(self) -> Path:
        return self.lab.rds_home / ".beamferry" / "jobs" / self.beamtime.key

    @property
    def destination(self) -> Path:
        return self.lab.on_rds(self.beamtime.destination_path(self.site))

    @property
    def temporary(self) -> Path:
        return self.destination / ".beamferry-partial" / ".beamferry-temporary"

    def job(self, part: str) -> Job:
        return Job(self.beamtime.key, part)

    def start(self, part: str, call: Callable[[Engine], Call], owner: Owner = OURS) -> Started | Busy:
        question = self.job(part).start(
            "run-1",
            *call(engine(self.beamtime, self.site)),
            destination=self.beamtime.destination_path(self.site),
            owner=owner,
        )
        return parse_start(ask_job(self.session, question, timeout=90))

    def list(self, owner: Owner = OURS) -> Started | Busy:
        return self.start("dry_run", lambda tool: tool.dry_run(FACTS, SLOWLY, None), owner)

    def transfer(self, choice: Choice = SLOWLY, owner: Owner = OURS) -> Started | Busy:
        return self.start("transfer", lambda tool: tool.transfer(FACTS, choice, None), owner)

    def status(self, part: str) -> Status:
        return parse_status(ask_job(self.session, self.job(part).verb("status"), timeout=60))

    def end(self, part: str) -> int | None:
        wait_for(lambda: self.status(part).state != "running", f"{part} ends", 120)
        return self.status(part).exit_code

    def copies(self) -> set[int]:
        """Process groups on this RDS-SSH whose rsync writes to the destination now."""
        groups = set()
        assert self.lab.rds.sshd is not None
        here = Path(f"/proc/{self.lab.rds.sshd.pid}/ns/mnt").readlink()
        for process in psutil.process_iter(["name"]):
            try:
                if process.info["name"] != "rsync" or "BEAMFERRY_JOB" not in process.environ():
                    continue
                words = process.cmdline()
                if Path(f"/proc/{process.pid}/ns/mnt").readlink() == here and "-n" not in words:
                    groups.add(os.getpgid(process.pid))
            except (psutil.Error, OSError):
                continue
        return groups

    def open_files(self, groups: set[int]) -> list[str]:
        """What the processes of these groups have open at the destination."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getpgid(process.pid) in groups:
                    found += [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]  # noqa: PTH115
            except (psutil.Error, OSError):
                continue
        return [name for name in found if ".beamferry-temporary" in name]


@pytest.fixture
def rds(own_lab: Lab) -> Iterator[Rds]:
    registry = load(own_lab.registry)
    assert registry.site is not None
    client = own_lab.rds_client()
    try:
        session = Session(client)
        session.install()
        made = Rds(own_lab, session, registry.beamtimes[0], registry.site)
        assert isinstance(made.list(), Started)
        assert made.end("dry_run") == 0
        assert isinstance(made.transfer(), Started)
        wait_for(
            lambda: any(path.is_file() for path in made.temporary.rglob("*")), "a file is on its way", 60
        )
        yield made
    finally:
        client.close()


def finish(rds: Rds) -> None:
    """Start it as a retry does until it has ended well, and compare."""

    def ended() -> bool:
        if rds.end("transfer") == 0:
            return True
        # What was removed has to be listed again.
        if isinstance(rds.list(), Started):
            rds.end("dry_run")
            rds.transfer(Choice(2, None, Level.SAMPLED, 8))
        return False

    wait_for(ended, "the transfer ends well", 200)
    for name in must_arrive(rds.lab.visit_folder):
        path = rds.lab.visit_folder / os.fsdecode(name)
        if path.is_file() and not path.is_symlink():
            assert (rds.destination / os.fsdecode(name)).read_bytes() == path.read_bytes(), name


def test_two_copies_never_run_at_once_though_the_job_s_folder_was_removed(rds: Rds) -> None:
    """The run is cleared meanwhile: it lists again, and then fetches."""
    most, lost, done = 0, [], threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.05):
            copies = rds.copies()
            most = max(most, len(copies))
            # A file on its way whose name is gone is another copy's doing.
            if copies == first and any("(deleted)" in name for name in rds.open_files(copies)):
                lost.append(copies)

    first = rds.copies()
    assert len(first) == 1
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        shutil.rmtree(rds.jobs, ignore_errors=True)
        wait_for(lambda: isinstance(rds.list(), Started), "the listing may begin", 120)
        assert rds.end("dry_run") == 0
        assert isinstance(rds.transfer(), Started)
        wait_for(lambda: rds.copies() - first or rds.status("transfer").state != "running", "it runs", 60)
        time.sleep(1)
    finally:
        done.set()
        watcher.join()
    assert (most, lost) == (1, [])
    finish(rds)


def test_the_files_on_their_way_stay_those_of_the_job_that_writes_them(rds: Rds) -> None:
    shutil.rmtree(rds.jobs, ignore_errors=True)
    again = rds.transfer()
    assert isinstance(again, Started)
    if again.how == "attached":
        assert rds.temporary.is_dir() or rds.status("transfer").state != "running"
    assert len(rds.copies()) <= 1
    assert isinstance(rds.transfer(owner=THEIRS), Busy)
    finish(rds)


def test_another_installation_waits_for_the_transfer_and_stops_nothing(rds: Rds) -> None:
    before = rds.status("transfer").generation
    for answer in (rds.list(THEIRS), rds.transfer(owner=THEIRS)):
        assert isinstance(answer, Busy)
        assert (answer.reason, answer.job) == ("installation", f"{rds.beamtime.key}/transfer")
    assert (rds.status("transfer").state, rds.status("transfer").generation) == ("running", before)
    finish(rds)
