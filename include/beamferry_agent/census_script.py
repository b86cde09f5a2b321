"""The script that lists a folder, for a POSIX shell and GNU find: at the facility, and of the copy here.

A census is a sorted list of NUL-terminated records PATH//TYPE//SIZE//MTIME//LINKTARGET: find's %P never holds '//', so
the first one ends the path. TYPE is f, d, l or o (anything else).
"""

import re
from typing import Iterable, NamedTuple, Optional

# find's words for a mode at the source that RDS is not to have: setuid or setgid of a file, setuid of a folder, and of
# both that others may write. A record of this alone follows what has one.
UNSAFE = b"//"
_UNSAFE_FILE = b' \\( ! -perm /6002 -o -printf "//\\0" \\)'
_UNSAFE_FOLDER = b' \\( ! -perm /4002 -o -printf "//\\0" \\)'
_ENVIRONMENT = b"LC_ALL=C TZ=UTC0; export LC_ALL TZ"
_ENTER = b"; cd %b || exit 66"
# %Ts, whole seconds, is not in find's manual: ask before relying on it.
_ASK = b'case $(find . -maxdepth 0 -printf %Ts) in "" | *[!0-9-]*) exit 77 ;; esac\n'
# -path takes a pattern; the characters that mean something there stand for themselves.
_PATTERN = re.compile(rb"[][*?\\]")
# The script's exit codes: it could not look into something; it could not enter the folder; find is none of GNU's.
SOME_UNREAD, NOT_ENTERED = 1, 66


class Unless(NamedTuple):
    """Asks for records of what is not as it has to be, in a file ``place``.

    ``files``, ``folders``: find's words for what is well; the folder that is listed is asked for as ``.``.
    """

    place: bytes
    files: bytes
    folders: bytes


def quoted(text: bytes) -> bytes:
    """Return a text as one word of a POSIX shell."""
    return b"'" + text.replace(b"'", b"'\\''") + b"'"


def readable(place: bytes, group: str) -> Unless:
    """Ask for what a group, a number or ``own`` for that of each entry, cannot read."""
    return Unless(place, _readable(4, group), _readable(5, group))


def _readable(bits: int, group: str) -> bytes:
    if group == "own":
        return b"-perm -00%d0 " % bits
    # Its members are others to what belongs to another group.
    number = int(group)
    return b"-gid %d -perm -00%d0 -o ! -gid %d -perm -000%d " % (number, bits, number, bits)


def source_script(folder: bytes, exclude: Iterable[bytes]) -> bytes:
    """Return the script that lists the source; a record ``UNSAFE`` follows what has an unsafe mode."""
    # A folder of that name is the transfer's own at RDS; at the source it is data that does not come, and is missing.
    partials = b'-printf "%P//d//0//0//\\0" '
    words = _find(exclude, partials, _UNSAFE_FILE, _UNSAFE_FOLDER)
    return _ENVIRONMENT + _ENTER % quoted(folder) + b"\n" + _ASK + words


def copy_script(exclude: Iterable[bytes], partials: bytes, unless: Optional[Unless] = None) -> bytes:
    """Return the script that lists the copy, in which it is started.

    ``partials``: the file that gets the transfer's own folders, which are not listed.
    """
    own = b"-fprint0 " + quoted(partials) + b" "
    if unless is None:
        return _ENVIRONMENT + b"\n" + _ASK + _find(exclude, own, b"", b"")
    files, folders = (
        _told(words, kind, unless.place) for words, kind in ((unless.files, b"f"), (unless.folders, b"d"))
    )
    # The folder itself has no name below itself.
    itself = _told(unless.folders, b"d", unless.place + b".itself")
    lines = (
        _ENVIRONMENT,
        _ASK + _find(exclude, own, files, folders) + b"code=$?",
        b"find . -maxdepth 0 " + itself,
        b'[ ! -s %b.itself ] || printf ".//d//0//0//\\0" >>%b' % (quoted(unless.place), quoted(unless.place)),
        b"exit $code",
    )
    return b"\n".join(lines) + b"\n"


def _told(words: bytes, kind: bytes, place: bytes) -> bytes:
    return b' \\( %b-o -fprintf %b "%%P//%b//0//0//\\0" \\)' % (words, quoted(place), kind)


def _find(exclude: Iterable[bytes], partials: bytes, of_file: bytes, of_folder: bytes) -> bytes:
    return b"".join(
        (
            b"find . -mindepth 1 \\( -type d -name .beamferry-partial ",
            partials,
            b"-prune \\)",
            *(_left_out(path) for path in exclude),
            b' -o -type f -printf "%P//f//%s//%Ts//\\0"' + of_file,
            b' -o -type d -printf "%P//d//0//0//\\0"' + of_folder,
            b' -o -type l -printf "%P//l//0//0//%l\\0" -o -printf "%P//o//0//0//\\0"\n',
        )
    )


def _left_out(path: bytes) -> bytes:
    # As in rsync's patterns, a trailing slash means a folder of that name and nothing else.
    is_folder = path.endswith(b"/")
    pattern = _PATTERN.sub(rb"\\\g<0>", b"./" + (path[:-1] if is_folder else path))
    return b" -o \\( %b-path %b -prune \\)" % (b"-type d " if is_folder else b"", quoted(pattern))
