"""What a person does in the browser, in a real Airflow with real runs: start one, approve it, see it come home."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from beamferry.demo import DAG_ID
from chromium import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)
ROW = f"[data-bf=row][data-key={DAG_ID.removeprefix('beamtime_')}]"
TAB = f"/dags/{DAG_ID}/plugin/beamtime"


@pytest.fixture
def stranger(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser.start(runs.stack.url, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


def log_in(browser: Browser, password: str) -> None:
    browser.see("input[name=username]").send_keys("admin")
    browser.see("input[name=password]").send_keys(password + Keys.ENTER)


@pytest.fixture
def person(runs: Runs, stranger: Browser) -> Browser:
    """Somebody who logs in through Airflow's form and is led where he wanted to go."""
    stranger.go("/plugin/beamtimes")
    log_in(stranger, runs.stack.password)
    stranger.see(ROW)
    return stranger


def forget(runs: Runs) -> None:
    """Let the beamtime be as on its first day."""
    for asset in runs.stack.api("GET", f"/assets?name_pattern={runs.beamtime.asset_name}")["assets"]:
        for key in runs.known():
            runs.stack.api("DELETE", f"/assets/{asset['id']}/state-store/{key}")


def answer(runs: Runs, person: Browser, said: str) -> str:
    """Press a button of Airflow's approval page and wait for the run's end."""
    run = person.driver.current_url.split("/runs/")[1].split("/")[0]
    person.see("table", "To move")

    def ended() -> bool:
        # An answer within the moment in which the task is parked is lost, and Airflow asks once more.
        if runs.waits(run, "approve"):
            for button in person.all("button"):
                if button.text == said and button.is_enabled():
                    button.click()
        return runs.tasks(run)["approve"] in {"success", "skipped"}

    person.wait(ended, f"the answer '{said}' is taken")
    return run


def test_strangers_see_the_log_in_and_nothing_else(runs: Runs, stranger: Browser) -> None:
    stranger.go("/plugin/beamtimes")
    stranger.see("input[name=password]")
    assert stranger.all("[data-bf]") == []
    assert runs.beamtime.id not in stranger.driver.page_source


@pytest.mark.usefixtures("empty_destination")
def test_a_person_starts_a_run_approves_it_and_sees_it_come_home(runs: Runs, person: Browser) -> None:
    forget(runs)
    person.go("/plugin/beamtimes")
    person.press(f"{ROW} [data-bf=step]", "Start the transfer")
    limit = person.see("input[name=element_bandwidth_limit]")
    limit.send_keys("1")
    person.run("document.querySelector('input[name=element_require_approval]').click()")
    person.wait(lambda: limit.get_attribute("value") == "1", "the limit is in the form")
    person.picture("form")
    person.press("[data-testid=trigger-dag-submit]")
    person.wait(lambda: not person.all("[data-testid=trigger-dag-submit]"), "the form is sent")

    person.go("/plugin/beamtimes")
    person.press(f"{ROW} [data-bf=step]", "See the plan and answer")
    person.see("table", "To move")
    person.picture("approval")
    run = answer(runs, person, "Approve")

    person.go("/plugin/beamtimes")
    person.see(f"{ROW}[data-state=moving] [data-bf=headline]", "Data is coming home")
    before = person.see(f"{ROW} [data-bf=done]").text
    person.wait(lambda: person.see(f"{ROW} [data-bf=done]").text != before, "bytes move without a reload")
    for mode, name, width in (("light", "light", 1440), ("light", "phone", 390), ("dark", "dark", 1440)):
        person.size(width, 844)
        person.colours(mode)
        person.driver.refresh()
        person.see(f"{ROW} [data-bf=done]")
        person.picture(f"board-{name}")
    person.colours("light")
    person.driver.refresh()
    person.size(1440, 1000)
    person.press(f"{ROW} [data-bf=open]")
    person.see("[data-bf=beamtime] svg[data-bf=burndown]")
    person.picture("beamtime-moving")
    assert runs.end_of(run) == "success"

    person.go(TAB)
    person.see("[data-bf=beamtime][data-state=safe] [data-bf=headline]", "Home and verified")
    assert "VERIFIED" in person.see("[data-bf=certificate] pre").text
    person.see("[data-bf=runs] tr", "success")
    size = person.run("return document.querySelector('[data-bf=beamtime]').scrollHeight")
    person.size(1440, min(2600, int(size) + 250))
    person.picture("beamtime")
    assert person.violations("[data-bf=beamtime]") == []
    fetched = person.driver.execute_async_script(
        "const done = arguments[1]; fetch(document.querySelector(arguments[0]).href).then(async (answer) =>"
        "  done([answer.status, answer.headers.get('content-disposition'), await answer.text()]))",
        "[data-bf=certificate] a[download]",
    )
    assert fetched[0] == 200
    assert fetched[1].startswith("attachment")
    assert "VERIFIED" in fetched[2]
    person.see("[data-bf=commands] details")
    assert person.errors() == []
    person.colours("dark")
    person.driver.refresh()
    person.see("[data-bf=certificate] pre")
    assert person.violations("[data-bf=beamtime]") == []


@pytest.mark.usefixtures("empty_destination")
def test_a_no_moves_nothing(runs: Runs, person: Browser) -> None:
    run = runs.begin(require_approval=True)
    person.press(f"{ROW} [data-bf=step]", "See the plan and answer")
    assert answer(runs, person, "Reject") == run
    assert runs.end_of(run) == "success"
    assert runs.tasks(run)["transfer"] == "skipped"
    assert not runs.destination.exists()


def test_tabs_are_on_beamtimes_only(runs: Runs, person: Browser) -> None:
    tabs = "a[href$='/plugin/beamtime']"
    person.go(f"/dags/{DAG_ID}")
    person.wait(lambda: any(tab.is_displayed() for tab in person.all(tabs)), "the tab of a beamtime")
    person.go("/dags/deadlines")
    person.wait(lambda: person.all(tabs), "the page of another DAG")
    # What hides it comes with the page's code, a moment after Airflow's own.
    person.wait(lambda: not any(tab.is_displayed() for tab in person.all(tabs)), "no tab is seen there")
    assert person.all(tabs), "it is hidden, not gone"


def test_a_viewer_has_no_button_that_airflow_would_refuse(runs: Runs, stranger: Browser, viewer: str) -> None:
    forget(runs)
    stranger.go("/")
    # Airflow leads there by a script, which would still lead away from the page that comes next.
    stranger.see("input[name=password]")
    stranger.driver.add_cookie({"name": "_token", "value": viewer})
    stranger.go("/plugin/beamtimes")
    row = stranger.see(ROW, "Not counted yet")
    assert row.find_elements("css selector", "[data-bf=step]") == []
    assert runs.beamtime.id in row.text
    assert json.dumps(stranger.errors()) == "[]"
