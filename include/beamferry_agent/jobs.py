"""Starts, watches and stops one detached job on RDS-SSH.

One job of a beamtime runs at a time, and one for a destination, however often and by whomever it is started: a second
start attaches to the same job, and says whose job it has to wait for otherwise.

Each start is a generation. Files in a job's folder: mark (generation, who started it, where, what), pid (process group,
start time, host), heartbeat and status.json (both renewed every two seconds), log, errors, progress.json, result.json,
exit_code, and key and call for versions before this one. The script runs with BEAMFERRY_JOB, its folder, and
BEAMFERRY_GENERATION, by which its processes are known, and inherits the locks: whatever still writes holds them.
"""

import os

from beamferry_agent.job_files import Folder, remove
from beamferry_agent.job_request import JobRequest
from beamferry_agent.job_state import JobError, end_stopped, read_state, status_of, stop_processes
from beamferry_agent.starting import start


def answer(text: str) -> str:
    """Answer a JobRequest. Raises AgentError."""
    request = JobRequest.from_json(text)
    os.umask(0o077)
    if request.verb == "start":
        return start(request)
    if request.verb == "stop":
        _stop(request)
    elif request.verb == "acknowledge":
        _acknowledge(request)
        return ""
    return status_of(read_state(request.job, request.lock))


def _stop(request: JobRequest) -> None:
    """Stop a job if it is of the generation and of the installation that are meant."""
    state = read_state(request.job, request.lock)
    # What runs here now is not what was meant.
    if request.generation and state.mark.generation != request.generation:
        return
    if request.owner and (state.mark.owner or request.owner) != request.owner:
        raise JobError(
            "the job is of another Airflow installation ({}, run {})".format(
                state.mark.installation, state.mark.run
            )
        )
    stop_processes(state)
    if state.state != "absent":
        end_stopped(Folder(request.job))


def _acknowledge(request: JobRequest) -> None:
    """Forget a job that ended, so that the next start begins afresh."""
    state = read_state(request.job, request.lock)
    if state.is_running:
        return
    if state.state == "finished":
        for name in ("exit_code", "pid", "status.json"):
            Folder(request.job).forget(name)
    if state.mark.secret:
        remove(state.mark.secret)
