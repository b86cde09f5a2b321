"""Removes what nobody needs any more from ``~/.beamferry``.

That is the scripts of versions that are not used, the lists of beamtimes that are verified, and the folders of
beamtimes that nobody has touched for long. It runs once a day, beside a job that starts, and never touches a beamtime
whose lock somebody holds, the locks themselves, sockets, or anything that is not named here.
"""

import json
import os
import re
import shutil
import time
from contextlib import contextmanager
from typing import Iterator, List

from beamferry_agent.errors import AgentError
from beamferry_agent.job_files import read_file, remove
from beamferry_agent.job_marks import read_object
from beamferry_agent.locks import Lock

_DAY = 86400
# A verdict names some of what differs.
_LIMIT = 1024 * 1024
# A waiting log-in, or a job of another node, may use the scripts of an older version for as long as this.
_SCRIPTS_DAYS, _LISTS_DAYS, _BEAMTIME_DAYS = 30, 7, 90
_VERSION = re.compile(r"[0-9a-f]{16}\Z")
_VERDICTS = (os.path.join("run", "verdict.json"), os.path.join("work", "verify", "verdict.json"))
# The next run lists afresh before it reads any of these.
_LISTS = ("todo", "todo.totals", "others", "source.census", "live", "plan", "lftp", "ranges")
_VERIFY_LISTS = ("source.census", "destination.census", "sampled")


def prune(text: str) -> str:
    """Remove it; the order is ``{"home", "scripts"}``, both folders."""
    order = json.loads(text)
    os.umask(0o077)
    os.chdir(order["home"])
    turn = Lock(os.path.join("locks", "prune"), [])
    if not turn.take(0) or _is_younger(os.path.join("locks", "pruned"), 1):
        return ""
    _touch(os.path.join("locks", "pruned"))
    _prune_scripts(os.path.basename(order["scripts"]))
    for name in _folders("jobs"):
        _prune_beamtime(name)
    return ""


def _touch(path: str) -> None:
    if os.path.isdir(path):
        os.rename(path, path + ".damaged-" + os.urandom(4).hex())
    with open(path, "wb"):
        os.utime(path)


def _folders(path: str) -> List[str]:
    try:
        names = sorted(os.listdir(path))
    except OSError:
        return []
    return [
        name
        for name in names
        if os.path.isdir(os.path.join(path, name)) and not os.path.islink(os.path.join(path, name))
    ]


def _is_younger(path: str, days: int) -> bool:
    """Say whether this, or anything in it, was touched within so many days."""
    try:
        if time.time() - os.lstat(path).st_mtime < days * _DAY:
            return True
        if os.path.isdir(path) and not os.path.islink(path):
            return any(_is_younger(os.path.join(path, name), days) for name in os.listdir(path))
    except OSError:
        # Gone meanwhile, or it may not be looked at.
        pass
    return False


def _prune_scripts(own: str) -> None:
    for name in _folders("bin"):
        folder = os.path.join("bin", name)
        if name == own or not _VERSION.match(name) or _is_younger(folder, _SCRIPTS_DAYS) or _is_used(name):
            continue
        # Without this it counts as not installed: whoever needs it meanwhile brings it anew.
        remove(os.path.join(folder, "complete"))
        shutil.rmtree(folder, ignore_errors=True)


def _is_used(version: str) -> bool:
    """Say whether a process uses these scripts, or a job that names them left a sign of life within the last day."""
    line = "scripts=.beamferry/bin/{}".format(version).encode()
    for beamtime in _folders("jobs"):
        for part in _folders(os.path.join("jobs", beamtime)):
            folder = os.path.join("jobs", beamtime, part)
            if line in _content(os.path.join(folder, "mark")).split(b"\n") and _is_younger(
                os.path.join(folder, "heartbeat"), 1
            ):
                return True
    wanted = "bin/{}/".format(version).encode()
    return any(
        wanted in _content("/proc/{}/cmdline".format(pid)) for pid in os.listdir("/proc") if pid.isdigit()
    )


def _content(path: str) -> bytes:
    try:
        return read_file(path, _LIMIT) or b""
    except AgentError:
        return b""


def _prune_beamtime(name: str) -> None:
    folder = os.path.join("jobs", name)
    # For as long as it takes no start comes between, nor one of a version that had its lock in the folder.
    with _all_held([os.path.join("locks", name + ".start"), os.path.join("locks", name)]) as held:
        if not held or _is_locked(os.path.join(folder, "lock")):
            return
        if not _is_younger(folder, _BEAMTIME_DAYS):
            shutil.rmtree(folder, ignore_errors=True)
        elif _is_verified(folder) and not _is_younger(folder, _LISTS_DAYS):
            work = os.path.join(folder, "work")
            for path in [os.path.join(work, item) for item in _LISTS] + [
                os.path.join(work, "verify", item) for item in _VERIFY_LISTS
            ]:
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    remove(path)


@contextmanager
def _all_held(paths: List[str]) -> Iterator[bool]:
    locks = [Lock(path, []) for path in paths]
    try:
        yield all(lock.take(0) for lock in locks)
    finally:
        for lock in locks:
            lock.close()


def _is_locked(path: str) -> bool:
    if not os.path.isfile(path):
        return False
    with _all_held([path]) as held:
        return not held


def _is_verified(folder: str) -> bool:
    """Say whether the last thing that a run did here was a comparison that says verified.

    A run that has listed since may wait.
    """
    for name in _VERDICTS:
        verdict = os.path.join(folder, name)
        found = read_object(_content(verdict))
        if found is None or _is_newer(os.path.join(folder, "work", "todo"), verdict):
            continue
        value = found.get("value", found)
        if isinstance(value, dict) and value.get("outcome") == "verified":
            return True
    return False


def _is_newer(path: str, than: str) -> bool:
    try:
        return os.stat(path).st_mtime > os.stat(than).st_mtime
    except OSError:
        return False
