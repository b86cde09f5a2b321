"""What the board's API answers: frozen models, one for all beamtimes and one for a single one."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime

from beamferry.beamtime import Frozen, Level
from beamferry.differences import Difference
from beamferry.verification import Outcome


class State(StrEnum):
    """How a beamtime is, the most urgent first; colour, symbol and words of the page follow it."""

    OVERDUE = "overdue"
    LATE = "late"
    ACTION = "action"
    MOVING = "moving"
    NEW_DATA = "new_data"
    WAITING = "waiting"
    SAFE = "safe"


class Step(StrEnum):
    """What a person does next."""

    TRIGGER = "trigger"
    APPROVE = "approve"
    LOG_IN = "log_in"
    FIX = "fix"
    CERTIFICATE = "certificate"
    NONE = "none"


class Verification(Frozen):
    """The last comparison of both ends."""

    level: Level
    outcome: Outcome
    at: AwareDatetime
    sentence: str


class Trouble(Frozen):
    """What stopped the last run; ``run_id`` and ``task`` are empty where it is not about a run."""

    code: str
    problem: str
    remedy: str
    run_id: str
    task: str


class NextStep(Frozen):
    """What a person does next and why.

    Args:
        kind: chooses the button; none has no button.
        label: of the button.
        sentence: why, and what.
        url: path in Airflow's web interface, None where the step is elsewhere.
        command: what to type, None where there is nothing to type.
        allowed: whether Airflow would let this user do it.
    """

    kind: Step
    label: str
    sentence: str
    url: str | None = None
    command: str | None = None
    allowed: bool = False


class Started(Frozen):
    """A run of the beamtime's DAG; ``state`` in Airflow's words."""

    run_id: str
    state: str
    url: str
    start: AwareDatetime | None
    end: AwareDatetime | None
    mode: str


class Urls(Frozen):
    """Paths in Airflow's web interface; that of the certificate is the API's own, None while no text is kept."""

    dag: str
    beamtime: str
    run: str | None
    certificate: str | None


class Row(Frozen):
    """One beamtime on the board; bytes, counts, bytes per second, UTC; None where a thing is not known."""

    key: str
    dag_id: str
    id: str
    facility: str
    facility_name: str
    instrument: str
    title: str | None
    pi: str | None
    ended: date
    tape_day: date
    days_left: int
    retention_days: int
    state: State
    headline: str
    bytes_done: int | None
    bytes_total: int | None
    files_done: int | None
    files_total: int | None
    rate: int | None
    ends_at: AwareDatetime | None
    forecast: str | None
    verification: Verification | None
    last_sync: AwareDatetime | None
    problem: Trouble | None
    next_step: NextStep
    run: Started | None
    urls: Urls


class Alerts(Frozen):
    """Whether the alerts are alive."""

    ran_at: AwareDatetime | None
    ok: bool
    sentence: str


class RegistryProblem(Frozen):
    """One thing to correct in the registry."""

    place: str
    sentence: str
    remedy: str


class Flaws(Frozen):
    """What keeps entries of the registry from being beamtimes; ``hidden`` counts what this user may not read."""

    problems: tuple[RegistryProblem, ...]
    hidden: int


class Space(Frozen):
    """Room on RDS when a dry run last looked."""

    bytes_free: int | None
    seen_at: AwareDatetime | None
    sentence: str


class Zone(Frozen):
    """The group's own side, as far as texts need it."""

    time_zone: str


class Board(Frozen):
    """All beamtimes that a user may read, most urgent first."""

    schema_version: Literal[1] = 1
    now: AwareDatetime
    site: Zone
    alerts: Alerts
    registry: Flaws
    space: Space
    beamtimes: tuple[Row, ...]


class Folder(Frozen):
    """A folder of the source."""

    name: str
    bytes: int
    files: int


class Count(Frozen):
    """How many entries differ in one way, as a number and as a clause."""

    kind: Difference
    count: int
    text: str


class Differences(Frozen):
    """What the last comparison found; ``examples`` are a few of them, names made safe to show."""

    counts: tuple[Count, ...]
    examples: tuple[str, ...]


class Certificate(Frozen):
    """The last certificate; ``text`` is None where Airflow does not keep it: it is in ``folder`` on RDS."""

    text: str | None
    issued_at: AwareDatetime
    outcome: Outcome
    folder: str


class Command(Frozen):
    """A command line that a person can run."""

    title: str
    text: str


class Page(Row):
    """One beamtime in full.

    Args:
        now: when this was reckoned.
        site: the group's own side.
        deadline_at: when the tape day begins.
        streams: connections of the last plan.
        left: seconds since the epoch and bytes left to fetch then, over all runs.
        rates: seconds since the epoch and bytes per second since the moment before.
        folders: of the source, None where no dry run counts them one by one.
        runs: newest first.
        differences: None where nothing was compared yet.
        certificate: None where none was written.
        commands: in the order of a run.
    """

    now: AwareDatetime
    site: Zone
    deadline_at: AwareDatetime
    streams: int | None
    left: tuple[tuple[int, int], ...]
    rates: tuple[tuple[int, int], ...]
    folders: tuple[Folder, ...] | None
    runs: tuple[Started, ...]
    differences: Differences | None
    certificate: Certificate | None
    commands: tuple[Command, ...]
