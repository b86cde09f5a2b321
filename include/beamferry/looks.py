"""When a job on RDS-SSH is looked at: by the task itself in its first seconds, by the triggerer later."""

from __future__ import annotations

# Seconds between the looks of the task that started a job; most jobs that have nothing to do end meanwhile, and a
# worker is held no longer than this for one that goes on.
IN_THE_TASK = (0.3, 0.5, 1.0, *(2.0,) * 6)
# Seconds after which a job is one that takes hours, and seconds between the looks at such a one.
LONG, SELDOM = 600, 30


def until_next_look(waited: float, shortest: int) -> int:
    """Return the seconds until a trigger looks again, after it has looked for so many seconds already."""
    return shortest if waited < LONG else max(shortest, SELDOM)
