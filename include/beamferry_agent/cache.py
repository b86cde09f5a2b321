"""Takes files out of the machine's page cache, so that what is read next comes from the storage."""

import json
import os

from beamferry_agent.records import read_names


def forget(text: str) -> str:
    """Answer ``{"folder", "list"}``: drop each file of a list of records from the cache; say how many could not be.

    What was written has to be flushed before: pages that are not on the disk yet stay.
    """
    asked = json.loads(text)
    kept = 0
    folder = os.open(asked["folder"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with open(asked["list"], "rb") as paths:
            for record in read_names(paths):
                kept += not _drop(folder, record.split(b"//", 1)[0])
    finally:
        os.close(folder)
    return json.dumps({"kept": kept})


def _drop(folder: int, path: bytes) -> bool:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        # Whoever reads it next says why.
        return False
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
