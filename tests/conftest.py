"""Fixtures that start real services; a test that asks for none of them starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from beamferry.lab import Faults, Lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab with a small visit, shared by all tests: leave it as it was found."""
    from beamferry.lab import Lab  # noqa: PLC0415 - takes a second, which unit tests need not spend

    running = Lab(tmp_path_factory.mktemp("lab"))
    try:
        running.up("small")
        yield running
    finally:
        running.down()


@pytest.fixture
def faults(lab: Lab) -> Faults:
    """Ways to break the shared lab, each undone at the end of its ``with``."""
    from beamferry.lab import Faults  # noqa: PLC0415

    return Faults(lab)


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of one test's own, with a small visit."""
    from beamferry.lab import Lab  # noqa: PLC0415 - takes a second, which unit tests need not spend

    running = Lab(tmp_path / "lab")
    try:
        running.up("small")
        yield running
    finally:
        running.down()


@pytest.fixture
def needs_namespaces(lab: Lab) -> None:
    """Skip where the machine gives the lab's hosts no file systems of their own."""
    if not lab.settings.namespaces:
        pytest.skip(f"this machine allows no namespaces: {lab.settings.reason}")
