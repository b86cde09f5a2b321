"""Scripts and steps as they are installed on RDS-SSH, and how one of them is run."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from beamferry import remote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def install(folder: Path) -> None:
    """Put them into an empty folder."""
    folder.mkdir()
    for name, content in remote.bundle().items():
        (folder / name).write_bytes(content)


def run(folder: Path, name: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Run one to its end, as a job whose folder the environment names; ends the bench when it fails."""
    command: tuple[str, ...] = ("bash", str(folder / name), *arguments)
    order = ""
    if not name.endswith(".sh"):
        command = (sys.executable, "-I", "-B", str(folder / "agent.pyz"), "step", name)
        order = json.dumps({"step": name, "arguments": arguments, "locks": []})
    done = subprocess.run(command, input=order, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(
            f"bench: {name} ended with code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
