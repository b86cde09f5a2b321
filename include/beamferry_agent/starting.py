"""How a job starts, attaches to one that is there, or finds that it has to wait."""

import json
import os
import sys
import time
from contextlib import suppress
from typing import List, Optional

from beamferry_agent import processes
from beamferry_agent.job_files import DamagedFileError, Folder, read_file, remove
from beamferry_agent.job_marks import Mark, call_of, clean, guard_of, read_leader_of_lock, read_mark
from beamferry_agent.job_request import JobRequest
from beamferry_agent.job_state import JobError, State, end_stopped, holders, judge, read_state, stop_processes
from beamferry_agent.launching import launch, launch_pruning
from beamferry_agent.locks import Lock

# Whoever started a job reads how it ended within this time, or does not read it any more.
_UNREAD_SECONDS = 900
_OTHER_START_SECONDS = 60
# For processes that were asked to end, and for those that nobody knows.
_LEFTOVER_SECONDS, _WRITING_STEPS, _STEP_SECONDS = 30, 50, 0.2
_SECRETS_SECONDS = 3600


class _BusyError(Exception):
    """This start has to wait. The message is the answer."""


def start(request: JobRequest) -> str:
    """Return ``started``, ``attached`` or ``finished`` and the generation, or ``busy`` and who has to end first.

    Each line that follows is a sentence on what was found damaged. Raises AgentError.
    """
    os.umask(0o077)
    words = request.arguments
    secret = next((words[at + 1] for at, word in enumerate(words[:-1]) if word == "--secret"), "")
    told: List[str] = []
    answer = ""
    try:
        answer = _Start(request, secret, told).answer()
    except _BusyError as busy:
        answer = str(busy)
    finally:
        # The password stays for the job alone that this start begins.
        if secret and not answer.startswith("started"):
            remove(secret)
    return "\n".join([answer, *told])


class _Start:
    """One start."""

    def __init__(self, request: JobRequest, secret: str, told: List[str]) -> None:
        self._request, self._secret, self._told = request, secret, told
        self._here = processes.this_host()
        self._call = call_of(request.script, request.arguments)
        self._folder = Folder(request.job)
        self._folder.told = told
        self._beamtime = os.path.dirname(request.job)
        self._guard = os.path.join(os.path.dirname(request.lock), guard_of(request.destination))
        # A version before this one had its lock here, and knows no other.
        self._older = os.path.join(self._beamtime, "lock")

    def answer(self) -> str:
        self._folder.make()
        turn = Lock(self._request.lock + ".start", self._told)
        if not turn.take(_OTHER_START_SECONDS):
            raise JobError("another start of this beamtime is taking over a minute")
        state = read_state(self._request.job, self._request.lock)
        if state.is_running:
            if self._is_wanted(state):
                self._write_down(state)
                return "attached " + state.mark.generation
            self._may_be_stopped(state)
            if not state.near:
                raise self._busy("host", state)
            stop_processes(state)
        elif state.state == "finished":
            if self._answers(state):
                return "finished " + state.mark.generation
        elif (state.mark.owner or self._request.owner) == self._request.owner:
            stop_processes(state)
        locks = self._take(0)
        if not locks:
            attached = self._make_way()
            if attached is not None:
                return attached
            locks = self._take(_LEFTOVER_SECONDS)
            if not locks:
                holder = self._holder()
                raise self._busy("beamtime" if holder.is_running else "leftover", holder)
        if self._is_unread(state):
            raise self._busy("unread", state)
        self._wait_for_writers()
        return "started " + self._begin(locks)

    def _answers(self, state: State) -> bool:
        """Say whether a job that ended well is the one that is asked for."""
        wanted = (0, clean(self._request.key), self._call, self._request.owner)
        if (state.exit_code, state.mark.run, state.mark.call, state.mark.owner) != wanted:
            return False
        # One whose result cannot be read has to be done again.
        return not self._folder.is_damaged("result.json")

    def _is_unread(self, state: State) -> bool:
        """Say whether another installation may still read how its job ended."""
        other = state.mark.owner not in ("", self._request.owner)
        return state.state == "finished" and other and 0 <= state.age <= _UNREAD_SECONDS

    def _is_wanted(self, state: State) -> bool:
        """Say whether a living job is the one that is asked for; one of an earlier version names no installation."""
        if state.mark.generation:
            return (state.mark.owner, state.mark.call) == (self._request.owner, self._call)
        if not state.near or state.leader is None:
            return False
        words = [word.decode("utf-8", "surrogateescape") for word in self._earlier(state)]
        return bool(words) and call_of(words[0], words[1:]) == self._call

    @staticmethod
    def _earlier(state: State) -> List[bytes]:
        return [] if state.leader is None else processes.call_of_earlier(state.leader.pid, state.folder)

    def _write_down(self, state: State) -> None:
        """Give a living job the files that its folder has lost."""
        if state.leader is None or not state.mark.is_whole:
            return
        self._folder.keep("mark", state.mark.to_text())
        self._folder.keep("pid", state.leader.to_text())

    def _busy(self, reason: str, state: State) -> _BusyError:
        """Return who has to end first, as far as that is known."""
        parts = state.folder.split("/")
        host = "" if state.near or state.leader is None else state.where(self._here)
        found = {
            "reason": reason,
            "job": clean("/".join(parts[-2:])) if len(parts) > 2 else "",
            "installation": state.mark.installation,
            "run": state.mark.run,
            "since": int(state.mark.since) if state.mark.since.isdigit() else 0,
            "host": host,
        }
        return _BusyError("busy " + json.dumps(found))

    def _may_be_stopped(self, state: State) -> None:
        """Raise who has to end first where a job is not this installation's, or nobody knows whose it is."""
        if state.is_running and not state.mark.generation:
            raise self._busy("version", state)
        if state.mark.generation and not state.mark.owner:
            raise self._busy("leftover", state._replace(folder=""))
        if (state.mark.owner or self._request.owner) != self._request.owner:
            raise self._busy("installation", state)

    def _take(self, seconds: float) -> List[Lock]:
        """Return the locks for all that the job starts; none where somebody else has one, which is kept as held."""
        locks: List[Lock] = []
        for path in (self._request.lock, self._guard, self._older):
            lock = Lock(path, self._told)
            locks.append(lock)
            if not lock.take(seconds):
                self._held = path
                for taken in locks:
                    taken.close()
                return []
        return locks

    def _holder(self) -> State:
        """Return the state of whoever has the lock that could not be taken."""
        try:
            content = read_file(self._held)
        except DamagedFileError:
            content = None
        if self._held == self._older:
            path = (content or b"").decode("utf-8", "replace").strip("\n")
            return (
                read_state(path, self._request.lock) if path and os.path.isdir(path) else State("absent", "")
            )
        mark = read_mark(content)
        if mark is None:
            return next(iter(holders(self._held)), State("absent", ""))
        return judge(mark.folder, mark, read_leader_of_lock(content))

    def _make_way(self) -> Optional[str]:
        """End what holds a lock, or return that it is the very job. Raises who has to end first."""
        state = self._holder()
        if state.is_running and state.folder == self._request.job and self._is_wanted(state):
            # Its folder was removed while it ran.
            self._write_down(state)
            return "attached " + state.mark.generation
        if not state.folder:
            return None
        self._may_be_stopped(state)
        if os.path.dirname(state.folder) != self._beamtime:
            raise self._busy("beamtime", state)
        if state.is_running and not state.near:
            raise self._busy("host", state)
        # What an earlier part of this beamtime left: Airflow runs one at a time.
        stop_processes(state)
        if state.state != "absent":
            end_stopped(Folder(state.folder))
        return None

    def _wait_for_writers(self) -> None:
        """Wait a little for what still writes; somebody may have removed the locks themselves under it."""
        for _ in range(_WRITING_STEPS):
            if not processes.writing_to(os.path.basename(self._guard)):
                return
            time.sleep(_STEP_SECONDS)
        raise self._busy("leftover", State("absent", ""))

    def _begin(self, locks: List[Lock]) -> str:
        """Begin the job and return its generation."""
        request = self._request
        self._sweep()
        self._folder.clear()
        with open("/proc/sys/kernel/random/uuid") as file:
            generation = file.read().strip()
        scripts = os.path.dirname(sys.argv[0])
        mark = Mark(
            generation,
            self._here.boot,
            request.owner,
            clean(request.name),
            clean(request.key),
            str(int(time.time())),
            self._call,
            self._secret,
            scripts,
            request.job,
        )
        self._folder.write("mark", mark.to_text())
        # Versions before this one read these.
        self._folder.write("key", request.key + "\n")
        self._folder.write("call", self._call + "\n")
        # It counts for the sweeping of versions alone.
        with suppress(OSError):
            os.utime(os.path.join(scripts, "complete"))
        launch(request, mark, locks, os.path.basename(self._guard))
        launch_pruning(os.path.dirname(os.path.dirname(request.lock)))
        return generation

    def _sweep(self) -> None:
        """Remove the passwords that jobs of this beamtime left, now that none of them runs.

        One that was just handed over is of another start, or of a probe.
        """
        for part in sorted(os.listdir(self._beamtime)):
            folder = Folder(os.path.join(self._beamtime, part))
            if not folder.exists():
                continue
            mark = read_mark(folder.look("mark"))
            if mark is not None and mark.secret and mark.secret != self._secret:
                remove(mark.secret)
            for name in os.listdir(folder.path):
                path = os.path.join(folder.path, name)
                if name == "secret" or name.startswith("secret-"):
                    found = os.lstat(path)
                    if time.time() - found.st_mtime > _SECRETS_SECONDS:
                        remove(path)
