"""What Airflow's database holds of beamtimes: one query for each kind of thing, however many beamtimes there are."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.models.asset import AssetModel
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from sqlalchemy import and_, func, or_, select

from beamferry.airflow.alerting import ALERTS_ASSET
from beamferry.airflow.params import Mode
from beamferry.airflow.state import KNOWN
from beamferry.board import Paths, Seen
from beamferry.board.answers import Started
from beamferry.fetched import ENDS
from beamferry.known import Known
from beamferry.web.plugin import PREFIX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

    from beamferry.beamtime import Beamtime

# A page shows no more of a beamtime's runs: two a day for a fortnight.
_RUNS = 30
_APPROVAL = "approve"
_SHORT = tuple(key for key in KNOWN if key != "course")
_DRY_RUN = "dry_run"


@dataclass(frozen=True)
class Stored:
    """What an asset's state holds: JSON texts by key, and since when Airflow has the asset."""

    values: Mapping[str, str] = field(default_factory=dict)
    first_seen: datetime | None = None

    @property
    def known(self) -> Known:
        """What is known of a beamtime."""
        return _known(tuple(sorted(self.values.items())))

    def value(self, key: str) -> object:
        """Return one value, None where there is none; a text that is no JSON as it is."""
        text = self.values.get(key)
        return None if text is None else _read(text)


# Between two requests little changes, and reading the values is most of the work.
@lru_cache(maxsize=1024)
def _known(values: tuple[tuple[str, str], ...]) -> Known:
    return Known.read({key: _read(text) for key, text in values})


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # No model takes a bare text, so this counts as unreadable and is named.
        return text


@dataclass(frozen=True)
class Snapshot:
    """What Airflow holds of some beamtimes at one moment, and the alerts' sign of life.

    Args:
        stored: by name of the asset.
        paused: by DAG; one that Airflow does not have is missing.
        newest: the run that was made last, by DAG.
        waiting: DAG and run wherever a run waits for a person's yes.
    """

    stored: Mapping[str, Stored]
    paused: Mapping[str, bool]
    newest: Mapping[str, Started]
    waiting: Collection[tuple[str, str]]

    @classmethod
    def of(cls, session: Session, beamtimes: Collection[Beamtime], *, course: bool = False) -> Snapshot:
        """Read it, in four queries; how it came so far, ``course``, is long, and no list shows it."""
        dag_ids = [one.dag_id for one in beamtimes]
        return cls(
            _states(session, [one.asset_name for one in beamtimes], KNOWN if course else _SHORT),
            _paused(session, dag_ids),
            _newest_runs(session, dag_ids),
            _approvals(session, dag_ids),
        )

    def known(self, beamtime: Beamtime) -> Known:
        """Return what is known of a beamtime."""
        return self.stored.get(beamtime.asset_name, Stored()).known

    def seen(self, beamtime: Beamtime) -> Seen:
        """Return what Airflow says of a beamtime."""
        run = self.newest.get(beamtime.dag_id)
        return Seen(
            run=run,
            approval=run is not None and (beamtime.dag_id, run.run_id) in self.waiting,
            paused=self.paused.get(beamtime.dag_id),
            first_seen=self.stored.get(beamtime.asset_name, Stored()).first_seen,
        )

    @property
    def sign(self) -> object:
        """The alerts' sign of life as they stored it, None where there is none."""
        return self.stored.get(ALERTS_ASSET, Stored()).value("alerts_ran")


def _paused(session: Session, dag_ids: Collection[str]) -> dict[str, bool]:
    """Return which of these DAGs Airflow has, and whether each is paused."""
    query = select(DagModel.dag_id, DagModel.is_paused).where(
        DagModel.dag_id.in_(dag_ids), DagModel.is_stale.is_(False)
    )
    return {dag_id: bool(is_paused) for dag_id, is_paused in session.execute(query)}


def teams(session: Session, dag_ids: Collection[str]) -> dict[str, str | None]:
    """Return the team that owns each of these DAGs, None for none."""
    owned = DagModel.get_dag_id_to_team_name_mapping(list(dag_ids), session=session)
    return {dag_id: owned.get(dag_id) for dag_id in dag_ids}


def _states(session: Session, names: Collection[str], keys: Collection[str]) -> dict[str, Stored]:
    """Return these keys of what is stored with each of these assets, and the alerts' sign of life with theirs."""
    query = (
        select(AssetModel.name, AssetModel.created_at, AssetStateStoreModel.key, AssetStateStoreModel.value)
        .outerjoin(
            AssetStateStoreModel,
            and_(
                AssetStateStoreModel.asset_id == AssetModel.id,
                or_(
                    AssetStateStoreModel.key.in_((*keys, "alerts_ran")),
                    # One for each transfer of the last plan.
                    AssetStateStoreModel.key.startswith(ENDS),
                ),
            ),
        )
        .where(AssetModel.name.in_((*names, ALERTS_ASSET)))
    )
    values: dict[str, dict[str, str]] = {}
    created: dict[str, datetime] = {}
    for name, created_at, key, value in session.execute(query):
        held = values.setdefault(name, {})
        if key is not None:
            held[key] = value
        created[name] = created_at
    return {name: Stored(held, created[name]) for name, held in values.items()}


def _newest_runs(session: Session, dag_ids: Collection[str]) -> dict[str, Started]:
    """Return the run of each of these DAGs that was made last."""
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(dag_ids)).group_by(DagRun.dag_id)
    return dict(_runs(session, DagRun.id.in_(newest), len(dag_ids)))


def runs(session: Session, dag_id: str) -> tuple[Started, ...]:
    """Return the last runs of a DAG, newest first."""
    return tuple(run for _, run in _runs(session, DagRun.dag_id == dag_id, _RUNS))


def _runs(session: Session, which: Any, limit: int) -> list[tuple[str, Started]]:
    query = (
        select(DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.start_date, DagRun.end_date, DagRun.conf)
        .where(which)
        .order_by(DagRun.id.desc())
        .limit(limit)
    )
    return [
        (
            dag_id,
            Started(
                run_id=run_id,
                state=str(state),
                url=_run_path(dag_id, run_id),
                start=start,
                end=end,
                mode=_mode(conf),
            ),
        )
        for dag_id, run_id, state, start, end, conf in session.execute(query)
    ]


def _mode(conf: object) -> str:
    """Return what a run was asked to do; Airflow keeps only what somebody chose."""
    chosen = conf.get("mode") if isinstance(conf, dict) else None
    return chosen if chosen in {mode.value for mode in Mode} else Mode.SYNC.value


def _approvals(session: Session, dag_ids: Collection[str]) -> set[tuple[str, str]]:
    """Return DAG and run wherever a run waits for a person's yes."""
    query = (
        select(TaskInstance.dag_id, TaskInstance.run_id)
        .join(HITLDetail, HITLDetail.ti_id == TaskInstance.id)
        .where(
            TaskInstance.dag_id.in_(dag_ids),
            TaskInstance.task_id == _APPROVAL,
            TaskInstance.state == TaskInstanceState.AWAITING_INPUT,
            HITLDetail.responded_at.is_(None),
        )
    )
    return {(dag_id, run_id) for dag_id, run_id in session.execute(query)}


def listing(session: Session, dag_id: str) -> str | None:
    """Return the figures of a DAG's last dry run as its script left them, None where there are none."""
    query = (
        select(XComModel.value)
        .where(XComModel.dag_id == dag_id, XComModel.task_id == _DRY_RUN, XComModel.key == "return_value")
        .order_by(XComModel.dag_run_id.desc())
        .limit(1)
    )
    row = session.execute(query).first()
    value = None if row is None else XComModel.deserialize_value(row)
    return value if isinstance(value, str) else None


def paths(beamtime: Beamtime, run: Started | None) -> Paths:
    """Return where things of a beamtime are in Airflow's web interface."""
    dag = f"/dags/{quote(beamtime.dag_id)}"
    return Paths(
        dag=dag,
        beamtime=f"{dag}/plugin/beamtime",
        certificate=f"{PREFIX}/api/beamtimes/{quote(beamtime.key)}/certificate",
        approval=None if run is None else f"{run.url}/tasks/{_APPROVAL}/required_actions",
    )


def _run_path(dag_id: str, run_id: str) -> str:
    # Whoever starts a run chooses its name.
    return f"/dags/{quote(dag_id)}/runs/{quote(run_id, safe=':+')}"
