"""Watches a remote job from the triggerer and tells how far it is."""

from __future__ import annotations

import asyncio
import shlex
from typing import Any

from airflow.providers.ssh.triggers.ssh_remote_job import SSHRemoteJobTrigger

from beamferry.airflow.state import BeamtimeState
from beamferry.errors import TransientError
from beamferry.forecast import Sample, recorded
from beamferry.remote import Job, Progress, parse_status

# What a shell reports for a process that was killed; the operator reads it as "died, start again".
KILLED = 137


class RemoteJobTrigger(SSHRemoteJobTrigger):
    """The provider's trigger, asking job.sh instead of looking for an exit code: it knows of dead jobs too.

    Args:
        beamtime: the beamtime's key.
        part: the part of its work that the job does.
        asset: name of the asset whose state gets the progress.
        run_id: the DAG run that waits.
        kwargs: what the provider's trigger takes.
    """

    def __init__(self, *, beamtime: str, part: str, asset: str, run_id: str, **kwargs: Any) -> None:
        """Keep what names the job; the connection is opened when the trigger runs."""
        super().__init__(**kwargs)
        self.beamtime = beamtime
        self.part = part
        self.asset = asset
        self.run_id = run_id
        self._published: Progress | None = None
        self._history: tuple[Sample, ...] | None = None

    @property
    def job(self) -> Job:
        """The job that is watched."""
        return Job(self.beamtime, self.part)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return this class and all that it takes to make it again in another triggerer."""
        _, kwargs = super().serialize()
        own = {"beamtime": self.beamtime, "part": self.part, "asset": self.asset, "run_id": self.run_id}
        return f"{type(self).__module__}.{type(self).__qualname__}", {**kwargs, **own}

    async def _check_completion(self, conn: Any) -> int | None:
        """Publish the progress; return the exit code once the job ended, and 137 for one that died."""
        _, line, _ = await self._run_command(conn, shlex.join(self.job.verb("status")))
        try:
            status = parse_status(line)
        except TransientError as error:
            # The base class reconnects on connection errors and gives up after its limit.
            raise ConnectionError(str(error)) from error
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
            self._history = await state.history(self.run_id)
        self._history = recorded(self._history, Sample(progress.updated, progress.bytes_done))
        return await state.publish(progress, part=self.part, run_id=self.run_id, history=self._history)

    async def on_kill(self) -> None:
        """Stop the whole process group on RDS-SSH when a person stops the task."""
        conn = await self._connect()
        try:
            stopped = await conn.run(shlex.join(self.job.verb("stop")), check=False)
            self.log.info("Stopped the job on RDS-SSH: %s", stopped.stdout)
        finally:
            # Closing waits for the far side; a person's "stop" must not.
            await asyncio.wait_for(self._close(conn), timeout=10)
