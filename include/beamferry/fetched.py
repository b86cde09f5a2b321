"""What the transfers of one plan have brought: a fact of the whole beamtime, however many transfers it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from beamferry.beamtime import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from beamferry.plan import TransferPlan

# More than Airflow makes of one task; a damaged number must not be counted up to.
_MOST = 100_000
# The keys under which transfers keep their ends begin so.
ENDS = "fetched/"


class Brought(Frozen):
    """What one transfer of a plan brought, kept by that transfer alone, and only when it ended well.

    Args:
        plan_made_at: the plan that it served.
        bytes: what it moved.
        files: the same.
        at: when it ended.
    """

    schema_version: Literal[1] = 1
    plan_made_at: AwareDatetime
    bytes: int
    files: int
    at: AwareDatetime


class Fetched(Frozen):
    """How many transfers a plan takes, and which of them ended well; over FTP and SFTP there is one for each folder.

    Each transfer keeps its end under a key of its own: two that end at once cannot overwrite each other's.

    Args:
        plan_made_at: the plan that they serve.
        run_id: the run that made the plan.
        transfers: how many it takes; 0 where nothing is to be fetched.
        moved_at: when the last byte came before this plan, None where that is not known.
        ended: what those brought that ended well.
    """

    schema_version: Literal[1] = 1
    plan_made_at: AwareDatetime
    run_id: str
    transfers: int = Field(ge=0, le=_MOST)
    moved_at: AwareDatetime | None = None
    ended: tuple[Brought, ...] = Field((), exclude=True)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys under which its transfers keep their ends."""
        return tuple(key_of(number) for number in range(self.transfers))

    @property
    def whole(self) -> bool:
        """Whether every one of them ended well; a task that a person marked as done has not."""
        return len(self.ended) >= self.transfers

    @property
    def bytes(self) -> int:
        """What those brought that ended well."""
        return sum(one.bytes for one in self.ended)

    @property
    def files(self) -> int:
        """The same in files."""
        return sum(one.files for one in self.ended)

    @property
    def last_moved(self) -> datetime | None:
        """When one of them that brought anything ended, or when bytes came before."""
        times = [one.at for one in self.ended if one.bytes > 0]
        return max(times, default=self.moved_at)

    def with_ends(self, found: Iterable[Brought | None]) -> Fetched:
        """Return the same with what its transfers kept, each in its place; what served another plan does not count."""
        ours = [one for one in found if one is not None and one.plan_made_at == self.plan_made_at]
        return self.model_copy(update={"ended": tuple(ours[: self.transfers])})


def serves(fetching: Fetched | None, plan: TransferPlan, run_id: str, at: datetime) -> bool:
    """Say whether a transfer serves a plan: two clocks tell when either was, one name tells the run.

    Args:
        fetching: what is kept of the plan's transfers; None where an earlier version made the plan.
        plan: the plan.
        run_id: the run of the transfer.
        at: when the transfer told of itself, by the clock of RDS-SSH.
    """
    if fetching is None:
        return at >= plan.made_at
    return (fetching.plan_made_at, fetching.run_id) == (plan.made_at, run_id)


def key_of(number: int) -> str:
    """Return the key under which a transfer of a run keeps its end, by its number among them."""
    return f"{ENDS}{number}"
