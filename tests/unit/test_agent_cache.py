"""What is compared is read from the storage: the pages of a file that was just written are dropped first."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from beamferry_agent.cache import forget

if TYPE_CHECKING:
    from pathlib import Path


def resident(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    done = subprocess.run(
        ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def ask(folder: Path, *names: bytes) -> int:
    paths = folder.with_name("list")
    paths.write_bytes(b"".join(name + b"//f//5\0" for name in names))
    return int(json.loads(forget(json.dumps({"folder": str(folder), "list": str(paths)})))["kept"])


def test_pages_that_were_flushed_are_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    odd = os.fsdecode(b"odd\n\xff")
    for name in ("one", odd):
        (folder / name).write_bytes(os.urandom(1_000_000))
    os.sync()
    assert resident(folder / "one") > 0
    assert ask(folder, b"one", os.fsencode(odd)) == 0
    assert resident(folder / "one") == resident(folder / odd) == 0


def test_what_cannot_be_opened_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "fifo")
    assert ask(folder, b"link", b"gone") == 2
    # Nobody is waited for.
    assert ask(folder, b"fifo") in {0, 1}
