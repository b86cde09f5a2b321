"""A far host with a real sshd, and beamtimes to fetch from it."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import pytest
from desy_engine import DesyEngine
from engine import Engine

from beamferry.lab.desy import Desy
from beamferry.lab.desy_tree import SIZES
from beamferry.lab.host import Host
from beamferry.lab.keys import make_key, public_key
from beamferry.lab.settings import Settings, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="session")
def desy_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key that DESY's SFTP takes."""
    place = tmp_path_factory.mktemp("desy-key") / "id"
    make_key(place, "tests")
    return place


@pytest.fixture(scope="session")
def desy(tmp_path_factory: pytest.TempPathFactory, desy_key: Path) -> Iterator[Desy]:
    """DESY by itself, without the rest of the lab."""
    settings = Settings.choose(None, None)
    running = Desy(tmp_path_factory.mktemp("desy"), settings.ports, namespaces=settings.namespaces)
    try:
        running.up(public_key(desy_key), (SIZES["small"], 1), anew=False)
        yield running
    finally:
        running.down()


@pytest.fixture
def at_desy(desy: Desy, desy_key: Path, tmp_path: Path) -> Callable[..., DesyEngine]:
    """Makes a beamtime there by its kind of log-in, see ``KINDS``."""

    def made(kind: str = "pyftpdlib", **further: Any) -> DesyEngine:
        if kind == "pure-ftpd" and desy.pure.refused:
            pytest.skip(desy.pure.refused)
        place = tmp_path / f"beamtime-{len(list(tmp_path.iterdir()))}"
        return DesyEngine(desy, place, kind, desy_key, **further)

    return made


@pytest.fixture
def engine(far: Host, tmp_path: Path) -> Engine:
    """A beamtime with an empty source."""
    return Engine(far, tmp_path / "beamtime")
