"""The board in Chromium with 500 beamtimes in Airflow's database: what is seen, found, and read by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from board_server import HOSTILE, serving
from chromium import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)
COUNT = 500


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("board"), COUNT) as url:
        yield url


@pytest.fixture(scope="module")
def chromium(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser.start(address, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def board(chromium: Browser) -> Browser:
    chromium.size(1440, 1000)
    chromium.go("/plugin/beamtimes")
    chromium.wait(lambda: len(rows(chromium)) == COUNT, "all beamtimes")
    return chromium


def rows(browser: Browser) -> list[str]:
    found = browser.run(
        "return [...document.querySelectorAll('[data-bf=row]')].map((row) => row.dataset.key)"
    )
    return [str(key) for key in found]


def needy(browser: Browser) -> int:
    states = ("action", "late", "overdue")
    return sum(len(browser.all(f"[data-bf=row][data-state={state}]")) for state in states)


def test_all_are_there_after_one_request_the_most_urgent_first(board: Browser) -> None:
    asked = board.run("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert len([name for name in asked if "/beamferry/api/" in name]) == 1
    said = board.see("[data-bf=summary]").text
    first = board.all("[data-bf=row]")[0]
    assert first.get_attribute("data-state") == "action"
    assert said.startswith(f"{needy(board)} of {COUNT} beamtimes need you. Most urgent: ")
    assert first.find_element("css selector", "[data-bf=open]").text in said
    states = board.run(
        "return [...document.querySelectorAll('[data-bf=row]')].map((row) => row.dataset.state)"
    )
    assert set(states[-100:]) == {"safe"}
    assert board.errors() == []


def test_a_hostile_title_is_text(board: Browser) -> None:
    row = board.see('[data-bf=row][data-key="diamond_mg25000-1"]')
    assert HOSTILE in str(board.run("return arguments[0].textContent", row))
    assert "<b>Dr Robert</b>" in str(board.run("return arguments[0].textContent", row))
    assert row.find_elements("css selector", "img, b") == []
    assert "pwned" not in board.driver.title


def test_it_is_searched_filtered_and_sorted_by_keyboard_and_the_address_keeps_it(board: Browser) -> None:
    board.run("document.querySelector('[data-bf=board] .bf-chip').focus()")
    active = board.driver.switch_to.active_element
    active.send_keys(Keys.TAB)
    chip = board.driver.switch_to.active_element
    assert chip.text == f"Needs you {needy(board)}"
    expected = needy(board)
    chip.send_keys(Keys.ENTER)
    board.wait(lambda: len(rows(board)) == expected, "those that need somebody")
    for _ in range(4):
        if board.driver.switch_to.active_element.get_attribute("type") == "search":
            break
        board.driver.switch_to.active_element.send_keys(Keys.TAB)
    search = board.driver.switch_to.active_element
    assert search.get_attribute("type") == "search", board.driver.switch_to.active_element.get_attribute(
        "outerHTML"
    )
    search.send_keys("mg25002 failed")
    board.wait(lambda: rows(board) == ["diamond_mg25002-1"], "the one that was looked for")
    assert "show=needs" in board.driver.current_url
    board.driver.refresh()
    board.wait(lambda: rows(board) == ["diamond_mg25002-1"], "the same after loading it again")
    board.see("[data-bf=board] input[type=search]").send_keys(" nothing")
    board.press("[data-bf=board] button", "Show all")
    board.wait(lambda: len(rows(board)) == COUNT, "all again")
    board.run("document.querySelectorAll('[data-bf=board] select')[1].focus()")
    board.driver.switch_to.active_element.send_keys("Name")
    board.wait(lambda: rows(board)[:2] == ["diamond_mg25000-1", "diamond_mg25001-1"], "sorted by name")


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_everybody_can_read_it(board: Browser, mode: str) -> None:
    # Axe looks at every element: the rows of one search are made like all the others.
    board.colours(mode)
    board.go("/plugin/beamtimes?q=mg2501")
    board.wait(lambda: len(rows(board)) == 10, "ten beamtimes of all kinds")
    assert board.run("return document.documentElement.classList.contains('dark')") == (mode == "dark")
    assert board.violations("[data-bf=board]") == []
    board.colours("light")


def test_a_phone_needs_no_scrolling_sideways(board: Browser) -> None:
    board.size(390, 844)
    board.wait(lambda: board.run("return innerWidth") == 390, "the width of a phone")
    over = board.run(
        "return [...document.querySelectorAll('[data-bf=board] *')]"
        ".filter((one) => one.getBoundingClientRect().right > 391).map((one) => one.outerHTML.slice(0, 200))"
    )
    assert over == []
    assert board.run("return document.documentElement.scrollWidth") <= 390


def test_the_home_page_names_only_whom_nobody_helps(board: Browser) -> None:
    board.go("/")
    board.see("[data-bf=home] [data-bf=row]")
    assert len(rows(board)) == 5
    board.press("[data-bf=home] a", "All beamtimes")
    board.see("[data-bf=board]")


def test_a_server_that_is_gone_is_told_and_what_was_seen_stays(board: Browser) -> None:
    board.run("globalThis.fetch = () => Promise.reject(new Error('refused'))")
    board.run("document.dispatchEvent(new Event('visibilitychange'))")
    said = board.see("[data-bf=trouble]").text
    assert "Airflow cannot be asked" in said
    assert "from before" in said
    assert len(rows(board)) == COUNT
