"""The script that prints the hash of each file of a list, for the POSIX shell of a facility.

Names go through stdin from end to end and files through redirections: on a shared host everyone can read the arguments
of everyone's processes.
"""

from typing import Iterable, Iterator, List

from beamferry_agent.census_script import quoted
from beamferry_agent.records import size_of

# Starting sha256sum takes longer than reading a small file: those come in eights.
_SMALL, _TOGETHER = 1024 * 1024, 8
_HEAD = rb"""LC_ALL=C; export LC_ALL; cd %b || exit 66
command -v sha256sum >/dev/null || exit 77
one() { sha256sum <"$1" || { echo -; bad=1; }; }
eight() {
  { sums=$(sha256sum - /dev/fd/3 /dev/fd/4 /dev/fd/5 /dev/fd/6 /dev/fd/7 /dev/fd/8 /dev/fd/9 \
      <"$1" 3<"$2" 4<"$3" 5<"$4" 6<"$5" 7<"$6" 8<"$7" 9<"$8"); } 2>/dev/null && echo "$sums" && return
  for file; do one "$file"; done
}
"""
_END = b"exit ${bad:-0}\n"


def digest_script(folder: bytes, records: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the script, piece by piece: it prints a line ``HASH  -`` for each record, or ``-`` where it cannot be read.

    ``records``: PATH//f//SIZE, below the folder. The script ends with 1 where it could not read one.
    """
    yield _HEAD % quoted(folder)
    held: List[bytes] = []
    for record in records:
        path, size = size_of(record)
        word = quoted(b"./" + path)
        if size > _SMALL:
            yield _alone(held) + b"one %b\n" % word
            held = []
            continue
        held.append(word)
        if len(held) == _TOGETHER:
            yield b"eight %b\n" % b" ".join(held)
            held = []
    yield _alone(held) + _END


def _alone(words: List[bytes]) -> bytes:
    return b"".join(b"one %b\n" % word for word in words)
