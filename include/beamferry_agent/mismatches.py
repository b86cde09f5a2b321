"""Files that were found to differ from their source are remembered until they are seen to agree, or are gone."""

import os
from typing import Dict, Iterable, Iterator, List, Set, Tuple

from beamferry_agent.marks import fetchable, mark
from beamferry_agent.mismatch_store import Pair, Spot, Store, in_order, pair_of
from beamferry_agent.places import PlaceError
from beamferry_agent.records import FILE, Entry, encode_name, read_names, read_records


def recall(source: str, destination: str, output: str) -> int:
    """Write the remembered paths of a source, HOST:PATH, and a destination to a list; return how many there are.

    Raises DamagedListsError when the memory is damaged: everything has to be compared again. PlaceError.
    """
    pair, store = pair_of(source, destination), Store()
    with store.open() as folder:
        store.adopt_moved(folder, pair)
        found = store.find(folder, pair)
    _write_list(output, sorted(found, key=in_order))
    return len(found)


def mark_again(source: str, destination: str, lines: str) -> int:
    """Have rsync fetch anew what is remembered, and could be fetched; return how many copies got another time.

    ``lines``: file with what rsync says of the remembered files when it is to take none for equal. A copy that the
    source does not have, or the entry leaves out, may be the only one: it keeps its time. Raises DamagedListsError,
    PlaceError.
    """
    pair, store = pair_of(source, destination), Store()
    with store.open() as folder:
        found = store.find(folder, pair)
    with open(lines, "rb") as said:
        wanted = [path for path in fetchable(said) if _is_here(pair, path, found.get(path, []))]
    mark(pair.destination, ((path, None) for path in wanted))
    return len(wanted)


def remember(source: str, destination: str, lists: str) -> int:
    """Settle what was remembered by the lists of a comparison; return how many could not be compared.

    The folder ``lists`` has ``source.census``, ``destination.census``, ``sampled`` (paths whose content was compared)
    and ``mismatches``. Writes there ``unresolved``: what still is remembered and could not be compared. Raises
    DamagedListsError, PlaceError.
    """
    pair, store = pair_of(source, destination), Store()
    with store.open() as folder:
        # What a damaged file told of was compared since that was told, as everything was.
        store.put_aside(folder, pair)
        old = store.find(folder, pair, pass_damaged=True)
        differ = set(_read_list(lists, "mismatches"))
        agree = {path for path in _read_list(lists, "sampled") if path in old} - differ
        settled, untold = _judge(pair, lists, set(old) - differ - agree)
        unresolved = {path for path in untold if _is_here(pair, path, old[path])}
        done = agree | settled
        remove: Dict[Pair, Set[bytes]] = {}
        for path in done:
            for spot in old[path]:
                # Another copy that is still where it was found is not better for this one's sake.
                if spot.copy == os.path.join(pair.destination, path) or not os.path.lexists(spot.copy):
                    remove.setdefault(spot.pair, set()).add(spot.path)
        store.change(folder, pair, differ, remove)
    _mark_found(pair, lists, differ)
    _write_list(os.path.join(lists, "unresolved"), sorted(unresolved, key=in_order))
    return len(unresolved)


def suspect(source: str, destination: str, paths: str) -> int:
    """Remember the paths of a list as well, as they may have lost their bytes; return how many there are.

    Raises DamagedListsError: everything has to be compared again. PlaceError.
    """
    with open(paths, "rb") as file:
        found = set(read_names(file))
    store = Store()
    with store.open() as folder:
        store.change(folder, pair_of(source, destination), found, {})
    return len(found)


def _is_here(pair: Pair, path: bytes, spots: List[Spot]) -> bool:
    """Say whether it is this copy that was found to differ, or one that was moved here."""
    copy = os.path.join(pair.destination, path)
    return any(spot.copy == copy or not os.path.lexists(spot.copy) for spot in spots)


def _judge(pair: Pair, folder: str, left: Set[bytes]) -> Tuple[Set[bytes], Set[bytes]]:
    """Return which paths need no memory any more, and which nothing else in the comparison tells of."""
    here, there = (_find(folder, name, left) for name in ("source.census", "destination.census"))
    settled: Set[bytes] = set()
    untold: Set[bytes] = set()
    for path in left:
        source, copy = here.get(path), there.get(path)
        if source is None and copy is None:
            (untold if os.path.lexists(os.path.join(pair.destination, path)) else settled).add(path)
        elif source is not None and copy is not None and _alike(source, copy):
            # Links and empty files have no content that could differ.
            (settled if source.kind != FILE or source.size == 0 else untold).add(path)
        elif source is None:
            untold.add(path)
    return settled, untold


def _mark_found(pair: Pair, folder: str, differ: Set[bytes]) -> None:
    if not differ:
        return
    with open(os.path.join(folder, "source.census"), "rb") as file:
        entries = ((encode_name(entry.path), entry.modified) for entry in read_records(file))
        try:
            mark(pair.destination, ((path, modified) for path, modified in entries if path in differ))
        except PlaceError:
            # The comparison tells of the file all the same, and the dry run that is to fetch it again of this.
            return


def _alike(source: Entry, copy: Entry) -> bool:
    return (source.kind, source.size, source.target) == (copy.kind, copy.size, copy.target)


def _find(folder: str, census: str, wanted: Set[bytes]) -> Dict[bytes, Entry]:
    if not wanted:
        return {}
    with open(os.path.join(folder, census), "rb") as file:
        entries = ((encode_name(entry.path), entry) for entry in read_records(file))
        return {path: entry for path, entry in entries if path in wanted}


def _read_list(folder: str, name: str) -> Iterator[bytes]:
    with open(os.path.join(folder, name), "rb") as file:
        for item in read_names(file):
            yield item.split(b"//", 1)[0]


def _write_list(place: str, paths: Iterable[bytes]) -> None:
    with open(place, "wb") as file:
        for path in paths:
            file.write(path + b"\0")
