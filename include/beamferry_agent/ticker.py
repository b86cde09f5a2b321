"""What goes on beside a step: its progress is told every two seconds, and it is ended when nothing moves any more."""

import threading
import time
from types import TracebackType
from typing import Callable, FrozenSet, Optional, Type

from beamferry_agent.step import STALLED, Step, StepEnd
from beamferry_agent.tools import Tools

_SECONDS = 2
# Keep-alives of rsync are a few bytes each: less than this much in all that time is no progress.
STALL_BYTES = 4096


class Ticker:
    """Calls ``tick`` every two seconds within ``with``.

    ``stall``: seconds without movement after which all tools are ended, 0 for never; ``check`` then ends the step.
    ``movers``: names of the tools that move bytes.
    """

    def __init__(
        self,
        step: Step,
        tools: Tools,
        tick: Callable[[], None],
        *,
        stall: int = 0,
        movers: FrozenSet[str] = frozenset(),
    ) -> None:
        """Take what is to be told, and what is watched."""
        self._step, self._tools, self._tick = step, tools, tick
        self.stall, self._movers = stall, movers
        self._over = threading.Event()
        self._stalled = False
        self._mark, self._mark_at = 0, time.monotonic()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> "Ticker":
        """Begin."""
        self._mark, self._mark_at = self._tools.measure(self._movers), time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """End, once what is being told is told."""
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """End the step where it stood still; to be called before any other reason is looked for. Raises StepEnd."""
        if self._stalled:
            self._step.say("Nothing moved for {} seconds: the tools were stopped.".format(self.stall))
            raise StepEnd(STALLED)

    def _go_on(self) -> None:
        while True:
            try:
                self._tick()
                self._watch()
            except OSError as error:
                # A look at files that come and go may fail; the next one is due in two seconds.
                self._step.say("The progress cannot be told now: {}".format(error))
            if self._over.wait(_SECONDS):
                return

    def _watch(self) -> None:
        moved = self._tools.measure(self._movers)
        if moved - self._mark >= STALL_BYTES:
            self._mark, self._mark_at = moved, time.monotonic()
        elif self.stall and time.monotonic() - self._mark_at >= self.stall and not self._stalled:
            self._stalled = True
            self._tools.end_all(and_begin_no_more=True)
