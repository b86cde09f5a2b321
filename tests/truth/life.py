"""A beamtime through its life: its entry, what happens at both ends, its runs, and what is true after each."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any, ClassVar

import damage
import oracle
from counts import Counts, Untrue
from damage import Folder

if TYPE_CHECKING:
    from pathlib import Path

    from one_run import Said
    from tasks import Chain

    from beamferry.beamtime import Beamtime

# What may be beside a destination.
OURS = {
    "other",
    *(f"{name}{end}" for name in ("visit", "second", "moved", "alias") for end in ("", ".certificate")),
}


class Life:
    """One beamtime; nothing of it is random."""

    kind: ClassVar[str]
    chain: ClassVar[Chain]
    counts: ClassVar[Counts]
    _number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Life._number += 1
        self.number = Life._number
        servers = self.chain.servers
        self.sources, self.share = servers.sources / str(self.number), servers.shares / str(self.number)
        self.beside = self.share / "other"
        self.odd = damage.ODD_RSYNC if self.kind == "rsync" else damage.ODD_LFTP
        self.names = (*damage.PLAIN, damage.EMPTY, *self.odd)
        # What the entry says; the destinations are two folders and a link to the first.
        self.wishes: dict[str, Any] = {"source": "A", "destination": "visit", "exclude": (), "folders": ()}
        # What a verdict has named as differing in content, by its place on RDS.
        self.remembered: dict[bytes, str] = {}
        self.killed = self.blamed = False
        self.damaged = False  # the memory on RDS-SSH, until a comparison finds anew what it held
        self.steps: list[str] = []
        self.entries: dict[str, Beamtime] = {}

    def _remove_all(self) -> None:
        if self.killed:
            for beamtime in self.entries.values():
                self.chain.end(beamtime)
        for beamtime in self.entries.values():
            shutil.rmtree(self.chain.jobs(beamtime), ignore_errors=True)
        if self.sources.exists():
            Folder(self.sources, self.beside).make_readable()
        for file in self.memory:
            file.unlink()
        for place in (self.sources, self.share):
            shutil.rmtree(place, ignore_errors=True)

    # --- what is there ----------------------------------------------------------------------------------------

    @property
    def source(self) -> Path:
        return self.sources / self.wishes["source"]

    @property
    def destination(self) -> Path:
        return self.share / self.wishes["destination"]

    @property
    def is_by_link(self) -> bool:
        """Whether the way to the destination leads through a link below the folder of all destinations."""
        way = [self.destination, *self.destination.parents]
        return any(place.is_symlink() for place in way[: way.index(self.share)])

    @property
    def at_source(self) -> Folder:
        return Folder(self.source, self.sources / "elsewhere")

    @property
    def at_destination(self) -> Folder:
        return Folder(self.destination, self.beside, self.source)

    @property
    def excluded(self) -> tuple[str, ...]:
        # Diamond's default, which its entry writes out.
        return (*self.wishes["exclude"], "tmp/")

    @property
    def wanted(self) -> oracle.Tree:
        """What of the source is to be at the destination."""
        return oracle.in_scope(oracle.look(self.source), self.excluded, self.wishes["folders"])

    @property
    def beamtime(self) -> Beamtime:
        further = {"exclude": self.excluded}
        if self.kind != "rsync":
            further["folders"] = self.wishes["folders"]
        wish = repr(sorted(self.wishes.items()))
        if wish not in self.entries:
            self.entries[wish] = self.chain.entry(
                self.kind, self.number, self.source, self.destination, **further
            )
        return self.entries[wish]

    @property
    def memory(self) -> list[Path]:
        """Files on RDS-SSH in which something of this beamtime is remembered."""
        ours, folder = os.fsencode(self.share), self.chain.servers.home / ".beamferry" / "mismatches"
        files = folder.iterdir() if folder.exists() else ()
        return [file for file in files if file.suffix != ".damaged" and ours + b"/" in file.read_bytes()]

    def _tell(self, step: str) -> None:
        self.steps.append(step)

    def _happen(self, end: str, kind: str, pick: int, number: int) -> None:
        folder = self.at_source if end == "source" else self.at_destination
        if end == "source" and kind == "link" and self.kind != "rsync":
            # FTP shows a link as what it leads to.
            return
        what = folder.happen(kind, pick, number, self.names)
        if what is not None:
            self.counts.things[self.kind, end, kind] += 1
            self._tell(f"at the {end}: {what} ({number})")

    # --- a run, and what is true after it ---------------------------------------------------------------------

    def _run(
        self,
        mode: str,
        level: str,
        samples: int,
        seed: int,
        streams: int,
        *,
        turn: bool = False,
        meanwhile: tuple[str, str, int, int] | None = None,
        kill: dict[str, Any] | None = None,
    ) -> Said:
        from one_run import Interrupted, Kill, Said
        from tasks import site_of

        from beamferry.beamtime import Level

        self._tell(
            f"{mode}, level {level}, samples {samples}, seed {seed}, streams {streams}"
            + (", folders in the other order" if turn else "")
            + (f", before {meanwhile[0]}: {meanwhile[1:]}" if meanwhile else "")
            + (f", kill {kill}" if kill else "")
        )
        wanted, before = self.wanted, oracle.look(self.destination)
        by_link = self.is_by_link
        quiet = not meanwhile and not kill and not self.at_source.has_unreadable
        was_equal = quiet and oracle.equal(wanted, before, 0) and not self._still_differing()
        hidden = self._hidden(wanted, before) if quiet and not self.damaged else set()
        pending = [meanwhile] if meanwhile else []
        taken: set[bytes] = set()

        def between(name: str) -> None:
            if pending and pending[0] is not None and pending[0][0] == name:
                _, what, pick, number = pending.pop()
                end = "destination" if what in damage.AT_DESTINATION else "source"
                there = set(oracle.look(self.destination))
                if end == "source" or self.destination.exists():
                    self._happen(end, what, pick, number)
                taken.update(there - set(oracle.look(self.destination)))

        began = time.monotonic()
        try:
            said = self.chain.run(
                self.beamtime,
                site_of(self.share),
                run_id=f"manual__{len(self.steps)}_{seed}",
                mode=mode,
                level=Level(level),
                samples=samples,
                streams=streams,
                order=(lambda folders: folders[::-1]) if turn else list,
                between=between,
                kill=Kill(**kill) if kill else None,
            )
        except Interrupted:
            said = Said(False, None, error="interrupted", part=kill["part"] if kill else None)
        self.counts.took(
            f"{mode}, killed" if kill else mode, time.monotonic() - began, f"{said.error} {self.steps[-1]}"
        )
        how = "VERIFIED" if said.verified else "no verdict" if said.error else "NOT VERIFIED"
        self.counts.runs[self.kind, mode, said.level.value if said.level else level, how] += 1
        if said.error:
            self.counts.errors[said.error, str(said.part)] += 1
            self.counts.sentences.setdefault((said.error, str(said.part)), said.sentence)
        self._tell(
            f"  -> {how}{f' at level {said.level.value}' if said.level else ''}: {said.error or said.sentence}"
        )
        self._check_link(said, was_by_link=by_link and not meanwhile)
        self._check(
            said,
            mode,
            level,
            samples,
            before,
            taken,
            was_equal=was_equal,
            hidden=hidden,
            changed=bool(meanwhile or kill),
        )
        return said

    def _check(
        self,
        said: Said,
        mode: str,
        asked: str,
        samples: int,
        before: oracle.Tree,
        taken: set[bytes],
        *,
        was_equal: bool,
        hidden: set[bytes],
        changed: bool,
    ) -> None:
        wanted, after = self.wanted, oracle.look(self.destination)
        if oracle.look(self.beside) != self.kept:
            self._blame(f"something beside the destination was touched: {oracle.look(self.beside)}")
        beside = set(os.listdir(self.share)) - OURS
        if beside:
            self._blame(f"something beside the destination was made: {sorted(beside)}")
        left = {path: item for path, item in before.items() if path not in taken}
        if not changed:
            for loss in oracle.lost(left, after, wanted):
                self._blame(f"something was taken away: {loss}")
        self._remember(said)
        open_now = self._still_differing()
        if said.verified and said.level is not None:
            lies = oracle.untrue(
                wanted,
                after,
                level=said.level.value,
                window=said.window,
                sampled=said.sampled,
                samples=samples,
            )
            for lie in lies:
                self._blame(f"VERIFIED at level {said.level.value}, but: {lie}")
            for path in sorted(open_now):
                self._blame(f"VERIFIED, but a verdict had named what still differs: {path!r}")
        promised = any(item.kind == "f" and item.size for item in wanted.values())
        if said.verified and said.level is not None and promised and said.level.value != asked:
            self._blame(f"level {asked} was asked for, and it is VERIFIED at level {said.level.value}")
        if mode == "sync" and not said.error:
            for path in sorted(hidden & open_now):
                self._blame(f"what was found to differ was not fetched again: {path!r}")
        if was_equal and not said.error and not said.verified and any(i.kind == "f" for i in wanted.values()):
            self._blame(f"both ends agree, and it says: {said.sentence}")
        if said.level is not None:
            self.damaged = False
            # It was compared in this run, and agrees.
            root = os.path.realpath(os.fsencode(self.destination))
            self.remembered = {
                place: name
                for place, name in self.remembered.items()
                if not place.startswith(root + b"/")
                or place[len(root) + 1 :] in open_now
                or name in said.differing
            }

    def _check_link(self, said: Said, *, was_by_link: bool) -> None:
        if said.verified and self.is_by_link:
            self._blame("VERIFIED, and the destination is reached by a link")
        # What was killed before may be in the way.
        if was_by_link and not self.killed and said.error != "destination-unusable":
            self._blame(f"the destination is reached by a link, and it says: {said.error or said.sentence}")

    def _hidden(self, wanted: oracle.Tree, there: oracle.Tree) -> set[bytes]:
        """What a verdict has named, and nothing is in the way of its being fetched again."""
        return {
            path
            for path in self._still_differing()
            if path in wanted and path in there and wanted[path].kind == there[path].kind == "f"
        }

    def _remember(self, said: Said) -> None:
        from tasks import shown

        root = os.path.realpath(os.fsencode(self.destination))
        for path in {*oracle.look(self.source), *oracle.look(self.destination)}:
            if shown(path) in said.differing:
                self.remembered[root + b"/" + path] = shown(path)

    def _still_differing(self) -> set[bytes]:
        """Paths of the entry's destination that a verdict has named and that differ from the source still."""
        root = os.path.realpath(os.fsencode(self.destination))
        source = os.fsencode(self.source)
        found = set()
        for place in self.remembered:
            if place.startswith(root + b"/"):
                path = place[len(root) + 1 :]
                if oracle.still_differs(oracle.look_at(os.path.join(source, path)), oracle.look_at(place)):
                    found.add(path)
        return found

    def _blame(self, reason: str) -> None:
        self.blamed = True
        self._tell(f"  UNTRUE: {reason}")
        self.counts.blame(reason, self.steps)
        raise Untrue("\n".join([reason, *self.steps]))
