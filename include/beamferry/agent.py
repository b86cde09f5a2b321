"""Requests to the agent on RDS-SSH, and what becomes of its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.errors import PermanentError, TransientError
from beamferry.remote import agent_command
from beamferry_agent.answers import Comparison

if TYPE_CHECKING:
    from beamferry.remote import Completed, Session
    from beamferry_agent.answers import ComparisonRequest

# Three million differing entries take half a minute; the answer comes at the end.
COMPARE_TIMEOUT = 600
_BROKEN, _MISSING_TOOL = 65, 77


def compare(session: Session, request: ComparisonRequest) -> Comparison:
    """Return what differs between two ends whose censuses are on RDS-SSH.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: the lists there are damaged, or the answer was cut.
    """
    done = session.run(agent_command("compare"), timeout=COMPARE_TIMEOUT, request=request.to_json())
    return read_comparison(done)


def read_comparison(done: Completed) -> Comparison:
    """Return the answer to a request to compare.

    Raises:
        PermanentError: the agent cannot run there.
        TransientError: the lists there are damaged, or the answer was cut.
    """
    reason = done.stderr.strip()[-300:] or "no reason given"
    if done.exit_code == _MISSING_TOOL:
        raise PermanentError(
            "rds-ssh-no-python",
            f"RDS-SSH has no Python that can compare both ends ({reason})",
            "ask Research IT for python3, version 3.6 or later, on RDS-SSH",
        )
    if done.exit_code == _BROKEN:
        raise damaged(reason.removeprefix("agent: "))
    if done.exit_code != 0:
        raise PermanentError(
            "agent-failed",
            f"The comparison on RDS-SSH ended with code {done.exit_code} ({reason.splitlines()[-1]})",
            "see that the home folder on RDS-SSH is not full; else this is a fault of Beamferry",
        )
    try:
        return Comparison.from_json(done.stdout)
    except ValueError as error:
        raise damaged(f"the answer is not one ({error})") from error


def damaged(reason: str) -> TransientError:
    """Return the error of lists that cannot be what was found: nothing is concluded from them."""
    return TransientError(
        "differences-damaged",
        f"What was compared cannot be read in whole: {reason}",
        "this is tried again; if it stays, start a run in mode 'verify only'",
    )
