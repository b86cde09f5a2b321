"""Answers one request: ``agent.sh VERB``, the request as JSON on stdin, the answer as JSON on stdout."""

import sys

from beamferry_agent.account import prepare
from beamferry_agent.answers import AccountRequest, ComparisonRequest, DamagedListsError, PublicationRequest
from beamferry_agent.cache import forget
from beamferry_agent.comparison import compare_lists
from beamferry_agent.destination import discard, receive_range, resolve
from beamferry_agent.destination import prepare as prepare_destination
from beamferry_agent.listing import list_source
from beamferry_agent.mismatches import mark_again, recall, remember, select, suspect
from beamferry_agent.places import FullError, PlaceError
from beamferry_agent.publication import publish
from beamferry_agent.sessions import SourceError
from beamferry_agent.trial import NamesError, names

# As the other jobs' codes, the first one that fits: the lists cannot be what was found; names cannot be held; no room
# is left; a place cannot be used; the agent was called wrongly.
_REFUSED = 78
_CODES = (
    (DamagedListsError, 65),
    (NamesError, 72),
    (FullError, 11),
    (PlaceError, 73),
    (ValueError, _REFUSED),
)


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
    "discard": discard,
    "forget": forget,
    "list": list_source,
    "mark": mark_again,
    "names": names,
    "prepare": prepare_destination,
    "publish": _publish,
    "range": receive_range,
    "recall": recall,
    "remember": remember,
    "resolve": resolve,
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
    except SourceError as error:
        # Its words have names as the facility tells them, and are lines already.
        sys.stderr.buffer.write(error.words)
        return error.code
    except tuple(kind for kind, _ in _CODES) as error:
        sys.stderr.write("agent: {}\n".format(error))
        return next(code for kind, code in _CODES if isinstance(error, kind))
    return 0


sys.exit(main())
