"""The arguments of a step: pairs of a name and a text, as Airflow's side makes them."""

import re
from typing import Collection, Dict, List, Sequence

from beamferry_agent.errors import AgentError


class Arguments:
    """Arguments by name, each looked at before it is used.

    What is wrong with one is an AgentError: the step was called wrongly.
    """

    def __init__(self, step: str, words: Sequence[str], known: Collection[str]) -> None:
        """Read ``--name TEXT`` pairs; ``known`` are the names, without dashes. Raises AgentError."""
        self._step = step
        self._found: Dict[str, List[str]] = {}
        if len(words) % 2:
            raise self._wrong("{} has no value".format(words[-1]))
        for name, value in zip(words[::2], words[1::2]):
            if not name.startswith("--") or name[2:] not in known:
                raise self._wrong("unknown argument {}".format(name))
            self._found.setdefault(name[2:], []).append(value)

    def all_of(self, name: str) -> List[str]:
        """Return all texts of a name that may be there several times."""
        return self._found.get(name, [])

    def text(self, name: str, default: str = "") -> str:
        """Return a text, the last one where there are several."""
        return self._found.get(name, [default])[-1]

    def needed(self, name: str) -> str:
        """Return a text that may not be empty. Raises AgentError."""
        found = self.text(name)
        if not found:
            raise self._wrong("--{} is needed".format(name))
        return found

    def matching(self, name: str, pattern: str) -> str:
        """Return a text that a pattern describes from end to end. Raises AgentError."""
        found = self.text(name)
        if re.match("(?:" + pattern + r")\Z", found) is None:
            raise self._wrong("--{} must be {}".format(name, pattern))
        return found

    def number(self, name: str, default: int = 0, least: int = 0) -> int:
        """Return a whole number of at least ``least``. Raises AgentError."""
        found = self.text(name, str(default))
        if re.match(r"[0-9]{1,18}\Z", found) is None or int(found) < least:
            raise self._wrong("--{} must be a number, {} or more".format(name, least))
        return int(found)

    def _wrong(self, reason: str) -> AgentError:
        return AgentError("{}: {}".format(self._step, reason))
