"""What a facility prints is never taken for what a tool says, and the end that is at fault is the one that is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_lftp_listing import Folder

from beamferry import access, lftp_complaints
from beamferry.beamtime import Level
from beamferry.complaints import interpret_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from desy_engine import DesyEngine
    from engine import Engine

    from beamferry.errors import BeamferryError
    from beamferry.lab.desy import Desy
    from beamferry.lab.host import Host

# As a lawyer writes it, and as nobody would.
BANNER = """****************************************************************************
*  Access is for authorised users only.                                    *
mbcx9cd4@ssh.diamond.ac.uk: Permission denied (publickey).
bash: line 1: rsync: command not found
Host key verification failed.
rsync: [receiver] write failed on "/mnt/rds/visit/a": No space left on device (28)
find: './raw': Permission denied
****************************************************************************
"""
PROFILE = """mkdir: cannot create directory '/home/mbcx9cd4/.cache': Disk quota exceeded
/etc/profile.d/scratch.sh: line 3: /tmp/mbcx9cd4: No space left on device
ERROR: Permission denied (publickey).
sh: 1: module: rsync: command not found, is your shell clean?
"""


@pytest.fixture
def banner(far: Host) -> Iterator[None]:
    """The facility's sshd shows a banner."""
    far.banner = BANNER
    far.start()
    try:
        yield
    finally:
        far.banner = ""
        far.start()


@pytest.fixture
def profile(far: Host) -> Iterator[None]:
    """The facility's log-in shell complains of itself on stderr, which no setting of ssh keeps out."""
    (far.folder / "profile").write_text(f"cat >&2 <<'END'\n{PROFILE}END\n")
    try:
        yield
    finally:
        far.greet(None)


def told(engine: Engine, code: int, errors: str) -> BeamferryError | None:
    return interpret_exit(code, errors, access.errand(engine.beamtime, engine.site))


def test_a_banner_is_in_nobodys_words_at_desy(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    desy.sftp.banner = BANNER
    desy.sftp.start()
    try:
        engine = at_desy("sftp")
        assert engine.facts().get("far_errors") == ""
        done = engine.dry_run()
        assert (done.code, done.errors) == (0, "")
    finally:
        desy.sftp.banner = ""
        desy.sftp.start()


@pytest.mark.usefixtures("banner")
def test_a_banner_is_in_nobodys_words(engine: Engine) -> None:
    (engine.source / "frame").write_text("data")
    facts = access.parse_facts(engine.probe())
    assert facts.get("far_errors") == ""
    for done in (engine.dry_run(), engine.transfer(range_threshold=1), engine.verify(Level.FULL)):
        assert (done.code, done.errors) == (0, "")


@pytest.mark.usefixtures("banner")
def test_a_banner_hides_no_refusal(engine: Engine) -> None:
    (engine.source / "sealed").touch(mode=0)
    done = engine.dry_run()
    assert done.code == 0
    done = engine.transfer()
    error = told(engine, done.code, done.errors)
    assert error is not None
    assert error.code == "files-unreadable"
    assert "1 files" in error.problem


@pytest.mark.usefixtures("profile")
def test_what_a_profile_prints_is_no_tools_word(engine: Engine) -> None:
    (engine.source / "sealed").touch(mode=0)
    assert engine.dry_run().code == 0
    done = engine.transfer()
    assert "quota" in done.errors
    error = told(engine, done.code, done.errors)
    assert error is not None
    assert (error.code, "sealed" in error.problem) == ("files-unreadable", True)


NAMES = (
    "Login failed.cbf",
    "x: Fatal error: max-retries exceeded (421 Too many users)",
    "a: No space left on device",
    "No such file",
    "Access failed: 4 (x)",
    "b: Permission denied (publickey).",
)


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_a_files_name_is_no_reason(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    with Folder(desy, "gone") as folder:
        folder.mkdir()
        for name in (*NAMES, "fine"):
            (folder / name).write_text("data")
        engine = at_desy(kind)
        assert engine.dry_run().code == 0
        for name in NAMES:
            (folder / name).chmod(0)
        done = engine.transfer("processed")
        error = lftp_complaints.interpret_exit(
            done.code, done.errors, access.errand(engine.beamtime, engine.site)
        )
    assert (done.code, done.result["lost"], done.result["refused"]) == (23, 0, len(NAMES))
    assert error is not None
    assert error.code == "files-unreadable"
    assert [name for name in NAMES if f"gone/{name} (" not in error.problem] == []
    assert (engine.destination / "processed" / "gone" / "fine").read_text() == "data"
