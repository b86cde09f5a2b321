"""A far host with a real sshd, and beamtimes to fetch from it."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest
from engine import Engine

from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key
from beamferry.lab.settings import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A facility's sshd on loopback; file modes bind its account even where the tests run as root."""
    folder = tmp_path_factory.mktemp("far")
    port = free_port("127.0.0.1")
    host = Host("far", folder / "host", "127.0.0.1", port, getpass.getuser(), None, bound_by_modes=True)
    key = folder / "first"
    make_key(key, "first")
    host.prepare(public_key(key))
    host.start()
    try:
        yield host
    finally:
        host.down()


@pytest.fixture
def engine(far: Host, tmp_path: Path) -> Engine:
    """A beamtime with an empty source."""
    return Engine(far, tmp_path / "beamtime")
