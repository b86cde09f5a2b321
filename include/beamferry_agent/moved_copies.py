"""A copy that somebody moved is known again by its inode and its size."""

import os
import stat
from typing import Iterator, NamedTuple, Optional, Set, Tuple

from beamferry_agent.places import place_error

Seen = NamedTuple("Seen", [("inode", int), ("size", int)])
Seen.__doc__ = (
    """What a file keeps when it is moved: its inode, 0 where that is not known, and its size in bytes."""
)


def look_at(path: bytes) -> Optional[Seen]:
    """Return what is seen of a file, None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        # The place is compared by others; here only a mark for later is lost.
        return None
    return Seen(found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None


def find_copies(folder: bytes, wanted: Set[Seen]) -> Iterator[Tuple[bytes, Seen]]:
    """Yield the files below a folder that look like one of these, each by its path below that; no link is followed.

    The system may have given the inode of a removed file to another one: whoever asks has to compare what is found.
    Raises PlaceError for a folder that cannot be read.
    """
    inodes = {seen.inode for seen in wanted}
    left = [folder]
    while left:
        here = left.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    elif entry.inode() in inodes:
                        seen = look_at(entry.path)
                        if seen in wanted and seen is not None:
                            yield os.path.relpath(entry.path, folder), seen
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise place_error(os.fsdecode(here), error)
