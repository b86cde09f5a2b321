"""One run of a beamtime's DAG, task by task, and what is killed in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
from airflow.sdk.exceptions import TaskDeferred
from stand_ins import Instance

from beamferry.agent import ask_job
from beamferry.airflow import operators
from beamferry.airflow.verify_access import VerifyAccess
from beamferry.errors import TransientError
from beamferry.verification import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks import Chain

    from beamferry.beamtime import Beamtime, Level, Site
    from beamferry.remote import Question

# A machine that is busy with other things may take its time.
RUN_SECONDS = 600


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


class OneRun:
    """One run: its context, and how far it is."""

    def __init__(self, chain: Chain, beamtime: Beamtime, site: Site, run_id: str, kill: Kill | None) -> None:
        self.chain, self.beamtime, self.site, self.kill = chain, beamtime, site, kill
        self.part = ""
        self.instance = Instance(run_id)
        now = datetime.now(UTC)
        self.context: Any = {
            "run_id": run_id,
            "ti": self.instance,
            "dag_run": SimpleNamespace(run_type="manual", run_id=run_id, start_date=now, logical_date=now),
        }
        self._known = {"beamtime": beamtime, "site": site}

    def tasks(self, mode: str, order: Callable[[list[str]], list[str]]) -> Iterator[tuple[str, Any]]:
        yield "verify_access", VerifyAccess(task_id="verify_access", **self._known)
        if mode == "sync":
            yield "dry_run", operators.DryRun(task_id="dry_run", **self._known)
            yield "parse_totals", operators.ParseTotals(task_id="parse_totals", **self._known)
            folders = self.instance.xcom_pull("parse_totals")
            # Airflow numbers the folders as they are listed, and begins with any.
            for folder in [None] if folders is None else order(list(folders)):
                self.instance.map_index = -1 if folders is None else folders.index(folder)
                yield "transfer", operators.Transfer(task_id="transfer", folder=folder, **self._known)
        self.instance.map_index = -1
        yield "verify_sizes", operators.VerifySizes(task_id="verify_sizes", **self._known)
        yield "certify", operators.Certify(task_id="certify", **self._known)

    def execute(self, name: str, task: Any) -> None:
        self.part = self.instance.task_id = name
        self.task = task
        if name == "verify_access" and self._knows_facts(task):
            return
        # Airflow tries again what may pass; one try more is enough to see that it did.
        for number in range(1, self.instance.max_tries + 2):
            self.instance.try_number = number
            try:
                value = self._once(name, task)
            except TransientError:
                if number > self.instance.max_tries:
                    raise
            else:
                break
        self.instance.xcom_push("return_value", value)
        if name == "verify_access":
            self.chain.facts[self.beamtime.protocol] = value

    def _knows_facts(self, task: Any) -> bool:
        """The probe sees the same each time: it looks once, and is the same record of each run."""
        facts = self.chain.facts.get(self.beamtime.protocol)
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
                    said = ask_job(session, trigger.job.verb("status"), timeout=30)
                if json.loads(said)["state"] != "running":
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
                ask_job(session, _stop(task), timeout=60)
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


def _stop(task: Any) -> Question:
    """Return the question by which a task that a person stops has its job stopped."""
    question: Question = task.job.stop()
    return question
