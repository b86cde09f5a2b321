"""Looks whether a transfer can begin: tools here, the destination, the facility and the source there.

It changes nothing but a folder of its own below the destination root, which it removes again.
"""

import os
import signal
import sys
from contextlib import contextmanager
from importlib import import_module
from typing import Iterator

from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_request import ProbeRequest
from beamferry_agent.probe_running import scratch_runner

# The module of each transport, which has a function ``look(arguments, facts, runner)``.
_LOOKS = {"rsync": "probe_facility", "lftp": "probe_lftp"}


def answer(text: str) -> str:
    """Answer a ``ProbeRequest`` by lines KEY=VALUE. Raises AgentError, ValueError."""
    request = ProbeRequest.from_json(text)
    facts = Facts()
    os.umask(0o077)
    with _ended_in_order(), scratch_runner() as runner:
        os.environ["BEAMFERRY_JOB"] = runner.scratch
        look = import_module("beamferry_agent." + _LOOKS[request.transport]).look
        look(request.arguments, facts, runner)
    return facts.text()


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let what was begun be ended and removed when this is asked to end."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
