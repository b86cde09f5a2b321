"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer as JSON on stdout."""

import sys

from beamferry_agent.account import prepare
from beamferry_agent.answers import AccountRequest, ComparisonRequest, DamagedListsError, PublicationRequest
from beamferry_agent.cache import forget
from beamferry_agent.comparison import compare_lists
from beamferry_agent.mismatches import recall, remember, select, suspect
from beamferry_agent.places import FullError, PlaceError
from beamferry_agent.publication import publish

# As the other jobs' codes: no room is left; the lists cannot be what was found; a place cannot be used; the
# agent was called wrongly.
_FULL = 11
_DAMAGED = 65
_NO_PLACE = 73
_REFUSED = 78


def _compare(text: str) -> str:
    return compare_lists(ComparisonRequest.from_json(text)).to_json()


def _account(text: str) -> str:
    return prepare(AccountRequest.from_json(text)).to_json()


def _publish(text: str) -> str:
    publish(PublicationRequest.from_json(text))
    return "{}"


_VERBS = {
    "account": _account,
    "compare": _compare,
    "forget": forget,
    "publish": _publish,
    "recall": recall,
    "remember": remember,
    "select": select,
    "suspect": suspect,
}


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
    except FullError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _FULL
    except PlaceError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _NO_PLACE
    except ValueError as error:
        sys.stderr.write("agent: {}\n".format(error))
        return _REFUSED
    return 0


sys.exit(main())
