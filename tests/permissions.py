"""What docs/security.md promises of the permissions of files, and a look at whether they have them."""

from __future__ import annotations

import re
import stat
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text(encoding="utf-8")
# Made by SFTP, which can set a mode only afterwards: nothing is in it yet.
NOT_YET = ".new"


def promised(begin: str) -> list[tuple[re.Pattern[str], int]]:
    """Patterns and modes of the page's table of what is below a place, in their order."""
    rows = re.findall(r"^\| `([^`]+)` \| (0[0-7]{3}) \|", PAGE, re.MULTILINE)
    return [(pattern(name), int(mode, 8)) for name, mode in rows if name.startswith(begin)]


def pattern(name: str) -> re.Pattern[str]:
    """A row's name as a pattern: ``*`` is one name or a part of it, ``**`` is everything below."""
    parts = re.split(r"(\*\*|\*)", name)
    return re.compile("".join({"*": "[^/]*", "**": ".*"}.get(part, re.escape(part)) for part in parts))


@dataclass
class Watch:
    """What was seen below a folder that does not have the mode which the page promises.

    Args:
        folder: where it is.
        name: the folder's name on the page, without a slash.
    """

    folder: Path
    name: str
    seen: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)

    def look(self) -> None:
        rows = promised(self.name)
        for path in (self.folder, *self.folder.rglob("*")):
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISLNK(found.st_mode) or (path.suffix == NOT_YET and found.st_size == 0):
                continue
            below = path.relative_to(self.folder).as_posix()
            name = self.name if below == "." else f"{self.name}/{below}"
            name += "/" if stat.S_ISDIR(found.st_mode) else ""
            mode = stat.S_IMODE(found.st_mode)
            # A row for files says nothing of folders.
            wanted = next(
                (
                    mode
                    for row, mode in rows
                    if row.fullmatch(name) and row.pattern.endswith("/") == name.endswith("/")
                ),
                None,
            )
            self.seen.add(name)
            if mode != wanted:
                self.wrong.add(
                    f"{name} {mode:04o}, not {'on the page' if wanted is None else f'{wanted:04o}'}"
                )

    @contextmanager
    def all_the_time(self) -> Iterator[None]:
        """Look again and again, as files come and go."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.02):
                self.look()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self.look()
