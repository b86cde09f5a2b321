"""The chain of one beamtime, the same tasks for every facility and every mode."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, TypedDict

from airflow.sdk import DAG, XComArg, chain

from beamferry.airflow import notices, operators, policy
from beamferry.airflow.params import form
from beamferry.airflow.state import asset
from beamferry.airflow.verify_access import VerifyAccess
from beamferry.beamtime import Transport
from beamferry.registry import Registry, load, registry_path

if TYPE_CHECKING:
    from pathlib import Path

    from airflow.sdk import Asset
    from airflow.sdk.definitions._internal.node import DAGNode

    from beamferry.beamtime import Beamtime, Site


class _Known(TypedDict):
    beamtime: Beamtime
    site: Site
    inlets: list[Asset]


@cache
def _load(path: Path, _changed: tuple[int, int] | None) -> Registry:
    return load(path)


def registry() -> Registry:
    """Return the registry; the file is read again only when it changed."""
    path = registry_path()
    try:
        seen = path.stat()
    except OSError:
        return _load(path, None)
    return _load(path, (seen.st_mtime_ns, seen.st_size))


def beamtime_dag(beamtime: Beamtime, site: Site) -> DAG:
    """Return the DAG that brings one beamtime home and proves that it arrived."""
    home = asset(beamtime)
    with DAG(
        beamtime.dag_id,
        description=f"Brings {beamtime.id} home from {beamtime.instrument} at {beamtime.facility_name}",
        doc_md=_doc(beamtime, site),
        schedule=policy.nightly(beamtime.key),
        start_date=policy.START,
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        params=form(beamtime),
        tags=[beamtime.facility, beamtime.instrument, str(beamtime.year)],
        default_args={
            "pool": policy.POOL,
            **policy.retrying(policy.RETRIES, policy.RETRY_DELAY, policy.MAX_RETRY_DELAY),
            # Each task decides by the run's mode whether it is left out; a skip must not spread by itself.
            "trigger_rule": "none_failed",
            "on_failure_callback": notices.after_failure,
            "on_retry_callback": notices.after_retry,
            "on_success_callback": notices.after_success,
        },
    ) as dag:
        # The asset as inlet opens its state to the task; only the certificate is an event for other DAGs. Among the
        # default_args it would break the web interface, which cannot show those of assets.
        known: _Known = {"beamtime": beamtime, "site": site, "inlets": [home]}
        totals = operators.ParseTotals(task_id="parse_totals", **known)
        chain(
            VerifyAccess(task_id="verify_access", **known),
            operators.DryRun(task_id="dry_run", **known),
            totals,
            operators.Approve(task_id="approve", **known),
            _transfer(beamtime, totals, known),
            operators.VerifySizes(task_id="verify_sizes", **known),
            operators.Certify(
                task_id="certify",
                outlets=[home],
                on_success_callback=[notices.after_success, notices.after_certificate],
                **known,
            ),
        )
    return dag


def _transfer(beamtime: Beamtime, totals: operators.ParseTotals, known: _Known) -> DAGNode:
    """Return the transfer: one job, or over FTP and SFTP one for each folder, one after the other."""
    if beamtime.protocol is Transport.RSYNC:
        return operators.Transfer(task_id="transfer", **known)
    return operators.Transfer.partial(
        task_id="transfer",
        map_index_template="{{ task.shown }}",
        # They share the connections, and a lock on RDS-SSH.
        max_active_tis_per_dagrun=1,
        **known,
    ).expand(folder=XComArg(totals))


def _doc(beamtime: Beamtime, site: Site) -> str:
    return (
        f"**{beamtime.id}** on {beamtime.instrument} at {beamtime.facility_name}, ended {beamtime.ended}.\n\n"
        f"- from `{beamtime.account}@{beamtime.host}:{beamtime.source_path}`\n"
        f"- to `{beamtime.destination_path(site)}` on RDS\n"
        f"- stays behind: {', '.join(f'`{path}`' for path in beamtime.left_behind) or 'nothing'}\n"
        f"- goes to tape on {beamtime.tape_day}\n\n"
        "Runs every night until then, and whenever you press *Trigger*. Nothing on RDS is ever deleted. "
        "The data is safe when the task `certify` is green: its certificate stands beside the data."
    )
