"""A real browser for the tests of what people see."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import axe_core_python
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver.remote.webelement import WebElement

PATIENCE = 90.0
# What a page that is just being made anew may answer.
_PASSING = (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
# Where screenshots for the documentation go; without it none are kept.
PICTURES = os.environ.get("BEAMFERRY_SCREENSHOTS")
_AXE = (Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Rules of axe that weigh the page's surroundings belong to Airflow: only what is inside the root counts.
_RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document.querySelector(arguments[0]), {resultTypes: ["violations"]}).then(
  (found) => done(found.violations.map(
    (one) => [one.impact, one.id, one.nodes.map((node) => node.html.slice(0, 160))])));
"""


@dataclass(frozen=True)
class Browser:
    """Chromium at one Airflow."""

    driver: webdriver.Chrome
    url: str

    @classmethod
    def start(cls, url: str, profile: Path) -> Browser:
        options = Options()
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        browser = cls(webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))), url)
        browser.size(1440, 1000)
        return browser

    def size(self, width: int, height: int) -> None:
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)

    def go(self, path: str) -> None:
        self.driver.get(f"{self.url}{path}")

    def colours(self, mode: str) -> None:
        """Have Airflow in light or dark from the next page on."""
        self.driver.execute_script("localStorage.setItem('theme', arguments[0])", mode)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", css)

    def see(self, css: str, text: str = "") -> WebElement:
        """Wait for an element that holds a text."""
        return self.wait(
            lambda: next((one for one in self.all(css) if text in one.text), None), f"{css} with '{text}'"
        )

    def press(self, css: str, text: str = "") -> None:
        """Press what is there, once it can be pressed."""

        def pressed() -> bool:
            found = next((one for one in self.all(css) if text in one.text and one.is_enabled()), None)
            if found is None:
                return False
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
            found.click()
            return True

        self.wait(pressed, f"{css} with '{text}' can be pressed")

    def wait(self, look: Callable[[], Any], what: str) -> Any:
        def found() -> Any:
            try:
                return look()
            except _PASSING:
                return None

        def told() -> str:
            return f"{what}; at {self.driver.current_url}: {self.all('body')[0].text[:2000]}"

        return wait_for(found, told, PATIENCE)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def violations(self, root: str) -> list[Any]:
        """What axe finds serious or critical below an element."""
        self.run(_AXE)
        found = self.driver.execute_async_script(_RUN_AXE, root)
        return [one for one in found if one[0] in {"serious", "critical"}]

    def errors(self) -> list[str]:
        """What our own files wrote to the console as errors."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and "/beamferry/" in entry["message"]
        ]

    def picture(self, name: str) -> None:
        """Keep a screenshot for the documentation, if they are wanted."""
        if PICTURES:
            self.driver.save_screenshot(f"{PICTURES}/{name}.png")
