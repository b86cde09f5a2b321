"""What is known of one beamtime, as its asset keeps it, read into types; what cannot be read is named, not hidden."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import AwareDatetime, Field, ValidationError

from beamferry.beamtime import Frozen
from beamferry.course import Course
from beamferry.fetched import Brought, Fetched, serves
from beamferry.forecast import Sample
from beamferry.home import Home, compared, planned, whole
from beamferry.metadata import Metadata
from beamferry.plan import TransferPlan
from beamferry.retry import Retry
from beamferry.verification import Outcome, Verdict, is_complete

if TYPE_CHECKING:
    from collections.abc import Mapping

_Model = TypeVar("_Model", bound=Frozen)
# The year 2100: a later second is damage, and no datetime may fail on it while alerts are made.
_LAST_SECOND = 4_102_444_800


class Rate(Frozen):
    """What the last transfer came to; ``bytes_per_second`` over all of it."""

    schema_version: Literal[1] = 1
    bytes_per_second: int
    bytes: int
    at: AwareDatetime


class Problem(Frozen):
    """What stopped the last run; ``since`` is when it first did so, ``at`` the last time."""

    schema_version: Literal[1] = 1
    code: str
    problem: str
    remedy: str
    task: str
    folder: str | None = None
    run_id: str
    try_number: int = 0
    at: AwareDatetime
    since: AwareDatetime | None = None

    @property
    def first_seen(self) -> datetime:
        """The moment at which this problem began."""
        return self.since or self.at


class Moving(Frozen):
    """How far a job on RDS-SSH is; ``updated`` in seconds since the epoch, ``history`` pairs of time and bytes."""

    schema_version: Literal[1] = 1
    phase: str
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    rate: int
    updated: int = Field(ge=0, le=_LAST_SECOND)
    part: str
    run_id: str
    history: tuple[tuple[int, int], ...] = Field((), strict=False)

    @property
    def at(self) -> datetime:
        """When this was so."""
        return datetime.fromtimestamp(self.updated, UTC)

    @property
    def moved_at(self) -> datetime:
        """When the last byte came, as far as the series says; a job that hangs goes on telling of itself."""
        since = self.updated
        for at, done in reversed(self.history):
            if done < self.bytes_done:
                break
            since = min(since, at)
        return datetime.fromtimestamp(max(since, 0), UTC)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The series of what was done by when."""
        return tuple(Sample(at, done) for at, done in self.history)


class Issued(Frozen):
    """Where the last certificate is and what it says; ``text`` is all of it, unless it is too long to be kept."""

    schema_version: Literal[1] = 1
    outcome: Outcome
    folder: str
    at: AwareDatetime
    run_id: str
    text: str | None = None


class LogIn(Frozen):
    """A person is asked to open a session: the command to type on RDS-SSH, and since when.

    ``ends`` is when the session that is open will end; None where there is none and a run waits.
    """

    schema_version: Literal[1] = 1
    command: str
    at: AwareDatetime
    ends: AwareDatetime | None = None


@dataclass(frozen=True)
class Known:
    """The state of a beamtime's asset.

    Args:
        plan: what the last dry run found.
        moving: how far the last job was.
        coming: how far the last transfer was, whatever other job came after it.
        fetching: which transfers of the last plan ended well.
        verification: the last comparison of both ends.
        rate: what the last transfer came to.
        problem: what stopped the last run, until that task succeeds or a certificate says verified.
        retry: what ended a try of a task that is tried again.
        certificate: the last one that was written.
        log_in: a log-in that a person is asked for.
        metadata: what the facility itself says of the beamtime.
        course: what was left by when, over all runs that ended.
        unreadable: keys whose values could not be read.
    """

    plan: TransferPlan | None = None
    moving: Moving | None = None
    coming: Moving | None = None
    fetching: Fetched | None = None
    verification: Verdict | None = None
    rate: Rate | None = None
    problem: Problem | None = None
    retry: Retry | None = None
    certificate: Issued | None = None
    log_in: LogIn | None = None
    metadata: Metadata | None = None
    course: Course | None = None
    unreadable: tuple[str, ...] = ()

    @classmethod
    def read(cls, state: Mapping[str, object]) -> Known:
        """Return what a state says; a value of another version or a damaged one counts as unknown and is named."""
        unreadable: list[str] = []

        def part(key: str, model: type[_Model]) -> _Model | None:
            value = state.get(key)
            if value is None:
                return None
            try:
                return model.model_validate(value, strict=False)
            except ValidationError:
                unreadable.append(key)
                return None

        fetching = part("fetched", Fetched)
        return cls(
            plan=part("plan", TransferPlan),
            moving=part("progress", Moving),
            coming=part("transfer", Moving),
            fetching=fetching and fetching.with_ends(part(key, Brought) for key in fetching.keys),
            verification=part("verification", Verdict),
            rate=part("rate", Rate),
            problem=part("problem", Problem),
            retry=part("retry", Retry),
            certificate=part("certificate", Issued),
            log_in=part("log_in", LogIn),
            metadata=part("metadata", Metadata),
            course=part("course", Course),
            unreadable=tuple(unreadable),
        )

    @property
    def verified(self) -> bool:
        """Whether the last comparison found a whole copy, be it that the source has got more since."""
        return self.verification is not None and is_complete(self.verification)

    @property
    def new_data(self) -> bool:
        """Whether a dry run after the last good comparison found something to fetch."""
        return (
            self.verified
            and self.verification is not None
            and self.plan is not None
            and self.plan.made_at > self.verification.checked_at
            and self.plan.todo_files > 0
        )

    @property
    def complete(self) -> bool:
        """Whether the copy is proved whole and nothing new was seen at the source since."""
        # A plan that cannot be read may be the one that found new data.
        return self.verified and not self.new_data and "plan" not in self.unreadable

    @property
    def open_problem(self) -> Problem | None:
        """What stopped the last run, unless a later comparison found a whole copy."""
        proof = self.verification if self.verified else None
        if self.problem is None or (proof is not None and proof.checked_at >= self.problem.at):
            return None
        return self.problem

    @property
    def fetched(self) -> Fetched | None:
        """Which transfers of the last plan ended well, None where that is not known."""
        found, plan = self.fetching, self.plan
        return None if found is None or plan is None or found.plan_made_at != plan.made_at else found

    @property
    def transfer(self) -> Moving | None:
        """How far the transfers are that serve the last plan, all folders together; None before they began."""
        last = self.moving if self.moving is not None and self.moving.part == "transfer" else None
        told, plan = self.coming or last, self.plan
        if told is None or plan is None:
            return told
        return told if serves(self.fetching, plan, told.run_id, told.at) else None

    @property
    def transferring(self) -> Moving | None:
        """The same while no other job has told of itself since."""
        return self.transfer if self.moving is None or self.moving.part == "transfer" else None

    @property
    def compared(self) -> Verdict | None:
        """The last comparison, None where a dry run, or one that cannot be read, has looked since."""
        verdict, plan = self.verification, self.plan
        if verdict is None or "plan" in self.unreadable:
            return None
        return verdict if plan is None or verdict.checked_at >= plan.made_at else None

    @property
    def all_fetched(self) -> bool:
        """Whether all that the last plan found is at RDS by size and time, and no comparison contradicts it."""
        contradicted = self.compared is not None and self.compared.outcome is not Outcome.VERIFIED
        if self.complete or self.plan is None or contradicted:
            return self.complete
        return self.plan.todo_files == 0 or (self.fetched is not None and self.fetched.whole)

    @property
    def home(self) -> Home | None:
        """How much is at RDS, None where no dry run has looked yet."""
        if self.plan is None:
            return None
        if self.all_fetched:
            return whole(self.plan)
        if self.compared is not None:
            return compared(self.plan, self.compared)
        came = () if self.transfer is None else ((self.transfer.bytes_done, self.transfer.files_done),)
        ended = () if self.fetched is None else ((self.fetched.bytes, self.fetched.files),)
        return planned(self.plan, *came, *ended)

    @property
    def bytes_total(self) -> int | None:
        """Bytes of the source, None where no dry run has looked yet."""
        return None if self.plan is None else self.plan.bytes

    @property
    def bytes_left(self) -> int | None:
        """Bytes still to fetch, None where no dry run has looked yet; 0 is no proof that all is there."""
        return 0 if self.complete else None if self.home is None else self.home.bytes_left

    @property
    def bytes_done(self) -> int | None:
        """Bytes at RDS, verified or not, None where no dry run has looked yet."""
        return None if self.home is None else self.home.bytes_done

    @property
    def whole_course(self) -> Course:
        """What was left by when, the transfer that goes on or was the last one included."""
        kept, plan, moving = self.course or Course(), self.plan, self.transfer
        if plan is None:
            return kept
        begun = kept.extended([(int(plan.made_at.timestamp()), plan.todo_bytes)])
        if moving is None:
            return begun
        return begun.extended((at, max(0, plan.todo_bytes - done)) for at, done in moving.history)

    @property
    def last_moved(self) -> datetime | None:
        """When bytes last came, None where that is not known."""
        times = [self.rate.at] if self.rate is not None else []
        times += [
            told.moved_at
            for told in (self.coming, self.moving)
            if told is not None and told.part == "transfer" and told.bytes_done > 0
        ]
        if self.fetching is not None and self.fetching.last_moved is not None:
            times.append(self.fetching.last_moved)
        return max(times, default=None)
