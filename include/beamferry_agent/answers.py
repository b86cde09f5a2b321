"""What Airflow's side and the agent tell each other, as JSON: the one module that both import."""

import json
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

# A request or an answer of another version is refused, never guessed.
VERSION = 3


# Entries of one end that the other does not have in this form; paths of files whose content differs; those of them that
# the source itself reads differently each time; paths that differed before and could not be compared again; entries of
# the destination that the group cannot read.
LISTS = ("only_source", "only_destination", "mismatches", "unstable", "unresolved", "closed")
# What is counted at one end, in the order in which a census tells it.
COUNTED = ("files", "bytes", "folders", "links", "others")


class ComparisonRequest(NamedTuple):
    """Asks what differs between the two ends.

    ``folder``: where the lists are, see ``LISTS``.
    ``lengths``: how many items each of them has, in their order.
    ``source``, ``destination``: what was counted at either end, by the names of ``COUNTED``.
    ``changing_since``: files of the source changed at this time or later are changing, seconds since the epoch;
    None when there was no transfer.
    ``modify_window``: seconds by which times may differ on the destination's file system.
    ``keeps_links``: whether that file system has links.
    ``kept``: how many differences of each kind come back by name.
    ``kept_bytes``: how many bytes of JSON the names of each kind may take.
    """

    folder: str
    lengths: Tuple[int, ...]
    source: Dict[str, int]
    destination: Dict[str, int]
    changing_since: Optional[int]
    modify_window: int
    keeps_links: bool
    kept: int
    kept_bytes: int

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "ComparisonRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        fields = read_fields(text, cls._fields)
        lengths = fields["lengths"]
        if not isinstance(lengths, list) or len(lengths) != len(LISTS) or not all(map(_is_number, lengths)):
            raise ValueError("lengths must be a number for each of {}".format(", ".join(LISTS)))
        for end in ("source", "destination"):
            counted = fields[end]
            if not isinstance(counted, dict) or not all(_is_number(counted.get(name)) for name in COUNTED):
                raise ValueError("{} must have a number for each of {}".format(end, ", ".join(COUNTED)))
        for name in ("modify_window", "kept", "kept_bytes"):
            if not _is_number(fields[name]):
                raise ValueError("{} must be a number".format(name))
        since = fields["changing_since"]
        if not isinstance(fields["folder"], str) or not (since is None or _is_number(since)):
            raise ValueError("folder must be a text, changing_since a number or null")
        if not isinstance(fields["keeps_links"], bool):
            raise ValueError("keeps_links must be true or false")
        fields["lengths"] = tuple(lengths)
        return cls(**fields)


class Comparison(NamedTuple):
    """Answers what differs.

    ``counts``: how many entries differ, by the kind of difference, see ``differences.KINDS``.
    ``entries``: the same by what they are: ``files``, ``folders``, ``links`` and ``others``.
    ``named``: the first of each kind by name; bytes that are not UTF-8 stand as lone surrogates.
    ``incomparable_bytes``: size of the source's files that have no file of their size at the destination.
    """

    counts: Dict[str, int]
    entries: Dict[str, Dict[str, int]]
    named: Dict[str, List[str]]
    incomparable_bytes: int

    def to_json(self) -> str:
        """Return the answer as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Comparison":
        """Read an answer.

        Raises ValueError when it is not one, or of another version.
        """
        fields = read_fields(text, cls._fields)
        counts, named, entries = fields["counts"], fields["named"], fields["entries"]
        if not isinstance(counts, dict) or not all(map(_is_number, counts.values())):
            raise ValueError("counts must be numbers")
        if not isinstance(entries, dict) or {kind: _total(by) for kind, by in entries.items()} != counts:
            raise ValueError("entries must sum up to counts")
        if not isinstance(named, dict) or not all(isinstance(names, list) for names in named.values()):
            raise ValueError("named must be lists")
        if any(kind not in counts or len(names) > counts[kind] for kind, names in named.items()):
            raise ValueError("more is named than was counted")
        if not all(isinstance(name, str) for names in named.values() for name in names):
            raise ValueError("names must be texts")
        if not _is_number(fields["incomparable_bytes"]):
            raise ValueError("incomparable_bytes must be a number")
        return cls(**fields)


# What a request about an account can ask for, and how many words belong to it: link NAME TARGET, own NAME PARENT (a
# link to the folder below PARENT that has the account's name), key and gate HOST PORT ACCOUNT (the last two may be
# ''), lftp CA (PEM text, '' for none), host-key TYPE BASE64 of the gate before it. NAME is below the home folder.
ACCOUNT_STEPS = {
    "make": {"workspace": 0, "link": 2, "own": 2, "key": 3, "lftp": 1},
    "unlink": {"link": 2, "own": 2},
    "scan": {"gate": 3},
    "pin": {"gate": 3, "host-key": 2},
}


class AccountRequest(NamedTuple):
    """Asks for steps in the account that the agent runs in, done in their order.

    ``verb``: one of ``ACCOUNT_STEPS``.
    ``steps``: name and words of each step.
    """

    verb: str
    steps: List[List[str]]

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "AccountRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        fields = read_fields(text, cls._fields)
        known, steps = ACCOUNT_STEPS.get(fields["verb"]), fields["steps"]
        if known is None or not isinstance(steps, list):
            raise ValueError("verb must be one of {}, steps a list".format(", ".join(ACCOUNT_STEPS)))
        for step in steps:
            if not isinstance(step, list) or not step or not all(isinstance(word, str) for word in step):
                raise ValueError("a step must be a list of texts")
            if known.get(step[0]) != len(step) - 1:
                raise ValueError(
                    "'{}' is no step of '{}', or has not its words".format(step[0], fields["verb"])
                )
            if any("\0" in word for word in step):
                raise ValueError("no word can hold a NUL")
        return cls(**fields)


class StepAnswer(NamedTuple):
    """What became of a step; ``reason`` only where ``state`` is ``refused``."""

    step: str
    subject: str
    state: str
    place: str
    reason: str
    detail: str


class PinnedKey(NamedTuple):
    """A line that ssh would believe of a gate; ``marker`` is ``-`` for none."""

    gate: str
    file: str
    marker: str
    type: str
    key: str


class ShownKey(NamedTuple):
    """A host key that a gate shows, and the name and file under which it would be pinned."""

    gate: str
    name: str
    file: str
    type: str
    key: str


class AccountAnswer(NamedTuple):
    """Answers what became of an account."""

    account: str
    node: str
    steps: List[StepAnswer]
    pinned: List[PinnedKey]
    shown: List[ShownKey]

    def to_json(self) -> str:
        """Return the answer as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "AccountAnswer":
        """Read an answer.

        Raises ValueError when it is not one, or of another version.
        """
        fields = read_fields(text, cls._fields)
        for name, kind in (("steps", StepAnswer), ("pinned", PinnedKey), ("shown", ShownKey)):
            rows = fields[name]
            if not isinstance(rows, list) or not all(_are_texts(row, len(kind._fields)) for row in rows):
                raise ValueError("{} must be lists of texts".format(name))
            fields[name] = [kind(*row) for row in rows]
        if not isinstance(fields["account"], str) or not isinstance(fields["node"], str):
            raise ValueError("account and node must be texts")
        return cls(**fields)


class PublicationRequest(NamedTuple):
    """Asks for files that people read beside the data, e.g. a certificate.

    ``root``: folder of the group; links that lead to it are followed if root or the account made them.
    ``folder``: where the files go, absolute and below ``root``; made where it is missing. No link is followed.
    ``files``: their texts, by name; each is replaced whole.
    ``opens``: whether the group is to be able to read the folder, also where it was closed to it.
    """

    root: str
    folder: str
    files: Dict[str, str]
    opens: bool

    def to_json(self) -> str:
        """Return the request as one line of ASCII."""
        return to_line(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "PublicationRequest":
        """Read a request.

        Raises ValueError when it is not one, or of another version.
        """
        fields = read_fields(text, cls._fields)
        files = fields["files"]
        for name in ("root", "folder"):
            if not isinstance(fields[name], str) or not fields[name].startswith("/"):
                raise ValueError("{} must be an absolute path".format(name))
        if not isinstance(files, dict) or not all(isinstance(content, str) for content in files.values()):
            raise ValueError("files must be texts by name")
        if not isinstance(fields["opens"], bool):
            raise ValueError("opens must be true or false")
        if any(not name or "/" in name or "\0" in name or name in (".", "..") for name in files):
            raise ValueError("a file's name must be one plain name")
        return cls(**fields)


def _are_texts(row: Any, length: int) -> bool:
    return isinstance(row, list) and len(row) == length and all(isinstance(text, str) for text in row)


def _total(by_entry: Any) -> Optional[int]:
    """Return how many entries there are, None where it is not a number of each."""
    if not isinstance(by_entry, dict) or not set(by_entry) <= set(COUNTED):
        return None
    if not all(map(_is_number, by_entry.values())):
        return None
    return sum(by_entry.values())


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def to_line(fields: Dict[str, Any]) -> str:
    """Return a request or an answer of this version as one line of JSON."""
    # Other processes' tools read it, too: ASCII survives every locale.
    return json.dumps(dict(fields, version=VERSION), ensure_ascii=True, sort_keys=True)


def read_fields(text: str, names: Tuple[str, ...]) -> Dict[str, Any]:
    """Return the fields of a request or an answer. Raises ValueError when it is of another version, or has others."""
    found = json.loads(text)
    if not isinstance(found, dict) or found.pop("version", None) != VERSION:
        raise ValueError("it is not of version {}".format(VERSION))
    if set(found) != set(names):
        raise ValueError("it must have {}, no more and no less".format(", ".join(names)))
    return found
