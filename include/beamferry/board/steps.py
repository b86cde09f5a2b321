"""What a person does next about a beamtime, and why; the first of these that is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.alerts import Kind
from beamferry.board.answers import NextStep, State, Step
from beamferry.outlook import next_run, outlook
from beamferry.plan import sentence

if TYPE_CHECKING:
    from beamferry.board.case import Case, May, Paths


def next_step(case: Case, paths: Paths, may: May) -> NextStep:
    """Return what a person does next; ``allowed`` says whether Airflow would let this user.

    Args:
        case: the beamtime.
        paths: where things are in the web interface.
        may: what Airflow would let the user do.
    """
    return (
        _not_there(case)
        or _approval(case, paths, may)
        or _certificate(case, paths)
        or _log_in(case)
        or _at_rest(case, paths, may)
        or _under_way(case)
        or _start(case, paths, may)
    )


def _not_there(case: Case) -> NextStep | None:
    if case.seen.paused is not None:
        return None
    return NextStep(
        kind=Step.FIX,
        label="See Airflow's home page",
        sentence="Its DAG comes within a minute of the entry; if it stays away, Airflow's import errors say why.",
        url="/",
        allowed=True,
    )


def _approval(case: Case, paths: Paths, may: May) -> NextStep | None:
    if not case.seen.approval:
        return None
    plan = case.known.plan
    figures = f" {sentence(plan)}" if plan is not None else ""
    return NextStep(
        kind=Step.APPROVE,
        label="See the plan and answer",
        sentence=f"The run stopped before any data moves, and asks you.{figures}",
        url=paths.approval,
        allowed=may.approve,
    )


def _certificate(case: Case, paths: Paths) -> NextStep | None:
    if case.state is not State.SAFE:
        return None
    issued = case.known.certificate
    if issued is None:
        return NextStep(kind=Step.NONE, label="", sentence="Nothing: its certificate comes with the run.")
    return NextStep(
        kind=Step.CERTIFICATE,
        label="See the certificate",
        sentence=f"Nothing is to be done. The certificate is on RDS, in {issued.folder}.",
        url=paths.beamtime,
        allowed=True,
    )


def _log_in(case: Case) -> NextStep | None:
    if case.known.log_in is None:
        return None
    return NextStep(
        kind=Step.LOG_IN,
        label="Log in",
        sentence=f"{case.beamtime.host} asks for a second factor, which only a person can give. On RDS-SSH type this.",
        command=case.known.log_in.command,
        allowed=True,
    )


def _at_rest(case: Case, paths: Paths, may: May) -> NextStep | None:
    """Return what keeps the next run from beginning or from doing better than the last."""
    if case.seen.under_way:
        return None
    pressing, trouble = case.pressing, case.trouble
    if trouble is not None:
        remedy = f"{trouble.remedy[:1].upper()}{trouble.remedy[1:]}"
        # What is written anew by a run needs that run and nothing else.
        said = remedy if trouble.code == "state-unreadable" else f"{remedy}; then start a run"
        return NextStep(
            kind=Step.FIX,
            label="Then start a run",
            sentence=f"{said}.",
            url=paths.dag,
            allowed=may.trigger,
        )
    if pressing is not None and pressing.kind is Kind.REGISTRATION:
        return NextStep(
            kind=Step.FIX,
            label="Then start a run",
            sentence=pressing.todo,
            url=paths.dag,
            allowed=may.trigger,
        )
    if case.seen.paused:
        return NextStep(
            kind=Step.FIX,
            label="Open it in Airflow",
            sentence="Its DAG is paused, so no run begins: switch it on at the top of its page.",
            url=paths.dag,
            allowed=may.unpause,
        )
    return None


def _under_way(case: Case) -> NextStep | None:
    run = case.seen.run
    if run is None or not case.seen.under_way:
        return None
    pressing = case.pressing or next((alert for alert in case.alerts if alert.kind is Kind.FORECAST), None)
    if pressing is not None and case.state in {State.LATE, State.ACTION}:
        return NextStep(kind=Step.FIX, label="See the run", sentence=pressing.todo, url=run.url, allowed=True)
    said = outlook(case.beamtime, case.site, case.known, case.now)
    if case.waits_again is not None:
        why = f"Nothing: {case.waits_again.problem}; this is {case.again}."
        return NextStep(kind=Step.NONE, label="", sentence=f"{why} {said}".strip())
    return NextStep(kind=Step.NONE, label="", sentence=f"Nothing: a run is under way. {said}".strip())


def _start(case: Case, paths: Paths, may: May) -> NextStep:
    """Return that a run is to be started, unless the next nightly one is soon enough."""
    known, first = case.known, next(iter(case.alerts), None)
    if first is not None and first.kind is Kind.NEW_DATA:
        return NextStep(kind=Step.NONE, label="", sentence=f"{first.detail} {first.todo}")
    if first is not None:
        said = first.todo
    elif case.asked_back:
        said = "When the facility says that the data is back on disk, start a run."
    elif known.plan is None:
        begins = next_run(case.beamtime, case.site, case.now)
        by_itself = f"A run begins by itself {begins}; start" if begins else "Start"
        said = f"{by_itself} one now to know at once how much there is."
    else:
        ahead = outlook(case.beamtime, case.site, known, case.now)
        return NextStep(
            kind=Step.NONE, label="", sentence=f"Nothing: the nightly runs go on. {ahead}".strip()
        )
    return NextStep(
        kind=Step.TRIGGER,
        label="Verify the copy" if known.all_fetched else "Start the transfer",
        sentence=said,
        url=paths.dag,
        allowed=may.trigger,
    )
