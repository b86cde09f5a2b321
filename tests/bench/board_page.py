"""How soon the board is seen with 500 beamtimes: Chromium, Airflow's API server, SQLite, on this machine.

    python tests/bench/board_page.py [BEAMTIMES]

Prints, for the first visit and for later ones, when the first row is there and what the one request to the API took.
Exit 1 when a visit misses 1.5 s, the first one counted from the page's own start, or its answer 300 ms, or asks the
API more than once.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))
# Milliseconds: until the first rows are seen, Airflow's own interface included, and until the API has answered.
BAR, SERVER_BAR = 1500, 300
VISITS = 6
_WATCH = """
const look = setInterval(() => {
  if (!document.querySelector("[data-bf=row]")) return;
  clearInterval(look);
  requestAnimationFrame(() => setTimeout(() => performance.mark("rows")));
}, 5);
"""
_READ = """
const asked = performance.getEntriesByType("resource").filter((one) => one.name.includes("/beamferry/api/"));
const [rows] = performance.getEntriesByName("rows");
return [rows?.startTime ?? 0, asked.length, asked[0].startTime, asked[0].responseStart - asked[0].requestStart];
"""


def main() -> int:
    from board_server import serving  # noqa: PLC0415
    from chromium import Browser  # noqa: PLC0415

    count, missed = int(sys.argv[1]) if len(sys.argv) > 1 else 500, False
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as profile,
        serving(Path(folder), count) as url,
    ):
        browser = Browser.start(url, Path(profile))
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        for visit in range(VISITS):
            browser.go("/plugin/beamtimes")
            browser.wait(lambda: len(browser.all("[data-bf=row]")) == count, "all rows")
            rows, asked, began, served = browser.run(_READ)
            print(
                f"visit {visit + 1}: of {count} rows the first ones seen after {rows:.0f} ms "
                f"({rows - began:.0f} ms after the page asked), {asked} request, answered in {served:.0f} ms"
            )
            # An empty browser first fetches all of Airflow's interface, which no page in it can hasten.
            waited = rows - began if visit == 0 else rows
            missed |= asked != 1 or waited > BAR or served > SERVER_BAR
        browser.driver.quit()
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
