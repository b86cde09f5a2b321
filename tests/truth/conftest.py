"""Servers that stay up for all sequences, and the chain's tasks over them."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

# Airflow reads its settings when it is first imported; another folder's tests may have chosen their own.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="beamferry-truth-"))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks import Chain


@pytest.fixture(scope="session")
def chain() -> Iterator[Chain]:
    from servers import servers
    from tasks import Chain

    with servers() as up, pytest.MonkeyPatch.context() as patch:
        yield Chain(up, patch)
