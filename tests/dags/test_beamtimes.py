"""The DAGs that a registry makes: all valid entries, the vital orders, and nothing that changes by itself."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.dag_processing.dagbag import DagBag

SITE = """\
site:
  destination_root: /mnt/eps01-rds/Fonseca-Lightform/shared
beamtimes:
"""
ENTRY = """\
  - id: {id}
    facility: diamond
    instrument: i12
    account: mbcx9cd4
    ended: 2026-11-03
"""
ALERTS = ["deadlines", "deadlines_rehearsal"]
AGAIN = "mails_again"
OTHERS = [*ALERTS, AGAIN, "prepare_account"]
CHAIN = ["verify_access", "dry_run", "parse_totals", "approve", "transfer", "verify_sizes", "certify"]


def entries(*names: str) -> str:
    return SITE + "".join(ENTRY.format(id=name) for name in names)


def test_each_valid_entry_has_its_dag_with_the_whole_chain(dag_bag: Callable[[str], DagBag]) -> None:
    bag = dag_bag(entries("mg25682-2", "nt33730-1"))
    assert bag.import_errors == {}
    assert sorted(bag.dags) == ["beamtime_diamond_mg25682-2", "beamtime_diamond_nt33730-1", *OTHERS]
    for name in ALERTS:
        assert [task.task_id for task in bag.dags.pop(name).topological_sort()] == [
            "alerts_due",
            "send_digests",
        ]
    again = bag.dags.pop(AGAIN)
    # What its tasks use of assets is open to them, as it is to the daily one's.
    (task,) = again.tasks
    assert {one.name for one in task.inlets} == {
        "beamferry/alerts",
        "rds/diamond/mg25682-2",
        "rds/diamond/nt33730-1",
    }
    assert [task.task_id for task in bag.dags.pop("prepare_account").topological_sort()] == [
        "prepare",
        "look_at_host_keys",
        "confirm_fingerprints",
        "pin_host_keys",
        "report",
    ]
    for dag in bag.dags.values():
        assert [task.task_id for task in dag.topological_sort()] == CHAIN
        for before, after in pairwise(CHAIN):
            assert dag.get_task(after).upstream_task_ids == {before}, (
                "nothing moves before the step before it"
            )


def test_a_bad_entry_costs_only_itself_and_is_shown_as_one_import_error(
    dag_bag: Callable[[str], DagBag],
) -> None:
    bag = dag_bag(entries("mg25682-2", "no visit", "nt33730-1").replace("account: mbcx9cd4", "account: x"))
    assert sorted(bag.dags) == ["beamtime_diamond_mg25682-2", "beamtime_diamond_nt33730-1", *OTHERS]
    (file, error), *others = bag.import_errors.items()
    assert others == []
    assert file.endswith("registry_errors.py")
    assert "beamtimes[1].id" in error


def test_an_archived_entry_has_no_dag(dag_bag: Callable[[str], DagBag]) -> None:
    bag = dag_bag(entries("mg25682-2") + "    archived: true\n")
    assert sorted(bag.dags) == OTHERS
    assert bag.import_errors == {}


def test_parsing_again_makes_the_same_dag(dag_bag: Callable[[str], DagBag]) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    text = entries("mg25682-2", "nt33730-1")
    first, second = (
        {name: DagSerialization.to_dict(dag) for name, dag in dag_bag(text).dags.items()} for _ in range(2)
    )
    assert first == second


def test_the_web_interface_can_show_each_dag(dag_bag: Callable[[str], DagBag]) -> None:
    from airflow.api_fastapi.core_api.datamodels.dags import DAGDetailsResponse
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dag_bag(entries("mg25682-2")).dags.values():
        stored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        fields = {
            name: getattr(stored, name) for name in DAGDetailsResponse.model_fields if hasattr(stored, name)
        }
        # The page of a DAG asks for these; what cannot be turned into JSON makes it fail.
        shown = DAGDetailsResponse.model_construct(**fields).model_dump_json(include={"default_args"})
        assert "retries" in shown


def test_the_form_takes_its_defaults_from_the_entry(dag_bag: Callable[[str], DagBag]) -> None:
    text = entries("mg25682-2") + "    streams: 8\n    verification: full\n    bandwidth_limit: 50\n"
    params = dag_bag(text).dags["beamtime_diamond_mg25682-2"].params
    assert (params["streams"], params["verification"], params["bandwidth_limit"]) == (8, "full", 50)
    assert params["mode"] == "sync"
    assert params["require_approval"] is False


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "rm -rf"}, {"streams": 17}, {"streams": "4; id"}, {"bandwidth_limit": 0}, {"samples": "$(id)"}],
)
def test_the_form_refuses_what_is_no_choice(
    dag_bag: Callable[[str], DagBag], wrong: dict[str, object]
) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = dag_bag(entries("mg25682-2")).dags["beamtime_diamond_mg25682-2"].params
    with pytest.raises(ParamValidationError):
        params.update(wrong)


def test_all_tasks_load_rds_ssh_through_its_pool_and_fail_at_once_where_a_person_must_act(
    dag_bag: Callable[[str], DagBag],
) -> None:
    from airflow.sdk import RetryAction

    from beamferry.errors import PermanentError, TransientError

    for task in dag_bag(entries("mg25682-2")).dags["beamtime_diamond_mg25682-2"].tasks:
        assert task.pool == "rds_ssh"
        policy = task.retry_policy
        assert policy.evaluate(PermanentError("a", "b", "c"), 1, 6).action is RetryAction.FAIL
        assert policy.evaluate(TransientError("a", "b", "c"), 1, 6).action is RetryAction.DEFAULT
        assert task.retries == 6


def test_five_hundred_beamtimes_parse_within_the_dag_processors_patience(
    dag_bag: Callable[[str], DagBag],
) -> None:
    started = time.process_time()
    bag = dag_bag(entries(*(f"mg{number}-1" for number in range(1, 501))))
    assert len(bag.dags) == 500 + len(OTHERS)
    # The processor gives a file 30 seconds; this is CPU time, ten times what it takes.
    assert time.process_time() - started < 30
