"""The board's routes against Airflow's own database and permissions: nothing for strangers, no row too many."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from starlette.routing import Mount

from beamferry.registry import load
from board_records import KINDS, fill, write_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastapi import FastAPI

    from beamferry.registry import Registry

    Get = Callable[..., Any]

SIZE = 10
# The last valid entry: none of the kinds, and on nobody's board.
ARCHIVED = """\
  - id: mg99999-1
    facility: diamond
    instrument: i12
    account: mbcx9cd4
    ended: 2026-11-03
    archived: true
"""


@pytest.fixture(scope="module")
def registry(airflow_database: None, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    from airflow.utils.session import create_session

    path = tmp_path_factory.mktemp("board") / "beamtimes.yaml"
    write_registry(path, SIZE)
    # One more mistake than entries: it concerns no beamtime that anybody may read.
    path.write_text(path.read_text() + ARCHIVED + "  - {id: mg1, facility: diamond}\n")
    found = load(path)
    with create_session() as session:
        fill(session, found, datetime.now(UTC))
    return found


@pytest.fixture
def app(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[FastAPI]:
    """Airflow's app with the plugin and users who may do all, read, or read every second beamtime."""
    from airflow.api_fastapi import app as airflow_app
    from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

    hidden = {one.dag_id for one in registry.beamtimes[1::2]}

    class Halved(SimpleAuthManager):
        def is_authorized_dag(
            self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None
        ) -> bool:
            if user.username == "half" and details is not None and details.id in hidden:
                return False
            allowed: bool = super().is_authorized_dag(
                method=method, user=user, access_entity=access_entity, details=details
            )
            return allowed

        def is_authorized_view(self, *, access_view: Any, user: Any) -> bool:
            allowed: bool = super().is_authorized_view(access_view=access_view, user=user)
            return allowed and user.username != "half"

    from airflow.plugins_manager import get_fastapi_plugins

    monkeypatch.setenv("BEAMFERRY_REGISTRY", str(registry.path))
    monkeypatch.setattr(airflow_app, "get_auth_manager_cls", lambda: Halved)
    monkeypatch.setattr(airflow_app._AuthManagerState, "instance", None)
    get_fastapi_plugins.cache_clear()
    yield airflow_app.create_app("core")
    get_fastapi_plugins.cache_clear()


@pytest.fixture
def get(app: FastAPI) -> Iterator[Get]:
    """A function that asks the board as a user of a name and a role; without a name, as a stranger."""
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    with TestClient(app) as client:

        def ask(path: str, name: str = "", role: str = "VIEWER", method: str = "GET") -> Any:
            headers = {}
            if name:
                token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username=name, role=role))
                headers = {"Authorization": f"Bearer {token}"}
            return client.request(method, f"/beamferry{path}", headers=headers)

        yield ask


def board_of(app: FastAPI) -> FastAPI:
    mounts = [route for route in app.routes if isinstance(route, Mount) and route.path == "/beamferry"]
    found: Any = mounts[0].app
    return found  # type: ignore[no-any-return]


def test_every_route_but_the_files_turns_strangers_away_and_none_writes(
    app: FastAPI, get: Get, registry: Registry
) -> None:
    from fastapi.routing import APIRoute

    routes = board_of(app).routes
    assert [route.path for route in routes if isinstance(route, Mount)] == ["/static"]
    others = [route for route in routes if not isinstance(route, Mount)]
    assert len(others) >= 3
    for route in others:
        assert isinstance(route, APIRoute), "what is no route of FastAPI's asks nobody who he is"
        assert route.methods is not None
        assert route.methods <= {"GET", "HEAD"}
        for key in (registry.beamtimes[0].key, "nonsense"):
            answer = get(route.path.replace("{key}", key))
            assert answer.status_code == 401, route.path
            assert registry.beamtimes[0].id not in answer.text
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert get(path).status_code == 404


def test_a_route_that_forgets_to_ask_who_calls_turns_strangers_away_all_the_same(app: FastAPI) -> None:
    from fastapi.testclient import TestClient

    from beamferry.web.api import app as make

    board = make()
    board.get("/api/forgotten")(lambda: "all there is")
    app.router.routes.insert(0, Mount("/forgetful", board))
    with TestClient(app) as client:
        assert client.get("/forgetful/api/forgotten").status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(get: Get, registry: Registry, method: str) -> None:
    for path in ("/api/beamtimes", f"/api/beamtimes/{registry.beamtimes[0].key}"):
        assert get(path, "boss", "ADMIN", method).status_code == 405


def test_a_forged_or_damaged_token_is_refused(app: FastAPI, get: Get) -> None:
    from fastapi.testclient import TestClient

    for token in ("x", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJib3NzIiwicm9sZSI6IkFETUlOIn0."):
        client = TestClient(app, headers={"Authorization": f"Bearer {token}"})
        assert client.get("/beamferry/api/beamtimes").status_code == 403


def test_everybody_sees_what_he_may_read_and_no_more(get: Get, registry: Registry) -> None:
    everything = get("/api/beamtimes", "boss", "ADMIN").json()
    *shown, archived = registry.beamtimes
    assert {row["key"] for row in everything["beamtimes"]} == {one.key for one in shown}
    assert get(f"/api/beamtimes/{archived.key}", "boss", "ADMIN").status_code == 404
    half = get("/api/beamtimes", "half")
    readable, hidden = shown[::2], shown[1::2]
    assert {row["key"] for row in half.json()["beamtimes"]} == {one.key for one in readable}
    for one in hidden:
        assert one.id not in half.text
        for path in (f"/api/beamtimes/{one.key}", f"/api/beamtimes/{one.key}/certificate"):
            assert get(path, "half").status_code == 403
    assert get(f"/api/beamtimes/{readable[0].key}", "half").status_code == 200
    assert get("/api/beamtimes/diamond_mg1-1", "boss", "ADMIN").status_code == 404


def test_flaws_of_the_registry_are_for_who_sees_import_errors(get: Get, registry: Registry) -> None:
    assert registry.problems
    shown = get("/api/beamtimes", "boss", "ADMIN").json()["registry"]
    assert [len(shown["problems"]), shown["hidden"]] == [len(registry.problems), 0]
    assert shown["problems"][0]["place"].startswith("beamtimes.yaml:")
    assert get("/api/beamtimes", "half").json()["registry"] == {
        "problems": [],
        "hidden": len(registry.problems),
    }


def test_a_viewer_has_no_button_that_airflow_would_refuse(get: Get) -> None:
    wanted = {"trigger", "fix", "approve"}
    for role, allowed in (("VIEWER", False), ("USER", True)):
        rows = get("/api/beamtimes", "somebody", role).json()["beamtimes"]
        steps = [row["next_step"] for row in rows if row["next_step"]["kind"] in wanted]
        assert len(steps) >= 4
        assert {step["allowed"] for step in steps} == {allowed}


def test_rows_tell_what_the_database_holds(get: Get, registry: Registry) -> None:
    answer = get("/api/beamtimes", "somebody")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    rows = {row["key"]: row for row in found["beamtimes"]}
    first = {kind: rows[one.key] for kind, one in zip(KINDS, registry.beamtimes, strict=False)}
    assert first["safe"]["state"] == "safe"
    assert first["moving"]["state"] == "moving"
    assert first["moving"]["run"]["state"] == "running"
    assert first["moving"]["run"]["run_id"] == "scheduled__1", "the newest run, not any"
    assert first["failed"]["state"] == "action"
    assert first["failed"]["problem"]["code"] == "facility-key-refused"
    assert first["differs"]["run"]["state"] == "success"
    assert first["differs"]["state"] != "safe", "a green run proves nothing"
    assert first["differs"]["verification"]["outcome"] == "different"
    assert first["new"]["run"] is None
    assert first["new"]["bytes_total"] is None
    assert found["space"]["bytes_free"] == 1_200_000_000_000
    assert found["alerts"]["ok"] is False
    assert found["beamtimes"][-1]["state"] == "safe"


def test_one_beamtime_has_its_course_its_runs_and_its_commands(get: Get, registry: Registry) -> None:
    one = get(f"/api/beamtimes/{registry.beamtimes[1].key}", "somebody").json()
    assert len(one["left"]) == 49, "what the plan found, and what the transfer told of itself"
    assert len(one["rates"]) == 48
    assert [run["run_id"] for run in one["runs"]] == ["scheduled__1", "scheduled__0"]
    assert any(command["text"].startswith("rsync ") for command in one["commands"])
    assert one["folders"] is None
    assert one["certificate"] is None
    safe = get(f"/api/beamtimes/{registry.beamtimes[0].key}", "somebody").json()
    assert safe["certificate"]["text"] is None
    differs = get(f"/api/beamtimes/{registry.beamtimes[4].key}", "somebody").json()["differences"]
    assert differs["counts"] == [{"kind": "missing", "count": 12, "text": "12 missing at RDS"}]
    assert differs["examples"][0] == "raw/scan_00000.nxs (missing at RDS)"
    assert get(f"/api/beamtimes/{registry.beamtimes[0].key}/certificate", "somebody").status_code == 404


def test_a_value_that_is_no_json_costs_its_own_beamtime_a_sentence_and_no_other_anything(
    get: Get, registry: Registry
) -> None:
    from airflow.models.asset import AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import select, update

    last = registry.beamtimes[5]

    def store(text: str) -> str:
        with create_session() as session:
            asset = session.scalar(select(AssetModel.id).where(AssetModel.name == last.asset_name))
            where = (AssetStateStoreModel.asset_id == asset, AssetStateStoreModel.key == "plan")
            before = session.scalar(select(AssetStateStoreModel.value).where(*where))
            session.execute(update(AssetStateStoreModel).where(*where).values(value=text))
        return str(before)

    before = store("{cut")
    try:
        found = {row["key"]: row for row in get("/api/beamtimes", "somebody").json()["beamtimes"]}
    finally:
        store(before)
    assert json.loads(before)
    assert len(found) == SIZE
    assert found[last.key]["state"] == "action"
    assert found[last.key]["problem"]["code"] == "state-unreadable"


def test_all_is_fetched_when_each_transfer_of_the_plan_has_kept_its_end(get: Get, registry: Registry) -> None:
    from airflow.models.asset import AssetModel
    from airflow.models.asset_state_store import AssetStateStoreModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, select

    moving = registry.beamtimes[1]

    def look() -> dict[str, Any]:
        return {row["key"]: row for row in get("/api/beamtimes", "somebody").json()["beamtimes"]}[moving.key]

    before = look()
    assert before["bytes_done"] < before["bytes_total"]
    with create_session() as session:
        asset = session.scalar(select(AssetModel.id).where(AssetModel.name == moving.asset_name))
        kept = (AssetStateStoreModel.asset_id == asset, AssetStateStoreModel.key.startswith("fetched/"))
        value = session.scalar(select(AssetStateStoreModel.value).where(*kept))
        session.add(AssetStateStoreModel(asset_id=asset, key="fetched/1", value=value))
    try:
        after = look()
    finally:
        with create_session() as session:
            session.execute(
                delete(AssetStateStoreModel).where(*kept, AssetStateStoreModel.key != "fetched/0")
            )
    assert (after["bytes_done"], after["files_done"]) == (after["bytes_total"], after["files_total"])
    assert look()["bytes_done"] == before["bytes_done"]


def test_a_run_with_a_hostile_name_has_an_address_that_stays_in_its_place() -> None:
    from beamferry.web.reading import _run_path

    path = _run_path("beamtime_x", "../../a?b#c/d e\\f")
    assert path == "/dags/beamtime_x/runs/..%2F..%2Fa%3Fb%23c%2Fd%20e%5Cf"
    assert _run_path("beamtime_x", "manual__2026-11-23T14:00:00+00:00").endswith("T14:00:00+00:00")


def test_a_board_that_cannot_be_loaded_leaves_the_api_server_alive_and_says_why() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.modules['paramiko'] = None; from beamferry.web.plugin import BeamferryPlugin as P; "
        "assert P().fastapi_apps == []"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The board is missing" in done.stdout + done.stderr
    assert "paramiko" in done.stdout + done.stderr


def test_the_plugin_has_the_five_places_and_its_api_is_made_for_the_api_server_alone() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from beamferry.web.plugin import BeamferryPlugin as P; p = P(); "
        "assert 'fastapi' not in sys.modules; print([a['destination'] for a in p.react_apps]); "
        "assert 'fastapi' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    from beamferry.web.plugin import _BUNDLE

    places = ["nav", "dashboard", "dag", "dag_run", "base"] if _BUNDLE.exists() else []
    assert done.stdout.strip().splitlines()[-1] == str(places)


@pytest.mark.parametrize(
    ("process", "loaded"), [("scheduler", True), ("celery", True), ("api-server", False), ("dags", False)]
)
def test_tasks_are_forked_from_a_process_that_has_loaded_what_they_need(process: str, loaded: bool) -> None:
    import subprocess
    import sys

    code = (
        f"import sys; sys.argv = ['airflow', '{process}']; from beamferry.web.plugin import BeamferryPlugin as P; "
        "P.on_load(); print('beamferry.airflow.operators' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(loaded)


def test_what_tasks_need_and_is_not_there_leaves_the_scheduler_alive_and_is_told() -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.argv = ['airflow', 'scheduler']; sys.modules['paramiko'] = None; "
        "from beamferry.web.plugin import BeamferryPlugin as P; P.on_load()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "The tasks of beamtimes cannot be loaded" in done.stdout + done.stderr
    assert "paramiko" in done.stdout + done.stderr
