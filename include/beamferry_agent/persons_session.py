"""The shared ssh session that a person opened: whether it is there, and how long such sessions lived.

The ssh on this host alone is asked, never the facility: it may be asked as often as one likes.
"""

import os
import re
import time
from contextlib import suppress
from typing import List, Optional, Sequence

from beamferry_agent.environment import tool_environment
from beamferry_agent.errors import AgentError
from beamferry_agent.facility_shell import known_words
from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_request import SessionRequest
from beamferry_agent.probe_running import scratch_runner
from beamferry_agent.processes import born

_LIVES = 5
# A master whose connection hangs answers all the same; one that is stopped must not keep us.
_SECONDS, _LIMIT = 10, 64 * 1024
_PID = re.compile(rb"pid=([0-9]{1,9})")
_SOCKET = "ControlPath="


def answer(text: str) -> str:
    """Answer a ``SessionRequest`` by lines KEY=VALUE. Raises AgentError, ValueError.

    node, open (yes or no), reason (ssh's words, where it is not open), age (seconds, where it is), lives (seconds that
    sessions lived which a job lost, the last five). Makes the sockets' folder.
    """
    asked = SessionRequest.from_json(text)
    node = os.uname().nodename
    os.umask(0o077)
    try:
        notes = Notes(socket_name(asked.ssh, node))
        words = (*known_words(asked.ssh), "-O", "check", "-l", asked.account, "--", asked.host)
        with scratch_runner() as runner:
            code = runner.run(words, "said", seconds=_SECONDS, limit=_LIMIT).code
            said = runner.read("said")
        found = _PID.search(said)
        age = age_of(int(found.group(1))) if code == 0 and found else None
        if age is None:
            notes.remember_life(is_lost=asked.lost)
        else:
            notes.note_opening(int(time.time()) - age)
        facts = Facts()
        facts.say("node", node)
        facts.say("open", age is not None)
        facts.say("reason", said if age is None else "")
        facts.say("age", age)
        facts.say("lives", " ".join(map(str, notes.lives())))
    except OSError as error:
        place = "{}: ".format(error.filename) if isinstance(error.filename, str) else ""
        raise AgentError(place + (error.strerror or str(error)))
    return facts.text()


def socket_name(words: Sequence[str], node: str) -> str:
    """Return the file name of the socket as ssh makes it of these words. Raises AgentError where they name none."""
    paths = [word[len(_SOCKET) :] for word in words if word.startswith(_SOCKET)]
    name = os.path.basename(paths[-1]) if paths else ""
    if not name:
        raise AgentError("session: ssh's words name no ControlPath")
    return name.replace("%L", node.split(".", 1)[0])


def age_of(pid: int) -> Optional[int]:
    """Return the seconds since a process began, None for one that is gone."""
    began = born(pid)
    if not began:
        return None
    with open("/proc/uptime") as file:
        up = float(file.read().split()[0])
    return max(int(up - int(began) / os.sysconf("SC_CLK_TCK")), 0)


class Notes:
    """What is kept of the sessions of one socket, beside it: when it was opened, and how long earlier ones lived."""

    def __init__(self, name: str) -> None:
        """Make the folder where it is missing. Raises OSError."""
        folder = os.path.join(tool_environment()["HOME"], ".beamferry", "s")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._opened = os.path.join(folder, name + ".opened")
        self._lives = os.path.join(folder, name + ".lives")

    def note_opening(self, at: int) -> None:
        """Keep when the session was opened, in seconds since the epoch."""
        _put(self._opened, [at])

    def remember_life(self, *, is_lost: bool) -> None:
        """Forget the session that is gone; keep how long it lived where a job used it until just now."""
        opened = _numbers(self._opened)
        with suppress(FileNotFoundError):
            os.unlink(self._opened)
            life = int(time.time()) - opened[0] if opened else 0
            if is_lost and life > 0:
                _put(self._lives, [*self.lives(), life][-_LIVES:])

    def lives(self) -> List[int]:
        """Return how many seconds earlier sessions lived, the last ones."""
        return _numbers(self._lives)[-_LIVES:]


def _numbers(path: str) -> List[int]:
    """Return the numbers in a file; what is none is left out, as nothing but a notice hangs on it."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return [int(word) for word in file.read(_LIMIT).split() if re.match(rb"[0-9]{1,12}\Z", word)]
    return []


def _put(path: str, numbers: Sequence[int]) -> None:
    """Write a file, whole or not at all; two at once have two names."""
    new = "{}.{}.new".format(path, os.urandom(6).hex())
    with open(new, "x") as file:
        file.write("".join("{}\n".format(number) for number in numbers))
    os.replace(new, path)
