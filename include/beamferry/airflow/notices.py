"""Mails that cannot wait for the morning: a run failed, a beamtime is home, somebody has to log in."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from beamferry import mail
from beamferry.airflow.alerting import keeper, link
from beamferry.airflow.post import Post
from beamferry.airflow.state import BeamtimeState
from beamferry.airflow.task import BeamtimeTask
from beamferry.alerts import Kind, RecipientRefusedError
from beamferry.digest import Watched, in_words, item, settle
from beamferry.errors import BeamferryError, PermanentError, TransientError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from beamferry.beamtime import Beamtime, Site

_AT_ONCE = {Kind.PROBLEM, Kind.LOG_IN, Kind.CERTIFICATE}
_log = logging.getLogger(__name__)


def tell(beamtime: Beamtime, site: Site) -> int:
    """Mail what cannot wait to everybody who was not told yet; returns how many mails the server took.

    A mail server that refuses is no reason for a task to fail: ``mails_again`` tells the same day what this could not.
    """
    state, sent, now = BeamtimeState(beamtime.asset_name), 0, datetime.now(UTC)
    at = in_words(now, site)
    watched = Watched(beamtime, state.known(), state.ledger("alerts"), link(beamtime))
    for recipient in watched.recipients(site):
        for alert in watched.outstanding(site, recipient, now):
            if alert.kind not in _AT_ONCE:
                continue
            message = mail.notice(recipient, item(watched, site, (alert,), now), at)
            try:
                (watched,) = settle(
                    [(watched, (alert,))],
                    recipient,
                    now,
                    keep=keeper("alerts"),
                    send=partial(Post(site).send, message),
                )
            except RecipientRefusedError as error:
                # What became of it is in the ledger; the next person may well be told.
                _log.warning("%s was not told: %s", recipient, error)
                watched = replace(watched, ledger=state.ledger("alerts"))
                break
            except BeamferryError as error:
                _log.warning("%s was not told yet, it is tried again within the hour: %s", recipient, error)
                return sent
            sent += 1
    return sent


def after_failure(context: Context) -> None:
    """Record a failure that no task could put into words, and tell; Airflow calls this after the last try."""
    if _seen_from_outside(context):
        return
    task = _task(context)
    if not task.is_of(task.state.known("problem").problem, context):
        error = PermanentError(
            "task-failed",
            _unnamed(task, context),
            "read the end of its log in Airflow; if it names nothing of yours, start a run in mode sync",
        )
        task.record(error, context)
    tell(task.beamtime, task.site)


def after_retry(context: Context) -> None:
    """Record why a try ended where no task could put it into words; Airflow calls this before it tries again."""
    if _seen_from_outside(context):
        return
    task = _task(context)
    if not task.is_of(task.state.known("retry").retry, context):
        error = TransientError("task-failed", _unnamed(task, context), "this is tried again")
        task.record_retry(error, context)


def after_success(context: Context) -> None:
    """Forget what a task had failed of; Airflow calls this when it succeeded."""
    _task(context).heal()


def _seen_from_outside(context: Context) -> bool:
    """Say whether Airflow's scheduler alone saw the end, as of a worker that was killed; the board tells that.

    Airflow then calls in its DAG processor, which gives nobody an asset's state: asking for it there gets no answer,
    and keeps all DAGs from being read for a minute.
    """
    if context.get("exception") is not None:
        return False
    _log.warning("A try ended without a word, e.g. because its worker was killed: %s", context["ti"].task_id)
    return True


def _unnamed(task: BeamtimeTask, context: Context) -> str:
    reason = type(context.get("exception")).__name__
    return f"The task {task.task_id} failed for a reason that it could not name ({reason})"


def after_certificate(context: Context) -> None:
    """Tell that a beamtime is home; Airflow calls this after the certificate is written."""
    task = _task(context)
    tell(task.beamtime, task.site)


def _task(context: Context) -> BeamtimeTask:
    task = context["task"]
    if not isinstance(task, BeamtimeTask):
        raise TypeError(f"{task.task_id} is no task of a beamtime")
    return task
