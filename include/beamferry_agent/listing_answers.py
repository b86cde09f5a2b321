"""What lftp and OpenSSH's sftp are asked when folders are listed, and what they answer, read line by line."""

import os
import re
from typing import IO, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from beamferry_agent.destination import PARTIAL
from beamferry_agent.errors import DamagedListsError
from beamferry_agent.lftp_login import word

# A path has at most 4096 bytes; more than that without a line's end is no listing.
_LINE_LIMIT = 64 * 1024
# PERMISSIONS [SIZE] TSECONDS NAME, the name behind one blank: it may begin with more.
_ENTRY = re.compile(rb"([-dlbcps])[-rwxsStT]+ +(?:([0-9]+|-) +)?T(-?[0-9]+) ", re.DOTALL)
_KINDS = {b"-": b"f", b"d": b"d", b"l": b"l"}
# Where a facility keeps the tokens that open the beamtime's live data streams; DESY's name for them.
_TOKENS = re.compile(rb"shared/asapo-token[^/]*\.txt", re.DOTALL)
_PARTIAL = os.fsencode(PARTIAL)
_PROMPT_CD, _PROMPT_LS, _PROMPT_BYE = b"sftp> cd ", b"sftp> ls ", b"sftp> bye"


class Scope(NamedTuple):
    """Which paths of a beamtime count.

    ``excluded``: paths that are left out; one with a slash at its end only as a folder.
    ``chosen``: folders of the beamtime's own that count, all of them when it is empty.
    ``tokens``: whether tokens count.
    """

    excluded: FrozenSet[bytes]
    chosen: FrozenSet[bytes]
    tokens: bool

    def leaves_out(self, folder: bytes, name: bytes, is_folder: bool) -> bool:
        """Say whether an entry of a folder, ``.`` for the beamtime's own, does not count."""
        path = join(folder, name)
        if path in self.excluded or (is_folder and path + b"/" in self.excluded):
            return True
        if not self.tokens and _TOKENS.fullmatch(path):
            return True
        return is_folder and folder == b"." and bool(self.chosen) and name not in self.chosen


class FolderAnswer(NamedTuple):
    """What lftp showed of a folder, every entry of it, whether it counts or not.

    ``entries``: (kind, size, modified, name, target) as in a census; size None where the server tells none.
    ``unreadable``: lines that are no entry.
    ``refused``: whether the server would not list it.
    ``names``: what a second look named, None where the server would not name anything.
    """

    folder: bytes
    entries: List[Tuple[bytes, Optional[int], int, bytes, bytes]]
    unreadable: List[bytes]
    refused: bool
    names: Optional[List[bytes]]


class Judged(NamedTuple):
    """What an answer is worth.

    ``records``: the entries that count, as records of a census.
    ``folders``: paths of the folders to look into next.
    ``listed``: how many names it has, in scope or not.
    ``faults``: lines for people, ``unreadable-line: ...``; looking once more is of no use.
    ``doubts``: the same where a second look names other files: ``unseen: ...`` or ``unchecked: ...``.
    """

    records: List[bytes]
    folders: List[bytes]
    listed: int
    faults: List[bytes]
    doubts: List[bytes]


def join(folder: bytes, name: bytes) -> bytes:
    """Return the path of a folder's entry."""
    return name if folder == b"." else folder + b"/" + name


def lftp_commands(folders: Sequence[bytes], mark: bytes, by_names: bool) -> Iterator[bytes]:
    """Yield what asks lftp for folders, see ``read_answers``; ``by_names``, whether it names their files once more."""
    yield b'set cmd:fail-exit no\nset net:max-retries 3\nset cmd:cls-default ""\n'
    for folder in folders:
        yield b"echo " + mark + b" folder\n"
        # cls takes a pattern, nlist a name.
        pattern = b"".join(b"\\" + letter if letter in b"][*?\\" else letter for letter in _letters(folder))
        yield (
            b"cls -1aB --perms --size --block-size=1 --date --time-style=T%s "
            + word(b"./" + pattern + b"/")
            + b" || echo "
            + mark
            + b" failed\n"
        )
        if by_names:
            yield b"echo " + mark + b" names\n"
            yield b"nlist " + word(b"./" + folder + b"/") + b" || echo " + mark + b" no-names\n"
    yield b"echo " + mark + b" whole\n"


def _letters(text: bytes) -> Iterator[bytes]:
    for number in range(len(text)):
        yield text[number : number + 1]


def lines_of(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the lines of an answer without their ends; only a line feed ends one.

    Raises DamagedListsError when a line is longer than any name.
    """
    while True:
        line = stream.readline(_LINE_LIMIT)
        if not line:
            return
        if len(line) == _LINE_LIMIT:
            raise DamagedListsError(
                "the facility's listing has a line of more than {:,} bytes".format(_LINE_LIMIT)
            )
        yield line[:-1] if line.endswith(b"\n") else line


def read_answers(lines: Iterable[bytes], mark: bytes, folders: Sequence[bytes]) -> Iterator[FolderAnswer]:
    """Yield what lftp said of each folder; of one in which its answer ends, nothing.

    ``mark`` begins the lines that part the answers: no server can foresee it. Raises DamagedListsError when there are
    more answers than were asked for.
    """
    waiting = iter(folders)
    answer: Optional[FolderAnswer] = None
    naming = False
    for line in lines:
        if line in (mark + b" folder", mark + b" whole"):
            if answer is not None:
                yield answer
            answer, naming = None, False
            if line.endswith(b" folder"):
                folder = next(waiting, None)
                if folder is None:
                    raise DamagedListsError("lftp answered more than it was asked for")
                answer = FolderAnswer(folder, [], [], False, [])
        elif answer is None:
            continue
        elif line == mark + b" names":
            naming = True
        elif line == mark + b" failed":
            answer = answer._replace(refused=True)
        elif line == mark + b" no-names":
            answer = answer._replace(names=None)
        elif naming:
            name = _last_part(line)
            if answer.names is not None and name not in (b"", b".", b".."):
                answer.names.append(name)
        else:
            _add_entry(answer, line)


def judge(answer: FolderAnswer, scope: Scope, by_names: bool) -> Judged:
    """Return what of a listed folder counts, and what the look at its names, if there was one, says against it."""
    judged = Judged([], [], 0, [], [])
    shown = set()
    for kind, size, modified, name, target in answer.entries:
        if name in (b".", b".."):
            continue
        shown.add(name)
        if scope.leaves_out(answer.folder, name, kind == b"d"):
            continue
        path = join(answer.folder, name)
        if kind == b"f" and size is None:
            judged.faults.append(b"unreadable-line: " + answer.folder + b": no size of " + name)
            continue
        # What a transfer keeps for itself at RDS has this name: it is not fetched, and so it is missing there.
        if kind == b"d" and name != _PARTIAL:
            judged.folders.append(path)
        judged.records.append(
            b"//".join((path, kind, str(size or 0).encode(), str(modified).encode(), target)) + b"\0"
        )
    judged.faults.extend(b"unreadable-line: " + answer.folder + b": " + line for line in answer.unreadable)
    if by_names:
        judged.doubts.extend(_doubts(answer, scope, frozenset(shown)))
    return judged._replace(listed=len(shown))


def read_counts(lines: Sequence[bytes], words: bytes, asked: int) -> List[Optional[int]]:
    """Return how many entries OpenSSH's sftp showed of each folder that it was asked for, by ``cd`` and ``ls -1a``.

    None stands for one that it could not enter or list, or did not come to. Sftp repeats each command before its
    answer, and repeats the next one only when the last one did no harm. ``words`` is what it complained of.
    """
    if asked == 1:
        # Whatever stands between is a name, even one that looks like a command.
        if not lines or lines[-1] != _PROMPT_BYE or len(lines) < 3:
            return [None]
        return [_count(lines[2:-1], words)] if lines[1].startswith(_PROMPT_LS) else [None]
    parts: List[List[bytes]] = []
    for line in lines:
        if line.startswith(_PROMPT_CD):
            parts.append([])
        elif line == _PROMPT_BYE:
            break
        elif parts:
            parts[-1].append(line)
    else:
        # The last one that was begun was not ended.
        parts = parts[:-1]
    if len(parts) > asked:
        return [None] * asked
    counts = [_count(part[1:], words) if part and part[0].startswith(_PROMPT_LS) else None for part in parts]
    return counts + [None] * (asked - len(counts))


def _count(names: Sequence[bytes], words: bytes) -> Optional[int]:
    # Most servers name the folder itself too; one that names nothing at all may have refused.
    if not names and words.strip():
        return None
    return sum(name not in (b".", b"..") for name in names)


def _doubts(answer: FolderAnswer, scope: Scope, shown: FrozenSet[bytes]) -> List[bytes]:
    if answer.names is None:
        # Some servers refuse to name the files of an empty folder.
        if not shown:
            return []
        return [b"unchecked: " + answer.folder + b" (the server does not name its files)"]
    # What is only named has no kind: a folder that was not chosen, or a file that was left out, is no doubt.
    doubts = [
        b"unseen: " + join(answer.folder, name)
        for name in dict.fromkeys(answer.names)
        if name not in shown and not scope.leaves_out(answer.folder, name, True)
    ]
    named = set(answer.names)
    # Servers may leave out folders and hidden files there; a file that is missing shows a cut.
    lacking = sum(
        entry[0] == b"f" and entry[3] not in named and not entry[3].startswith(b".")
        for entry in answer.entries
    )
    if lacking:
        doubts.append(
            b"unchecked: "
            + answer.folder
            + " (the server lists {:,} files that it does not name)".format(lacking).encode()
        )
    return doubts


def _add_entry(answer: FolderAnswer, line: bytes) -> None:
    match = _ENTRY.match(line)
    if match is None:
        answer.unreadable.append(line)
        return
    letter, size, modified = match.groups()
    name, target = line[match.end() :], b""
    if letter == b"l" and b" -> " in name:
        name, target = name.split(b" -> ", 1)
    if not name or b"/" in name:
        answer.unreadable.append(line)
        return
    kind = _KINDS.get(letter, b"o")
    is_file = kind == b"f"
    length = (int(size) if size not in (None, b"-") else None) if is_file else 0
    answer.entries.append((kind, length, int(modified) if is_file else 0, name, target))


def _last_part(line: bytes) -> bytes:
    # Some servers name the folder too, some do not.
    return line.rstrip(b"/").rsplit(b"/", 1)[-1]
