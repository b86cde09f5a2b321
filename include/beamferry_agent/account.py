"""Prepares the account that the agent runs in: what is there already stays as it is, and each step says what it did."""

import fcntl
import getpass
import os
import time
from contextlib import contextmanager
from typing import Iterator, List

from beamferry_agent.account_steps import Steps, folder_is_private
from beamferry_agent.answers import AccountAnswer, AccountRequest
from beamferry_agent.host_keys import pin, scan
from beamferry_agent.key_pair import make_key
from beamferry_agent.lftp_settings import make_settings
from beamferry_agent.ssh_settings import Way, read_way

# Another run for the same account, e.g. one that waits for a facility.
_WAIT_SECONDS = 120
_LOCK = "account.lock"


def answer(text: str) -> str:
    """Answer an AccountRequest."""
    return prepare(AccountRequest.from_json(text)).to_json()


def prepare(request: AccountRequest) -> AccountAnswer:
    """Do the request's steps and return what became of each.

    Raises ValueError when there is no home folder, another run holds the account for two minutes, or a step does not
    fit those before it.
    """
    os.umask(0o077)
    home = os.environ.get("HOME", "")
    if not os.path.isdir(home):
        raise ValueError("there is no home folder")
    steps = Steps(home, getpass.getuser(), os.uname().nodename)
    with _alone(home):
        ways: List[Way] = []
        for name, *words in request.steps:
            _do(steps, ways, request.verb, name, words)
    return AccountAnswer(steps.account, steps.node, steps.answers, steps.pinned, steps.shown)


def _do(steps: Steps, ways: List[Way], verb: str, name: str, words: List[str]) -> None:
    if name == "workspace":
        for folder in (".beamferry", os.path.join(".beamferry", "jobs")):
            folder_is_private(steps, "workspace", os.path.join(steps.home, folder))
    elif name in ("link", "own"):
        target = words[1] if name == "link" else os.path.join(words[1], steps.account)
        (steps.unlink if verb == "unlink" else steps.link)(words[0], target)
    elif name == "key":
        make_key(steps, read_way(*words))
    elif name == "lftp":
        make_settings(steps, words[0])
    elif verb == "scan":
        scan(steps, read_way(*words))
    elif name == "gate":
        way = read_way(*words)
        if not way.host:
            raise ValueError("ssh does not know its way to {}: {}".format(way.label, way.trouble))
        ways.append(way)
    elif not ways:
        raise ValueError("a gate comes before its host key")
    else:
        pin(steps, ways[-1], words[0], words[1])


@contextmanager
def _alone(home: str) -> Iterator[None]:
    """Let two runs for one account come one after the other."""
    folder = os.path.join(home, ".beamferry")
    os.makedirs(folder, exist_ok=True)
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + _WAIT_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ValueError("another run has been preparing this account for two minutes")
                time.sleep(0.2)
        yield
    finally:
        os.close(lock)
