"""Removes what transfers left of files that are not whole; no link is followed."""

import os
import subprocess
from contextlib import suppress

from beamferry_agent.destination import PARTIAL
from beamferry_agent.places import PlaceError, open_below, resolved
from beamferry_agent.records import read_names
from beamferry_agent.step import AT_RDS, Step, StepEnd
from beamferry_agent.tools import Tools

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_below(step: Step, root: int, path: str, *, itself: bool = False) -> None:
    """Remove all that is in a folder of ours, and with ``itself`` the folder, and those above it that are empty then.

    What a killed rsync left: no other job of this beamtime runs, the lock sees to that. Raises StepEnd.
    """
    try:
        folder = os.open(path, _FOLDER, dir_fd=root)
    except FileNotFoundError:
        return
    try:
        _empty(folder)
    except OSError as error:
        if not itself:
            step.hear("{}: {}".format(path, error.strerror))
            raise StepEnd(AT_RDS)
    finally:
        os.close(folder)
    while itself and path:
        with suppress(OSError):
            # One that is not empty stays.
            os.rmdir(path, dir_fd=root)
        path = os.path.dirname(path)


def remove_partials(step: Step, tools: Tools, root: int, destination: str) -> None:
    """Remove the partial folders below a destination that is open as ``root``; what cannot be removed is said."""
    words = ("find", ".", "-type", "d", "-name", PARTIAL, "-prune", "-printf", "%P\\0")
    process = tools.start(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, folder=root)
    if process.stdout is None or process.stderr is None:
        return
    found = list(read_names(process.stdout))
    words_said = process.stderr.read()
    process.wait()
    step.hear(words_said)
    for path in found:
        above, name = os.path.split(os.path.join(destination, os.fsdecode(path)))
        try:
            with open_below(resolved(destination), above, 0o755) as folder:
                _remove(folder, os.fsencode(name))
        except PlaceError as error:
            step.hear(error.told())
        except OSError as error:
            step.hear("{}: {}".format(os.path.join(above, name), error.strerror))


def _empty(folder: int) -> None:
    for name in os.listdir(folder):
        _remove(folder, os.fsencode(name))


def _remove(above: int, name: bytes) -> None:
    """Remove a file, or a folder with all that is in it."""
    try:
        os.unlink(name, dir_fd=above)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        # Linux says EISDIR, POSIX EPERM.
        folder = os.open(name, _FOLDER, dir_fd=above)
        try:
            _empty(folder)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=above)
