"""The demonstration: the lab, Airflow, and a beamtime of each facility brought home before your eyes."""

from __future__ import annotations

import json
import signal
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import httpx
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from beamferry.certificate import certificate_folder
from beamferry.errors import PermanentError
from beamferry.keeping import Keeper
from beamferry.lab.settings import VISIT
from beamferry.lab.visit import SINCE_VISIT
from beamferry.registry import load
from beamferry.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import date
    from types import FrameType

    from beamferry.beamtime import Beamtime, Site
    from beamferry.lab import Lab

DAG_ID = f"beamtime_diamond_{VISIT}"
# A demonstration should neither wait a minute for a second try nor poll as seldom as a week-long transfer.
QUICK = {"AIRFLOW__BEAMFERRY__POLL_SECONDS": "2", "AIRFLOW__BEAMFERRY__RETRY_DELAY_SECONDS": "5"}
_STEPS = ("verify_access", "dry_run", "parse_totals", "approve", "transfer", "verify_sizes", "certify")
_START_SECONDS = 180.0
# The repository, whose dags/ Airflow gets: the package runs from its source there.
REPOSITORY = Path(__file__).resolve().parents[2]
_RUN_SECONDS = 900.0
# A beamtime that is new begins to come home by itself, as last night's run is due; within this time it is seen.
_NEW_RUN_SECONDS = 20.0


def demonstrate(
    lab: Lab, make_stack: Callable[[Lab], Stack], *, size: str | None, once: bool, today: date
) -> bool:
    """Start both, run each beamtime once, show how it goes; returns whether all certificates say verified.

    Args:
        lab: the facility and the storage on this machine.
        make_stack: makes Airflow for the lab once that is up.
        size: of each beamtime, as the lab takes it.
        once: stop everything at the end instead of leaving it up until Ctrl-C.
        today: the day from which the beamtimes' end is counted back.
    """
    console = Console()
    stack: Stack | None = None
    signal.signal(signal.SIGTERM, _ask_to_end)
    try:
        console.print("[bold]1. The lab[/]: RDS-SSH, Diamond, DESY and a mail server on this machine")
        lab.up(size, ended=today - SINCE_VISIT, desy=True)
        console.print(
            "\n".join(f"   {line}" for line in lab.status()), highlight=False, markup=False, soft_wrap=True
        )
        console.print("[bold]2. Airflow[/]: starting, this takes about half a minute")
        stack = make_stack(lab)
        stack.start()
        stack.wait_healthy(_START_SECONDS)
        keeper = _keeper(stack, console)
        site, beamtimes = _entries(lab)
        verified = True
        for number, beamtime in enumerate(beamtimes, start=3):
            where = f"{beamtime.id}[/] on {beamtime.instrument} at {beamtime.facility_name}"
            console.print(f"[bold]{number}. The beamtime {where}: {stack.url}/dags/{beamtime.dag_id}")
            state = _run(stack, keeper, console, beamtime)
            verified = _show_certificate(lab, console, state, beamtime.destination_path(site)) and verified
        if not once:
            _stay(keeper, lab, console)
        return verified
    finally:
        if stack is not None:
            stack.stop()
        lab.down()


def _entries(lab: Lab) -> tuple[Site, tuple[Beamtime, ...]]:
    """Return what the lab's registry says."""
    registry = load(lab.registry)
    if registry.site is None or not registry.beamtimes or registry.problems:
        raise PermanentError("demo-registry", f"{lab.registry} is not valid", f"remove {lab.folder}")
    return registry.site, registry.beamtimes


def _run(stack: Stack, keeper: Keeper, console: Console, beamtime: Beamtime) -> str:
    """Trigger the DAG, show its steps and its progress, and return the state in which it ended."""
    dag, name = beamtime.dag_id, beamtime.asset_name
    _wait_for_dag(stack, dag)
    run = _run_to_follow(stack, dag)
    shown: set[str] = set()
    columns = (TextColumn("   {task.description:<14}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        line = bar.add_task("waiting", total=None)
        for state in _states(stack, keeper, dag, run):
            # A part that is being started again has nothing to show.
            with suppress(httpx.HTTPError):
                for task, shown_as, task_state in _tasks(stack, dag, run):
                    if (
                        task_state in {"success", "failed", "upstream_failed", "skipped"}
                        and shown_as not in shown
                    ):
                        shown.add(shown_as)
                        mark = {"success": "[green]✓[/]", "skipped": "-"}.get(task_state, "[red]✗[/]")
                        bar.console.print(f"   {mark} {shown_as}{_told(stack, name, task)}", highlight=False)
                progress = _known(stack, name).get("progress")
                if progress is not None and progress["run_id"] == run:
                    bar.update(
                        line,
                        description=progress["phase"],
                        completed=progress["bytes_done"],
                        total=progress["bytes_total"] or None,
                    )
            if state in {"success", "failed"}:
                return state
    raise PermanentError("demo-slow", f"The run did not end within {_RUN_SECONDS:.0f} s", f"see {stack.url}")


def _run_to_follow(stack: Stack, dag: str) -> str:
    """Return the run that Airflow begins by itself for a new beamtime, or else start one."""
    path, new = f"/dags/{dag}/dagRuns", time.monotonic() + _NEW_RUN_SECONDS
    while True:
        runs = stack.api("GET", f"{path}?order_by=-run_after&limit=1")["dag_runs"]
        if runs and runs[0]["state"] in {"queued", "running"}:
            return str(runs[0]["dag_run_id"])
        if runs or time.monotonic() > new:
            return str(stack.api("POST", path, {"logical_date": None})["dag_run_id"])
        time.sleep(0.5)


def _states(stack: Stack, keeper: Keeper, dag: str, run: str) -> Iterator[str]:
    end, state = time.monotonic() + _RUN_SECONDS, "unknown"
    while time.monotonic() < end:
        keeper.look()
        with suppress(httpx.HTTPError):
            state = str(stack.api("GET", f"/dags/{dag}/dagRuns/{run}")["state"])
        yield state
        time.sleep(1)


def _tasks(stack: Stack, dag: str, run: str) -> list[tuple[str, str, str]]:
    """Return task, name for people and state of each instance, in the chain's order."""
    found = stack.api("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
    named = [
        (
            task["task_id"],
            " ".join(filter(None, (task["task_id"], task["rendered_map_index"]))),
            task["state"],
        )
        for task in found
    ]
    return sorted(named, key=lambda task: (_STEPS.index(task[0]), task[1]))


def _known(stack: Stack, name: str) -> dict[str, dict[str, Any]]:
    """Return what Airflow knows of the beamtime: the values of its asset's state."""
    for asset in stack.api("GET", f"/assets?name_pattern={name}")["assets"]:
        stored = stack.api("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
        return {entry["key"]: entry["value"] for entry in stored}
    return {}


def _told(stack: Stack, name: str, task: str) -> str:
    """Return what a step found out, for those that leave a sentence."""
    known = _known(stack, name)
    if task == "parse_totals" and "plan" in known:
        plan = known["plan"]
        return f": {plan['todo_bytes']:,} bytes in {plan['todo_files']:,} files to move of {plan['bytes']:,}"
    if task == "verify_sizes" and "verification" in known:
        return f": {known['verification']['sentence']}"
    return ""


def _wait_for_dag(stack: Stack, wanted: str) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        if any(dag["dag_id"] == wanted for dag in stack.api("GET", "/dags?limit=100")["dags"]):
            return
        time.sleep(0.5)
    broken = [error["stack_trace"] for error in stack.api("GET", "/importErrors")["import_errors"]]
    reason = broken[0].strip().splitlines()[-1] if broken else "no reason given"
    raise PermanentError("demo-no-dag", f"Airflow does not show {wanted} ({reason})", "run beamferry check")


def _show_certificate(lab: Lab, console: Console, state: str, destination: str) -> bool:
    """Print the certificate and return whether it says verified."""
    folder = lab.on_rds(certificate_folder(destination))
    text = folder / "certificate.txt"
    if not text.exists():
        console.print(f"[red]The run ended as '{state}' and left no certificate.[/]")
        return False
    console.print()
    console.print(text.read_text(), highlight=False, markup=False, soft_wrap=True)
    outcome = json.loads((folder / "certificate.json").read_text())["outcome"]
    return bool(state == "success" and outcome == "verified")


def _stay(keeper: Keeper, lab: Lab, console: Console) -> None:
    """Leave everything up until Ctrl-C."""
    console.print(f"The data: {lab.destination.parents[3]}", highlight=False)
    _wait(keeper, console)


def _keeper(stack: Stack, console: Console) -> Keeper:
    """Return what starts again the parts that end, with a word on the terminal."""
    return Keeper(stack, lambda words: console.print(words, highlight=False, markup=False, soft_wrap=True))


def _wait(keeper: Keeper, console: Console) -> None:
    stack = keeper.stack
    console.print(f"[bold]Airflow[/]: {stack.url}  log-in: {stack.login}", highlight=False)
    console.print("Ctrl-C stops everything.")
    try:
        keeper.keep()
    except KeyboardInterrupt:
        console.print("Stopping.")


def run_until_interrupted(home: Path, port: int) -> None:
    """Run Airflow for the group's own registry until Ctrl-C."""
    console = Console()
    signal.signal(signal.SIGTERM, _ask_to_end)
    stack = own_stack(home, port)
    try:
        console.print("Airflow starts; this takes about half a minute.")
        stack.start()
        stack.wait_healthy(_START_SECONDS)
        _wait(_keeper(stack, console), console)
    finally:
        stack.stop()


def _ask_to_end(number: int, _frame: FrameType | None) -> None:
    """Let a TERM end this as Ctrl-C does, so that nothing is left running."""
    raise SystemExit(128 + number)


def own_stack(home: Path, port: int) -> Stack:
    """Return Airflow for the group's own registry."""
    return Stack(home=home, dags=REPOSITORY / "dags", port=port)


def lab_stack(lab: Lab) -> Stack:
    """Return Airflow for the lab's registry and connections; the lab has to be up before it starts."""
    return Stack(
        home=lab.folder / "airflow",
        dags=REPOSITORY / "dags",
        connections=lab.airflow_connections(),
        env={**QUICK, "BEAMFERRY_REGISTRY": str(lab.registry)},
    )


def today() -> date:
    """Return the day at the facility."""
    return datetime.now(ZoneInfo("Europe/London")).date()
