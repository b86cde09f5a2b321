"""The DAGs of the alerts: the daily one waits until anything is due, another sends again what could not be sent."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG, Asset, Param

from beamferry.airflow import alerting, policy
from beamferry.airflow.state import asset
from beamferry.watch import AGAIN_DAG, ALERTS_DAG

if TYPE_CHECKING:
    from beamferry.beamtime import Site
    from beamferry.registry import Registry

REHEARSAL_ID = "deadlines_rehearsal"
# Late enough for a night's transfers to have told how far they are, early enough for the same day's action.
_MORNING = "0 7 * * *"
# Day and night, and not in the minutes in which the daily one looks.
_AGAIN = "10,40 * * * *"
# Until the evening: what becomes due during the day, e.g. after a failure, is told on the same day.
_WATCH = timedelta(hours=12)


def deadlines_dag(registry: Registry, site: Site) -> DAG:
    """Return the DAG that tells people of deadlines before they pass."""
    with DAG(
        ALERTS_DAG,
        description="Mails who has to know of a deadline, every morning",
        doc_md=_DOC,
        schedule=_MORNING,
        is_paused_upon_creation=False,
        **_shared(site),
    ) as dag:
        _chain(registry, site)
    return dag


def rehearsal_dag(registry: Registry, site: Site) -> DAG:
    """Return the DAG that shows what a morning would bring; a DAG of its own, as the daily one may be waiting."""
    with DAG(
        REHEARSAL_ID,
        description="Mails what the morning of a day would bring, marked as a rehearsal",
        doc_md=_REHEARSAL_DOC,
        schedule=None,
        params={
            "as_of": Param(
                type="string",
                format="date",
                title="Day",
                description="The mails of its morning are sent, marked as a rehearsal; nobody counts as told.",
            )
        },
        is_paused_upon_creation=False,
        **_shared(site),
    ) as dag:
        _chain(registry, site)
    return dag


def again_dag(registry: Registry, site: Site) -> DAG:
    """Return the DAG that tells on the same day what a task could not tell at once."""
    shared = _shared(site)
    with DAG(
        AGAIN_DAG,
        description="Mails again, on the same day, what could not be mailed at once",
        doc_md=_AGAIN_DOC,
        schedule=_AGAIN,
        is_paused_upon_creation=False,
        # The next run is the next try.
        **(shared | {"default_args": {"retries": 0}}),
    ) as dag:
        alerting.MailsAgain(task_id="send_again", registry=registry, site=site, inlets=_inlets(registry))
    return dag


def _shared(site: Site) -> dict[str, Any]:
    return {
        "start_date": pendulum.datetime(2021, 1, 1, tz=site.time_zone),
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["alerts"],
        "default_args": policy.retrying(alerting.RETRIES, alerting.RETRY_DELAY, alerting.MAX_RETRY_DELAY),
    }


def _inlets(registry: Registry) -> list[Asset]:
    """Return the assets whose state the tasks use; as inlets they open it."""
    memory = Asset(name=alerting.ALERTS_ASSET, uri=f"x-beamferry:{alerting.ALERTS_ASSET}", group="beamferry")
    return [memory, *(asset(one) for one in registry.beamtimes if not one.archived)]


def _chain(registry: Registry, site: Site) -> None:
    inlets = _inlets(registry)
    due = alerting.AlertsDue(
        task_id="alerts_due",
        registry=registry,
        site=site,
        inlets=inlets,
        mode="reschedule",
        poke_interval=alerting.LOOK_SECONDS,
        timeout=_WATCH,
        soft_fail=True,
    )
    due >> alerting.SendDigests(task_id="send_digests", registry=registry, site=site, inlets=inlets)


_DOC = """
Looks every morning at what is known of each beamtime. When anybody has to be told of anything, `send_digests` mails
one digest to each person, the most urgent first; while nobody has, `alerts_due` waits until the evening and proves
every quarter of an hour that the mail server answers.
"""

_AGAIN_DOC = """
A failure, a wanted log-in and a certificate are mailed at once by the task that has them. Where the mail server took no
mail then, this sends it, twice an hour. Mostly there is nothing to do, and it ends at once.
"""

_REHEARSAL_DOC = """
Trigger this with a day to see what its morning would bring: the mails come marked as a rehearsal, and nobody counts as
told. A rehearsal remembers what it sent, so that days rehearsed one after the other come as they would in earnest.
"""
