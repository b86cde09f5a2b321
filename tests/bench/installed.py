"""Scripts and steps as they are installed on RDS-SSH, and how one of them is run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from beamferry import remote

if TYPE_CHECKING:
    from collections.abc import Mapping


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
        errors = Path(environment["BEAMFERRY_JOB"]) / "errors"
        said = errors.read_text(errors="replace") if errors.exists() else done.stderr
        sys.exit(f"bench: {name} ended with code {done.returncode}\n{said[-2000:]}")
