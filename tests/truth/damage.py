"""What can happen to a tree: damage at RDS, and an experiment that goes on at the facility."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Time of the first file, 13 September 2020.
BEGAN = 1_600_000_000
LARGE, LARGE_BYTES = b"raw/large.nxs", 5 * 1024 * 1024
SIZES = (0, 1, 1_000, 40_000)
FOLDERS = (b"raw", b"processed", b"raw/deep")
# An empty file and a name that tools get wrong are always among those that a sequence begins with.
EMPTY = b"processed/empty"
PLAIN = (b"a.dat", b"raw/b.dat", b"raw/deep/e.dat", b"processed/f.dat", b"tmp/scratch", LARGE)
ODD_RSYNC = (b'raw/it\'s "odd" $(x)\n*?', b"processed/not-utf8-\xff\xfe", b"raw/host:colon -> x")
# lftp and the servers lose others, and the listing refuses those.
ODD_LFTP = (b'raw/it\'s "odd" $(x) *?', "processed/Prüfkörper_α".encode(), b"raw/semi;colon & pipe")

AT_DESTINATION = (
    "flip", "flip", "flip", "retime", "retime", "delete", "delete", "zero", "truncate", "extend", "touch", "folder",
    "link", "file", "extra",
)  # fmt: skip
AT_SOURCE = (
    "add", "rewrite", "rewrite", "rewrite", "flip", "touch", "delete", "folder", "link", "unreadable", "readable"
)  # fmt: skip


def content(seed: int, size: int) -> bytes:
    """Return bytes that another seed's file does not begin with."""
    return random.Random(seed).randbytes(size)


class Folder:
    """A tree in which things happen.

    Args:
        root: its folder.
        elsewhere: a folder beside it, to which links lead.
        twin: the tree of which it is a copy, if it is one.
    """

    def __init__(self, root: Path, elsewhere: Path, twin: Path | None = None) -> None:
        self.root, self.elsewhere, self.twin = root, elsewhere, twin

    def at(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self.root), path)

    def paths(self, kinds: str = "fdl") -> list[bytes]:
        """All paths of these kinds, sorted; below what cannot be entered there are none."""
        found, below = [], [b""]
        while below:
            folder = below.pop()
            try:
                entries = list(os.scandir(self.at(folder)))
            except OSError:
                continue
            for entry in entries:
                if entry.name.startswith(b".beamferry"):
                    continue
                path = os.path.join(folder, entry.name)
                kind = "l" if entry.is_symlink() else "d" if entry.is_dir() else "f"
                if kind in kinds:
                    found.append(path)
                if kind == "d":
                    below.append(path)
        return sorted(found)

    def write(self, path: bytes, text: bytes, modified: int | None = None) -> bool:
        """Write a file as programs do that put a new one into its place; False where something is in the way."""
        place = self.at(path)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            new = place + b".new"
            with open(new, "wb") as file:
                file.write(text)
            if modified is not None:
                os.utime(new, (modified, modified))
            os.rename(new, place)
        except OSError:
            return False
        return True

    def remove(self, path: bytes) -> None:
        place = self.at(path)
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        else:
            os.unlink(place)

    def happen(self, kind: str, pick: int, number: int, names: Sequence[bytes] = ()) -> str | None:
        """Let something happen to one of the entries; returns what it was, None where there is nothing to happen to.

        Args:
            kind: one of ``AT_DESTINATION`` or ``AT_SOURCE``.
            pick: chooses the entry.
            number: chooses what is new: content, size, time.
            names: paths that may be added.
        """
        if kind == "readable":
            return self.make_readable()
        if kind in {"add", "extra"}:
            return self._add(pick, number, names if kind == "add" else [*names, b"raw/extra", b"extra"])
        wanted = {"folder": "fl", "file": "d", "link": "fd", "delete": "fdl", "unreadable": "fd"}.get(
            kind, "f"
        )
        paths = self._with_another_time() if kind == "retime" else self.paths(wanted)
        if not paths:
            return None
        path = paths[pick % len(paths)]
        return f"{kind} {path!r}" if getattr(self, f"_{kind}")(path, number) is not False else None

    # Each of these returns False where it can do nothing.

    def _flip(self, path: bytes, number: int) -> bool:
        """Another byte; size and time stay."""
        kept = os.stat(self.at(path))
        if not kept.st_size:
            return False
        with open(self.at(path), "r+b") as file:
            file.seek(number % kept.st_size)
            [value] = file.read(1)
            file.seek(number % kept.st_size)
            file.write(bytes([value ^ 1]))
        os.utime(self.at(path), ns=(kept.st_atime_ns, kept.st_mtime_ns))
        return True

    def _zero(self, path: bytes, number: int) -> bool:
        """Zeros from some place on; size and time stay: what a power cut can leave."""
        kept = os.stat(self.at(path))
        if not kept.st_size:
            return False
        os.truncate(self.at(path), number % kept.st_size)
        os.truncate(self.at(path), kept.st_size)
        os.utime(self.at(path), ns=(kept.st_atime_ns, kept.st_mtime_ns))
        return True

    def _truncate(self, path: bytes, number: int) -> bool:
        kept = os.stat(self.at(path))
        if not kept.st_size:
            return False
        os.truncate(self.at(path), kept.st_size // 2)
        if number % 2:
            os.utime(self.at(path), ns=(kept.st_atime_ns, kept.st_mtime_ns))
        return True

    def _extend(self, path: bytes, number: int) -> None:
        kept = os.stat(self.at(path))
        with open(self.at(path), "ab") as file:
            file.write(b"more" * (1 + number % 3))
        if number % 2:
            os.utime(self.at(path), ns=(kept.st_atime_ns, kept.st_mtime_ns))

    def _touch(self, path: bytes, number: int) -> None:
        modified = os.stat(self.at(path)).st_mtime + (-3600, -2, -1, 1, 2, 3600)[number % 6]
        os.utime(self.at(path), (modified, modified))

    def _retime(self, path: bytes, number: int) -> None:
        """The time of its source and nothing else: what people do with ``touch -r`` or ``rsync --size-only -t``."""
        for one in self._with_another_time() if number % 2 else [path]:
            modified = os.stat(self._there(one)).st_mtime_ns
            os.utime(self.at(one), ns=(modified, modified))

    def _with_another_time(self) -> list[bytes]:
        return [path for path in self.paths("f") if self._has_another_time(path)]

    def _there(self, path: bytes) -> bytes:
        return os.path.join(os.fsencode(self.twin or self.root), path)

    def _has_another_time(self, path: bytes) -> bool:
        there = self._there(path)
        if os.path.islink(there) or not os.path.isfile(there):
            return False
        return os.stat(there).st_mtime_ns != os.stat(self.at(path)).st_mtime_ns

    def _delete(self, path: bytes, _: int) -> None:
        self.remove(path)

    def _folder(self, path: bytes, number: int) -> None:
        """A folder in the place of a file, empty or not."""
        self.remove(path)
        os.mkdir(self.at(path))
        if number % 2:
            self.write(path + b"/inner", content(number, 10), BEGAN)

    def _link(self, path: bytes, number: int) -> None:
        """A link in the place of a file or a folder; it leads to the like elsewhere, or nowhere."""
        is_folder = os.path.isdir(self.at(path))
        self.remove(path)
        there = os.fsencode(self.elsewhere)
        like, other = (there, there + b"/kept.dat") if is_folder else (there + b"/kept.dat", there)
        os.symlink((like, b"nowhere", other, b"a.dat")[number % 4], self.at(path))

    def _file(self, path: bytes, number: int) -> None:
        """A file in the place of a folder."""
        self.remove(path)
        self.write(path, content(number, 100), BEGAN + number % 3)

    def _rewrite(self, path: bytes, number: int) -> bool:
        """Another content: of the same size or not, of an older, the same or a newer time, or of now."""
        kept = os.stat(self.at(path))
        size = kept.st_size if number % 2 else SIZES[number // 2 % len(SIZES)]
        modified = (int(kept.st_mtime), int(kept.st_mtime) - 60, int(kept.st_mtime) + 60, None)[
            number // 8 % 4
        ]
        mode = kept.st_mode & 0o777
        done = self.write(path, content(1000 + number, size), modified)
        os.chmod(self.at(path), mode)
        return done

    def _unreadable(self, path: bytes, _: int) -> None:
        os.chmod(self.at(path), 0)

    def make_readable(self) -> str:
        """Give back what ``unreadable`` took."""
        below = [b""]
        while below:
            folder = below.pop()
            for entry in os.scandir(self.at(folder)):
                if entry.is_symlink():
                    continue
                os.chmod(entry.path, 0o755 if entry.is_dir() else 0o644)
                if entry.is_dir():
                    below.append(os.path.join(folder, entry.name))
        return "all is readable"

    @property
    def has_unreadable(self) -> bool:
        return any(os.stat(self.at(path)).st_mode & 0o777 == 0 for path in self.paths("fd"))

    def _add(self, pick: int, number: int, names: Sequence[bytes]) -> str | None:
        new = [name for name in names if not os.path.lexists(self.at(name))]
        if not new:
            return None
        path = new[pick % len(new)]
        size = LARGE_BYTES if path == LARGE else SIZES[number % len(SIZES)]
        # Archives can give files the first second of all.
        modified = None if number % 5 == 0 else 1 if number % 7 == 3 else BEGAN + number
        return f"add {path!r}" if self.write(path, content(number, size), modified) else None
