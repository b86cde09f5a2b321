"""lftp's comparison of both ends: it finds what differs, blames nobody wrongly, and says what it could not read."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engine import noise
from test_lftp_listing import Folder

from beamferry import lftp
from beamferry.access import errand
from beamferry.beamtime import Level
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import TOKEN
from beamferry.lab.visit import walk
from beamferry.lftp_complaints import interpret_exit
from beamferry.verification import Outcome
from beamferry_agent.records import decode_name, read_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from desy_engine import DesyEngine
    from engine import Job
    from engine import Outcome as Ended

    from beamferry.lab.desy import Desy
    from beamferry.verification import Verdict

OWN = "own"
LARGE = "processed/own/large.nxs"
SMALL = "processed/own/small.nxs"


# An lftp that is killed once it has said so much.
KILLED = """#!{}
import os, subprocess, sys
killed, lftp = {!r}, {!r}
if os.path.exists(killed):
    os.execv(lftp, [lftp, *sys.argv[1:]])
process = subprocess.Popen([lftp, *sys.argv[1:]], stdout=subprocess.PIPE)
said = 0
while chunk := os.read(process.stdout.fileno(), 65536):
    said += len(chunk)
    while chunk:
        chunk = chunk[os.write(1, chunk):]
    if said > 200_000:
        process.kill()
        os.mkdir(killed)
        sys.exit(137)
sys.exit(process.wait())
"""


def bring_home(engine: DesyEngine, *names: str) -> DesyEngine:
    """Copy folders as a transfer leaves them."""
    for name in names or ("processed",):
        shutil.copytree(engine.desy.tree / name, engine.destination / name)
    for path in engine.desy.tree.iterdir():
        if path.is_file():
            shutil.copy2(path, engine.destination / path.name)
            # As the transfer makes them: the group can read.
            (engine.destination / path.name).chmod(0o644)
    return engine


def own(folder: Path) -> None:
    folder.mkdir()
    (folder / "large.nxs").write_bytes(noise("large", 1_500_000))
    (folder / "small.nxs").write_bytes(noise("small", 1_000))


def flip(path: Path, at: int = 0) -> None:
    """Change one byte, and neither size nor time."""
    kept = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(at)
        [value] = file.read(1)
        file.seek(at)
        file.write(bytes([value ^ 1]))
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))


def verify(engine: DesyEngine, how: Level = Level.FULL, /, **changed: Any) -> Ended:
    """Run the comparison, some of its arguments changed: ``stall=SECONDS``."""
    return started(engine, how, **changed).outcome()


def started(engine: DesyEngine, how: Level = Level.FULL, /, **changed: Any) -> Job:
    """Start it."""
    engine.hand_over()
    arguments = list(
        lftp.verify_arguments(
            str(engine.work), engine.beamtime, engine.site, str(engine.secret), level=how, streams=2, seed=7
        )
    )
    for name, value in changed.items():
        if f"--{name}" in arguments:
            arguments[arguments.index(f"--{name}") + 1] = str(value)
        else:
            arguments += [f"--{name}", str(value)]
    return engine.start("lftp_verify", tuple(arguments))


def items(engine: DesyEngine, name: str) -> list[str]:
    with (engine.work / "verify" / name).open("rb") as stream:
        return [decode_name(item) for item in read_names(stream)]


def verdict(engine: DesyEngine, done: Ended, level: Level) -> Verdict:
    """What the chain makes of it."""
    return engine.verdict(done, level)


def between(engine: DesyEngine, command: str) -> None:
    """Let something happen after both ends were listed and before their contents are compared."""
    shim = engine.shims / "sync"
    shim.write_text(f'#!/bin/sh\ncase "$*" in "-f /") {command} ;; esac\nexec {shutil.which("sync")} "$@"\n')
    shim.chmod(0o755)


# What differs.


def test_each_difference_is_in_its_list(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed", "shared"]}), "processed", "shared")
        here = engine.destination
        flip(here / LARGE, 1_499_999)
        (here / SMALL).write_bytes(b"short")
        (here / "processed" / "extra").touch()
        # Of a folder that the entry does not name, and the token: nothing extra when an earlier run has brought it.
        (here / "raw").mkdir()
        (here / "raw" / "x").touch()
        (here / "shared" / "sample list.csv").unlink()
        os.utime(here / "processed" / "notes.txt", (1_000_000_001, 1_000_000_001))
        done = verify(engine)
    assert (done.code, done.errors) == (0, "")
    assert items(engine, "mismatches") == [LARGE]
    notes, sample = "processed/notes.txt", "shared/sample list.csv"
    source, destination = (
        {item.split("//", 1)[0] for item in items(engine, name)}
        for name in ("only_source", "only_destination")
    )
    assert source == {SMALL, notes, sample}
    assert destination == {SMALL, notes, "processed/extra"}
    assert (here / os.fsdecode(TOKEN)).exists()
    # Of one size at both ends: the time says nothing of the content.
    assert notes in items(engine, "sampled")
    assert SMALL not in items(engine, "sampled")
    judged = verdict(engine, done, Level.FULL)
    assert judged.outcome is Outcome.DIFFERENT
    assert {(item.kind.value, item.path) for item in judged.named} == {
        ("content", LARGE),
        ("size", SMALL),
        ("time", notes),
        ("missing", sample),
        ("extra", "processed/extra"),
    }
    assert done.progress["bytes_done"] == done.progress["bytes_total"] == done.result["sampled_bytes"]
    # The lists stay for the certificate, what was needed to make them does not.
    assert sorted(path.name for path in (engine.work / "verify").iterdir()) == [
        "closed",
        "destination.census",
        "mismatches",
        "only_destination",
        "only_source",
        "partials",
        "sampled",
        "source.census",
        "unresolved",
        "unstable",
    ]


def test_a_second_is_no_difference(at_desy: Callable[..., DesyEngine]) -> None:
    engine = bring_home(at_desy("sftp", settings={"folders": ["processed"]}))
    notes = engine.destination / "processed" / "notes.txt"
    modified = int(notes.stat().st_mtime)
    for seconds, outcome in ((1, Outcome.VERIFIED), (2, Outcome.DIFFERENT)):
        os.utime(notes, (modified + seconds, modified + seconds))
        done = verify(engine, Level.SIZES)
        assert (done.code, done.result["only_source"], done.result["sampled_files"]) == (0, 1, 0)
        assert verdict(engine, done, Level.SIZES).outcome is outcome


def test_nothing_was_fetched_yet(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    done = verify(engine)
    assert (done.code, done.result["destination_files"], done.result["sampled_files"]) == (0, 0, 0)
    assert done.result["only_source"] == len(items(engine, "source.census"))
    assert verdict(engine, done, Level.FULL).outcome is Outcome.DIFFERENT


@pytest.mark.parametrize("kind", ["pyftpdlib", "pure-ftpd", "sftp"])
def test_files_that_differ_keep_nobody_waiting(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        for number in range(3):
            (folder / f"scan {number}.nxs").write_bytes(bytes(2_000_000))
        engine = bring_home(at_desy(kind, settings={"folders": ["processed"]}))
        differ = [f"processed/own/scan {number}.nxs" for number in (0, 2)]
        for name in differ:
            flip(engine.destination / name)
        done = verify(engine)
        files = sum(not is_folder for _, is_folder in walk(desy.tree / "processed"))
    # The first byte tells; what comes after it is none of the next file's, and no lost connection.
    assert (done.code, done.errors, done.result["lost"]) == (0, "", 0)
    assert items(engine, "mismatches") == differ
    # The empty file has no content; the two beside the folder have.
    assert done.result["sampled_files"] == files - 1 + 2


def test_a_sample_is_the_seeds_choice(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    engine = bring_home(at_desy(settings={"samples": 3, "folders": ["raw"]}), "raw")
    done = verify(engine, Level.SAMPLED, seed=1)
    chosen = items(engine, "sampled")
    assert (done.code, len(chosen), done.result["sampled_files"]) == (0, 3, 3)
    assert chosen == sorted(chosen, key=os.fsencode)
    others = [
        os.fsdecode(b"raw/" + path)
        for path, is_folder in walk(desy.tree / "raw")
        if not is_folder and os.fsdecode(b"raw/" + path) not in chosen
    ]
    large = max(others, key=lambda name: (desy.tree / name).stat().st_size)
    flip(engine.destination / chosen[0])
    flip(engine.destination / large)
    again = verify(engine, Level.SAMPLED, seed=1)
    assert items(engine, "sampled") == chosen
    assert (again.code, items(engine, "mismatches")) == (0, [chosen[0]])
    assert verdict(engine, again, Level.SAMPLED).outcome is Outcome.DIFFERENT
    # However few bytes a sample may have, one file is taken.
    verify(engine, Level.SAMPLED, seed=2, **{"sample-bytes": 0})
    # What differed before is compared besides.
    other = items(engine, "sampled")
    assert len(other) == 2
    assert set(other) & set(chosen) == {chosen[0]}


# What goes on meanwhile.

CHANGES = {
    "grows": 'echo more >> "$file"',
    "shrinks": 'truncate -s 700000 "$file"',
    "goes": 'rm "$file"',
}


@pytest.mark.parametrize(
    ("kind", "how"),
    [("pyftpdlib", how) for how in CHANGES] + [("pure-ftpd", "shrinks"), ("sftp", "shrinks")],
)
def test_a_file_that_changes_meanwhile_is_named_and_the_others_are_compared(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, how: str
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(kind, settings={"folders": ["processed"]}))
        flip(engine.destination / SMALL)
        between(engine, f"file='{folder}/large.nxs'; {CHANGES[how]}")
        done = verify(engine)
    error = interpret_exit(done.code, done.errors, errand(engine.beamtime, engine.site))
    assert error is not None
    assert (done.code, error.code) == (24, "source-changing")
    assert f"({LARGE})" in error.problem
    # Neither a difference nor a lost connection.
    assert items(engine, "mismatches") == [SMALL]
    assert done.result["lost"] == 0
    assert LARGE not in items(engine, "sampled")


def test_what_may_not_be_read_any_more_is_named(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        between(engine, f"chmod 0 '{folder}/small.nxs'; rm '{folder}/large.nxs'")
        done = verify(engine)
    error = interpret_exit(done.code, done.errors, errand(engine.beamtime, engine.site))
    assert error is not None
    # One that went away is no reason to say so of both.
    assert (done.code, error.code) == (23, "files-unreadable")
    assert f"{SMALL} (550 Permission denied.)" in error.problem


def test_a_copy_that_cannot_be_read_is_named(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        copy = engine.destination / LARGE
        between(engine, f"rm '{copy}'")
        done = verify(engine)
    assert done.code == 23
    error = interpret_exit(done.code, done.errors, errand(engine.beamtime, engine.site))
    assert error is not None
    assert f"1 files or folders of 11010750 cannot be read at RDS: {LARGE} (No such file" in error.problem
    assert (items(engine, "mismatches"), done.result["lost"]) == ([], 0)


def test_a_drop_is_no_difference(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        flip(engine.destination / SMALL)
        with DesyFaults(desy).data_dropped(1_000_000):
            done = verify(engine)
    assert (done.code, done.errors) == (0, "")
    assert items(engine, "mismatches") == [SMALL]
    assert LARGE in items(engine, "sampled")


def test_an_lftp_that_is_killed_is_no_difference_and_no_change(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        killed = engine.folder / "killed"
        shim = engine.shims / "lftp"
        # In the middle of the first file: no listing is as long.
        shim.write_text(KILLED.format(sys.executable, str(killed), shutil.which("lftp")))
        shim.chmod(0o755)
        done = verify(engine, streams=1)
    assert killed.exists()
    assert (done.code, done.errors, done.result["lost"]) == (0, "", 1)
    assert items(engine, "mismatches") == []
    assert LARGE in items(engine, "sampled")


def test_a_server_that_hangs_ends_it(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        with DesyFaults(desy).data_hangs(100_000):
            assert verify(engine, stall=3).code == 75


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp-password"])
def test_a_wrong_password_is_one_try(desy: Desy, at_desy: Callable[..., DesyEngine], kind: str) -> None:
    server = desy.ftps if kind == "pyftpdlib" else desy.sftp_password
    engine = bring_home(at_desy(kind, password="not it"))
    before = server.attempts(accepted=False)
    assert verify(engine, streams=8).code == 67
    assert server.attempts(accepted=False) - before == 1
    assert not engine.secret.exists()


# What it asks of others.


def test_the_limit_is_shared_by_the_connections_and_names_are_no_arguments(
    desy: Desy, at_desy: Callable[..., DesyEngine]
) -> None:
    with Folder(desy, OWN) as folder:
        own(folder)
        engine = bring_home(at_desy(settings={"folders": ["processed"]}))
        asked = engine.folder / "asked"
        shim = engine.shims / "lftp"
        shim.write_text(f"#!/bin/sh\ntee -a '{asked}' | {shutil.which('lftp')} \"$@\"\n")
        shim.chmod(0o755)
        job = started(engine, limit=3_000_000)
        shown: set[bytes] = set()
        while job.process.poll() is None:
            for process in Path("/proc").glob("[0-9]*"):
                # A machine has other tools that read long lists of their own: only this job's are looked at.
                with suppress(OSError):
                    if os.getpgid(int(process.name)) == job.process.pid:
                        shown.add((process / "cmdline").read_bytes())
        done = job.outcome()
    assert (done.code, done.result["content_mismatches"]) == (0, 0)
    said = asked.read_text()
    assert said.count("set net:limit-rate 1500000") == 2
    assert "cat " in said
    assert any(text.endswith(b"lftp\0--norc\0") for text in shown), "the job's own processes were looked at"
    assert [text for text in shown if b"own/" in text] == []


@pytest.mark.parametrize(
    "changed",
    [{"level": "most"}, {"limit": "fast"}, {"seed": "x"}, {"streams": 0}, {"what": 1}],
    ids=lambda changed: next(iter(changed)),
)
def test_what_makes_no_sense_is_refused(
    desy: Desy, at_desy: Callable[..., DesyEngine], changed: dict[str, Any]
) -> None:
    engine = at_desy()
    before = desy.ftps.attempts()
    assert verify(engine, Level.SAMPLED, **changed).code == 78
    assert desy.ftps.attempts() == before
