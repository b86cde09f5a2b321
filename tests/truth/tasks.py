"""What Airflow does with a beamtime's tasks, without Airflow: the one place that knows how the chain is called.

The tasks are those of the DAG. Each is executed as a worker does it; where it defers, the job on RDS-SSH is waited for
as the triggerer does, and the task is called again by the method that it named. All that is put in Airflow's place is
its store of asset state and XComs, and the connection to RDS-SSH (see shortcuts).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import psutil
from airflow.sdk.exceptions import TaskDeferred
from servers import ACCOUNT, ADDRESS, PASSWORD

from beamferry import rsync
from beamferry.airflow import operators
from beamferry.airflow import state as asset_state
from beamferry.airflow.task import BeamtimeTask
from beamferry.airflow.verify_access import VerifyAccess
from beamferry.beamtime import Level, Site
from beamferry.errors import BeamferryError, TransientError
from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.remote import JOBS
from beamferry.verification import Outcome, Verdict, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from servers import Servers
    from shortcuts import Here

    from beamferry.beamtime import Beamtime

# Ranges begin at 32 MiB: so small a tree would never have one.
RANGE_THRESHOLD = 256 * 1024
RUN_SECONDS = 90


@dataclass(frozen=True)
class Said:
    """What a run said in its end.

    Args:
        verified: whether it said VERIFIED.
        level: at which level, None where it came to no verdict.
        differing: names, as they are shown, of files whose content was found to differ.
        named: all differences, as they are shown.
        sampled: paths whose content was compared.
        window: seconds by which times may differ, as the code's own rule has it.
        sentence: its own words.
        error: code of the error that ended it, None where it came to a verdict.
        part: the task that failed with that error.
    """

    verified: bool
    level: Level | None
    differing: frozenset[str] = frozenset()
    named: tuple[tuple[str, str], ...] = ()
    sampled: frozenset[bytes] = frozenset()
    window: int = 0
    sentence: str = ""
    error: str | None = None
    part: str | None = None


class Interrupted(Exception):  # noqa: N818 - not a failure
    """A job was killed on purpose, and nobody asked for what came of it."""


class Store:
    """Airflow's store of asset state."""

    kept: ClassVar[dict[str, dict[str, str]]] = {}

    def __init__(self, *, name: str) -> None:
        self._values = self.kept.setdefault(name, {})

    def get(self, key: str) -> Any:
        return json.loads(self._values[key]) if key in self._values else None

    def set(self, key: str, value: Any) -> None:
        self._values[key] = json.dumps(value)

    def delete(self, key: str) -> None:
        self._values.pop(key, None)


class Instance:
    """A task instance: it has the XComs, and nobody else asks for anything."""

    dag_id, map_index, try_number = "truth", -1, 1

    def __init__(self, run_id: str) -> None:
        self.run_id, self.task_id = run_id, ""
        self._values: dict[tuple[str, str], Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self._values[self.task_id, key] = value

    def xcom_pull(self, task_ids: str | None = None, key: str = "return_value", **_: Any) -> Any:
        return self._values.get((task_ids or self.task_id, key))


def _quiet() -> logging.Logger:
    log = logging.getLogger("truth")
    log.setLevel(logging.CRITICAL)
    return log


class _Hook:
    remote_host = "rds"

    def __init__(self, client: Here) -> None:
        self._client = client

    def get_conn(self) -> Here:
        return self._client


class Chain:
    """The chain of a beamtime's tasks over servers that are up.

    Args:
        servers: RDS-SSH and the facilities.
        patch: puts our store and connection in the place of Airflow's.
    """

    def __init__(self, servers: Servers, patch: pytest.MonkeyPatch) -> None:
        self.servers = servers
        self._facts: dict[str, Any] = {}
        hook = _Hook(servers.client)
        patch.setattr(BeamtimeTask, "rds_hook", hook)
        # Whoever reads a test's output wants the sequence, not what each task tells.
        patch.setattr(BeamtimeTask, "log", _quiet(), raising=False)
        patch.setattr(asset_state, "AssetStateStoreAccessor", Store)
        patch.setattr(rsync, "RANGE_THRESHOLD", RANGE_THRESHOLD)
        patch.setenv("AIRFLOW_CONN_DESY", json.dumps({"conn_type": "generic", "password": PASSWORD}))

    # --- entries ----------------------------------------------------------------------------------------------

    def entry(self, kind: str, number: int, source: Path, destination: Path, **further: Any) -> Beamtime:
        """Return a beamtime's entry.

        Args:
            kind: rsync, ftps or sftp.
            number: of the sequence; no two have the same.
            source: folder at the facility.
            destination: folder on RDS.
            further: fields of the entry.
        """
        usual: dict[str, Any] = {
            "instrument": "i12",
            "ended": date(2021, 5, 3),
            "destination": str(destination),
        }
        if kind == "rsync":
            diamond = {
                "id": f"mg{number}-1",
                "facility": "diamond",
                "account": self.servers.diamond.account,
                "source": str(source),
            }
            return DiamondBeamtime(**usual | diamond | further)
        desy = {"id": f"{20_000_000 + number}", "facility": "desy"}
        if kind == "sftp":
            over = {"transport": "sftp", "account": self.servers.desy.account, "source": str(source)}
        else:
            ftps = self.servers.ftps
            over = {
                "transport": "ftps",
                "account": ACCOUNT,
                "registered": datetime.now(UTC).date(),
                "connection": "desy",
                "server": ADDRESS,
                "port": ftps.port if ftps else None,
                "ca_file": str(self.servers.authority.ca_file),
                "source": f"/{source.relative_to(self.servers.sources)}",
            }
        return DesyBeamtime(**usual | desy | over | further)

    # --- runs -------------------------------------------------------------------------------------------------

    def run(
        self,
        beamtime: Beamtime,
        site: Site,
        *,
        run_id: str,
        mode: str,
        level: Level,
        samples: int,
        streams: int,
        order: Callable[[list[str]], list[str]] = list,
        between: Callable[[str], None] = lambda _: None,
        kill: Kill | None = None,
    ) -> Said:
        """Do what Airflow does in one run of a beamtime's DAG.

        Args:
            beamtime: its entry.
            site: the group's own side.
            run_id: chooses the samples, as it does in Airflow.
            mode: ``sync`` or ``verify only``.
            level: how thoroughly to verify.
            samples: files compared at level sampled.
            streams: connections at the same time.
            order: in which order folders are fetched, where the transfer is one job for each.
            between: called before each task with its name.
            kill: what to kill, and when.
        """
        run = _Run(self, beamtime, site, run_id, kill)
        if self.servers.agent is not None:
            self.servers.agent.started_each_time(kill is not None)
        run.context["params"] = {
            "mode": mode,
            "require_approval": False,
            "verification": level.value,
            "samples": samples,
            "streams": streams,
            "bandwidth_limit": None,
            "manifest": False,
            "accept_smaller_source": True,
        }
        try:
            for name, task in run.tasks(mode, order):
                between(name)
                run.execute(name, task)
        except BeamferryError as error:
            if error.code not in {"not-verified", "source-changing"} or run.part != "certify":
                return Said(False, None, error=error.code, part=run.part, sentence=str(error))
        return run.said()

    # --- what lies on RDS-SSH ---------------------------------------------------------------------------------

    def jobs(self, beamtime: Beamtime) -> Path:
        """Folder with all that RDS-SSH knows of a beamtime's jobs."""
        return self.servers.home / JOBS / beamtime.key

    def processes(self, beamtime: Beamtime) -> list[psutil.Process]:
        """Everything that a beamtime's jobs have left running on RDS-SSH."""
        marks = (f"{JOBS}/{beamtime.key}/".encode(), f"{JOBS}/{beamtime.key}\0".encode())
        home = f"HOME={self.servers.home}\0".encode()
        found = []
        for process in psutil.process_iter():
            with suppress(OSError, psutil.Error):
                place = Path(f"/proc/{process.pid}")
                environment = (place / "environ").read_bytes()
                words = (place / "cmdline").read_bytes()
                if home in environment and any(mark in environment or mark in words for mark in marks):
                    found.append(process)
        return found

    def end(self, beamtime: Beamtime) -> None:
        """End what runs of this beamtime, so that the next sequence begins with nothing."""
        for _ in range(20):
            left = [
                process for process in self.processes(beamtime) if process.status() != psutil.STATUS_ZOMBIE
            ]
            if not left:
                return
            for process in left:
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.02)


@dataclass
class Kill:
    """What to kill in a run, once.

    Args:
        what: ``stop`` (a person stops the task), ``tool`` (what moves or reads the bytes), ``leader`` (the job's first
            process), ``all`` (every process of the job) or ``folder`` (the folder of the beamtime's jobs is removed).
        part: the task whose job is meant.
        after: seconds after its start.
        again: whether the same task is tried again, as Airflow does it, or the run is given up.
    """

    what: str
    part: str
    after: float
    again: bool
    done: bool = field(default=False)


_TOOLS = {"rsync", "ssh", "lftp", "dd", "find", "sha256sum", "sort", "awk", "cmp"}


class _Run:
    """One run: its context, and how far it is."""

    def __init__(self, chain: Chain, beamtime: Beamtime, site: Site, run_id: str, kill: Kill | None) -> None:
        self.chain, self.beamtime, self.site, self.kill = chain, beamtime, site, kill
        self.part = ""
        self.instance = Instance(run_id)
        self.context: Any = {
            "run_id": run_id,
            "ti": self.instance,
            "dag_run": SimpleNamespace(run_type="manual", run_id=run_id, start_date=datetime.now(UTC)),
        }
        self._known = {"beamtime": beamtime, "site": site}

    def tasks(self, mode: str, order: Callable[[list[str]], list[str]]) -> Iterator[tuple[str, Any]]:
        yield "verify_access", VerifyAccess(task_id="verify_access", **self._known)
        if mode == "sync":
            yield "dry_run", operators.DryRun(task_id="dry_run", **self._known)
            yield "parse_totals", operators.ParseTotals(task_id="parse_totals", **self._known)
            folders = self.instance.xcom_pull("parse_totals")
            for folder in [None] if folders is None else order(list(folders)):
                yield "transfer", operators.Transfer(task_id="transfer", folder=folder, **self._known)
        yield "verify_sizes", operators.VerifySizes(task_id="verify_sizes", **self._known)
        yield "certify", operators.Certify(task_id="certify", **self._known)

    def execute(self, name: str, task: Any) -> None:
        self.part = self.instance.task_id = name
        self.task = task
        if name == "verify_access" and self._knows_facts(task):
            return
        # Airflow tries again what may pass; one try more is enough to see that it did.
        for left in (1, 0):
            try:
                value = self._once(name, task)
            except TransientError:
                if not left:
                    raise
            else:
                break
        self.instance.xcom_push("return_value", value)
        if name == "verify_access":
            self.chain._facts[self.beamtime.protocol] = value

    def _knows_facts(self, task: Any) -> bool:
        """The probe sees the same each time: it looks once, and is the same record of each run."""
        facts = self.chain._facts.get(self.beamtime.protocol)
        if facts is None:
            return False
        with task.rds() as session:
            task.records(self.context).write(session, "facts", facts)
        return True

    def _once(self, name: str, task: Any) -> Any:
        call, event = task.execute, {}
        arguments: dict[str, Any] = {}
        while True:
            try:
                return call(self.context, **event, **arguments)
            except TaskDeferred as deferred:
                code = self._wait(name, task, deferred.trigger)
                call = getattr(task, deferred.method_name)
                arguments = dict(deferred.kwargs or {})
                event = {"event": {"exit_code": code, "done": True, "status": "success", "message": ""}}

    def _wait(self, name: str, task: Any, trigger: Any) -> int:
        """Wait for a job as the triggerer does, looking at its folder first."""
        folder = self.chain.servers.home / trigger.job.folder
        began, asked = time.monotonic(), time.monotonic()
        while time.monotonic() - began < RUN_SECONDS:
            self._strike(name, task, folder, time.monotonic() - began)
            with suppress(OSError, ValueError):
                return int((folder / "exit_code").read_text())
            if time.monotonic() - asked > 0.5:
                with task.rds() as session:
                    done = session.run(trigger.job.verb("status"), timeout=30)
                if json.loads(done.stdout)["state"] != "running":
                    return 137
                asked = time.monotonic()
            time.sleep(0.01)
        raise AssertionError(f"the job {shlex.quote(str(folder))} did not end in {RUN_SECONDS} s")

    def _strike(self, name: str, task: Any, folder: Path, passed: float) -> None:
        kill = self.kill
        if kill is None or kill.done or kill.part != name or passed < kill.after:
            return
        kill.done = True
        if kill.what == "stop":
            with task.rds() as session:
                session.run(_stop(task), timeout=60)
        elif kill.what == "folder":
            shutil.rmtree(self.chain.jobs(self.beamtime), ignore_errors=True)
        else:
            self._kill_processes(kill.what, folder)
        if not kill.again:
            raise Interrupted

    def _kill_processes(self, what: str, folder: Path) -> None:
        with suppress(OSError, ValueError, IndexError):
            leader = int((folder / "pid").read_text().split()[0])
            if leader > 1 and what == "leader":
                os.kill(leader, signal.SIGKILL)
            elif leader > 1:
                for process in self.chain.processes(self.beamtime):
                    with suppress(OSError, psutil.Error):
                        if os.getpgid(process.pid) == leader and (what == "all" or process.name() in _TOOLS):
                            process.kill()

    def said(self) -> Said:
        """Read what the run came to: its verdict, and the certificate beside the data, which must say the same."""
        with self.task.rds() as session:
            verdict = Verdict.model_validate(
                self.task.records(self.context).read(session, "verdict"), strict=False
            )
        certificate = Path(f"{self.beamtime.destination_path(self.site)}.certificate") / "certificate.txt"
        verified = verdict.outcome is Outcome.VERIFIED
        if certificate.read_text().startswith("VERIFIED") != verified:
            raise AssertionError(f"certificate and verdict do not agree: {verdict.sentence}")
        return Said(
            verified,
            verdict.level,
            frozenset(item.path for item in verdict.named if item.kind.value in {"content", "unstable"}),
            tuple((item.kind.value, item.path) for item in verdict.named),
            self._sampled(verdict),
            self._window(),
            verdict.sentence,
        )

    def _sampled(self, verdict: Verdict) -> frozenset[bytes]:
        lists = self.chain.jobs(self.beamtime) / "work" / "verify"
        paths = frozenset((lists / "sampled").read_bytes().split(b"\0")[:-1])
        counted = verdict.sampled_files + verdict.again_files
        if len(paths) != counted:
            raise AssertionError(f"{len(paths)} files are named as compared, {counted} are counted")
        return paths

    def _window(self) -> int:
        """Times of FTP and SFTP are exact within a second; rsync's are the source's own."""
        result = json.loads((self.chain.jobs(self.beamtime) / "verify" / "result.json").read_text())
        return int(result.get("modify_window", 0))


def _stop(task: Any) -> tuple[str, ...]:
    """Return the command by which a task that a person stops has its job stopped."""
    return tuple(task.job.stop())


def shown(path: bytes) -> str:
    """Return a path as verdicts and certificates name it."""
    return safe(os.fsdecode(path))


def site_of(share: Path) -> Site:
    """Return the group's own side."""
    return Site(destination_root=str(share))
