"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer as JSON on stdout."""

import sys

from beamferry_agent.account import prepare
from beamferry_agent.answers import AccountRequest, ComparisonRequest, DamagedListsError
from beamferry_agent.comparison import compare_lists

# As the other jobs' codes: the lists cannot be what was found; the agent was called wrongly.
_DAMAGED = 65
_REFUSED = 78


def _compare(text: str) -> str:
    return compare_lists(ComparisonRequest.from_json(text)).to_json()


def _account(text: str) -> str:
    return prepare(AccountRequest.from_json(text)).to_json()


_VERBS = {"compare": _compare, "account": _account}


def main() -> int:
    """Answer the request and return the exit code: 0 with an answer on stdout, else a reason on stderr."""
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb not in _VERBS:
        sys.stderr.write("agent: the verb must be one of {}\n".format(", ".join(sorted(_VERBS))))
        return _REFUSED
    try:
        sys.stdout.write(_VERBS[verb](sys.stdin.read()) + "\n")
    except DamagedListsError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _DAMAGED
    except ValueError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _REFUSED
    return 0


sys.exit(main())
