"""A link that comes into the way between the listing and the reading leads no comparison out of the copy."""

from __future__ import annotations

import os
import shlex
import shutil
from typing import TYPE_CHECKING

import pytest
from engine import noise

from beamferry import access
from beamferry.beamtime import Level
from beamferry.complaints import interpret_exit

if TYPE_CHECKING:
    from pathlib import Path

    from engine import Engine

SECRET = b"what only the account may read"


@pytest.fixture
def copied(engine: Engine) -> Engine:
    """A copy of two files whose names and sizes are those of files of the account's own."""
    (engine.source / "raw").mkdir()
    for name in ("one", "two"):
        (engine.source / "raw" / name).write_bytes(noise(name, len(SECRET)))
    engine.fetch()
    (engine.home / "own").mkdir()
    for name in ("one", "two"):
        (engine.home / "own" / name).write_bytes((engine.source / "raw" / name).read_bytes())
    return engine


def after_the_listing(engine: Engine, *commands: tuple[str, ...]) -> None:
    """Have somebody do this once the copy was listed, before it is read: then it is flushed."""
    flush = engine.shims / "sync"
    flush.write_text(
        "#!/bin/sh\n" + "".join(f"{shlex.join(words)}\n" for words in commands) + 'exec /bin/sync "$@"\n'
    )
    flush.chmod(0o755)


@pytest.mark.parametrize("what", ["folder", "file", "destination"])
def test_what_a_link_leads_to_is_neither_read_nor_taken_for_the_copy(copied: Engine, what: str) -> None:
    own, raw = copied.home / "own", copied.destination / "raw"
    places: dict[str, tuple[Path, Path]] = {
        "folder": (raw, own),
        "file": (raw / "one", own / "one"),
        "destination": (copied.destination, copied.home),
    }
    place, target = places[what]
    if what == "destination":
        own.rename(copied.home / "raw")
    away = copied.folder / "away"
    after_the_listing(copied, ("mv", "-nT", str(place), str(away)), ("ln", "-sfnT", str(target), str(place)))
    before = {path: path.stat().st_atime_ns for path in copied.home.rglob("*") if path.is_file()}
    for path in before:
        os.utime(path, (1, path.stat().st_mtime))
    done = copied.verify(Level.FULL)
    assert place.is_symlink()
    if what == "destination":
        # The folder that was listed is open, and is what is read.
        assert (done.code, done.result["sampled_files"]) == (0, 2), done
    else:
        error = interpret_exit(done.code, done.errors, access.errand(copied.beamtime, copied.site))
        assert error is not None
        assert (done.code, error.code) == (70, "destination-unusable"), done
        assert "a link, or something else" in error.problem
        assert done.result["sampled_files"] == (0 if what == "folder" else 1)
        assert "RDS: sha256sum: ./raw/one: " in done.errors
        assert b"raw/one" not in copied.listed("sampled")
    own_files = (path for path in before if path.is_relative_to(target))
    assert all(path.stat().st_atime == 1 for path in own_files), "somebody read behind the link"


def test_no_process_here_has_a_name_of_the_data_in_its_words(copied: Engine) -> None:
    words = copied.folder / "words"
    for tool in ("sh", "find", "sort", "sync", "shuf", "sha256sum"):
        shim = copied.shims / tool
        shim.write_text(
            f'#!/bin/bash\nprintf "%s\\n" "{tool}" "$@" >>{shlex.quote(str(words))}\n'
            f'exec {shutil.which(tool)} "$@"\n'
        )
        shim.chmod(0o755)
    for name in ("one", "two"):
        (copied.destination / "raw" / name).write_bytes(bytes(len(SECRET)))
    done = copied.verify(Level.FULL)
    assert (done.code, done.result["content_mismatches"]) == (0, 2), done
    said = words.read_text().splitlines()
    assert {"sh", "find", "sort", "sync"} <= set(said)
    assert "sha256sum" not in said
    assert not any("one" in word or "two" in word for word in said)
