"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer as JSON on stdout."""

import json
import sys
from importlib import import_module

from beamferry_agent.errors import AgentError

# The module and the function that answer a verb. A job asks often: only what the answer needs is loaded.
_VERBS = {
    "account": ("account", "answer"),
    "compare": ("comparison", "answer"),
    "job": ("jobs", "answer"),
    "prune": ("pruning", "prune"),
    "publish": ("publication", "answer"),
    "resolve": ("destination", "resolve"),
    "step": ("steps", "run_step"),
    "supervise": ("supervisor", "supervise"),
}


def main() -> int:
    """Answer the request and return the exit code: 0 with an answer on stdout, else a reason on stderr."""
    # What else a step has is for whoever looks at the processes.
    verb = sys.argv[1] if len(sys.argv) == 2 or sys.argv[1:2] == ["step"] else ""
    if verb not in _VERBS:
        sys.stderr.write("agent: the verb must be one of {}\n".format(", ".join(sorted(_VERBS))))
        return AgentError.exit_code
    module, function = _VERBS[verb]
    try:
        answer = getattr(import_module("beamferry_agent." + module), function)
        text = answer(_order_by_hand() or sys.stdin.read())
        # What goes on beside a job has nothing to tell.
        sys.stdout.write(text + "\n" if text else "")
    except AgentError as error:
        sys.stderr.buffer.write(error.told())
        return error.exit_code
    except ValueError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return AgentError.exit_code
    return 0


def _order_by_hand() -> str:
    """Return the order of a step that a person types: ``step NAME -- ARGUMENT...``, '' where it comes on stdin."""
    if sys.argv[3:4] != ["--"]:
        return ""
    return json.dumps({"step": sys.argv[2], "arguments": sys.argv[4:], "locks": []})


sys.exit(main())
