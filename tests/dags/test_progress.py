"""A DESY beamtime of five folders as recorded in the lab, followed from its jobs through the asset to the board."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from beamferry.beamtime import Level, Site
from beamferry.board import May, Paths, Seen, row
from beamferry.board.answers import Started
from beamferry.facilities.desy import DesyBeamtime
from beamferry.mail import percent
from beamferry.remote import Progress
from beamferry.verification import Ends, Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.board.answers import Row

# What was told of each job and what each left behind, with every file of two folders 4 MB large and a limit of
# 3 MiB/s: five folders, a comparison, and the listing of the next night.
RECORDED = json.loads((Path(__file__).parents[1] / "data" / "desy_folders.json").read_text())
NIGHT, *FOLDERS, COMPARED, NEXT_NIGHT = RECORDED
SITE = Site(destination_root="/mnt/rds/shared", time_zone="Europe/London")
PARAMS = {
    "mode": "sync",
    "require_approval": False,
    "verification": "sampled",
    "samples": 8,
    "streams": 2,
    "bandwidth_limit": None,
    "manifest": False,
    "accept_smaller_source": False,
}
PATHS = Paths(dag="/d", beamtime="/b", certificate="/c")
# What is said of a beamtime whose bytes are all there.
OVER = ("verify only", "all bytes are at rds", "home and verified", "verify the copy")


class Store:
    """The asset's values, as JSON, in this process."""

    kept: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self, key: str) -> Any:
        return json.loads(self.kept[key]) if key in self.kept else None

    def set(self, key: str, value: Any) -> None:
        self.kept[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self.kept.pop(key, None)

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.set(key, value)


@dataclass
class Rds:
    """The files of a session."""

    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, path: str) -> str:
        return self.files.get(path, b"").decode()

    def write(self, path: str, content: bytes, *, mode: int) -> None:  # noqa: ARG002
        self.files[path] = content

    def make_folder(self, path: str, *, mode: int) -> None:
        pass


@dataclass
class Night:
    """One run after the other of a beamtime, with what the board says at each look at its job."""

    # Seconds by which RDS-SSH's clock differs from Airflow's.
    skew: int
    rds: Rds
    run_id: str = "first"
    seen: list[Row] = field(default_factory=list)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        today = self.at.date()
        self.beamtime = DesyBeamtime(
            id="11010750",
            facility="desy",
            instrument="p07",
            account="cdaniel",
            ended=today - timedelta(days=40),
            transport="sftp",  # type: ignore[arg-type]
        )

    @property
    def state(self) -> Any:
        from beamferry.airflow.state import BeamtimeState

        return BeamtimeState(self.beamtime.asset_name)

    def context(self, number: int = -1) -> Any:
        ti = SimpleNamespace(map_index=number, xcom_push=lambda *_: None)
        run = SimpleNamespace(run_type="manual")
        return {"params": PARAMS, "run_id": self.run_id, "ti": ti, "dag_run": run}

    def look(self, *, under_way: bool = True) -> Row:
        run = Started(
            run_id=self.run_id,
            state="running" if under_way else "success",
            url="/r",
            start=self.at,
            end=None,
            mode="sync",
        )
        found = row(self.beamtime, SITE, self.state.known(), Seen(run=run), PATHS, May(), self.at)
        self.seen.append(found)
        return found

    def follow(self, job: dict[str, Any]) -> None:
        """Let a trigger of its own tell of a job, and look at the board each time."""
        from beamferry.airflow.triggers import RemoteJobTrigger

        self.state.keep_course()
        trigger = RemoteJobTrigger(
            beamtime=self.beamtime.key,
            part=job["part"],
            asset=self.beamtime.asset_name,
            run_id=self.run_id,
            ssh_conn_id="rds_ssh",
            remote_host=None,
            job_id=job["part"],
            job_dir="x",
            log_file="x",
            exit_code_file="x",
            remote_os="posix",
        )
        for at, told in job["samples"]:
            self.at += timedelta(seconds=1)
            stamp = int(self.at.timestamp()) + self.skew
            asyncio.run(trigger._publish(Progress(**{**told, "updated": stamp})))
            assert at >= 0
            self.look()

    def plan(self, job: dict[str, Any]) -> list[str]:
        """Follow a dry run and make the plan of it; returns the folders to fetch."""
        from beamferry.airflow.operators import DryRun, ParseTotals
        from beamferry.remote import Job

        self.follow(job)
        self.rds.write(f"{Job(self.beamtime.key, DryRun.part).folder}/stats", job["stats"].encode(), mode=0)
        task = ParseTotals(task_id="parse_totals", beamtime=self.beamtime, site=SITE)
        task.records(self.context()).write(self.rds, "facts", {})  # type: ignore[arg-type]
        found = task.execute(self.context())
        self.look()
        assert isinstance(found, list)
        return found

    def end(self, number: int) -> None:
        """Let a folder's transfer end well."""
        from beamferry.airflow.jobs import Ended
        from beamferry.airflow.operators import Transfer

        job = FOLDERS[number]
        task = Transfer(task_id="transfer", beamtime=self.beamtime, site=SITE, folder=job["folder"])
        task.finish(self.context(number), self.rds, Ended(0, job["result"], "", ""))  # type: ignore[arg-type]
        self.look()

    def compare(self) -> None:
        """Follow the comparison and keep that it was good."""
        self.follow(COMPARED)
        ends = [
            Ends(**{name: COMPARED["result"][f"{end}_{name}"] for name in Ends.model_fields})
            for end in ("source", "destination")
        ]
        verdict = Verdict(
            outcome=Outcome.VERIFIED,
            level=Level.FULL,
            source=ends[0],
            destination=ends[1],
            counts={},
            named=(),
            sampled_files=124,
            sampled_bytes=ends[0].bytes,
            partial_files=0,
            checked_at=datetime.now(UTC),
            sentence="All are at RDS.",
        )
        self.state.set("verification", verdict.model_dump(mode="json"))
        self.look()


@pytest.fixture
def rds(monkeypatch: pytest.MonkeyPatch) -> Rds:
    from beamferry.airflow import state
    from beamferry.airflow.task import BeamtimeTask

    monkeypatch.setattr(Store, "kept", {})
    monkeypatch.setattr(state, "AssetStateStoreAccessor", Store)
    made = Rds()

    @contextmanager
    def rds(_: BeamtimeTask) -> Iterator[Rds]:
        yield made

    monkeypatch.setattr(BeamtimeTask, "rds", rds)
    return made


def shares(seen: list[Row]) -> list[int | None]:
    return [percent(one) for one in seen]  # type: ignore[arg-type]


def must_not_be_over(seen: list[Row]) -> None:
    for one in seen:
        said = f"{one.headline} {one.next_step.label} {one.next_step.sentence}".lower()
        assert not any(words in said for words in OVER), said
        assert one.forecast
        assert one.ends_at
        assert percent(one) != 100  # type: ignore[arg-type]
        assert (one.files_done or 0) < (one.files_total or 0)


@pytest.mark.parametrize("skew", [-600, 0, 600])
def test_the_percentage_goes_up_over_all_folders_and_is_100_with_the_last_byte_alone(
    rds: Rds, skew: int
) -> None:
    night = Night(skew, rds)
    folders = night.plan(NIGHT)
    assert folders == [job["folder"] for job in FOLDERS]
    assert [one.bytes_total for one in night.seen[:-1]] == [None] * (len(night.seen) - 1)
    night.seen.clear()
    for number, job in enumerate(FOLDERS):
        night.follow(job)
        if number == len(FOLDERS) - 1:
            must_not_be_over(night.seen)
        night.end(number)
        if number < len(FOLDERS) - 1:
            must_not_be_over(night.seen)
    assert shares(night.seen) == sorted(shares(night.seen))  # type: ignore[type-var]
    assert len(set(shares(night.seen))) > 10, "it was followed while it moved"
    # From the end of the last folder on all of it is there, whatever other job tells of itself.
    whole = night.seen[-1:]
    night.seen.clear()
    night.compare()
    night.run_id = "next"
    assert night.plan(NEXT_NIGHT) == []
    for one in (*whole, *night.seen):
        assert (one.bytes_done, one.files_done) == (one.bytes_total, one.files_total) == (106_792_283, 125)


def test_what_came_before_a_transfer_failed_is_still_there_while_the_next_night_is_listed(rds: Rds) -> None:
    night = Night(0, rds)
    night.plan(NIGHT)
    night.follow(FOLDERS[0])
    night.end(0)
    night.follow(FOLDERS[1])
    share = percent(night.seen[-1])  # type: ignore[arg-type]
    assert share == 49
    night.run_id = "next"
    night.seen.clear()
    night.follow(NIGHT)
    assert set(shares(night.seen)) == {share}
    must_not_be_over(night.seen)


@pytest.mark.parametrize("left_out", range(len(FOLDERS)))
def test_a_folder_that_a_person_marked_as_done_is_not_fetched(rds: Rds, left_out: int) -> None:
    night = Night(0, rds)
    night.plan(NIGHT)
    night.seen.clear()
    for number in range(len(FOLDERS)):
        if number != left_out:
            night.end(number)
    night.look(under_way=False)
    must_not_be_over(night.seen)


def test_what_was_fetched_and_is_not_compared_is_told_so_however_little_it_was(rds: Rds) -> None:
    """A few bytes leave no rate; that they came is known all the same."""
    night = Night(0, rds)
    night.plan(NIGHT)
    for number in range(len(FOLDERS)):
        night.end(number)
    night.state.forget("rate")
    night.at += timedelta(days=5)
    found = night.look(under_way=False)
    assert found.headline == "Nothing has moved for 5 days"
    assert found.next_step.label == "Verify the copy"
    assert "verify only" in found.next_step.sentence


def test_the_series_of_a_transfer_holds_its_own_samples_alone(rds: Rds) -> None:
    night = Night(0, rds)
    night.plan(NIGHT)
    night.follow(FOLDERS[0])
    first = len(FOLDERS[0]["samples"])
    assert len(night.state.known().transfer.history) == first
    # The next folder's goes on with it.
    night.follow(FOLDERS[1])
    history = night.state.known().transfer.history
    assert len(history) == first + len(FOLDERS[1]["samples"])
    assert [done for _, done in history] == sorted(done for _, done in history)


def test_two_folders_that_end_at_once_lose_nothing_of_each_other(rds: Rds) -> None:
    """Each writes what it knows when the other has not written yet, as two workers may."""
    night = Night(0, rds)
    night.plan(NIGHT)
    before = dict(Store.kept)
    ends = []
    for number in range(len(FOLDERS)):
        Store.kept.clear()
        Store.kept.update(before)
        night.end(number)
        ends.append({key: value for key, value in Store.kept.items() if before.get(key) != value})
    for written in ends:
        Store.kept.update(written)
    assert night.look().bytes_done == 106_792_283


def test_a_plan_of_the_same_run_begins_anew(rds: Rds) -> None:
    night = Night(0, rds)
    night.plan(NIGHT)
    for number in range(len(FOLDERS)):
        night.follow(FOLDERS[number])
        night.end(number)
    assert percent(night.seen[-1]) == 100  # type: ignore[arg-type]
    night.plan(NIGHT)
    assert percent(night.seen[-1]) == 0  # type: ignore[arg-type]
