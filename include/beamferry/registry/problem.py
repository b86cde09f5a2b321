"""What is wrong in a registry, in words for the person who wrote it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Keys and positions from the top of the file on: ("beamtimes", 3, "source").
Where = tuple[str | int, ...]

_LONGEST_VALUE = 80


def spell(where: Where) -> str:
    """Return a place in the file as people write it, e.g. ``beamtimes[3].source``."""
    text = ""
    for step in where:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            # A key is whatever somebody typed; it must not break the one line that a problem has.
            name = step if re.fullmatch(r"[\w-]{1,80}", step) else shorten(repr(step))
            text += f".{name}" if text else name
    return text


def shorten(text: str) -> str:
    """Return the text, cut where it would fill the screen."""
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


@dataclass(frozen=True)
class Problem:
    """One thing to correct in a registry.

    Args:
        file: the registry.
        line: counted from 1; None where it is about the file as a whole.
        field: e.g. ``beamtimes[3].source``; empty where it is about the file as a whole.
        value: what stands there, quoted; empty where nothing does or it says nothing.
        message: completes "<field> ...".
        remedy: what to do about it.
    """

    file: Path
    line: int | None
    field: str
    value: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return the problem as one line, in the form that editors and terminals make a link of."""
        place = self.file.name if self.line is None else f"{self.file.name}:{self.line}"
        field = f" {self.field}" if self.field else ""
        got = f", got {self.value}" if self.value else ""
        return f"{place}{field}: {self.message}{got}: {self.remedy}"


class RegistryError(PermanentError):
    """The registry, or some entries of it, cannot be used.

    Args:
        problems: what is wrong, at least one.
        what: has them.
    """

    def __init__(self, problems: Sequence[Problem], what: str = "the registry") -> None:
        """Say how many there are, and then each on a line of its own."""
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        lines = "\n".join(str(problem) for problem in self.problems)
        super().__init__("registry-invalid", f"{what} has {count}", f"correct what follows\n{lines}")
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle by what the error was made of."""
        return type(self), (self.problems, self.what)
