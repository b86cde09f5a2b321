"""Which processes are whose: by start time, boot, and a mark in their environment. Only these are ever signalled."""

import os
import signal
import time
from contextlib import suppress
from typing import Callable, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Tuple

_STEP_SECONDS = 0.2
# In steps: when those that do not end are killed, and when nobody waits for them any more.
_KILL_AT, _STEPS = 50, 75


class Host(NamedTuple):
    """What tells a host from every other, and a boot from the one before: two nodes may have one name."""

    name: str
    boot: str


def this_host() -> Host:
    """Return the host that this process runs on."""
    with open("/proc/sys/kernel/hostname") as name, open("/proc/sys/kernel/random/boot_id") as boot:
        return Host(name.read().strip(), boot.read().strip())


def born(pid: int) -> str:
    """Return a process's start time in clock ticks since boot, '' for one that is gone.

    With it a number that was given out again is not taken for ours.
    """
    # The command's name may hold anything, also brackets.
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return "" if len(fields) < 20 or fields[0] == b"Z" else fields[19].decode("ascii")


def environment(pid: int) -> List[bytes]:
    """Return the environment that a process began with, as ``NAME=VALUE``."""
    return _read(pid, "environ").split(b"\0")


def value_of(pid: int, name: str) -> str:
    """Return a value of a process's environment, '' where it has none."""
    start = name.encode() + b"="
    for item in environment(pid):
        if item.startswith(start):
            return os.fsdecode(item[len(start) :])
    return ""


def carrying(name: str, value: str) -> List[int]:
    """Return the processes on this host whose environment has this value.

    One that sees other files, in a container, may have the same value for another folder.
    """
    wanted = os.fsencode("{}={}".format(name, value))
    return [pid for pid in _all() if wanted in environment(pid) and _sees_our_files(pid)]


def writing_to(destination: str) -> List[int]:
    """Return the processes that may still write to a destination, by the name of its lock.

    ssh only hands on, and a shared session may outlive its job.
    """
    return [
        pid
        for pid in carrying("BEAMFERRY_DESTINATION", destination)
        if _read(pid, "comm").strip() not in (b"ssh", b"")
    ]


def having_open(handle: int) -> List[int]:
    """Return the other processes on this host that have the same file open."""
    wanted = os.fstat(handle)
    return [
        pid
        for pid in _all()
        if pid != os.getpid()
        and any((there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino) for there in _open_files(pid))
    ]


def leads(pid: int) -> bool:
    """Say whether a process leads a session of its own."""
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False


def call_of_earlier(pid: int, folder: str) -> List[bytes]:
    """Return script and arguments of a job's leader that a version in bash started, nothing for any other process."""
    words = _read(pid, "cmdline").split(b"\0")[:-1]
    if len(words) < 5 or os.path.basename(words[1]) != b"job.sh":
        return []
    if words[2] != b"run" or words[4] != os.fsencode(folder) or b"--" not in words:
        return []
    return words[words.index(b"--") + 1 :]


def end(find: Callable[[], List[int]], group: Optional[int]) -> List[int]:
    """End all processes that are found: first ask, then insist. Return those that do not end.

    ``group``: a process group all of which is meant while its leader is among them.
    """
    for step in range(1, _STEPS + 1):
        found = find()
        if not found:
            break
        if step == 1 and group is not None and group in found:
            # While its leader lives the group is its own.
            _signal([-group], signal.SIGTERM)
        elif step == 1:
            _signal(found, signal.SIGTERM)
        elif step == _KILL_AT:
            _signal(found, signal.SIGKILL)
        time.sleep(_STEP_SECONDS)
    return found


def _signal(pids: List[int], number: int) -> None:
    for pid in pids:
        # It may have ended meanwhile; what has not is looked for again.
        with suppress(OSError):
            os.kill(pid, number)


def _all() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        with open("/proc/{}/{}".format(pid, name), "rb") as file:
            return file.read()
    except OSError:
        # Gone, or somebody else's.
        return b""


def _open_files(pid: int) -> Iterator[os.stat_result]:
    folder = "/proc/{}/fd".format(pid)
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        with suppress(OSError):
            yield os.stat(os.path.join(folder, name))


def _sees_our_files(pid: int) -> bool:
    return _files_of(str(pid)) == _files_of("self")


def _files_of(pid: str) -> Tuple[int, int]:
    try:
        found = os.stat("/proc/{}/ns/mnt".format(pid))
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def descendants(pid: int) -> List[int]:
    """Return the processes below one, the nearest first."""
    parents = {child: _parent(child) for child in _all()}
    found = [pid]
    for above in found:
        found.extend(sorted(child for child, parent in parents.items() if parent == above))
    return found[1:]


def moved_bytes(names: FrozenSet[str]) -> Dict[int, int]:
    """Return how many bytes each process of this process group that has one of these names has read and written."""
    group = os.getpgrp()
    return {
        pid: _io_bytes(pid)
        for pid in _all()
        if _read(pid, "comm").strip().decode("utf-8", "replace") in names and _group(pid) == group
    }


def _parent(pid: int) -> int:
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _io_bytes(pid: int) -> int:
    fields = (line.partition(b":") for line in _read(pid, "io").splitlines())
    return sum(int(value) for name, _, value in fields if name in (b"rchar", b"wchar"))
