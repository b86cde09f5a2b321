"""A library that has calls of programs fail, see lab/refuse.c."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def refusing_library(folder: Path) -> Path:
    """Compile it into a folder; the test is skipped where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    made = folder / "refuse.so"
    source = Path(__file__).parent / "lab" / "refuse.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made
