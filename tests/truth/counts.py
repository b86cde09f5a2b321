"""What a model test of truth tried, and what it found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


class Untrue(AssertionError):  # noqa: N818 - it is not an error of the test
    """Something was said, or done, that is not so."""


@dataclass
class Counts:
    """What was tried, and how it ended."""

    sequences: int = 0
    steps: int = 0
    runs: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    things: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    # The first sentence of each of them.
    sentences: dict[tuple[str, str], str] = field(default_factory=dict)
    shortest: dict[str, list[str]] = field(default_factory=dict)

    @property
    def verified(self) -> int:
        return sum(number for (*_, how), number in self.runs.items() if how == "VERIFIED")

    def took(self, what: str, seconds: float, how: str) -> None:
        """Keep how long a run took, to see what makes the test slow."""
        self.seconds[what] += seconds  # type: ignore[assignment]
        self.slowest = sorted([*self.slowest, (round(seconds, 1), how)])[-10:]

    def blame(self, reason: str, steps: list[str]) -> None:
        """Keep the shortest sequence that ended in something untrue."""
        kind = reason.split(":", 1)[0]
        if kind not in self.shortest or len(steps) < len(self.shortest[kind]):
            self.shortest[kind] = list(steps)

    def add(self, other: Counts) -> None:
        """Take in what another process counted."""
        self.sequences += other.sequences
        self.steps += other.steps
        self.runs.update(other.runs)
        self.things.update(other.things)
        self.errors.update(other.errors)
        self.seconds.update(other.seconds)
        self.sentences = other.sentences | self.sentences
        self.slowest = sorted([*self.slowest, *other.slowest])[-10:]
        for kind, steps in other.shortest.items():
            self.blame(kind, steps)

    def text(self) -> str:
        lines = [
            *(f"  {' '.join(key)}: {number}" for key, number in sorted(self.runs.items())),
            *(f"  {' '.join(key)}: {number}" for key, number in sorted(self.things.items())),
            *(
                f"  ended with {' in '.join(key)}: {number}; {self.sentences.get(key, '')}"
                for key, number in sorted(self.errors.items())
            ),
        ]
        lines += [f"  {what}: {seconds:.0f} s in all" for what, seconds in sorted(self.seconds.items())]
        lines += [f"  slowest: {seconds} s, {how}" for seconds, how in self.slowest]
        for kind, steps in self.shortest.items():
            lines += [f"UNTRUE, {kind}, the shortest sequence:", *(f"    {step}" for step in steps)]
        lines.append(
            f"sequences {self.sequences}, steps {self.steps}, VERIFIED said {self.verified} times, "
            f"false {len(self.shortest)}"
        )
        return "\n".join(lines)
