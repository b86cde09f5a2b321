"""When a job on RDS-SSH is looked at: by the task itself in its first seconds, by the triggerer later."""

from __future__ import annotations

from itertools import chain, repeat
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Seconds between the first looks of the task that started a job, and between all that follow. A look reads one file
# over the connection that is open; what has nothing to do takes a second or less.
_FIRST, _THEN = (0.2,) * 5 + (0.4,) * 5 + (1.0,), 2.0
# Seconds after which a task that waits notices that it is asked to end: a signal does not end a sleep.
_STEP = 0.2
# Seconds after which a job is one that takes hours, and seconds between the looks at such a one.
LONG, SELDOM = 600, 30


def in_the_task(seconds: float) -> Iterator[float]:
    """Return how long a task waits before each of its looks at its job, which are so many seconds in all."""
    for pause in chain(_FIRST, repeat(_THEN)):
        if seconds <= 0:
            return
        yield min(pause, seconds)
        seconds -= pause


def pause(seconds: float, is_over: Callable[[], bool]) -> None:
    """Sleep for so long, or until it is over before that time."""
    end = monotonic() + seconds
    while not is_over() and (left := end - monotonic()) > 0:
        sleep(min(left, _STEP))


def until_next_look(waited: float, shortest: int) -> int:
    """Return the seconds until a trigger looks again, after it has looked for so many seconds already."""
    return shortest if waited < LONG else max(shortest, SELDOM)
