"""How much of a beamtime is at RDS: from its last plan and what came since, or from a comparison after that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beamferry.plan import TransferPlan
    from beamferry.verification import Verdict


@dataclass(frozen=True)
class Home:
    """What is at RDS and what is left; only what is fetched for sure is all of it.

    Args:
        bytes_done: bytes at RDS, verified or not.
        bytes_left: bytes still to fetch; 0 is no proof that all is there.
        files_done: files at RDS.
    """

    bytes_done: int
    bytes_left: int
    files_done: int


def whole(plan: TransferPlan) -> Home:
    """Return that all is there."""
    return Home(plan.bytes, 0, plan.files)


def planned(plan: TransferPlan, *came: tuple[int, int]) -> Home:
    """Return what a plan found at RDS and what came since.

    Args:
        plan: the last one.
        came: bytes and files that came, all folders together, as each source tells it; the most is true.
    """
    bytes_came = max((size for size, _ in came), default=0)
    files_came = max((files for _, files in came), default=0)
    return _part(
        plan, max(0, plan.todo_bytes - bytes_came), plan.files - max(0, plan.todo_files - files_came)
    )


def compared(plan: TransferPlan, verdict: Verdict) -> Home:
    """Return what a comparison found at RDS that shows no whole copy."""
    source, there = verdict.source, verdict.destination
    # What lies at RDS besides, or of another size, is nothing that came home; older verdicts do not tell it apart.
    bytes_there = there.bytes if verdict.there_bytes is None else verdict.there_bytes
    return _part(plan, max(0, source.bytes - bytes_there), min(source.files, there.files))


def _part(plan: TransferPlan, bytes_left: int, files_done: int) -> Home:
    # What counted its last byte may still find that a file has changed.
    return Home(
        bytes_done=max(0, min(plan.bytes - bytes_left, plan.bytes - 1)),
        bytes_left=bytes_left,
        files_done=max(0, min(files_done, plan.files - 1)),
    )
