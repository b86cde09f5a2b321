"""Errors as sentences for the person who can act: what is wrong, and what to do about it."""

from __future__ import annotations


class BeamferryError(Exception):
    """Something stops a beamtime; says what is wrong and what to do.

    Args:
        code: short stable name of the fault, e.g. ``diamond-key-refused``, for tests, filters and the board.
        problem: one sentence that names the thing and the reason.
        remedy: one sentence that says what a person can do about it.
    """

    def __init__(self, code: str, problem: str, remedy: str) -> None:
        """Keep the three parts; the message joins the two sentences, and each text that shows them ends them itself."""
        # What a tool said may end a sentence already.
        problem, remedy = problem.rstrip(" ."), remedy.rstrip(" .")
        # All three go to Exception so that the error survives pickling and copying whole.
        super().__init__(code, problem, remedy)
        self.code = code
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        """Return the problem and its remedy as one line of text."""
        return f"{self.problem}: {self.remedy}"


class PermanentError(BeamferryError):
    """A person has to act first: trying again by itself cannot help."""


class TransientError(BeamferryError):
    """Trying again later may well help: a broken stream, a busy host, a time-out."""
