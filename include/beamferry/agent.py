"""Requests to the agent on RDS-SSH, and what becomes of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.connection import RDS_SSH
from beamferry.errors import PermanentError, TransientError
from beamferry.remote import agent_command
from beamferry.remote.refused import refused
from beamferry_agent.answers import Comparison

if TYPE_CHECKING:
    from beamferry.remote import Completed, Question, Session
    from beamferry_agent.answers import AccountRequest, ComparisonRequest, PublicationRequest
    from beamferry_agent.probe_request import ProbeRequest

    Request = AccountRequest | ComparisonRequest | ProbeRequest | PublicationRequest

# Three million differing entries take half a minute; the answer comes at the end.
COMPARE_TIMEOUT = 600
PUBLISH_TIMEOUT = 60
_FULL, _DAMAGED, _NO_SCRATCH, _FOREIGN, _NO_LOCKS, _NO_PLACE, _NO_JOB, _MISSING_TOOL = (
    11,
    65,
    69,
    70,
    71,
    73,
    75,
    77,
)


def compare(session: Session, request: ComparisonRequest) -> Comparison:
    """Return what differs between two ends whose censuses are on RDS-SSH.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: the lists there are damaged, or the answer was cut.
    """
    return read_comparison(ask(session, "compare", request, timeout=COMPARE_TIMEOUT))


def ask(session: Session, verb: str, request: Request, *, timeout: float, host: str = RDS_SSH) -> str:
    """Return what the agent answers on a host; ``timeout`` in seconds without any output.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: the lists there are damaged, or nothing came back in time.
    """
    done = session.run(agent_command(verb), timeout=timeout, request=request.to_json())
    return answer(done, host)


def ask_job(session: Session, question: Question, *, timeout: float, host: str = RDS_SSH) -> str:
    """Return what the agent answers to a question about a job; ``timeout`` in seconds without any output.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: it cannot be done now, or nothing came back in time.
    """
    return answer(session.run(question.command, timeout=timeout, request=question.request), host)


def answer(done: Completed, host: str = RDS_SSH) -> str:
    """Return what the agent printed on a host.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: the lists there are damaged.
    """
    if done.exit_code == 0:
        return done.stdout
    reason = done.stderr.strip()[-300:] or "no reason given"
    if done.exit_code == _MISSING_TOOL:
        raise PermanentError(
            "agent-no-python",
            f"{host} has no Python that can run Beamferry's program there ({reason})",
            f"ask Research IT for python3, version 3.6 or later, on {host}",
        )
    if done.exit_code == _DAMAGED:
        raise damaged(reason.removeprefix("agent: "))
    if done.exit_code == _FULL:
        raise PermanentError(
            "rds-full",
            f"RDS is full: {reason.removeprefix('agent: ')}",
            "make room there, or ask Research IT for more, then start the run again",
        )
    if done.exit_code in {_FOREIGN, _NO_PLACE}:
        raise PermanentError(
            "place-refused",
            f"Nothing is written on {host}: {reason.removeprefix('agent: ')}",
            "ask its owner or Research IT what it is; once it is moved away, or the account's alone, start again",
        )
    last = reason.splitlines()[-1]
    if done.exit_code == _NO_SCRATCH:
        raise PermanentError(
            "rds-tmp-refused",
            f"The folder for temporary files on {host} cannot be used: {last.removeprefix('agent: ')}",
            "make room there, or ask Research IT to; the account's TMPDIR may name another folder",
        )
    if known := refused("Beamferry's program failed", last, host):
        raise known
    if done.exit_code == _NO_LOCKS:
        raise TransientError(
            "rds-home-no-locks",
            f"The home folder on {host} gives no locks: {last.removeprefix('agent: ')}",
            "this is tried again; if it stays, ask Research IT for a home folder with locks (flock): without them "
            "two jobs could write to one destination",
        )
    if done.exit_code == _NO_JOB:
        raise TransientError(
            "job-not-possible",
            f"{host} did not do what was asked of a job: {last.removeprefix('agent: ')}",
            "this is tried again; if it stays, do there what the sentence says",
        )
    raise PermanentError(
        "agent-failed",
        f"Beamferry's program on {host} ended with code {done.exit_code} ({last})",
        "see that the home folder there is not full; else this is a fault of Beamferry",
    )


def publish(session: Session, request: PublicationRequest) -> None:
    """Have files for people written beside the data on RDS.

    Raises:
        PermanentError: their folder is not the account's alone, or cannot be written to.
        TransientError: nothing came back in time.
    """
    ask(session, "publish", request, timeout=PUBLISH_TIMEOUT)


def read_comparison(text: str) -> Comparison:
    """Return the answer to a request to compare.

    Raises:
        TransientError: the answer was cut, or is none.
    """
    try:
        return Comparison.from_json(text)
    except ValueError as error:
        raise damaged(f"the answer is not one ({error})") from error


def damaged(reason: str) -> TransientError:
    """Return the error of lists that cannot be what was found: nothing is concluded from them."""
    return TransientError(
        "differences-damaged",
        f"What was compared cannot be read in whole: {reason}",
        "this is tried again; if it stays, start a run in mode 'verify only'",
    )
