"""What a job's files say of it: which start it is, of what, and its first process."""

import hashlib
import json
import os
import re
from typing import Any, Dict, NamedTuple, Optional, Sequence

_GENERATION = re.compile(r"[0-9A-Za-z-]+\Z")
_LEADER = re.compile(r"([0-9]{1,10}) ([0-9]+) ([^\s\0]+)\s*\Z")
_TO_CLEAN = re.compile(rb"[^A-Za-z0-9_.~:+@/ -]")
_OF_TOOL_KEPT = re.compile(r"tool--(exclude|bwlimit)=")
# Where the scripts lie, the password's file and settings of our own change from try to try or from version to version.
_NOT_OF_CALL = (
    "--secret",
    "--stall",
    "--range-threshold",
    "--range-bytes",
    "--sample-bytes",
    "--modify-window",
    "--ssh",
)


class Mark(NamedTuple):
    """Which start of a job this is; all of it is '' for a job of a version that wrote none."""

    generation: str = ""
    boot: str = ""
    owner: str = ""
    installation: str = ""
    run: str = ""
    since: str = ""
    call: str = ""
    secret: str = ""
    scripts: str = ""
    folder: str = ""

    def to_text(self) -> str:
        """Return the mark as its file holds it."""
        return "".join("{}={}\n".format(*item) for item in zip(self._fields, self))

    @property
    def is_whole(self) -> bool:
        """Whether it says whose job it is, and which."""
        return bool(self.generation and self.owner and self.call and self.folder)


class Leader(NamedTuple):
    """A job's first process: its number, its start time in clock ticks since boot, its host."""

    pid: int
    born: str
    host: str

    def to_text(self) -> str:
        """Return it as its file holds it."""
        return "{} {} {}\n".format(*self)


def clean(text: str) -> str:
    """Return a text as it may stand in a mark and in an answer."""
    return _TO_CLEAN.sub(b"_", text.encode("utf-8", "surrogateescape")).decode("ascii")


def read_mark(content: Optional[bytes]) -> Optional[Mark]:
    """Return the mark that a file holds, None where it holds none."""
    fields = _fields(content)
    if not _GENERATION.match(fields.get("generation", "")):
        return None
    return Mark(**{name: fields[name] for name in Mark._fields if name in fields})


def read_leader(content: Optional[bytes]) -> Optional[Leader]:
    """Return the process that a file holds, None where it holds none."""
    found = _LEADER.match(_text(content))
    if found is None or int(found.group(1)) < 2:
        return None
    return Leader(int(found.group(1)), found.group(2), found.group(3))


def read_leader_of_lock(content: Optional[bytes]) -> Optional[Leader]:
    """Return the process that the mark in a lock names, None where it names none."""
    return read_leader(_fields(content).get("process", "").encode())


def read_code(content: Optional[bytes]) -> Optional[int]:
    """Return an exit code, None where there is none."""
    text = _text(content).strip()
    return int(text) if re.match(r"[0-9]{1,3}\Z", text) else None


def read_object(content: Optional[bytes]) -> Optional[Dict[str, Any]]:
    """Return a JSON object, None where there is none."""
    try:
        found = json.loads(_text(content))
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_text(content: Optional[bytes]) -> Optional[str]:
    """Return a text, None where there is none."""
    return _text(content) or None


def _text(content: Optional[bytes]) -> str:
    try:
        text = (content or b"").decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text


def _fields(content: Optional[bytes]) -> Dict[str, str]:
    lines = (line.partition("=") for line in _text(content).split("\n"))
    return {name: value for name, _, value in lines}


def call_of(script: str, arguments: Sequence[str]) -> str:
    """Return what makes a job another one: the script, and what a person or the beamtime's entry chose."""
    name = os.path.basename(script)
    # Steps were scripts in versions before, which may still run.
    kept, tool, skip = [name if name.endswith(".sh") else name + ".sh"], "", False
    for word in arguments:
        if skip:
            skip = False
        elif tool + word in (*_NOT_OF_CALL, "tool-e"):
            skip = True
        elif not tool and word == "--":
            tool = "tool"
        elif _OF_TOOL_KEPT.match(tool + word) or not (tool + word).startswith("tool-"):
            kept.append(word)
    text = "".join(word + "\0" for word in kept)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def guard_of(destination: str) -> str:
    """Return the name of a destination's lock, which is one by whatever name it is reached."""
    real = os.path.realpath(destination.encode("utf-8", "surrogateescape"))
    return "destination-" + hashlib.sha256(real + b"\n").hexdigest()[:32]
