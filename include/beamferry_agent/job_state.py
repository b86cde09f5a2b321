"""Whether a job lives, and whose it is: from its files, its lock and its processes, whatever state the files are in."""

import json
import os
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from beamferry_agent import processes
from beamferry_agent.errors import AgentError
from beamferry_agent.job_files import DamagedFileError, Folder, read_file
from beamferry_agent.job_marks import (
    Leader,
    Mark,
    read_code,
    read_leader,
    read_leader_of_lock,
    read_mark,
    read_object,
)
from beamferry_agent.locks import Lock, is_held
from beamferry_agent.processes import Host

# A job on another node of RDS-SSH cannot be asked for its process: there the heartbeat alone decides.
STALE_SECONDS = 60
# How a job ended that somebody stopped.
STOPPED = 143
_PROGRESS = {
    "phase": str,
    "bytes_done": int,
    "bytes_total": int,
    "files_done": int,
    "files_total": int,
    "rate": int,
    "updated": int,
}


class JobError(AgentError):
    """A job cannot be started or stopped for a reason that a person has to know."""

    exit_code = 75


class State(NamedTuple):
    """What is known of a job.

    ``state``: ``absent``, ``running``, ``finished`` or ``dead``.
    ``age``: seconds since its last sign of life, -1 where there was none.
    ``near``: whether it is of this very host and boot.
    """

    state: str
    folder: str
    mark: Mark = Mark()
    leader: Optional[Leader] = None
    near: bool = False
    age: int = -1
    exit_code: Optional[int] = None

    @property
    def is_running(self) -> bool:
        """Whether it lives."""
        return self.state == "running"

    def where(self, here: Host) -> str:
        """Return the job's host and this one, told apart where both have one name."""
        if self.leader is None or self.leader.host != here.name:
            return "{}, and this is {}".format(self.leader.host if self.leader else "another host", here.name)
        return (
            "another host that is called {}, too (boot id {}; this one is {}: cat /proc/sys/kernel/random/boot_id)"
        ).format(here.name, self.mark.boot[:8], here.boot[:8])


def read_state(path: str, lock: str) -> State:
    """Return what is known of the job in a folder. Nothing is written.

    Raises HomeError, LocksError.
    """
    folder = Folder(path)
    if not folder.exists():
        return State("absent", path)
    mark, leader = read_mark(folder.look("mark")), read_leader(folder.look("pid"))
    if leader is None or mark is None or not mark.is_whole:
        mark, leader = _as_lock_tells(path, lock, mark, leader)
    state = judge(path, mark or Mark(), leader)
    if leader is None and folder.is_damaged("pid"):
        state = state._replace(state="dead")
    code = read_code(folder.look("exit_code"))
    return state if code is None else state._replace(state="finished", exit_code=code)


def judge(path: str, mark: Mark, leader: Optional[Leader]) -> State:
    """Return what is known of a job by its mark, its leader and its last sign of life."""
    age = _age(os.path.join(path, "heartbeat"))
    if leader is None:
        return State("absent", path, mark, age=age)
    here = processes.this_host()
    near = leader.host == here.name and (mark.boot or here.boot) == here.boot
    if near:
        lives = processes.born(leader.pid) == leader.born and _is_leader(leader.pid, path, mark)
    else:
        lives = 0 <= age <= STALE_SECONDS
    return State("running" if lives else "dead", path, mark, leader, near, age)


def _is_leader(pid: int, path: str, mark: Mark) -> bool:
    """Say whether a process is the job's: its environment has the mark that its start gave it."""
    if mark.generation:
        return processes.value_of(pid, "BEAMFERRY_GENERATION") == mark.generation
    return bool(processes.call_of_earlier(pid, path))


def _as_lock_tells(
    path: str, lock: str, mark: Optional[Mark], leader: Optional[Leader]
) -> Tuple[Optional[Mark], Optional[Leader]]:
    """Return mark and leader of a job whose own files do not tell them, as far as it holds the lock.

    Nothing is taken from the lock for the job of another start.
    """
    try:
        content = read_file(lock)
    except DamagedFileError:
        content = None
    told = read_mark(content)
    if told is None:
        if leader is None and is_held(lock):
            return _as_processes_tell(path, lock, mark)
    elif told.folder == path and (mark is None or mark.generation == told.generation):
        found = read_leader_of_lock(content)
        if found is not None and is_held(lock):
            return told, found
        return (told if mark is not None else mark), leader
    return mark, leader


def _as_processes_tell(path: str, lock: str, mark: Optional[Mark]) -> Tuple[Optional[Mark], Optional[Leader]]:
    """Return mark and leader of a job of which only its processes are left to tell."""
    for holder in holders(lock):
        if holder.folder == path and (mark is None or mark.generation == holder.mark.generation):
            return mark or holder.mark, holder.leader
    return mark, None


def holders(lock: str) -> List[State]:
    """Return the jobs whose processes here have a lock open, leaders first, as far as their environment tells."""
    found = []
    opened = Lock(lock, [])
    try:
        here, top = processes.this_host(), os.path.join(os.getcwd(), "")
        for pid in processes.having_open(opened.handle):
            generation = processes.value_of(pid, "BEAMFERRY_GENERATION")
            folder = processes.value_of(pid, "BEAMFERRY_JOB")
            if not generation or not folder:
                continue
            folder = folder[len(top) :] if folder.startswith(top) else folder
            leader = Leader(pid, processes.born(pid), here.name) if processes.leads(pid) else None
            known = read_mark(Folder(folder).look("mark"))
            if known is None or known.generation != generation:
                known = Mark(generation=generation, folder=folder)
            found.append(judge(folder, known, leader))
    finally:
        opened.close()
    return sorted(found, key=lambda state: state.leader is None)


def _age(path: str) -> int:
    try:
        return int(time.time()) - int(os.stat(path).st_mtime)
    except OSError:
        return -1


def stop_processes(state: State) -> None:
    """End the processes of a job, its orphans too. Nothing is signalled that is not proven to be that job's.

    Raises JobError.
    """
    if state.state not in ("running", "dead"):
        return
    if state.near or state.leader is None:
        group = state.leader.pid if state.leader is not None and state.is_running else None
        left = processes.end(lambda: _processes_of(state), group)
        if left:
            raise JobError("processes {} of {} do not end".format(" ".join(map(str, left)), state.folder))
    elif state.is_running:
        raise JobError(
            "the job runs on {}: log in there to stop it".format(state.where(processes.this_host()))
        )


def _processes_of(state: State) -> List[int]:
    if state.mark.generation:
        return processes.carrying("BEAMFERRY_GENERATION", state.mark.generation)
    # A version in bash put the folder alone into the environment, and the leader has it among its arguments.
    found = processes.carrying("BEAMFERRY_JOB", os.path.abspath(state.folder))
    leader = state.leader
    # Its number may be somebody else's by now.
    if leader is not None and processes.born(leader.pid) == leader.born:
        found += [leader.pid] if processes.call_of_earlier(leader.pid, state.folder) else []
    return found


def status_of(state: State) -> str:
    """Return what is told of a job, as one line of JSON."""
    return status_text(
        state.state, state.exit_code, state.age, state.mark.generation, progress_of(state.folder)
    )


def progress_of(path: str) -> Optional[Dict[str, Any]]:
    """Return how far the job in a folder is, None where that is not known."""
    found = read_object(Folder(path).look("progress.json"))
    return found if _is_progress(found) else None


def status_text(
    state: str,
    code: Optional[int],
    age: int,
    generation: str,
    progress: Optional[Dict[str, Any]],
    beat: int = 0,
) -> str:
    """Return a status as one line of JSON.

    ``beat``: another number for each sign of life, in the file that whoever watches a job reads.
    """
    return json.dumps(
        {
            "state": state,
            "exit_code": code,
            "heartbeat_age": age,
            "generation": generation,
            "progress": progress,
            "beat": beat,
        },
        sort_keys=True,
    )


def end_stopped(folder: Folder) -> None:
    """Write down that a job was stopped which could not write that itself. Raises HomeError."""
    if folder.exists() and folder.look("exit_code") is None:
        folder.write("exit_code", "{}\n".format(STOPPED))
        folder.forget("status.json")


def _is_progress(found: Optional[object]) -> bool:
    return (
        isinstance(found, dict)
        and set(found) == set(_PROGRESS)
        and all(type(found[name]) is kind for name, kind in _PROGRESS.items())
    )
