"""What the connections of one of the lab's own servers share."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any


class State:
    """Configuration, faults in force, events.

    Args:
        config: what ``background.Background`` has written.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        """Begin with no connection."""
        self.config = config
        self.open = 0

    def faults(self) -> dict[str, Any]:
        """Return the faults in force; see ``background.Background.break_with`` for their names."""
        try:
            found: dict[str, Any] = json.loads(Path(self.config["control"]).read_text())
        except FileNotFoundError:
            return {}
        return found

    def note(self, event: str, **further: Any) -> None:
        """Append an event."""
        line = json.dumps({"event": event, "at": time.time(), "open": self.open} | further)
        with Path(self.config["events"]).open("a") as file:
            file.write(line + "\n")
