"""Airflow's parts on this machine are kept running: what ends by itself is started again, with a word."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.stack import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from beamferry.stack import Stack

# Seconds until a part is started again, each time more: a database that is locked for minutes is outlasted.
DELAYS = (1.0, 5.0, 15.0, 30.0, 60.0)
# A part that ended more often than there are delays within this time will not do better the next time.
_SECONDS = 600.0
_LOOK_SECONDS = 1.0
_LONGEST_LINE = 200
# The end of a log that is read for its last line.
_TAIL = 8192


class Keeper:
    """Looks whether the parts of a stack run.

    Args:
        stack: is up.
        say: tells the person at the terminal one sentence.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self, stack: Stack, say: Callable[[str], None], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing has ended yet."""
        self.stack = stack
        self.say = say
        self.now = now
        self._ends: dict[str, list[float]] = defaultdict(list)
        self._due: dict[str, float] = {}

    def keep(self) -> None:
        """Look until interrupted; raises as ``look`` does."""
        while True:
            self.look()
            time.sleep(_LOOK_SECONDS)

    def look(self) -> None:
        """Look once at each part.

        Raises:
            PermanentError: one ended again and again.
        """
        for name in COMPONENTS:
            if name in self._due:
                if self.now() >= self._due[name]:
                    self._start(name)
            elif self.stack.pid(name) is None:
                self._ended(name)

    def _ended(self, name: str) -> None:
        now = self.now()
        ends = [at for at in self._ends[name] if now - at < _SECONDS] + [now]
        self._ends[name] = ends
        log = self.stack.home / f"{name}.log"
        if len(ends) > len(DELAYS):
            raise PermanentError(
                "airflow-keeps-ending",
                f"Airflow's {name} ended {len(ends)} times within {_SECONDS / 60:.0f} minutes; "
                f"the last line of {log} is: {_last_line(log)}",
                "correct what it says, then start Airflow again",
            )
        delay = DELAYS[len(ends) - 1]
        self._due[name] = now + delay
        self.say(f"Airflow's {name} ended by itself; it is started again in {delay:.0f} s. Its log: {log}")

    def _start(self, name: str) -> None:
        del self._due[name]
        # Its children can outlive it, and would work beside the new one's. A task that is asked to end would end its
        # job on RDS-SSH; one that is killed leaves it to the next try.
        self.stack.kill_component(name)
        self.stack.start_component(name)
        self.say(f"Airflow's {name} was started again.")


def _last_line(log: Path) -> str:
    """Return the last words of a log, fit for a sentence."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return f"(it cannot be read: {error.strerror})"
    said = [
        line
        for line in ("".join(c if c.isprintable() else " " for c in raw).strip() for raw in lines)
        if line
    ]
    return said[-1][:_LONGEST_LINE] if said else "(it is empty)"
