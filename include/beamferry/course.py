"""How what was left of a beamtime became less, over all its runs: what a burn-down plot draws."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from beamferry.beamtime import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

# As many as a plot of some hundred pixels shows; the state of a beamtime's asset is read as a whole.
KEPT = 240


class Course(Frozen):
    """Seconds since the epoch and bytes left to fetch then, each moment later than the one before."""

    schema_version: Literal[1] = 1
    left: tuple[tuple[int, int], ...] = Field((), strict=False)

    def extended(self, later: Iterable[tuple[int, int]]) -> Course:
        """Return the course with what happened since; what is not later than its end is known already."""
        series = list(self.left)
        for at, left in later:
            if not series or at > series[-1][0]:
                series.append((at, left))
        return Course(left=tuple(_thinned(series)))

    @property
    def rates(self) -> tuple[tuple[int, int], ...]:
        """Seconds since the epoch and bytes per second since the moment before; 0 where what was left grew."""
        return tuple(
            (after, max(0, round((left_before - left) / (after - before))))
            for (before, left_before), (after, left) in pairwise(self.left)
        )


def _thinned(series: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return at most ``KEPT`` moments: of those in the middle of a steady stretch, every second one goes."""
    while len(series) > KEPT:
        inner = [
            number
            for number in range(1, len(series) - 1)
            # Where it stood still or grew a plot has a corner, which must stay where it is.
            if series[number - 1][1] > series[number][1] > series[number + 1][1]
        ]
        gone = set(inner[::2])
        series = [one for number, one in enumerate(series) if number not in gone] if gone else series[-KEPT:]
    return series
