"""When a task runs, when it is tried again, and how much runs at once."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.common.compat.sdk import conf
from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from beamferry.airflow.params import Mode
from beamferry.errors import PermanentError, TransientError
from beamferry.forecast import nightly_at

if TYPE_CHECKING:
    from datetime import date, datetime

# One pool for all that loads RDS-SSH; deferred tasks count, since their jobs are what loads it.
POOL = "rds_ssh"

# Six tries with delays doubling from one minute to half an hour outlast a reboot of RDS-SSH; what takes longer
# is taken up by the next night's run, which resumes where this one ended.
RETRIES = 6
RETRY_DELAY = timedelta(seconds=conf.getint("beamferry", "retry_delay_seconds", fallback=60))
MAX_RETRY_DELAY = timedelta(minutes=30)
POLL_SECONDS = conf.getint("beamferry", "poll_seconds", fallback=5)
# Most jobs that have nothing to do end within this time; a worker is held no longer for one that goes on.
WAIT_SECONDS = conf.getint("beamferry", "wait_seconds", fallback=15)

RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="a person has to act first"),
        RetryRule(exception=TransientError, action=RetryAction.DEFAULT),
    ]
)

# Constant, so that parsing again makes no new version of a DAG; nothing is ever caught up from it.
START = pendulum.datetime(2021, 1, 1, tz="UTC")


def retrying(retries: int, delay: timedelta, longest: timedelta) -> dict[str, Any]:
    """Return the default arguments of tasks that are tried again, after a delay that doubles up to the longest."""
    return {
        "retries": retries,
        "retry_delay": delay,
        "retry_exponential_backoff": 2,
        "max_retry_delay": longest,
        "retry_policy": RETRY_POLICY,
    }


# What each mode of a run leaves out. The tasks of a DAG stay the same for all modes: a task that vanished from
# a DAG would let its run succeed without it.
_LEFT_OUT = {
    Mode.SYNC: frozenset[str](),
    Mode.DRY_RUN: frozenset({"approve", "transfer", "verify_sizes", "certify"}),
    Mode.VERIFY: frozenset({"dry_run", "parse_totals", "approve", "transfer"}),
}


def skip_reason(task_id: str, *, mode: Mode, scheduled: bool, now: datetime, tape_day: date) -> str | None:
    """Return why a task does not run this time, or None when it does.

    The nightly run ends with the tape day. A run that a person starts goes ahead after it too: data comes back
    from tape. (An ``end_date`` on the DAG would leave that person's run waiting for ever without a word.)
    """
    if scheduled and now.date() > tape_day:
        return f"the nightly runs of this beamtime ended with its tape day, {tape_day}; start one by hand"
    if task_id in _LEFT_OUT[mode]:
        return f"not part of a run in mode '{mode}'"
    return None


def nightly(key: str) -> str:
    """Return a cron expression between 22:00 and 05:59 UTC, always the same for a beamtime, spread over all."""
    at = nightly_at(key)
    return f"{at.minute} {at.hour} * * *"
