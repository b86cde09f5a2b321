"""The board's API in a real Airflow with real runs: what users see while data moves, and what strangers see."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from beamferry.demo import DAG_ID

if TYPE_CHECKING:
    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


def ask(runs: Runs, path: str, token: str | None) -> httpx.Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{runs.stack.url}/beamferry{path}", headers=headers, timeout=30)


@pytest.fixture(scope="module")
def boss(runs: Runs) -> str:
    body = {"username": "admin", "password": runs.stack.password}
    answer = httpx.post(f"{runs.stack.url}/auth/token", json=body, timeout=30)
    return str(answer.raise_for_status().json()["access_token"])


def line(runs: Runs, token: str) -> dict[str, Any]:
    """The lab's beamtime on the board."""
    answer = ask(runs, "/api/beamtimes", token)
    assert answer.status_code == 200, answer.text
    rows = {row["dag_id"]: row for row in answer.json()["beamtimes"]}
    return dict(rows[DAG_ID])


def test_the_plugin_is_loaded_and_strangers_are_turned_away(runs: Runs, boss: str) -> None:
    assert runs.stack.api("GET", "/plugins/importErrors")["total_entries"] == 0
    plugins = {plugin["name"]: plugin for plugin in runs.stack.api("GET", "/plugins")["plugins"]}
    assert plugins["beamferry"]["fastapi_apps"][0]["url_prefix"] == "/beamferry"
    key = runs.beamtime.key
    for path in ("/api/beamtimes", f"/api/beamtimes/{key}", f"/api/beamtimes/{key}/certificate"):
        stranger = ask(runs, path, None)
        assert stranger.status_code == 401, path
        assert runs.beamtime.id not in stranger.text
    assert ask(runs, "/api/beamtimes", boss).status_code == 200
    # What the web interface sends is a cookie.
    with httpx.Client(cookies={"_token": boss}, base_url=runs.stack.url) as browser:
        assert browser.get("/beamferry/api/beamtimes").status_code == 200
    for app in plugins["beamferry"]["react_apps"]:
        assert httpx.get(f"{runs.stack.url}/{app['bundle_url']}", timeout=30).status_code == 200


@pytest.mark.long
@pytest.mark.usefixtures("empty_destination")
def test_a_run_is_followed_from_the_question_to_the_certificate(runs: Runs, boss: str, viewer: str) -> None:
    run = runs.begin(bandwidth_limit=1, require_approval=True)
    runs.wait(lambda: runs.waits(run, "approve"), "the run waits for a person")
    for token, allowed in ((boss, True), (viewer, False)):
        asked = line(runs, token)
        step = asked["next_step"]
        assert asked["state"] == "action"
        assert (step["kind"], step["allowed"]) == ("approve", allowed)
        assert step["url"] == f"/dags/{DAG_ID}/runs/{run}/tasks/approve/required_actions"
    seen: list[dict[str, Any]] = []

    def look() -> bool:
        runs.say(run, "approve", "Approve")
        found = ask(runs, f"/api/beamtimes/{runs.beamtime.key}", boss).json()
        if found["headline"].startswith("Data is coming home"):
            seen.append(found)
        return runs.state(run) in {"success", "failed"}

    runs.wait(look, "the run ended")
    assert seen, "the board never said that data moves"
    assert {found["state"] for found in seen} == {"moving"}
    assert {found["run"]["run_id"] for found in seen} == {run}
    done = [found["bytes_done"] for found in seen]
    assert done == sorted(done)
    assert done[-1] > done[0], "progress moves"
    assert any(found["rate"] for found in seen)
    assert len(seen[-1]["left"]) > 1
    assert len(seen[-1]["rates"]) == len(seen[-1]["left"]) - 1

    home = line(runs, boss)
    assert (home["state"], home["headline"]) == ("safe", "Home and verified")
    assert home["bytes_done"] == home["bytes_total"]
    assert home["verification"]["outcome"] == "verified"
    assert home["next_step"]["kind"] == "certificate"
    whole = ask(runs, f"/api/beamtimes/{runs.beamtime.key}", boss).json()
    assert whole["runs"][0]["run_id"] == run
    assert len(whole["left"]) > 2, "how it came home is still known once it is verified"
    assert whole["certificate"]["folder"].endswith(".certificate")
    assert runs.lab.client.key.read_text().splitlines()[1] not in json.dumps(whole)
