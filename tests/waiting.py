"""How tests wait: until something is there, and never for a time that is asserted."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def wait_for(look: Callable[[], Any], what: Callable[[], str] | str, patience: float) -> Any:
    """Look until something is there, and return it.

    Args:
        look: gives something true once it is there.
        what: is waited for; asked only when it was in vain.
        patience: seconds.
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.25)
    raise AssertionError(f"waited {patience:.0f} s in vain: {what if isinstance(what, str) else what()}")


def remove_under_a_job(folder: Path) -> None:
    """Remove a folder with all in it, though a job goes on writing there."""

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    wait_for(gone, f"{folder} is gone", 30)
