"""Watches a remote job from the triggerer and tells how far it is."""

from __future__ import annotations

import asyncio
import shlex
import threading
import time
from concurrent.futures import Future
from contextlib import aclosing
from functools import wraps
from typing import TYPE_CHECKING, Any

import asyncssh
from airflow.providers.ssh.triggers.ssh_remote_job import SSHRemoteJobTrigger
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from beamferry.airflow.state import BeamtimeState
from beamferry.errors import TransientError
from beamferry.forecast import Sample, recorded
from beamferry.looks import until_next_look
from beamferry.remote import Job, Progress, Question, Status, answer_of, parse_status
from beamferry.remote.installing import install

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from airflow.triggers.base import BaseTrigger, TriggerEvent

# Seconds from its start in which no trigger fires. Airflow 3.3.2 takes the executor's late "success" of a task that
# has just deferred for a kill where the trigger was faster than the scheduler's loop (apache/airflow#67287, #72716).
# On a busy machine that loop stands still for up to ten seconds; five more are for what it then has to do.
QUIET_SECONDS = 15.0
# What a shell reports for a process that was killed; the operator reads it as "died, start again".
KILLED = 137
# A job leaves a sign of life every two seconds; one that left none for so long may be dead, and the agent knows.
SILENCE_SECONDS = 15.0
STATUS_LIMIT = 64 * 1024
# Seconds of the thirty that Airflow gives a trigger that it cancels.
STATE_TIMEOUT = 15.0
# States of a task that does not go on: only then is its job of use to nobody.
ENDED = frozenset({"failed", "success", "skipped", "upstream_failed", "removed"})


def _ask(of: Any) -> str:
    found = RuntimeTaskInstance.get_task_states(
        dag_id=of.dag_id, task_ids=[of.task_id], run_ids=[of.run_id], map_index=of.map_index
    )
    states = list(found.get(of.run_id, {}).values())
    if not states:
        return "removed"
    return "none" if states[0] is None else str(states[0])


def state_now(of: Any, timeout: float) -> str:
    """Return the state of a task instance, ``removed`` where its run is gone, ``unknown`` if nobody says in time.

    Asks in a thread of its own: a signal may have come while the caller was itself waiting for Airflow's answer.
    """
    answer: Future[str] = Future()

    def ask() -> None:
        try:
            answer.set_result(_ask(of))
        except AirflowRuntimeError:
            answer.set_result("unknown")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(timeout=timeout)
    except TimeoutError:
        return "unknown"


async def task_state(trigger: BaseTrigger) -> str:
    """Return the state of the task that waits in the triggerer."""
    return (
        "unknown"
        if trigger.task_instance is None
        else await asyncio.to_thread(state_now, trigger.task_instance, STATE_TIMEOUT)
    )


def not_at_once(
    run: Callable[[Any], AsyncGenerator[TriggerEvent]],
) -> Callable[[Any], AsyncIterator[TriggerEvent]]:
    """Keep back what a trigger's ``run`` has to say until the scheduler knows that the task waits."""

    @wraps(run)
    async def later(trigger: Any) -> AsyncIterator[TriggerEvent]:
        began = time.monotonic()
        async with aclosing(run(trigger)) as events:
            async for event in events:
                await asyncio.sleep(max(0.0, QUIET_SECONDS - (time.monotonic() - began)))
                yield event

    return later


# What a server said of a file, unlike the loss of the channel on which it says so.
_LOST_CHANNEL = (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)


class NotReachedError(Exception):
    """RDS-SSH answers, and there is no use in connecting once more: the worker's own connection names the reason."""


class _Watching(SSHRemoteJobTrigger):
    """The provider's trigger for one of our jobs.

    Args:
        beamtime: the beamtime's key.
        part: the part of its work that the job does.
        kwargs: what the provider's trigger takes.
    """

    def __init__(self, *, beamtime: str, part: str, **kwargs: Any) -> None:
        """Keep what names the job; the connection is opened when the trigger runs."""
        super().__init__(**kwargs)
        self.beamtime = beamtime
        self.part = part
        self._shortest = self.poll_interval
        self._began = time.monotonic()
        self._channel: tuple[Any, asyncssh.SFTPClient] | None = None
        self._beat: tuple[str | None, int] | None = None
        self._beat_at = 0.0

    @property
    def job(self) -> Job:
        """The job that is watched."""
        return Job(self.beamtime, self.part)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class and all that it takes to make it again in another triggerer."""
        _, kwargs = super().serialize()
        own = {"beamtime": self.beamtime, "part": self.part, "poll_interval": self._shortest}
        return f"{type(self).__module__}.{type(self).__qualname__}", {**kwargs, **own}

    @not_at_once
    async def run(self) -> AsyncGenerator[TriggerEvent]:
        """Look until there is something to say, and less often later."""
        self._began = time.monotonic()
        async for event in super().run():
            yield event

    async def _connect(self) -> Any:
        """Connect, and bring the scripts: after an upgrade no task may have done so yet.

        Raises:
            NotReachedError: another host key than the pinned one, or a home folder that takes no scripts.
        """
        try:
            conn = await super()._connect()
        except asyncssh.HostKeyNotVerifiable as error:
            raise NotReachedError(f"host key of RDS-SSH: {error}") from error
        try:
            await asyncio.wait_for(install(conn), timeout=self.command_timeout)
        except _LOST_CHANNEL:
            await self._close(conn)
            raise
        except asyncssh.SFTPError as error:
            await self._close(conn)
            raise NotReachedError(f"scripts for RDS-SSH: {error or type(error).__name__}") from error
        return conn

    async def _files(self, conn: Any) -> asyncssh.SFTPClient:
        """Return the one SFTP channel of a connection: to read a file over it starts no process there."""
        if self._channel is None or self._channel[0] is not conn:
            self._channel = (conn, await conn.start_sftp_client())
        return self._channel[1]

    async def _read(self, conn: Any, path: str, offset: int, limit: int) -> bytes | None:
        """Return what a file holds from an offset on, None where there is none that can be read."""

        async def read() -> bytes:
            async with (await self._files(conn)).open(path, "rb") as file:
                found = await file.read(limit, offset)
                return found if isinstance(found, bytes) else found.encode()

        try:
            return await asyncio.wait_for(read(), timeout=self.command_timeout)
        except _LOST_CHANNEL:
            raise
        except asyncssh.SFTPError:
            return None

    async def _told(self, conn: Any) -> Status | None:
        """Return what the job itself tells, None where it tells nothing, or has told nothing new for long."""
        text = await self._read(conn, self.job.status_file, 0, STATUS_LIMIT)
        try:
            status = parse_status((text or b"").decode("utf-8", "replace"))
        except TransientError:
            return None
        if status.state == "running":
            now, beat = time.monotonic(), (status.generation, status.beat)
            if beat != self._beat:
                self._beat, self._beat_at = beat, now
            elif now - self._beat_at > SILENCE_SECONDS:
                return None
        return status

    async def _status(self, conn: Any) -> Status:
        """Look for the job, and have the agent look where the job itself tells nothing.

        Raises:
            ConnectionError: the answer is not readable; the base class reconnects, and gives up after its limit.
        """
        self.poll_interval = until_next_look(time.monotonic() - self._began, self._shortest)
        if (told := await self._told(conn)) is not None:
            return told
        try:
            return parse_status(await self._ask(conn, self.job.verb("status")))
        except TransientError as error:
            raise ConnectionError(str(error)) from error

    async def _ask(self, conn: Any, question: Question) -> str:
        """Return what the agent answers, '' where it gives no answer."""
        done = await conn.run(
            shlex.join(question.command), input=question.request, timeout=self.command_timeout, check=False
        )
        return answer_of(str(done.stdout or ""))

    async def _read_log_chunk(self, conn: Any) -> tuple[str, int]:
        """Return what the log has told since the last look, and where that ends."""
        found = await self._read(conn, self.log_file, self.log_offset, self.log_chunk_size) or b""
        return found.decode("utf-8", "replace"), self.log_offset + len(found)


class OtherJobTrigger(_Watching):
    """Waits until a job has ended that is somebody else's, and never stops it."""

    async def _check_completion(self, conn: Any) -> int | None:
        """Return 0 when it does not run any more, however it ended."""
        return None if (await self._status(conn)).state == "running" else 0

    async def _read_log_chunk(self, conn: Any) -> tuple[str, int]:  # noqa: ARG002
        """Leave the other's log to the other."""
        return "", self.log_offset


class RemoteJobTrigger(_Watching):
    """Asks the agent instead of looking for an exit code: it knows of dead jobs too.

    Args:
        asset: name of the asset whose state gets the progress.
        run_id: the DAG run that waits.
        generation: the start of the job that is watched, None for a job of an earlier version.
        kwargs: what names the job, and what the provider's trigger takes.
    """

    def __init__(self, *, asset: str, run_id: str, generation: str | None = None, **kwargs: Any) -> None:
        """Keep what is told of the job."""
        super().__init__(**kwargs)
        self.asset = asset
        self.run_id = run_id
        self.generation = generation
        self._published: Progress | None = None
        self._history: tuple[Sample, ...] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class and all that it takes to make it again in another triggerer."""
        path, kwargs = super().serialize()
        own = {"asset": self.asset, "run_id": self.run_id, "generation": self.generation}
        return path, {**kwargs, **own}

    async def _check_completion(self, conn: Any) -> int | None:
        """Publish the progress; return the exit code once the job ended, and 137 for one that died."""
        status = await self._status(conn)
        if self.generation is not None and status.generation != self.generation:
            self.log.warning("The job on RDS-SSH is another one by now, or its folder is gone")
            return KILLED
        if status.progress is not None and status.progress != self._published:
            if await self._publish(status.progress):
                self._published = status.progress
            else:
                self.log.warning("Progress could not be stored; the next poll tries again")
        if status.state == "running":
            return None
        if status.state == "finished" and status.exit_code is not None:
            return status.exit_code
        self.log.warning("The job on RDS-SSH is %s: its process is gone without a result", status.state)
        return KILLED

    async def _publish(self, progress: Progress) -> bool:
        """Store the progress, and how it came to it: forecasts are made from the whole of a transfer."""
        state = BeamtimeState(self.asset)
        if self._history is None:
            self._history = await state.history(self.run_id, self.part)
        self._history = recorded(self._history, Sample(progress.updated, progress.bytes_done))
        return await state.publish(progress, part=self.part, run_id=self.run_id, history=self._history)

    async def on_kill(self) -> None:
        """Stop the job's processes on RDS-SSH when a person stops the task; a task that goes on keeps its job.

        Airflow cancels a trigger also when another triggerer has taken it over, as it does from one that stood still
        for a while, and when the task was cleared: the next try then attaches to the job.
        """
        state = await task_state(self)
        if state not in ENDED:
            self.log.warning(
                "The job on RDS-SSH goes on: the task is %s, and another triggerer or try has it", state
            )
            return
        conn = await self._connect()
        try:
            stopped = await self._ask(conn, self.job.stop(generation=self.generation))
            self.log.info("Stopped the job on RDS-SSH: %s", stopped)
        finally:
            # Closing waits for the far side; a person's "stop" must not.
            await asyncio.wait_for(self._close(conn), timeout=10)
