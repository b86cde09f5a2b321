"""A host that lacks what a run needs, tools or room for temporary files, is told so before anything is transferred."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from beamferry.access import first_error, judge, parse_facts, probe_arguments
from beamferry.agent import answer
from beamferry.errors import PermanentError
from beamferry.remote import Completed
from beamferry_agent.probe_request import ProbeRequest, SessionRequest
from fuse_server import apart

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


@pytest.mark.usefixtures("needs_namespaces")
@pytest.mark.parametrize("verb", ["probe", "session"])
def test_a_full_folder_for_temporary_files_is_not_the_home_folder(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # Room for one file, so that Python takes it for a folder that works.
    mount = 'mount -t tmpfs -o size=4k,nr_inodes=3 none "$0" && : >"$0/full" && exec "$@"'
    engine.inside = (*apart(), "sh", "-c", mount, str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = ("ssh", "-o", f"ControlPath={tmp_path}/socket")
    request: ProbeRequest | SessionRequest = SessionRequest(words, "account", "host", lost=False)
    if verb == "probe":
        request = ProbeRequest("rsync", probe_arguments(engine.beamtime, engine.site))
    done = subprocess.run(
        [*engine.inside, sys.executable, "-I", "-B", str(engine.installed / "agent.pyz"), verb],
        input=request.to_json(),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"HOME": str(engine.home)},
    )
    with pytest.raises(PermanentError) as caught:
        answer(Completed(done.returncode, done.stdout, done.stderr))
    assert caught.value.code == "rds-tmp-refused"
    assert (
        f"temporary files on RDS-SSH cannot be used: {temporary}: No space left on device"
        in caught.value.problem
    )
