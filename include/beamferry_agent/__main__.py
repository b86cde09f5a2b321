"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer, mostly JSON, on stdout."""

import json
import sys
from importlib import import_module

from beamferry_agent.errors import AgentError
from beamferry_agent.probe_request import ProbeRequest

# The module and the function that answer a verb. A job asks often: only what the answer needs is loaded.
_VERBS = {
    "account": ("account", "answer"),
    "compare": ("comparison", "answer"),
    "job": ("jobs", "answer"),
    "probe": ("probe", "answer"),
    "prune": ("pruning", "prune"),
    "publish": ("publication", "answer"),
    "session": ("persons_session", "answer"),
    "step": ("steps", "run_step"),
    "supervise": ("supervisor", "supervise"),
}


def main() -> int:
    """Answer the request and return the exit code: 0 with an answer on stdout, else a reason on stderr."""
    # What else a step has is for whoever looks at the processes.
    is_by_hand = sys.argv[1:2] == ["step"] or (sys.argv[1:2] == ["probe"] and sys.argv[3:4] == ["--"])
    verb = sys.argv[1] if len(sys.argv) == 2 or is_by_hand else ""
    if verb not in _VERBS:
        sys.stderr.write("agent: the verb must be one of {}\n".format(", ".join(sorted(_VERBS))))
        return AgentError.exit_code
    module, function = _VERBS[verb]
    try:
        answer = getattr(import_module("beamferry_agent." + module), function)
        text = answer(_order_by_hand() or sys.stdin.read())
        # What goes on beside a job has nothing to tell.
        # Whatever the locale: it is what the other side reads.
        sys.stdout.buffer.write((text + "\n" if text else "").encode("utf-8", "surrogateescape"))
    except AgentError as error:
        sys.stderr.buffer.write(error.told())
        return error.exit_code
    except ValueError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return AgentError.exit_code
    return 0


def _order_by_hand() -> str:
    """Return what a person types as a request, '' where it comes on stdin.

    ``step NAME -- ARGUMENT...`` or ``probe TRANSPORT -- ARGUMENT...``.
    """
    if sys.argv[3:4] != ["--"]:
        return ""
    name, arguments = sys.argv[2], sys.argv[4:]
    if sys.argv[1] == "probe":
        return ProbeRequest(name, arguments).to_json()
    return json.dumps({"step": name, "arguments": arguments, "locks": []})


sys.exit(main())
