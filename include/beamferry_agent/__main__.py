"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer as JSON on stdout."""

import sys

from beamferry_agent.answers import ComparisonRequest, DamagedListsError
from beamferry_agent.comparison import compare_lists

# As the other jobs' codes: the lists cannot be what was found; the agent was called wrongly.
_BROKEN = 65
_REFUSED = 78


def main() -> int:
    """Answer the request and return the exit code: 0 with an answer on stdout, else a reason on stderr."""
    if sys.argv[1:] != ["compare"]:
        sys.stderr.write("agent: the verb must be 'compare'\n")
        return _REFUSED
    try:
        request = ComparisonRequest.from_json(sys.stdin.read())
    except ValueError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _REFUSED
    try:
        answer = compare_lists(request)
    except DamagedListsError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _BROKEN
    sys.stdout.write(answer.to_json() + "\n")
    return 0


sys.exit(main())
