"""Operators whose work is a job on RDS-SSH: start it or attach to it, wait without a worker, read its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn
from zoneinfo import ZoneInfo

from airflow.providers.ssh.operators.ssh_remote_job import SSHRemoteJobOperator
from pydantic import TypeAdapter, ValidationError

from beamferry.agent import ask_job
from beamferry.airflow.installation import installation
from beamferry.airflow.login import NOTICE, AttendedJobTrigger, AttendedTask
from beamferry.airflow.policy import POLL_SECONDS, WAIT_SECONDS
from beamferry.airflow.triggers import ENDED, KILLED, OtherJobTrigger, state_now
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.looks import in_the_task, pause
from beamferry.remote import Job, Status, parse_status
from beamferry.remote.starts import Busy, Started, parse_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

    from beamferry.engine import Call
    from beamferry.remote import Session

# Reconnects of the triggerer before a task gives up and is tried again by its policy: about ten minutes.
RECONNECTS = 20
# Seconds for what the agent is asked of a job; "stop" waits up to 15 seconds for a process group to end.
VERB_TIMEOUT = 90.0
# A worker's task that is ended has five seconds left, in which it may have to ask twice for its state.
WORKER_TIMEOUT = 1.5


@dataclass(frozen=True)
class Ended:
    """How a job ended: its exit code, its result (integers and fixed words), and what the tools complained of."""

    exit_code: int
    result: dict[str, Any]
    errors: str
    stats: str


class RemoteJobOperator(AttendedTask, SSHRemoteJobOperator):
    """The provider's remote job, with a job that is the same for every try.

    The provider names a job by the try, so that a retry starts a second copy beside the first; here the folder
    on RDS-SSH is the beamtime's, and starting again attaches to what runs. Subclasses say what the job is and
    what its result means.
    """

    # Nothing is rendered: a path from the registry may hold what looks like a template.
    template_fields: Sequence[str] = ()
    part: ClassVar[str]
    # The start of the job that this try has to do with, and the try; for `on_kill`.
    generation: str | None = None
    of: Any = None
    # Whether somebody asked this task to end; it then waits no longer itself, and says nothing of how its job ended.
    asked_to_end: bool = False
    # Whether the job talks to the facility.
    reaches_out: ClassVar[bool] = True

    def __init__(self, **kwargs: Any) -> None:
        """Fix what the provider leaves open."""
        super().__init__(
            ssh_conn_id=kwargs["site"].rds_connection,
            command=self.part,
            remote_os="posix",
            poll_interval=POLL_SECONDS,
            max_reconnect_attempts=RECONNECTS,
            **kwargs,
        )

    @property
    def job(self) -> Job:
        """The job on RDS-SSH."""
        return Job(self.beamtime.key, self.part)

    def call(self, context: Context, session: Session) -> Call:
        """Return the step and its arguments; the same for every try of a run, or a retry could not attach."""
        raise NotImplementedError

    def finish(self, context: Context, session: Session, ended: Ended) -> JsonValue:
        """Interpret a job that ended and return a small value, or raise what went wrong."""
        raise NotImplementedError

    def raise_for(self, ended: Ended) -> None:
        """Raise what a job's exit code and the tools' complaints mean, if it did not succeed.

        Raises:
            BeamferryError: with the sentence and the remedy.
        """
        error = self.engine.interpret(ended.exit_code, ended.errors)
        if error is not None:
            raise error

    def execute(self, context: Context) -> Any:
        """Start the job, or attach to it, and wait for it: here for some seconds, then in the triggerer."""
        return self.begin(context)

    def begin(self, context: Context) -> Any:
        """Start the job, over a person's session if there is to be one."""
        self.chosen(context)
        with self.telling(context), self.rds() as session:
            if self.reaches_out and self.beamtime.interactive:
                persons = self.session(session)
                if not persons.open:
                    self.ask(context, persons)
            notice_at = self.notice_at(session) if self.reaches_out else None
            self.hand_over_secret(session, self.part)
            # What this job tells takes the place of what the last one told, which may have ended without a word.
            self.state.keep_course()
            how = self.start(context, session)
            if isinstance(how, Busy):
                self.wait_for(how)
            self.generation, self.of = how.generation, context["ti"]
            self.log.info("Job '%s' on RDS-SSH: %s", self.part, how.how)
            if (status := self.wait_here(context, session, how)) is not None:
                return self.conclude(context, session, status)
        # That somebody ended the task in its last seconds may not be told to it any more.
        self.stop_if_over()
        return self.wait(context, notice_at, how.generation)

    def wait_here(self, context: Context, session: Session, how: Started) -> Status | None:
        """Ask for the job some seconds long; return how it ended, None where the triggerer has to wait for it."""
        told = None
        pauses = (0.0,) if how.how == "finished" else in_the_task(WAIT_SECONDS)
        for looks, seconds in enumerate(pauses, 1):
            pause(seconds, lambda: self.asked_to_end)
            if self.asked_to_end:
                return None
            try:
                status = self.status(session)
            except BeamferryError as error:
                self.log.warning("The triggerer connects anew: the job could not be asked for: %s", error)
                return None
            if self.asked_to_end or status.generation != how.generation:
                return None
            if status.progress is not None and status.progress != told:
                if self.state.tell(status.progress, part=self.part, run_id=context["run_id"]):
                    told = status.progress
                else:
                    self.log.warning("Progress could not be stored; the next look tries again")
            if status.state != "running":
                said = session.read(f"{self.job.folder}/log").rstrip()
                self.log.info(
                    "The job ended while the task waited, asked %d times%s", looks, said and f"\n{said}"
                )
                return status
        return None

    def status(self, session: Session) -> Status:
        """Ask how the job is."""
        return parse_status(ask_job(session, self.job.verb("status"), timeout=VERB_TIMEOUT))

    def start(self, context: Context, session: Session) -> Started | Busy:
        """Start the job on RDS-SSH; a start that fails leaves no password there."""
        try:
            question = self.job.start(
                context["run_id"],
                *self.call(context, session),
                destination=self.beamtime.destination_path(self.site),
                owner=installation(self.state),
            )
            how = parse_start(ask_job(session, question, timeout=VERB_TIMEOUT))
        except PermanentError:
            # One whose answer was lost may run all the same, and needs it; if it does not, the next start removes it.
            if self.secret is not None:
                session.remove(self.secret)
            raise
        for sentence in how.told:
            self.log.warning("RDS-SSH: %s", sentence)
        return how

    def wait_for(self, other: Busy) -> NoReturn:
        """Wait in the triggerer until somebody else's job has ended, and begin then.

        Raises:
            TransientError: nobody knows of a job to wait for.
        """
        zone = ZoneInfo(self.site.time_zone)
        beamtime, _, part = other.job.partition("/")
        if not part or other.reason == "unread":
            raise other.error(self.beamtime.key, zone)
        self.log.warning("This run waits: %s", other.sentence(self.beamtime.key, zone))
        self.defer(trigger=OtherJobTrigger(**self.watching(Job(beamtime, part))), method_name="other_ended")

    def other_ended(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ARG002
        """Begin, now that the job of somebody else has ended; if it has not, that is said once more."""
        return self.begin(context)

    def watching(self, job: Job) -> dict[str, Any]:
        """Return what every trigger takes that watches a job on RDS-SSH."""
        return {
            "beamtime": job.beamtime,
            "part": job.part,
            "ssh_conn_id": self.ssh_conn_id,
            "remote_host": None,
            "job_id": job.part,
            "job_dir": job.folder,
            "log_file": f"{job.folder}/log",
            "exit_code_file": f"{job.folder}/exit_code",
            "remote_os": "posix",
            "poll_interval": self.poll_interval,
            "max_reconnect_attempts": self.max_reconnect_attempts,
        }

    def wait(self, context: Context, notice_at: float | None, generation: str | None) -> None:
        """Hand over to the triggerer; no worker slot is held meanwhile."""
        self.defer(
            trigger=AttendedJobTrigger(
                notice_at=notice_at,
                asset=self.beamtime.asset_name,
                run_id=context["run_id"],
                generation=generation,
                **self.watching(self.job),
            ),
            method_name="execute_complete",
            kwargs={"generation": generation},
        )

    def execute_complete(self, context: Context, event: dict[str, Any], generation: str | None = None) -> Any:
        """Read the result from its own file on RDS-SSH and say what it means."""
        self.generation, self.of = generation, context["ti"]
        with self.telling(context), self.rds() as session:
            status = self.status(session)
            if generation is not None and status.generation != generation:
                raise TransientError(
                    "job-replaced",
                    f"Job '{self.part}' on RDS-SSH is not the one that this run started: its folder was removed, "
                    "or somebody else has started the job since",
                    "nothing to do: the next try starts it, or waits for the other one",
                )
            if status.state == "running" and event.get("exit_code") == NOTICE:
                self.give_notice(session)
                return self.wait(context, None, generation)
            if status.state == "running":
                raise TransientError(
                    "rds-ssh-lost",
                    f"RDS-SSH could not be asked for the job any more ({event.get('message')}); the job goes on",
                    "nothing to do: the next try attaches to it",
                )
            return self.conclude(context, session, status)

    def conclude(self, context: Context, session: Session, status: Status) -> JsonValue:
        """Read the result of a job that ended and say what it means."""
        if status.exit_code is None:
            # Nobody wrote down how it ended: the home folder may take nothing more.
            session.prove(self.job.folder)
        ended = self.read_end(session, KILLED if status.exit_code is None else status.exit_code)
        try:
            value = self.finish(context, session, ended)
        except BeamferryError as error:
            ask_job(session, self.job.verb("acknowledge"), timeout=VERB_TIMEOUT)
            if self.reaches_out:
                self.ask_if_lost(context, session, error)
            raise
        # From here on a start of the same job begins afresh: a person who clears the task means that.
        ask_job(session, self.job.verb("acknowledge"), timeout=VERB_TIMEOUT)
        return value

    def read_end(self, session: Session, exit_code: int) -> Ended:
        """Read what the job left behind.

        Raises:
            TransientError: its result is not what a job writes; the next start puts that aside and does the job again.
        """
        raw = session.read(f"{self.job.folder}/result.json")
        try:
            result = TypeAdapter(dict[str, Any]).validate_json(raw) if raw else {}
        except ValidationError as error:
            raise TransientError(
                "job-result-unreadable",
                f"The result of job '{self.part}' on RDS-SSH is unreadable ({error.errors()[0]['msg']})",
                "the job is done again; if it stays, see that the home folder there is not full",
            ) from error
        return Ended(
            exit_code,
            result,
            session.read(f"{self.job.folder}/errors"),
            session.read(f"{self.job.folder}/stats"),
        )

    def on_kill(self) -> None:
        """Stop the job's processes when a person stops the task before it waits in the triggerer.

        A worker that is shut down ends its tasks in the same way; then the job goes on, and the next try attaches.
        """
        self.asked_to_end = True
        # Nothing can be asked while the task itself asks Airflow something: then it looks again afterwards.
        if self.generation is not None and (state := self.stop_if_over()) not in ENDED:
            self.log.warning("The job on RDS-SSH goes on for the next try, as the task is %s", state)

    def stop_if_over(self) -> str:
        """Stop the job's processes where a person ended the task for good; return the task's state."""
        state = state_now(self.of, WORKER_TIMEOUT)
        if state in ENDED:
            with self.rds() as session:
                stop = self.job.stop(generation=self.generation)
                self.log.info("Stopped: %s", ask_job(session, stop, timeout=VERB_TIMEOUT))
        return state
