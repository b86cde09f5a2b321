"""What is true of two trees, found by looking at them; nothing here is the project's own code.

A source and its copy agree when every entry of the source that the beamtime's entry does not exclude is at the
destination with the same kind, and a file with the same size and time, a link with the same target. What is at the
destination alone is no difference. Content is compared byte by byte.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

PARTIAL = b".beamferry-partial"


@dataclass(frozen=True)
class Item:
    """One entry of a tree: ``f`` file, ``d`` folder, ``l`` link, ``o`` anything else.

    ``modified`` is in whole seconds, as both ends' file systems can keep them; 0 for all but files. ``content`` is a
    file's hash or a link's target.
    """

    kind: str
    size: int = 0
    modified: int = 0
    content: bytes = b""


Tree = dict[bytes, Item]


def look(root: Path) -> Tree:
    """Return every entry below a folder by its path; the transfer's own unfinished files are none."""
    found: Tree = {}
    below = [b""]
    while below:
        folder = below.pop()
        try:
            entries = list(os.scandir(os.path.join(os.fsencode(root), folder)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            path = os.path.join(folder, entry.name)
            item = look_at(entry.path)
            if item is None or (item.kind == "d" and entry.name == PARTIAL):
                continue
            found[path] = item
            if item.kind == "d":
                below.append(path)
    return found


def look_at(place: bytes) -> Item | None:
    """Return what is at a place, None where nothing is."""
    try:
        status = os.lstat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(status.st_mode):
        return Item("l", content=os.readlink(place))
    if stat.S_ISDIR(status.st_mode):
        return Item("d")
    if not stat.S_ISREG(status.st_mode):
        return Item("o")
    with open(place, "rb") as file:
        content = sha256(file.read()).digest()
    return Item("f", status.st_size, int(status.st_mtime_ns // 1_000_000_000), content)


def in_scope(tree: Tree, excluded: Iterable[str], folders: Iterable[str] = ()) -> Tree:
    """Return what of a source is to be at the destination.

    Args:
        tree: the source.
        excluded: paths below it, with what is in them; one that ends in a slash means a folder only.
        folders: first components that are wanted with the files beside them; all where there are none.
    """
    wanted = {os.fsencode(name) for name in folders}
    left_out = [path for path in map(os.fsencode, excluded) if _is_excluded(tree, path)]

    def stays(path: bytes, item: Item) -> bool:
        if any(path == out.rstrip(b"/") or path.startswith(out.rstrip(b"/") + b"/") for out in left_out):
            return False
        first, _, rest = path.partition(b"/")
        return not wanted or first in wanted or not (rest or item.kind == "d")

    return {path: item for path, item in tree.items() if stays(path, item)}


def _is_excluded(tree: Tree, path: bytes) -> bool:
    return not path.endswith(b"/") or (path[:-1] in tree and tree[path[:-1]].kind == "d")


def untrue(
    source: Tree,
    destination: Tree,
    *,
    level: str,
    window: int,
    sampled: Iterable[bytes],
    samples: int = 0,
) -> Iterator[str]:
    """Yield what is not so although it was said to be VERIFIED.

    Args:
        source: what of the source is to be at the destination.
        destination: all that is there.
        level: what was promised: sizes, sampled or full.
        window: seconds by which times may differ.
        sampled: paths whose content was said to have been compared.
        samples: files of which level sampled promises to compare the content, if there are so many.
    """
    named = set(sampled)
    for path, here in sorted(source.items()):
        there = destination.get(path)
        if there is None:
            # A socket or a pipe has nothing to copy.
            if here.kind != "o":
                yield f"{path!r} is missing"
        elif here.kind != there.kind:
            yield f"{path!r} is {here.kind} at the source and {there.kind} at the destination"
        elif here.kind == "f":
            if here.size != there.size:
                yield f"{path!r} has {here.size} bytes at the source and {there.size} at the destination"
            elif abs(here.modified - there.modified) > window:
                yield f"{path!r} is of {here.modified} at the source and of {there.modified} at the destination"
            elif here.content != there.content and (level == "full" or path in named):
                yield f"{path!r} has another content"
        elif here.content != there.content:
            yield f"{path!r} leads to {here.content!r} at the source and to {there.content!r} at the destination"
    full = {path for path, item in source.items() if item.kind == "f" and item.size}
    promised = {"sizes": 0, "sampled": min(samples, len(full)), "full": len(full)}[level]
    if len(full & named) < promised:
        yield f"the content of {len(full & named)} files was compared, not of {promised}"
    for path in sorted(named):
        if path not in source or source[path].kind != "f":
            yield f"{path!r} was compared, they say, and is no file of the source"


def still_differs(here: Item | None, there: Item | None) -> bool:
    """Say whether a path that was found to differ does so still; where no copy is, there is no bad one."""
    return there is not None and (here is None or (here.kind, here.content) != (there.kind, there.content))


def equal(source: Tree, destination: Tree, window: int) -> bool:
    """Say whether the destination has all of the source, content included."""
    files = [path for path, item in source.items() if item.kind == "f"]
    return not list(untrue(source, destination, level="full", window=window, sampled=files))


def lost(
    before: Mapping[bytes, Item], after: Mapping[bytes, Item], source: Mapping[bytes, Item]
) -> Iterator[str]:
    """Yield what a run took away from a destination, or changed there although the source has nothing of that path.

    Args:
        before: the destination before the run.
        after: the destination after it.
        source: what of the source is to be there.
    """
    for path, item in sorted(before.items()):
        now = after.get(path)
        if now is None:
            yield f"{path!r} is gone from the destination"
        elif path not in source and (now.kind, now.size, now.content) != (item.kind, item.size, item.content):
            yield f"{path!r}, which the source has not, was changed at the destination"
