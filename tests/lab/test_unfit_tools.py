"""A host whose tools cannot do what they are needed for is told so before anything is transferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.access import first_error, judge, parse_facts
from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Engine, Scripts

    from beamferry.errors import BeamferryError

# As BusyBox has it, which some sites put before the tools of the system.
FIND = """#!/bin/sh
case "$*" in *-printf*) echo 'find: unrecognized: -printf' >&2; exit 1 ;; esac
exec /usr/bin/find "$@"
"""


def put_before(engine: Scripts) -> str:
    shim = engine.shims / "find"
    shim.write_text(FIND)
    shim.chmod(0o755)
    return str(shim)


def check(error: BeamferryError | None, shim: str) -> None:
    assert isinstance(error, PermanentError)
    assert error.code == "rds-tool-unfit"
    assert f"{shim} (list names" in error.problem
    assert "GNU tools" in error.remedy


def test_over_rsync(engine: Engine) -> None:
    (engine.destination.parent / "other").mkdir()
    assert first_error(judge(parse_facts(engine.probe()), engine.beamtime, engine.site)) is None
    shim = put_before(engine)
    check(first_error(judge(parse_facts(engine.probe()), engine.beamtime, engine.site)), shim)


def test_over_lftp(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    shim = put_before(engine)
    check(first_error(engine.probe()), shim)
