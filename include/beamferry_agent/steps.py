"""Runs one step of a job, the process that the supervisor waits for."""

import errno
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from typing import Any, Dict, NoReturn

from beamferry_agent.errors import AgentError
from beamferry_agent.step import AT_HOME, STOPPED, UNEXPECTED, Step, StepEnd
from beamferry_agent.tools import Tools

# A file system takes nothing, for whatever reason.
_NOT_TAKEN = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE))
# The module of each, which has a function ``run(step, tools, arguments)``.
STEPS = {
    "dry_run": "dry_run",
    "lftp_dry_run": "lftp_dry_run",
    "lftp_transfer": "lftp_transfer",
    "lftp_verify": "lftp_verify",
    "manifest": "manifest_step",
    "transfer": "transfer",
    "verify": "verify_step",
}


def run_step(text: str) -> NoReturn:
    """Do ``{"step", "arguments", "locks"}`` in the job's folder, and end the process with the step's exit code.

    ``locks``: descriptors that whatever writes has to hold. Whatever happens, there is a result.
    """
    order = json.loads(text)
    os.umask(0o077)
    step = Step(os.environ["BEAMFERRY_JOB"], order["step"])
    tools = Tools(step, order["locks"])
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _be_stopped)
    end = _run(step, tools, order)
    # Once is enough: what follows is short.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    tools.end_all(and_begin_no_more=True)
    code = step.finish(end)
    with suppress(OSError):
        sys.stdout.flush()
    # Threads that still wait for somebody have nothing more to say.
    os._exit(code)


def _run(step: Step, tools: Tools, order: Dict[str, Any]) -> StepEnd:
    try:
        import_module("beamferry_agent." + STEPS[order["step"]]).run(step, tools, order["arguments"])
    except StepEnd as end:
        return end
    except AgentError as error:
        step.hear_if_possible(error.told())
        return StepEnd(error.exit_code)
    except Exception as error:  # noqa: BLE001
        # The log has where it was; the words have what it was, and nothing of the data's names.
        step.say(traceback.format_exc())
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        step.say("The step ended in a way that it did not expect: {}".format(reason))
        step.hear_if_possible("agent: {}".format(reason))
        # What RDS refuses is told where it does: the rest is of our own folder.
        return StepEnd(AT_HOME if isinstance(error, OSError) and error.errno in _NOT_TAKEN else UNEXPECTED)
    return StepEnd(0)


def _be_stopped(_number: int, _frame: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise StepEnd(STOPPED)
