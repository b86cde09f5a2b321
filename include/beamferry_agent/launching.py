"""Processes of the agent's own that go on when the request that started them is answered."""

import json
import os
import select
import subprocess
import sys
from typing import IO, Any, Dict, List

from beamferry_agent.environment import tool_environment
from beamferry_agent.job_files import HomeError
from beamferry_agent.job_marks import Mark
from beamferry_agent.job_request import JobRequest
from beamferry_agent.job_state import JobError
from beamferry_agent.locks import Lock

_READY_SECONDS = 30
_WORDS = 4096


def launch(request: JobRequest, mark: Mark, locks: List[Lock], guard: str) -> None:
    """Start a job's supervisor, the leader of a session of its own, and return once the job is known by its files.

    ``guard``: name of the destination's lock. Raises JobError.
    """
    ready, told = os.pipe()
    log_path = os.path.join(request.job, "log")
    try:
        with _opened(log_path) as log:
            order = {
                "job": request.job,
                "mark": list(mark),
                "locks": [[lock.path, lock.handle] for lock in locks],
                "ready": told,
                "script": request.script,
                "arguments": request.arguments,
            }
            own = {
                "BEAMFERRY_GENERATION": mark.generation,
                "BEAMFERRY_DESTINATION": guard,
                "BEAMFERRY_JOB": os.path.abspath(request.job),
            }
            _spawn("supervise", order, own, log, [lock.handle for lock in locks] + [told])
        os.close(told)
        told = -1
        answer = _answer(ready)
    finally:
        os.close(ready)
        if told >= 0:
            os.close(told)
    if answer != "ready":
        raise JobError("the job did not start, see ~/{}: {}".format(log_path, answer or "no reason given"))


def _opened(path: str) -> IO[bytes]:
    try:
        return open(path, "ab")
    except OSError as error:
        raise HomeError("{} cannot be written ({})".format(path, error.strerror))


def _answer(ready: int) -> str:
    if not select.select([ready], [], [], _READY_SECONDS)[0]:
        return "no answer for {} seconds".format(_READY_SECONDS)
    return os.read(ready, _WORDS).decode("utf-8", "replace")


def launch_pruning(home: str) -> None:
    """Have removed what nobody needs any more, beside the job that starts."""
    with open(os.devnull, "wb") as nowhere:
        _spawn("prune", {"home": home, "scripts": os.path.dirname(sys.argv[0])}, {}, nowhere, [])


def _spawn(verb: str, order: Dict[str, Any], own: Dict[str, str], log: IO[bytes], kept: List[int]) -> None:
    process = subprocess.Popen(
        (sys.executable, "-I", "-B", sys.argv[0], verb),
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=tool_environment(own),
        pass_fds=kept,
        start_new_session=True,
    )
    if process.stdin is None:
        raise RuntimeError("it takes no order")
    try:
        with process.stdin as pipe:
            pipe.write(json.dumps(order).encode("ascii"))
    except BrokenPipeError:
        # It has ended already, and its answer tells why.
        pass
