"""What all tasks of a beamtime share: the mode decides whether they run, a connection, and errors that stay."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException
from pydantic import TypeAdapter, ValidationError

from beamferry.access import Facts
from beamferry.airflow import policy, secret
from beamferry.airflow.decisive import RunRecords
from beamferry.airflow.params import Options
from beamferry.airflow.policy import skip_reason
from beamferry.airflow.session import session_over
from beamferry.airflow.state import BeamtimeState
from beamferry.engine import Engine, engine
from beamferry.errors import BeamferryError, TransientError
from beamferry.known import Problem
from beamferry.plan import TransferPlan
from beamferry.retry import Retry, next_try

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from beamferry.beamtime import Beamtime, Site
    from beamferry.remote import Session


class BeamtimeTask(BaseOperator):
    """The task of one beamtime; stands before the operator whose work it does.

    Args:
        beamtime: the registry's entry.
        site: the group's own side.
        kwargs: what the operator takes.
    """

    # The file on RDS-SSH that was handed over for this try's job.
    secret: str | None = None

    def __init__(self, *, beamtime: Beamtime, site: Site, **kwargs: Any) -> None:
        """Keep both models; they come from the registry again each time the DAG is parsed."""
        super().__init__(**kwargs)
        self.beamtime = beamtime
        self.site = site

    @property
    def state(self) -> BeamtimeState:
        """What is known of this beamtime."""
        return BeamtimeState(self.beamtime.asset_name)

    @cached_property
    def rds_hook(self) -> SSHHook:
        """The connection to RDS-SSH; it refuses a host key that is not the pinned one."""
        return SSHHook(ssh_conn_id=self.site.rds_connection, conn_retry_attempts=1)

    @property
    def engine(self) -> Engine:
        """What brings this beamtime home."""
        return engine(self.beamtime, self.site, self.secret)

    def hand_over_secret(self, session: Session, part: str) -> None:
        """Put the password of the facility's account on RDS-SSH for a job, if this beamtime needs one."""
        self.secret = secret.hand_over(session, self.beamtime, part)

    def chosen(self, context: Context) -> Options:
        """Return what the run was asked to do; skip this task when that leaves it out.

        Raises:
            AirflowSkipException: the task is no part of this run.
        """
        options = Options.of(context["params"])
        reason = skip_reason(
            self.task_id,
            mode=options.mode,
            scheduled=context["dag_run"].run_type == "scheduled",
            now=pendulum.now("UTC"),
            tape_day=self.beamtime.tape_day,
        )
        if reason is not None:
            raise AirflowSkipException(reason)
        return options

    def records(self, context: Context) -> RunRecords:
        """What this run decides by."""
        return RunRecords(self.beamtime.key, context["run_id"])

    def facts(self, context: Context, session: Session) -> Facts:
        """Return what the probe of this run saw."""
        return Facts(
            TypeAdapter(dict[str, str]).validate_python(self.records(context).read(session, "facts"))
        )

    def plan(self, context: Context, session: Session) -> TransferPlan | None:
        """Return this run's plan, None where it made none."""
        kept = self.records(context).read_if_made(session, "plan")
        return None if kept is None else TransferPlan.model_validate(kept, strict=False)

    def last_plan(self, context: Context, session: Session) -> TransferPlan | None:
        """Return the last plan of any run, None where there was none, or it is of another version."""
        kept = self.records(context).last(session, "plan")
        try:
            return None if kept is None else TransferPlan.model_validate(kept, strict=False)
        except ValidationError:
            # It cannot be compared with; this run writes it anew.
            return None

    @contextmanager
    def rds(self) -> Iterator[Session]:
        """Open a connection to RDS-SSH with this version's scripts in place.

        Raises:
            PermanentError: RDS-SSH shows another host key, or refuses the log-in.
            TransientError: RDS-SSH cannot be reached, or the connection broke.
        """
        with session_over(self.rds_hook) as session:
            yield session

    @property
    def of_folder(self) -> str | None:
        """The folder that this task is for where there is one for each, None where it is for the whole beamtime."""
        return None

    @contextmanager
    def telling(self, context: Context) -> Iterator[None]:
        """Keep an error's sentence and remedy with the beamtime, for the board and the mails, and pass it on."""
        try:
            yield
        except BeamferryError as error:
            if isinstance(error, TransientError) and self.retries_left(context):
                self.record_retry(error, context)
            else:
                self.record(error, context)
            raise

    def retries_left(self, context: Context) -> bool:
        """Say whether Airflow tries this task again after an error that allows it."""
        return context["ti"].try_number <= context["ti"].max_tries

    def _fault(self, error: BeamferryError, context: Context) -> dict[str, Any]:
        """Return what is kept of an error, whether it is tried again or not."""
        return {
            "code": error.code,
            "problem": error.problem[:1000],
            "remedy": error.remedy[:1000],
            "task": self.task_id,
            "folder": self.of_folder,
            "run_id": context["run_id"],
            "try_number": context["ti"].try_number,
        }

    def record_retry(self, error: BeamferryError, context: Context) -> None:
        """Keep that a try ended and when the next one begins; nobody has to act, so it is no problem."""
        ti, now = context["ti"], datetime.now(UTC)
        retries = int(self.retries or 0)
        retry = Retry(
            **self._fault(error, context),
            at=now,
            again_at=next_try(
                dag_id=ti.dag_id,
                task_id=self.task_id,
                logical_date=context["dag_run"].logical_date,
                try_number=ti.try_number,
                delay=policy.RETRY_DELAY,
                longest=policy.MAX_RETRY_DELAY,
                ended=now,
            ),
            # A task that a person cleared has all of its retries again.
            number=ti.try_number - (ti.max_tries - retries),
            of=retries,
        )
        self.state.set("retry", retry.model_dump(mode="json"))

    def record(self, error: BeamferryError, context: Context) -> None:
        """Keep what stopped a run with the beamtime; a fault that comes again every night is one fault."""
        known = self.state.known("problem", "retry")
        at, before = datetime.now(UTC), known.problem
        same = before is not None and (before.code, before.task) == (error.code, self.task_id)
        problem = Problem(
            **self._fault(error, context),
            at=at,
            # People are told of a fault once.
            since=before.first_seen if same and before is not None else at,
        )
        self.state.set("problem", problem.model_dump(mode="json"))
        if known.retry is not None and self.is_mine(known.retry):
            self.state.forget("retry")

    def is_mine(self, fault: Problem | Retry) -> bool:
        """Say whether a fault is of this task and folder, in whatever run."""
        return (fault.task, fault.folder) == (self.task_id, self.of_folder)

    def is_of(self, fault: Problem | Retry | None, context: Context) -> bool:
        """Say whether a fault is of this very try."""
        if fault is None or not self.is_mine(fault):
            return False
        return (fault.run_id, fault.try_number) == (context["run_id"], context["ti"].try_number)

    def heal(self) -> None:
        """Forget the faults of this task and folder, now that it succeeded; those of others stay."""
        known = self.state.known("problem", "retry")
        if known.problem is not None and self.is_mine(known.problem):
            self.state.forget("problem")
        if known.retry is not None and self.is_mine(known.retry):
            self.state.forget("retry")
