"""Servers of the lab that run in the background, write down what clients did, and break on demand."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from beamferry.errors import PermanentError
from beamferry.lab.keys import write_private
from beamferry.lab.process import Process, stop
from beamferry.lab.root import bound_by_modes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_START_SECONDS = 20.0


class Recorded:
    """A server in the background, found again by what it wrote down; its class adds ``folder``."""

    folder: Path

    @property
    def _record(self) -> Path:
        return self.folder / "server.json"

    @property
    def process(self) -> Process | None:
        """The server, if it runs."""
        return Process.load(self._record)

    def stop(self) -> None:
        """Stop the server with all its connections; files stay."""
        if (server := self.process) is not None:
            stop([*server.descendants(), server])
        self._record.unlink(missing_ok=True)


class Background(Recorded, ABC):
    """A server that is started with a file of settings; its class adds ``address`` and ``port`` too."""

    address: str
    port: int

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, for people."""

    @abstractmethod
    def _command(self, config: Path) -> Sequence[str]:
        """Return what starts the server."""

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """Return the settings; paths of records, faults and events are added."""

    @property
    def _control(self) -> Path:
        return self.folder / "faults.json"

    @property
    def _events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    def start(self) -> None:
        """Start the server unless it runs with these settings; returns when it listens.

        Raises:
            PermanentError: it does not start; says the last that it logged.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        places = {"control": self._control, "events": self._events, "record": self._record, "log": self.log}
        config = self.folder / "config.json"
        text = json.dumps(self._config() | {name: str(place) for name, place in places.items()})
        if self.process is not None:
            if config.exists() and config.read_text() == text:
                return
            self.stop()
        write_private(config, text)
        self._control.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        # File modes bind the server even where the lab runs as root, as they bind the real one's account.
        command = bound_by_modes(("setsid", "--fork", *self._command(config)))
        with self.log.open("wb") as output:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end:
            if self.process is not None:
                return
            # It says nothing before it listens, unless it fails.
            if "Error" in self._last_words():
                break
            time.sleep(0.02)
        raise PermanentError(
            "lab-desy",
            f"{self.name} does not start on {self.address}:{self.port}: {self._last_words()}",
            "free the port, or remove the lab's folder so that it chooses another",
        )

    def _last_words(self) -> str:
        return " ".join(self.log.read_text(errors="replace").strip().splitlines()[-1:])

    def events(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return what happened, oldest first: event, at, open (connections now), and for log-ins accepted.

        Args:
            event: connected, disconnected, login, turned-away, dropped, changed, sftp, command; all if left out.
        """
        if not self._events.exists():
            return []
        found = [json.loads(line) for line in self._events.read_text().splitlines()]
        return [line for line in found if event in {None, line["event"]}]

    def attempts(self, *, accepted: bool | None = None) -> int:
        """Return how many log-ins were tried, or of these the accepted or the refused ones."""
        return sum(accepted in {None, line["accepted"]} for line in self.events("login"))

    def most_connections(self) -> int:
        """Return how many connections there were at a time, at most."""
        return max((int(line["open"]) for line in self.events("connected")), default=0)

    def forget(self) -> None:
        """Forget all events."""
        self._events.unlink(missing_ok=True)

    @contextmanager
    def break_with(self, **faults: Any) -> Iterator[None]:
        """Let faults be in force for connections, commands and transfers that begin from now on.

        Args:
            faults: with FTPS ``refuse_password`` (true), ``max_connections`` (number), ``drop_control_after_commands``,
                ``drop_control_after_seconds``, ``drop_data_after`` (bytes, with ``once``), ``hang_after`` (bytes),
                ``bytes_per_second``, ``list_limit`` with ``list_commands``, ``change`` (path, after, how);
                with ssh ``refuse_password``, ``refuse_code``, ``max_connections``, ``drop_after_seconds``.
        """
        write_private(self._control, json.dumps(faults | {"serial": uuid.uuid4().hex}))
        try:
            yield
        finally:
            self._control.unlink(missing_ok=True)
