"""Names that a file system cannot hold: what a trial of it tells, and which names of a list it would lose."""

import re
import sys
import unicodedata
from functools import lru_cache
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, NamedTuple, Set, Tuple

# Bytes of a name on Linux.
_LONGEST = 255
# Marks of the look for names that fold to one, 16 MB: among three million names one in fifty finds another's mark.
_MARKS = 1 << 27

# What a file system may lack. One character of _CHARACTERS is a trait of its own.
DOT, BLANK, CONTROL, BYTES, RESERVED, LONG = "dot", "blank", "control", "bytes", "reserved", "long"
COMPOSED, DECOMPOSED, FORMS = "composed", "decomposed", "forms"
LETTERS, RARE = "letters", "rare"
CASE, CASE_OF_ALL = "case", "case_of_all"
_CHARACTERS = '\\:*?"<>|'
_FAULTS = (
    (DOT, re.compile(rb".*\.", re.DOTALL), "ends in a dot"),
    (BLANK, re.compile(rb".* ", re.DOTALL), "ends in a blank"),
    (CONTROL, re.compile(rb".*[\x01-\x1f].*", re.DOTALL), "holds a control character"),
    (
        RESERVED,
        re.compile(rb"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.DOTALL | re.IGNORECASE),
        "is reserved by Windows",
    ),
)

# Names that any file system holds, made before and after all others.
PLAIN = (b"00-plain", b"99-plain")


def _trials() -> Dict[str, Tuple[bytes, ...]]:
    found = {
        DOT: ("a.",),
        BLANK: ("a ",),
        CONTROL: ("a\x01b\nc",),
        BYTES: ("a\udcffb",),
        COMPOSED: ("\u00e9",),
        DECOMPOSED: ("e\u0301",),
        FORMS: ("\u00e9", "e\u0301"),
        LETTERS: ("\u03a9\u6f22",),
        RARE: ("\U0001f600",),
        CASE: ("Scan", "scan"),
        CASE_OF_ALL: ("\u00c9", "\u00e9"),
    }
    found.update((character, ("a{}b".format(character),)) for character in _CHARACTERS)
    # A number of its own keeps what becomes of one trial from being taken for another.
    numbered = {
        trait: tuple("{:02d}-{}".format(number, name).encode("utf-8", "surrogateescape") for name in names)
        for number, (trait, names) in enumerate(found.items(), 1)
    }
    numbered[RESERVED] = (b"CON",)
    numbered[LONG] = (long_name(_LONGEST),)
    return numbered


def long_name(length: int) -> bytes:
    """Return a trial name of so many bytes."""
    return b"98-".ljust(length, b"x")


# The names of each trait; a file system that has it lists all of them.
TRIALS = _trials()

Lacks = NamedTuple("Lacks", [("traits", FrozenSet[str]), ("longest", int)])
Lacks.__doc__ = (
    """What a file system cannot hold; ``longest`` is the length of a name, in bytes, that it can."""
)


def lacking(listing: Iterable[bytes]) -> Lacks:
    """Return what a file system lacks, by what a folder lists in which all trial names were made."""
    there = set(listing)
    long = [len(name) for name in there if name.startswith(long_name(0))]
    return Lacks(
        frozenset(trait for trait, names in TRIALS.items() if not there.issuperset(names)),
        max(long) if long else len(PLAIN[0]),
    )


def fault(name: bytes, lacks: Lacks) -> str:
    """Return why a name cannot be held by itself, '' where it can."""
    traits = lacks.traits
    for character in _CHARACTERS:
        if character in traits and character.encode() in name:
            return "holds '{}'".format(character)
    for trait, pattern, why in _FAULTS:
        if trait in traits and pattern.fullmatch(name):
            return why
    if LONG in traits and len(name) > lacks.longest:
        return "is longer than {} bytes".format(lacks.longest)
    return _fault_of_text(name, traits)


def _fault_of_text(name: bytes, traits: FrozenSet[str]) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return "is not UTF-8" if BYTES in traits else ""
    last = _last_letter(traits)
    if any(ord(character) > last for character in text):
        return "has letters beyond U+{:04X}".format(last)
    kept = unicodedata.normalize("NFD", text) if COMPOSED in traits else text
    kept = unicodedata.normalize("NFC", text) if DECOMPOSED in traits else kept
    return "" if kept == text else "has accents that would be written in another way"


def _last_letter(traits: FrozenSet[str]) -> int:
    if COMPOSED in traits and (LETTERS in traits or DECOMPOSED in traits):
        return 0x7F
    if LETTERS in traits:
        return 0xFF
    return 0xFFFF if RARE in traits else sys.maxunicode


def fold(name: bytes, lacks: Lacks) -> bytes:
    """Return what is the same for all names of a folder that would be taken for one another."""
    if FORMS not in lacks.traits and CASE_OF_ALL not in lacks.traits:
        return name.lower() if CASE in lacks.traits else name
    text = name.decode("utf-8", "surrogateescape")
    if FORMS in lacks.traits:
        text = unicodedata.normalize("NFC", text)
    if CASE_OF_ALL in lacks.traits:
        # Folding can take a composed letter apart.
        text = unicodedata.normalize("NFC", text.casefold()) if FORMS in lacks.traits else text.casefold()
    elif CASE in lacks.traits:
        text = text.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")
    return text.encode("utf-8", "surrogateescape")


Refused = NamedTuple("Refused", [("path", bytes), ("why", str), ("other", bytes)])
Refused.__doc__ = (
    """An entry that cannot be held, and ``why``, or the ``other`` name that it would be taken for."""
)


def folds(lacks: Lacks) -> bool:
    """Say whether two names of a folder can be taken for one another."""
    return not lacks.traits.isdisjoint((FORMS, CASE, CASE_OF_ALL))


def unheld(
    paths: Callable[[], Iterable[bytes]], lacks: Lacks, there: Callable[[bytes], Iterable[bytes]]
) -> Iterator[Refused]:
    """Yield the entries of a list that cannot be held, each once.

    ``paths`` gives the list, each time from its beginning and in any order; a folder's path ends in ``/``. Folders
    that stand in a path only are entries as well. What is below a folder that cannot be held is not told of.
    ``there`` gives the names that a folder at the destination holds already, by its path, b'' or ending in ``/``.
    """
    if not lacks.traits:
        return
    told: Set[bytes] = set()
    # The list can have millions of names: a first look marks what it saw, a second one looks closer at those alone
    # that found a mark.
    marks, again = bytearray(_MARKS // 8 if folds(lacks) else 0), set()  # type: Tuple[bytearray, Set[int]]
    for folder, name, path in _entries(paths(), told):
        why = fault(name, lacks)
        if why:
            yield _refused(path, why, b"", told)
        elif marks:
            mark = _mark(folder, name, lacks)
            if marks[mark >> 3] & 1 << (mark & 7):
                again.add(mark)
            marks[mark >> 3] |= 1 << (mark & 7)
    if folds(lacks):
        for path, other in _taken(paths, lacks, there, again, told):
            yield _refused(path, "", other, told)


def _refused(path: bytes, why: str, other: bytes, told: Set[bytes]) -> Refused:
    # A file is in a list once; a folder comes again with all that is below it.
    if path.endswith(b"/"):
        told.add(path)
    return Refused(path, why, other)


def _entries(paths: Iterable[bytes], told: Set[bytes]) -> Iterator[Tuple[bytes, bytes, bytes]]:
    """Yield folder, name and path of each entry and of the folders above it, these more than once.

    Folders in ``told``, which grows meanwhile, and what is below them are left out.
    """
    before, lost = b"", False
    for path in paths:
        cut = path.rstrip(b"/").rfind(b"/") + 1
        if path[:cut] != before:
            before, lost, at = path[:cut], False, 0
            while at < cut and not lost:
                end = path.index(b"/", at) + 1
                if path[:end] not in told:
                    yield path[:at], path[at : end - 1], path[:end]
                lost = path[:end] in told
                at = end
        if not lost and path not in told:
            yield path[:cut], path[cut:].rstrip(b"/"), path


def _mark(folder: bytes, name: bytes, lacks: Lacks) -> int:
    return hash((folder, fold(name, lacks))) & (_MARKS - 1)


def _taken(
    paths: Callable[[], Iterable[bytes]],
    lacks: Lacks,
    there: Callable[[bytes], Iterable[bytes]],
    again: Set[int],
    told: Set[bytes],
) -> Iterator[Tuple[bytes, bytes]]:
    """Yield each entry that would be taken for another one of its folder, and the other's name."""

    @lru_cache(maxsize=64)
    def names_there(folder: bytes) -> Dict[bytes, Set[bytes]]:
        found: Dict[bytes, Set[bytes]] = {}
        for name in there(folder):
            found.setdefault(fold(name, lacks), set()).add(name)
        return found

    first: Dict[Tuple[bytes, bytes], bytes] = {}
    for folder, name, path in _entries(paths(), told):
        if fault(name, lacks):
            continue
        key = fold(name, lacks)
        here = names_there(folder).get(key)
        if here is not None and name not in here:
            yield path, min(here)
        elif _mark(folder, name, lacks) in again and first.setdefault((folder, key), name) != name:
            yield path, first[folder, key]
