"""Who may read a beamtime and what he may do with it: by Airflow's own rules for its DAG, nothing of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails

from beamferry.board import May

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from airflow.api_fastapi.auth.managers.models.batch_apis import IsAuthorizedDagRequest

# As Airflow asks where its own interface starts a run, answers an approval and unpauses a DAG.
_TRIGGER: tuple[ResourceMethod, DagAccessEntity | None] = ("POST", DagAccessEntity.RUN)
_APPROVE: tuple[ResourceMethod, DagAccessEntity | None] = ("PUT", DagAccessEntity.HITL_DETAIL)
_UNPAUSE: tuple[ResourceMethod, DagAccessEntity | None] = ("PUT", None)


def readable(teams: Mapping[str, str | None], user: BaseUser) -> set[str]:
    """Return the DAGs that a user may read.

    Args:
        teams: the team that owns a DAG, by the DAG's id; None for none.
        user: who asks.
    """
    by_team: dict[str | None, set[str]] = {}
    for dag_id, team in teams.items():
        by_team.setdefault(team, set()).add(dag_id)
    found: set[str] = set()
    for team, dag_ids in by_team.items():
        found |= get_auth_manager().filter_authorized_dag_ids(dag_ids=dag_ids, user=user, team_name=team)
    return found


def may(teams: Mapping[str, str | None], user: BaseUser) -> dict[str, May]:
    """Return what a user may do with each DAG; ``teams`` as for ``readable``."""
    trigger, approve, unpause = (_allowed(teams, user, *what) for what in (_TRIGGER, _APPROVE, _UNPAUSE))
    return {
        dag_id: May(trigger=dag_id in trigger, approve=dag_id in approve, unpause=dag_id in unpause)
        for dag_id in teams
    }


def sees_registry_problems(user: BaseUser) -> bool:
    """Say whether a user may read what is wrong in the registry, which Airflow shows as an import error."""
    return get_auth_manager().is_authorized_view(access_view=AccessView.IMPORT_ERRORS, user=user)


def _allowed(
    teams: Mapping[str, str | None], user: BaseUser, method: ResourceMethod, entity: DagAccessEntity | None
) -> set[str]:
    requests = {dag_id: _request(dag_id, team, method, entity) for dag_id, team in teams.items()}
    return _all_or_some(requests, user)


def _all_or_some(requests: Mapping[str, IsAuthorizedDagRequest], user: BaseUser) -> set[str]:
    # Where a server of its own decides, one question is asked instead of hundreds: most people may do all or nothing.
    if not requests or _is_authorized(requests.values(), user):
        return set(requests)
    return {dag_id for dag_id, request in requests.items() if _is_authorized((request,), user)}


def _is_authorized(requests: Iterable[IsAuthorizedDagRequest], user: BaseUser) -> bool:
    return get_auth_manager().batch_is_authorized_dag(list(requests), user=user)


def _request(
    dag_id: str, team: str | None, method: ResourceMethod, entity: DagAccessEntity | None
) -> IsAuthorizedDagRequest:
    return {"method": method, "access_entity": entity, "details": DagDetails(id=dag_id, team_name=team)}
