"""Whether a component is well: ``python health.py COMPONENT``, exit 0 if so; a fraction of a second, without Airflow.

api-server and scheduler answer for themselves. For triggerer and dag-processor the api-server tells of their last
sign of life; with several of a kind, one that lives is enough. The worker answers through the message queue.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

_SECONDS = 8.0
_API = "http://{}:8080/api/v2/monitor/health"
# Who is asked for whom, and under which name the answer has it; the scheduler answers without a word if it is well.
_PLACES = {
    "api-server": (_API.format("localhost"), "metadatabase"),
    "scheduler": ("http://localhost:8974/health", ""),
    "triggerer": (_API.format("api-server"), "triggerer"),
    "dag-processor": (_API.format("api-server"), "dag_processor"),
}


def told(address: str) -> dict[str, Any]:
    """Return what a health page says, asked without any proxy; raises OSError if there is no answer."""
    with build_opener(ProxyHandler({})).open(address, timeout=_SECONDS) as answer:
        text = answer.read()
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def worker_answers() -> bool:
    """Return whether the worker in this container takes messages."""
    from celery import Celery  # noqa: PLC0415 - only for the worker

    password = Path("/run/beamferry/queue_password").read_text().strip()
    app = Celery(broker=f"redis://:{password}@redis:6379/0")
    return bool(app.control.ping([f"celery@{socket.gethostname()}"], timeout=_SECONDS))


def main(component: str) -> int:
    """Return the exit code, and say what is wrong."""
    if component == "worker":
        well = worker_answers()
        print("the worker answers" if well else "the worker does not answer")
        return 0 if well else 1
    address, name = _PLACES[component]
    try:
        answer = told(address)
        state = answer[name]["status"] if name else "healthy"
    except OSError as error:
        state = f"not known, {address} does not answer ({error})"
    print(f"{component}: {state}")
    return 0 if state == "healthy" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
