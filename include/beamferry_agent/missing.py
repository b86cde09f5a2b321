"""What a copy lacks of its source, by two sorted censuses: files by path, size and time, and folders."""

from typing import IO, Dict, FrozenSet, Iterator, List, NamedTuple, Optional

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.records import decode_name, read_names

_BESIDE = b"."
_ITSELF = b".//"
_SHOWN = 200


class Entry(NamedTuple):
    """An entry of a census; ``key`` is its path and two slashes, as censuses are sorted by."""

    key: bytes
    kind: bytes
    size: int
    modified: int
    record: bytes


class _Sum:
    """What a folder of the source holds, and what of it is to be done."""

    def __init__(self) -> None:
        self.files = self.bytes = self.lacking = self.missing = self.to_do = 0


class Missing(NamedTuple):
    """How many files to fetch and their size, and lines for Airflow's side, see ``lftp_dry_run.py``."""

    files: int
    size: int
    stats: bytes


class Lists(NamedTuple):
    """What is read: two censuses, and sorted records of what of the copy has to be opened to the group."""

    source: IO[bytes]
    copy: IO[bytes]
    closed: IO[bytes]


def find_missing(
    lists: Lists, damaged: FrozenSet[bytes], window: int, todo: IO[bytes], opened: IO[bytes]
) -> Missing:
    """Write the records of files to fetch, and of copies to open; the destination itself is one as ``.``.

    ``damaged``: paths to fetch whatever size and time say. ``window``: seconds by which times may differ. Raises
    DamagedListsError.
    """
    sums: Dict[bytes, _Sum] = {}
    copies = _Cursor(_entries(lists.copy))
    shut_ones = _Closed(lists.closed, opened)
    closed = _Cursor(shut_ones.entries())
    for entry in _entries(lists.source):
        if entry.kind not in (b"f", b"d"):
            continue
        folder = _folder_of(entry)
        found = sums.setdefault(folder, _Sum())
        copy = copies.at(entry.key)
        if entry.kind == b"d":
            is_there = copy is not None and copy.kind == b"d"
            found.to_do += not is_there
        else:
            found.files += 1
            found.bytes += entry.size
            is_there = (
                copy is not None
                and copy.kind == b"f"
                and copy.size == entry.size
                and abs(copy.modified - entry.modified) <= window
                and entry.key[:-2] not in damaged
            )
            if not is_there:
                todo.write(b"%bf//%d//%d//\0" % (entry.key, entry.size, entry.modified))
                found.lacking += 1
                found.missing += entry.size
        shut = closed.at(entry.key) if is_there else None
        if shut is not None:
            opened.write(shut.record + b"\0")
            found.to_do += 1
    closed.finish()
    if shut_ones.has_itself:
        sums.setdefault(_BESIDE, _Sum()).to_do += 1
    return _told(sums)


def _told(sums: Dict[bytes, _Sum]) -> Missing:
    lines: List[bytes] = []
    total = _Sum()
    for folder, found in sums.items():
        lines.append(_line(b"folder", found, folder))
        for name in vars(total):
            setattr(total, name, getattr(total, name) + getattr(found, name))
    lines.append(_line(b"total", total, _BESIDE))
    return Missing(total.lacking, total.missing, b"".join(lines))


def _line(kind: bytes, found: _Sum, name: bytes) -> bytes:
    numbers = (found.files, found.bytes, found.lacking, found.missing, found.to_do)
    return b"%b %d %d %d %d %d %b\n" % (kind, *numbers, name)


class _Cursor:
    """Entries in order, of which some are asked for in the same order."""

    def __init__(self, entries: Iterator[Entry]) -> None:
        self._entries = entries
        self._next = next(entries, None)

    def at(self, key: bytes) -> Optional[Entry]:
        while self._next is not None and self._next.key < key:
            self._next = next(self._entries, None)
        return self._next if self._next is not None and self._next.key == key else None

    def finish(self) -> None:
        for _ in self._entries:
            pass


class _Closed:
    """What has to be opened; the destination itself is no entry of the source, and is noted when it comes."""

    def __init__(self, records: IO[bytes], opened: IO[bytes]) -> None:
        self._records, self._opened = records, opened
        self.has_itself = False

    def entries(self) -> Iterator[Entry]:
        for entry in _entries(self._records):
            if entry.key == _ITSELF:
                self._opened.write(entry.record + b"\0")
                self.has_itself = True
            else:
                yield entry


def _entries(census: IO[bytes]) -> Iterator[Entry]:
    for record in read_names(census):
        try:
            path, kind, size, modified, _ = record.split(b"//", 4)
            entry = Entry(path + b"//", kind, int(size), int(modified), record)
        except ValueError:
            raise DamagedListsError("{!a} is not an entry of a listing".format(decode_name(record[:_SHOWN])))
        yield entry


def _folder_of(entry: Entry) -> bytes:
    """Return the first component of a path, ``.`` for what lies beside the folders."""
    path = entry.key[:-2]
    first, slash, _ = path.partition(b"/")
    return first if slash or entry.kind == b"d" else _BESIDE
