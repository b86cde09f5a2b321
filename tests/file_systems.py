"""File systems that cannot hold every name, as models: what becomes of a name, and which names are one."""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

RESERVED = re.compile(r"(con|prn|aux|nul|com[1-9]|lpt[1-9])(\..*)?", re.IGNORECASE | re.DOTALL)
LONGEST = 255


def refused(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def unchanged(name: bytes) -> bytes:
    if len(name) > LONGEST:
        raise refused(errno.ENAMETOOLONG)
    return name


def text_of(name: bytes) -> str:
    try:
        return unchanged(name).decode()
    except UnicodeDecodeError as error:
        raise refused(errno.EILSEQ) from error


def windows(name: bytes) -> bytes:
    """A Windows share without a mapping: what follows a colon opens a stream of the file before it."""
    text = text_of(name)
    if re.search(r'[\\*?"<>|\x01-\x1f]', text):
        raise refused(errno.EINVAL)
    text = text.split(":", 1)[0].rstrip(". ")
    if not text:
        raise refused(errno.ENOENT)
    if RESERVED.fullmatch(text):
        raise refused(errno.EACCES)
    return text.encode()


def apple(name: bytes) -> bytes:
    """HFS+: accents are taken apart."""
    return unicodedata.normalize("NFD", text_of(name)).encode()


def latin(name: bytes) -> bytes:
    """A mount with an old table of letters."""
    return text_of(name).encode("latin-1", "replace").decode("latin-1").encode()


def cut(name: bytes) -> bytes:
    return unchanged(name)[:100]


def short(name: bytes) -> bytes:
    """Encrypted names are longer on the disk."""
    if len(name) > 143:
        raise refused(errno.ENAMETOOLONG)
    return name


def narrow(name: bytes) -> bytes:
    """Names of 16-bit units."""
    if any(ord(character) > 0xFFFF for character in text_of(name)):
        raise refused(errno.EINVAL)
    return name


def same(name: bytes) -> bytes:
    return name


def any_case(name: bytes) -> bytes:
    return name.decode("utf-8", "surrogateescape").casefold().encode("utf-8", "surrogateescape")


def any_form(name: bytes) -> bytes:
    return unicodedata.normalize("NFC", name.decode("utf-8", "surrogateescape")).encode(
        "utf-8", "surrogateescape"
    )


@dataclass
class Model:
    """One kind of file system: ``stored`` is the name that it writes, ``key`` is the same for names that are one."""

    stored: Callable[[bytes], bytes] = unchanged
    key: Callable[[bytes], bytes] = same
    folders: dict[bytes, dict[bytes, bytes]] = field(default_factory=dict)

    def make(self, folder: bytes, name: bytes) -> None:
        """Make a file as O_EXCL does."""
        written = self.stored(name)
        if self.folders.setdefault(folder, {}).setdefault(self.key(written), written) is not written:
            raise refused(errno.EEXIST)

    def listing(self, folder: bytes) -> set[bytes]:
        return set(self.folders.get(folder, {}).values())


MODELS: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "all names": (unchanged, same),
    "windows": (windows, any_case),
    "apple": (apple, any_case),
    "folding": (unchanged, any_case),
    "ascii folding": (unchanged, bytes.lower),
    "one form": (unchanged, any_form),
    "one form, folding": (unchanged, lambda name: any_form(any_case(any_form(name)))),
    "latin": (latin, same),
    "cut": (cut, same),
    "short": (short, same),
    "narrow": (narrow, same),
}


def model(name: str) -> Model:
    return Model(*MODELS[name])
