"""How an entry at the source and its copy can differ, in words."""

from __future__ import annotations

from enum import StrEnum


class Difference(StrEnum):
    """How an entry at the source and its copy differ, the most alarming first; as the agent names them."""

    CONTENT = "content"
    UNSTABLE = "unstable"
    UNRESOLVED = "unresolved"
    MISSING = "missing"
    SIZE = "size"
    KIND = "kind"
    TARGET = "target"
    TIME = "time"
    CLOSED = "closed"
    CHANGING = "changing"
    UNCOPIED = "uncopied"
    EXTRA = "extra"

    @property
    def words(self) -> str:
        """What to say after a number or a name."""
        return _WORDS[self]


_WORDS = {
    Difference.CONTENT: "of the same size, but of other content at RDS",
    Difference.UNSTABLE: "read differently each time at the source, which is damaged there or being written",
    Difference.UNRESOLVED: "that differed before and could not be compared again: gone from the source, or left out",
    Difference.MISSING: "missing at RDS",
    Difference.SIZE: "of another size at RDS",
    Difference.KIND: "of another kind at RDS",
    Difference.TARGET: "linked to something else at RDS",
    Difference.TIME: "rewritten: the same size, but another time of change",
    Difference.CLOSED: "cannot be read by the group",
    Difference.CHANGING: "changed at the source since the transfer began",
    Difference.UNCOPIED: "of a kind that RDS does not keep",
    Difference.EXTRA: "at RDS only, left as it is",
}
