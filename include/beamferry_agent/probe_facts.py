"""What a probe saw, as lines KEY=VALUE; the last one is ``end=yes``, so that a cut answer is seen as one."""

import re
from typing import List, Union

# A value is one line. What is not printable becomes a blank, and blanks in a row are one.
_NOT_PRINTABLE = re.compile("[\x00-\x20\x7f]+")
_LONGEST = 1000
# Of what a tool said: the reason stands in its end.
_LINES, _LONGEST_LINE = 15, 250


class Facts:
    """Facts in the order in which they were found."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lines: List[str] = []

    def say(self, key: str, value: Union[str, bytes, bool, int, None]) -> None:
        """Keep a fact; None, for what could not be found out, is an empty one."""
        if value is None:
            value = ""
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        self.say_whole(key, _NOT_PRINTABLE.sub(" ", text_of(value)).strip(" ")[:_LONGEST])

    def say_lines(self, key: str, words: bytes) -> None:
        """Keep what a tool said: a tab stands between its lines, and at the end."""
        lines = text_of(words).replace("\r", "").split("\n")
        if not lines[-1]:
            lines.pop()
        self.say_whole(
            key,
            "".join(_NOT_PRINTABLE.sub(" ", line[:_LONGEST_LINE]) + "\t" for line in lines[-_LINES:]),
        )

    def say_whole(self, key: str, value: str) -> None:
        """Keep a fact as it is: it has no line's end, and nobody needs it shorter."""
        self._lines.append("{}={}".format(key, value))

    def text(self) -> str:
        """Return the answer."""
        return "\n".join([*self._lines, "end=yes"])


def text_of(value: Union[str, bytes, int]) -> str:
    """Return a value as text that can be printed; of what is no UTF-8 a mark is left."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value).encode("utf-8", "replace").decode("utf-8")
