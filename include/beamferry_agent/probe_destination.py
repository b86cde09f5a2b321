"""The destination at RDS: is the share there, what room has it, what does it keep, can this account write to it?"""

import grp
import os
import stat
from contextlib import suppress
from typing import Optional

from beamferry_agent.destination import resolve
from beamferry_agent.errors import AgentError
from beamferry_agent.places import ForeignError, private_folder
from beamferry_agent.probe_facts import Facts

_TIME = 1000000001
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def look_at_destination(facts: Facts, root: str, destination: str) -> None:
    """Tell what is there. Nothing is changed but in a folder of our own below the root, which is removed again."""
    facts.say("root_exists", os.path.isdir(root))
    if not os.path.isdir(root):
        return
    facts.say("root_mounted", is_mounted(root))
    try:
        # Else nobody would find it out before the transfer.
        resolve(destination)
    except ForeignError as error:
        facts.say("destination_refused", str(error))
        return
    except AgentError:
        # What else is in the way is told by the trial.
        pass
    there = _nearest(root, destination)
    try:
        _tell_groups(facts, root, there)
        _tell_room(facts, there)
    except OSError as error:
        facts.say("writable", value=False)
        facts.say("writable_reason", "{}: {}".format(there, error.strerror))
        return
    reason = _try(facts, there)
    facts.say("writable", not reason)
    if reason:
        facts.say("writable_reason", reason)


def is_mounted(root: str) -> bool:
    """Say whether a share is mounted there.

    One that is not leaves its empty mount point behind, on the file system of the folder above it. An empty root on the
    root file system is taken for that; a root with anything in it is what the group uses.
    """
    try:
        if os.stat(root).st_dev != os.stat("/").st_dev:
            return True
        with os.scandir(root) as entries:
            return next(entries, None) is not None
    except OSError:
        # Why it cannot be looked at is told by the trial.
        return True


def _nearest(root: str, destination: str) -> str:
    """Return what of the destination is there, as it may be a mount of its own."""
    at = destination.replace("/./", "/", 1)
    while not os.path.isdir(at):
        at = os.path.dirname(at)
    return at if _is_below(at, root) else root


def _is_below(path: str, root: str) -> bool:
    return (path + "/").startswith(root.rstrip("/") + "/")


def _tell_groups(facts: Facts, root: str, there: str) -> None:
    facts.say("share_group", group_given(root, there))
    facts.say("root_group", _group_name(os.stat(root).st_gid))
    facts.say("closed_folder", closed_folder(root, there))


def group_given(root: str, folder: str) -> Optional[int]:
    """Return the group that a folder gives to what is put there, by the nearest setgid bit up to the root; or None.

    Folders below that one may have lost theirs. A folder of somebody else does not count, as its owner could choose any
    group.
    """
    at = folder
    while True:
        found = os.stat(at)
        if found.st_mode & stat.S_ISGID and found.st_uid in (0, os.geteuid()):
            return found.st_gid
        above = os.path.dirname(at)
        if above == at or not _is_below(above, root):
            return None
        at = above


def closed_folder(root: str, folder: str) -> str:
    """Return the first folder, from the root on, that the group of the root cannot look into: ``MODE PATH``, or ''."""
    group, at, found = os.stat(root).st_gid, folder, ""
    while True:
        seen = os.stat(at)
        mode = stat.S_IMODE(seen.st_mode)
        if (mode >> 3 if seen.st_gid == group else mode) & 5 != 5:
            found = "{:o} {}".format(mode, at)
        above = os.path.dirname(at)
        if above == at or not _is_below(above, root):
            return found
        at = above


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _tell_room(facts: Facts, there: str) -> None:
    facts.say("file_system", file_system(there))
    found = os.statvfs(there)
    facts.say("bytes_free", found.f_bavail * found.f_frsize)
    # Inodes are not counted everywhere, e.g. not on btrfs and CIFS.
    facts.say("inodes_free", found.f_ffree if found.f_files else None)


def file_system(folder: str) -> str:
    """Return the kind of a folder's file system as the kernel calls it, '' where it does not say."""
    handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        with open("/proc/self/fdinfo/{}".format(handle)) as file:
            mounts = [line.split()[1] for line in file if line.startswith("mnt_id:")]
    except OSError:
        return ""
    finally:
        os.close(handle)
    with suppress(OSError), open("/proc/self/mountinfo", errors="replace") as file:
        for line in file:
            fields = line.split(" ")
            if fields[:1] == mounts:
                return fields[fields.index("-") + 1]
    return ""


def _try(facts: Facts, there: str) -> str:
    """Write a file as a transfer does, and tell what is kept of it; return why it cannot be done, '' where it can."""
    try:
        with private_folder(os.path.realpath(there), "probe") as folder:
            try:
                _try_in(facts, folder)
            except OSError as error:
                return "{}: {}".format(there, error.strerror)
    except AgentError as error:
        return str(error)
    return ""


def _try_in(facts: Facts, folder: int) -> None:
    """Make, write and rename a file in an empty folder. Raises OSError where that fails."""
    before = os.umask(0o022)
    try:
        file = os.open("file", _NEW, 0o666, dir_fd=folder)
    finally:
        os.umask(before)
    try:
        os.write(file, b"x\n")
        # A quota, or a server that is full, may be told of at the end alone.
        os.fsync(file)
        os.rename("file", "renamed", src_dir_fd=folder, dst_dir_fd=folder)
        found = os.fstat(file)
        facts.say("new_mode", "{:o}".format(stat.S_IMODE(found.st_mode)))
        facts.say("new_group", _group_name(found.st_gid))
        with suppress(OSError):
            os.fchmod(file, 0o640)
        facts.say("keeps_modes", stat.S_IMODE(_seen(folder).st_mode) == 0o640)
        with suppress(OSError):
            os.utime(file, (_TIME, _TIME))
        facts.say("keeps_times", int(_seen(folder).st_mtime) == _TIME)
    finally:
        os.close(file)
    with suppress(OSError):
        os.symlink("renamed", "link", dir_fd=folder)
    facts.say("keeps_links", _is_link(folder, "link"))


def _seen(folder: int) -> os.stat_result:
    return os.stat("renamed", dir_fd=folder, follow_symlinks=False)


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
