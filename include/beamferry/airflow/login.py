"""Waiting for a person who logs in: what a task does when the session is missing, and the triggers that wait."""

from __future__ import annotations

import asyncio
import shlex
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

import asyncssh
from airflow.providers.ssh.hooks.ssh import SSHHookAsync
from airflow.sdk.execution_time.context import AssetStateStoreAccessor
from airflow.triggers.base import BaseTrigger, TriggerEvent

from beamferry import login
from beamferry.agent import ask_job
from beamferry.airflow import notices
from beamferry.airflow.policy import POLL_SECONDS
from beamferry.airflow.task import BeamtimeTask
from beamferry.airflow.triggers import ENDED, RemoteJobTrigger, not_at_once, task_state
from beamferry.errors import BeamferryError, TransientError
from beamferry.known import LogIn
from beamferry.looks import until_next_look
from beamferry.remote import answer_of
from beamferry.rsync import ssh_words
from beamferry.ssh_complaints import refused_configuration

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from airflow.sdk import Context

    from beamferry.remote import Session

# Seconds for a look at the session; the agent waits up to ten for an ssh that does not answer.
CHECK_TIMEOUT = 30.0
# A person needs a minute to find a telephone: looking more often would be of no use to anybody.
LOOK_SECONDS = 3 * POLL_SECONDS
# Looks in a row for which RDS-SSH cannot be reached, before the task is tried again and names the reason.
FAILURES = 20
# An exit code that no process has: the job goes on, and the session under it will soon end.
NOTICE = -1
_CONNECTION_ERRORS = (OSError, asyncssh.Error, TimeoutError, TransientError)


class LogInTrigger(BaseTrigger):
    """Asks RDS-SSH every few seconds whether a person has opened the session; the facility is not asked.

    Args:
        ssh_conn_id: Airflow connection of RDS-SSH.
        check: command that looks, see ``login.check``.
        request: what the command reads from stdin.
        asset: name of the asset whose state says that a person is waited for.
        until: seconds since the epoch after which nobody is waited for.
        look_seconds: time between two looks.
    """

    def __init__(
        self,
        *,
        ssh_conn_id: str,
        check: list[str],
        asset: str,
        until: float,
        look_seconds: int,
        request: str = "",
    ) -> None:
        """Keep what is looked at; the connection is opened when the trigger runs."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.ssh_conn_id = ssh_conn_id
        self.check = check
        # An earlier version's command, which a task that waits may have, reads none.
        self.request = request
        self.asset = asset
        self.until = until
        self.look_seconds = look_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class and all that it takes to make it again in another triggerer."""
        names = ("ssh_conn_id", "check", "asset", "until", "look_seconds", "request")
        own = {name: getattr(self, name) for name in names}
        return f"{type(self).__module__}.{type(self).__qualname__}", own

    @not_at_once
    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Look until there is a session (``open``), the time is over, or RDS-SSH is lost (``lost``, its reason)."""
        conn: asyncssh.SSHClientConnection | None = None
        failures, began = 0, time.monotonic()
        try:
            while time.time() < self.until:
                try:
                    if conn is None:
                        conn = await SSHHookAsync(ssh_conn_id=self.ssh_conn_id).get_conn()
                    done = await conn.run(
                        shlex.join(self.check), input=self.request, timeout=CHECK_TIMEOUT, check=False
                    )
                    session = login.parse_session(answer_of(str(done.stdout or "")))
                except _CONNECTION_ERRORS as error:
                    # Another host key than the pinned one stays, however often it is looked at.
                    failures = FAILURES if isinstance(error, asyncssh.HostKeyNotVerifiable) else failures + 1
                    self.log.warning("RDS-SSH could not be asked (%d of %d): %s", failures, FAILURES, error)
                    await _close(conn)
                    conn = None
                    if failures == FAILURES:
                        yield TriggerEvent({"open": False, "lost": str(error) or type(error).__name__})
                        return
                else:
                    failures = 0
                    if session.open:
                        yield TriggerEvent({"open": True})
                        return
                await asyncio.sleep(until_next_look(time.monotonic() - began, self.look_seconds))
            yield TriggerEvent({"open": False})
        finally:
            await _close(conn)

    async def on_kill(self) -> None:
        """Forget that a person is waited for when a person stops the task, not when another triggerer has it."""
        if await task_state(self) in ENDED:
            await AssetStateStoreAccessor(name=self.asset).adelete("log_in")


async def _close(conn: asyncssh.SSHClientConnection | None) -> None:
    if conn is not None:
        conn.close()


class AttendedJobTrigger(RemoteJobTrigger):
    """Watches a job, and comes back before the session under it ends.

    Args:
        notice_at: seconds since the epoch at which a person should be told, None where nobody knows of an end.
        kwargs: what ``RemoteJobTrigger`` takes.
    """

    def __init__(self, *, notice_at: float | None = None, **kwargs: Any) -> None:
        """Keep the moment."""
        super().__init__(**kwargs)
        self.notice_at = notice_at

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class and all that it takes to make it again in another triggerer."""
        path, kwargs = super().serialize()
        return path, {**kwargs, "notice_at": self.notice_at}

    async def _check_completion(self, conn: Any) -> int | None:
        """Return the exit code of a job that ended, and ``NOTICE`` for one that goes on when the moment has come."""
        code = await super()._check_completion(conn)
        if code is None and self.notice_at is not None and time.time() >= self.notice_at:
            return NOTICE
        return code


class AttendedTask(BeamtimeTask):
    """A task whose way to the facility may be a person's session: it asks for one, waits without a worker, goes on."""

    def begin(self, context: Context) -> Any:
        """Do the task's work from its beginning; called again after each log-in."""
        raise NotImplementedError

    def session(self, rds: Session, *, lost: bool = False) -> login.Session:
        """Return how the person's session on RDS-SSH is; ``lost`` says that a job used it until just now."""
        question = login.check(self.beamtime, ssh_words(self.beamtime), lost=lost)
        session = login.parse_session(ask_job(rds, question, timeout=CHECK_TIMEOUT))
        # Whoever logged in would get nowhere.
        if not session.open and (refused := refused_configuration(session.reason)):
            raise refused
        return session

    def ask(self, context: Context, session: login.Session) -> NoReturn:
        """Ask for a log-in, in the task's log and by mail, and wait for it in the triggerer."""
        now = datetime.now(UTC)
        before = self.state.known("log_in").log_in
        asked = None if before is None or before.ends is not None else before.at
        began = context["dag_run"].start_date or now
        since = login.since(asked, began, now)
        wanted = LogIn(command=login.command(self.beamtime), at=since)
        self.state.set("log_in", wanted.model_dump(mode="json"))
        self.log.warning(login.wanted(self.beamtime, self.rds_hook.remote_host, session.node))
        notices.tell(self.beamtime, self.site)
        question = login.check(self.beamtime, ssh_words(self.beamtime))
        self.defer(
            trigger=LogInTrigger(
                ssh_conn_id=self.site.rds_connection,
                check=list(question.command),
                request=question.request,
                asset=self.beamtime.asset_name,
                until=login.until(since).timestamp(),
                look_seconds=LOOK_SECONDS,
            ),
            method_name="logged_in",
        )

    def logged_in(self, context: Context, event: dict[str, Any]) -> Any:
        """Begin over the new session, or say why there is none.

        Raises:
            PermanentError: nobody logged in.
            TransientError: RDS-SSH could not be asked any more.
        """
        with self.telling(context):
            if "lost" in event:
                # What stays is told by the connection itself.
                with self.rds():
                    pass
                raise TransientError(
                    "rds-ssh-lost",
                    f"RDS-SSH could not be asked whether somebody logged in ({event['lost']})",
                    "nothing to do: the next try goes on waiting",
                )
            self.state.forget("log_in")
            if not event["open"]:
                raise login.given_up(self.beamtime)
        self.log.info("Somebody logged in at %s; the run goes on over that session", self.beamtime.host)
        return self.begin(context)

    def ask_if_lost(self, context: Context, rds: Session, error: BeamferryError) -> None:
        """Wait for a new log-in when the session is gone; return where the error has another cause."""
        if not self.beamtime.interactive or not isinstance(error, TransientError):
            return
        session = self.session(rds, lost=True)
        if not session.open:
            self.log.warning("%s", error)
            self.ask(context, session)

    def notice_at(self, rds: Session) -> float | None:
        """Return the second since the epoch at which a person should be told that the session will end, if any."""
        if not self.beamtime.interactive:
            return None
        moment = login.notice_at(self.session(rds), datetime.now(UTC))
        return None if moment is None else moment.timestamp()

    def give_notice(self, rds: Session) -> None:
        """Tell by mail, once, that the session will end soon and how to renew it."""
        now = datetime.now(UTC)
        session = self.session(rds)
        moment, ends = login.notice_at(session, now), session.ends(now)
        if moment is None or ends is None or moment > now:
            # Somebody renewed it meanwhile.
            return
        before = self.state.known("log_in").log_in
        at = now if before is None else login.told_at(before.at, before.ends, ends, now)
        wanted = LogIn(command=login.renewal(self.beamtime), at=at, ends=ends)
        self.state.set("log_in", wanted.model_dump(mode="json"))
        self.log.warning("The session at %s will end about %s: %s", self.beamtime.host, ends, wanted.command)
        notices.tell(self.beamtime, self.site)
