"""Processes that outlive the command that started them, found again by number and start time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from beamferry.errors import PermanentError

if TYPE_CHECKING:
    from collections.abc import Iterable

# The kernel gives start times in ticks since boot; the boot's own time can be corrected by seconds later on.
_START_TOLERANCE_SECONDS = 5.0
_KILL_SECONDS = 10.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Process:
    """A process number with its start time, so that a number given out again is never taken for ours.

    Args:
        pid: process number.
        started: start time in seconds since the epoch.
    """

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """Return the process that has this number now, or nothing."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    @classmethod
    def load(cls, record: Path) -> Process | None:
        """Return the recorded process if it still runs, else nothing; a damaged record counts as nothing."""
        try:
            found = cls(**json.loads(record.read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError):
            return None
        return found if found.running else None

    def save(self, record: Path) -> None:
        """Write the record that ``load`` reads."""
        new = record.with_name(f".{record.name}.new")
        new.write_text(json.dumps(asdict(self)))
        new.rename(record)

    def _find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _START_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def running(self) -> bool:
        """Whether the process is there and is the same one."""
        return self._find() is not None

    def signal(self, word: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if (process := self._find()) is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(word)

    def descendants(self) -> list[Process]:
        """Return all children and their children, as they are now."""
        process = self._find()
        if process is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return [found for child in process.children(recursive=True) if (found := Process.of(child.pid))]
        return []


def stop(processes: Iterable[Process], grace_seconds: float = 5.0) -> None:
    """Ask processes to end and, after the grace, make them; zero seconds means at once. Returns when gone.

    Raises:
        PermanentError: one of them cannot be ended.
    """
    left = list(processes)
    for word, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, _KILL_SECONDS)):
        if not patience:
            continue
        for process in left:
            process.signal(word)
        end = time.monotonic() + patience
        # What has ended but was not waited for by its parent counts as gone: the parent may be any process.
        while (left := [process for process in left if process.running]) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
    if left:
        numbers = ", ".join(str(process.pid) for process in left)
        raise PermanentError("lab-process", f"processes {numbers} of the lab do not end", "end them by hand")


def with_file_system_of(keeper: Process) -> list[Process]:
    """Return every process that lives in the same mount namespace as the keeper, the keeper left out."""

    def namespace(pid: int) -> str | None:
        try:
            return str(Path(f"/proc/{pid}/ns/mnt").readlink())
        except OSError:
            return None

    home = namespace(keeper.pid)
    if home is None:
        return []
    pids = (pid for pid in psutil.pids() if pid != keeper.pid and namespace(pid) == home)
    return [process for pid in pids if (process := Process.of(pid))]


def with_environment(name: str, value: str) -> list[Process]:
    """Return every process of ours that was started with this in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and process.environ().get(name) == value:
                found.append(Process(process.pid, process.create_time()))
        except psutil.Error:
            continue  # gone meanwhile, or not ours to read
    return found
