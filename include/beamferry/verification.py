"""From two censuses to a verdict: which files agree, at which level, and what differs."""

from __future__ import annotations

import json
from enum import StrEnum
from itertools import chain, zip_longest
from math import exp, log1p
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, Field

from beamferry.agent import damaged
from beamferry.beamtime import Frozen, Level
from beamferry.differences import Difference
from beamferry.plan import count, human, source_empty
from beamferry_agent.answers import COUNTED, LISTS, ComparisonRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from beamferry_agent.answers import Comparison

# How many differences of each kind are kept by name, and how many bytes their names may take; all are counted.
# The verdict goes to the certificate through a file on RDS-SSH, of which 256 KiB are read back.
KEPT = 200
KEPT_BYTES = 19_900
# The asset state and an XCom take 4 kB; the certificate beside the data names more.
STATE_BYTES = 3500
_STATE_PATH = 120
# Clocks of the two ends may differ this much before a change made during the transfer is taken for an old one.
CLOCK_SKEW_SECONDS = 120


class Outcome(StrEnum):
    """What a comparison came to."""

    VERIFIED = "verified"
    CHANGING = "changing"
    DIFFERENT = "different"


# What is at RDS only was removed from the source, or put there by a person; a socket has nothing to copy.
_HARMLESS = {Difference.EXTRA, Difference.UNCOPIED}


class Ends(Frozen):
    """What was counted at one end; ``oldest`` is the earliest time of a file, seconds since the epoch."""

    files: int
    bytes: int
    folders: int
    links: int
    others: int
    oldest: int

    @property
    def counted(self) -> dict[str, int]:
        """What the lists of differences have to explain."""
        return {field: getattr(self, field) for field in COUNTED}


class Listed(Frozen):
    """How many items each list of differences holds, as the step "verify" counted them."""

    only_source: int
    only_destination: int
    mismatches: int
    unstable: int = 0
    unresolved: int = 0
    closed: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """The lengths in the order in which the agent has the lists."""
        return tuple(getattr(self, name) for name in LISTS)


class Named(Frozen):
    """One difference by name; the name is safe to show, whatever it holds."""

    kind: Difference
    path: str


class Verdict(Frozen):
    """What is known after both ends were compared.

    Args:
        outcome: verified, changing (compare again when the source is at rest) or different.
        level: how thoroughly, as far as it got; a level includes those before it.
        source: what the source holds, excludes left out.
        destination: what RDS holds.
        counts: how many entries differ, by kind of difference.
        entries: the same by what they are, e.g. ``{"missing": {"files": 3}}``; empty in older verdicts.
        named: the first of them.
        sampled_files: files compared byte by byte, through the SHA-256 of both ends.
        sampled_bytes: their size.
        partial_files: unfinished files that a transfer left at RDS.
        checked_at: when the comparison began.
        sentence: all of this in plain words.
        again_files: files that differed in an earlier comparison, and were compared byte by byte for that reason alone.
        cached_files: files that may have been read from the memory of RDS-SSH and not from the disk.
        there_bytes: size of the source's files that have a file of their size at RDS; None in older verdicts.
        unsafe_modes: files and folders of the source with a setuid bit, a setgid bit of a file, or leave for others to
            write, none of which comes home; None where that is not known.
    """

    schema_version: Literal[1] = 1
    outcome: Outcome
    level: Level
    source: Ends
    destination: Ends
    counts: dict[Difference, int]
    named: tuple[Named, ...]
    sampled_files: int
    sampled_bytes: int
    partial_files: int
    checked_at: AwareDatetime
    sentence: str
    again_files: int = 0
    cached_files: int = 0
    entries: dict[Difference, dict[str, int]] = Field(default_factory=dict)
    there_bytes: int | None = None
    unsafe_modes: int | None = None

    def amount(self, kind: Difference) -> str:
        """Return how many entries differ in this way, by what they are, e.g. ``3 files missing at RDS``."""
        return amount(kind, self.counts[kind], self.entries.get(kind, {}))

    def few(self, limit: int) -> tuple[Named, ...]:
        """Return at most so many of the named differences, some of each kind, grouped by kind."""
        by_kind = [[item for item in self.named if item.kind is kind] for kind in Difference]
        in_turn = [item for turn in zip_longest(*by_kind) for item in turn if item is not None]
        order = list(Difference)
        return tuple(sorted(in_turn[:limit], key=lambda item: order.index(item.kind)))

    def for_state(self) -> Verdict:
        """Return the verdict with few enough differences by name for the asset state and an XCom."""
        kept = self.model_copy(update={"named": ()})
        for limit in range(1, len(Difference) + 1):
            few = tuple(Named(kind=item.kind, path=_shortened(item.path)) for item in self.few(limit))
            tried = self.model_copy(update={"named": few})
            # It is stored as an object, and as a text within JSON, where quotation marks count twice.
            stored = json.dumps(tried.model_dump(mode="json")), json.dumps(tried.model_dump_json())
            if max(map(len, stored)) > STATE_BYTES:
                break
            kept = tried
        return kept


def is_complete(verdict: Verdict) -> bool:
    """Say whether everything at the source was at RDS; a listing alone never shows that."""
    return verdict.outcome is Outcome.VERIFIED and verdict.level is not Level.LISTED


def safe(name: str) -> str:
    r"""Return a name as text that can be shown: what is not printable is escaped, and so is the backslash.

    A byte that is not UTF-8, a lone surrogate in ``name``, is shown as ``\xff``.
    """
    return "".join(_safe(character) for character in name)


def _safe(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _shortened(path: str) -> str:
    half = _STATE_PATH // 2
    return path if len(path) <= _STATE_PATH else f"{path[:half]}…{path[-half:]}"


def request(
    lists: str,
    *,
    listed: Listed,
    source: Ends,
    destination: Ends,
    listing_began: int | None,
    modify_window: int,
    keeps_links: bool = True,
) -> ComparisonRequest:
    """Return what the agent is asked: what differs, of the lists in a folder on RDS-SSH.

    Args:
        lists: the folder.
        listed: how long the lists are, to notice one that was cut short.
        source: what was counted there.
        destination: what was counted at RDS.
        listing_began: when the dry run of this run began to list the source, by the clock of RDS-SSH, seconds since
            the epoch; None if this run had none.
        modify_window: seconds by which times may differ on the destination's file system.
        keeps_links: whether the destination's file system has links.
    """
    since = None if listing_began is None else listing_began - CLOCK_SKEW_SECONDS
    return ComparisonRequest(
        folder=lists,
        lengths=listed.lengths,
        source=source.counted,
        destination=destination.counted,
        changing_since=since,
        modify_window=modify_window,
        keeps_links=keeps_links,
        kept=KEPT,
        # Escaped for JSON, a name is at most twice as long as it is once it can be shown.
        kept_bytes=2 * KEPT_BYTES,
    )


def judge(
    comparison: Comparison,
    *,
    level: Level,
    source: Ends,
    destination: Ends,
    sampled_files: int,
    sampled_bytes: int,
    partial_files: int,
    checked_at: datetime,
    again_files: int = 0,
    cached_files: int = 0,
    round_folders: int = 0,
    unsafe_modes: int | None = None,
) -> Verdict:
    """Return the verdict on what the agent found to differ.

    Args:
        comparison: the agent's answer.
        level: what was asked for; the verdict's level is what was reached.
        source: what was counted there.
        destination: what was counted at RDS.
        sampled_files: files whose content was compared.
        sampled_bytes: their size.
        partial_files: unfinished files that a transfer left at RDS.
        checked_at: when the comparison began.
        again_files: files compared for the reason alone that they differed before, not counted in ``sampled_files``.
        cached_files: files that may have been read from memory.
        round_folders: folders whose listing ends at a number at which servers cut.
        unsafe_modes: files and folders whose modes let others do what they may not at RDS, None where not known.

    Raises:
        PermanentError: the source holds no file.
        TransientError: the agent names a kind of difference that is not known here.
    """
    if level is Level.LISTED:
        raise ValueError("both ends were compared: level must be sizes, sampled or full")
    if source.files == 0:
        raise source_empty("The source")
    if unknown := comparison.counts.keys() - set(Difference):
        raise damaged(f"it holds differences of unknown kinds, {', '.join(sorted(unknown))}")
    counts = {kind: comparison.counts[kind] for kind in Difference if comparison.counts.get(kind)}
    entries = {kind: comparison.entries[kind] for kind in counts}
    outcome = _outcome(counts, partial_files)
    reached = _reached(level, source.bytes - comparison.incomparable_bytes, sampled_files, sampled_bytes)
    return Verdict(
        outcome=outcome,
        level=reached,
        source=source,
        destination=destination,
        counts=counts,
        named=tuple(chain.from_iterable(_named(kind, comparison) for kind in counts)),
        sampled_files=sampled_files,
        sampled_bytes=sampled_bytes,
        partial_files=partial_files,
        checked_at=checked_at,
        sentence=_sentence(outcome, reached, source, _amounts(counts, entries, partial_files), sampled_files)
        + _remarks(outcome, again_files, cached_files, round_folders),
        again_files=again_files,
        cached_files=cached_files,
        entries=entries,
        there_bytes=source.bytes - comparison.incomparable_bytes,
        unsafe_modes=unsafe_modes,
    )


def amount(kind: Difference, number: int, entries: dict[str, int]) -> str:
    """Return how many entries differ in a way, by what they are; as a bare number where that is not known."""
    nouns = {"files": "file", "folders": "folder", "links": "link", "others": "special file"}
    parts = [count(entries[field], noun) for field, noun in nouns.items() if entries.get(field)]
    *first, last = parts or [f"{number:,}"]
    listed = f"{', '.join(first)} and {last}" if first else last
    return f"{listed} {kind.words}"


def _amounts(
    counts: dict[Difference, int], entries: dict[Difference, dict[str, int]], partial_files: int
) -> list[str]:
    listed = [amount(kind, number, entries[kind]) for kind, number in counts.items()]
    if partial_files:
        listed.append(f"{count(partial_files, 'file')} unfinished at RDS")
    return listed


def _remarks(outcome: Outcome, again_files: int, cached_files: int, round_folders: int) -> str:
    again = f" {count(again_files, 'file')} that differed before now agree, byte by byte."
    cached = (
        f" {count(cached_files, 'file')} may have been read from the memory of RDS-SSH, not from the disk."
    )
    rounded = (
        f" {count(round_folders, 'folder')} held exactly 1,000 entries at the source, a number at which servers cut "
        "listings: two looks agree on it."
    )
    said = again if again_files and outcome is Outcome.VERIFIED else ""
    return said + (cached if cached_files else "") + (rounded if round_folders else "")


def _named(kind: Difference, comparison: Comparison) -> Iterator[Named]:
    """Yield the first differences of a kind, as many as there is room for once they can be shown."""
    room = KEPT_BYTES
    for path in comparison.named.get(kind, ()):
        named = Named(kind=kind, path=safe(path))
        room -= len(named.model_dump_json().encode())
        if room < 0:
            return
        yield named


def _outcome(counts: dict[Difference, int], partial_files: int) -> Outcome:
    left = counts.keys() - _HARMLESS
    if partial_files or left - {Difference.CHANGING}:
        return Outcome.DIFFERENT
    return Outcome.CHANGING if left else Outcome.VERIFIED


def _reached(level: Level, comparable_bytes: int, sampled_files: int, sampled_bytes: int) -> Level:
    """Return the level that was reached: content that could be compared and was not lowers it."""
    if level is Level.SIZES or sampled_bytes >= comparable_bytes:
        return level
    return Level.SAMPLED if sampled_files else Level.SIZES


def remedy(verdict: Verdict, names: str) -> str:
    """Return what to do about a copy that differs; ``names`` is the file that names what does."""
    if verdict.counts.keys() - _HARMLESS == {Difference.CLOSED} and not verdict.partial_files:
        return (
            "start a run in mode sync, which opens to the group what belongs to the account on RDS-SSH; if it stays, "
            f"ask the owners of the files that {names} names, or Research IT"
        )
    return f"start a run in mode sync; if it stays, read {names} for the names"


def words(level: Level, sampled_files: int) -> str:
    """Return what a level means, so that no text makes more of it than it is."""
    return {
        Level.LISTED: "every name was listed at both ends; sizes were not compared",
        Level.SIZES: "every size was compared; no content was",
        Level.SAMPLED: f"every size was compared, and {count(sampled_files, 'file')} byte by byte",
        Level.FULL: "every size was compared, and the content of every file byte by byte",
    }[level]


def chance_to_find(files: int, damaged_files: int, sampled_files: int) -> float:
    """Return the probability that samples drawn at random hold at least one of the damaged files.

    Args:
        files: how many there are to draw from.
        damaged_files: how many of them are damaged.
        sampled_files: how many are drawn, none twice.

    Raises:
        ValueError: more are damaged or drawn than there are.
    """
    if not 0 <= damaged_files <= files or not 0 <= sampled_files <= files:
        raise ValueError("files must be at least damaged_files and sampled_files")
    fewer, more = sorted((damaged_files, sampled_files))
    if fewer + more > files:
        return 1.0
    # Hypergeometric: each draw misses those that are left; in logarithms, as the product can be tiny.
    return 1.0 - exp(sum(log1p(-more / (files - drawn)) for drawn in range(fewer)))


def _sentence(
    outcome: Outcome,
    level: Level,
    source: Ends,
    listed: list[str],
    sampled_files: int,
) -> str:
    whole = f"{count(source.files, 'file')} ({human(source.bytes)})"
    was = "was" if sampled_files == 1 else "were"
    agreed = {
        Level.SIZES: "every size agrees; no content was compared",
        Level.SAMPLED: f"every size agrees and {count(sampled_files, 'file')} {was} compared byte by byte",
        Level.FULL: "every size agrees and the content of every file was compared byte by byte",
    }
    if outcome is Outcome.VERIFIED:
        besides = f" Besides: {'; '.join(listed)}." if listed else ""
        subject = f"The only file ({human(source.bytes)}) is" if source.files == 1 else f"All {whole} are"
        return f"{subject} at RDS: {agreed[level]}.{besides}"
    if outcome is Outcome.CHANGING:
        return (
            f"The source is still changing. Of {whole}: {'; '.join(listed)}. The next run brings the changes."
        )
    return f"The copy differs from its source of {whole}: {'; '.join(listed)}."
