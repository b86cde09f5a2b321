"""Random sequences of damage, runs, kills and changes of the entry; after each run an oracle says what is true."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any, ClassVar

import damage
import oracle
from counts import Counts, Untrue
from damage import Folder
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

if TYPE_CHECKING:
    from pathlib import Path

    from tasks import Chain, Said

    from beamferry.beamtime import Beamtime

LEVELS = ("sizes", "sampled", "full")
PARTS = ("dry_run", "transfer", "verify_sizes")
KILLS = ("stop", "tool", "leader", "all", "folder")

# What may be beside a destination.
OURS = {
    "other",
    *(f"{name}{end}" for name in ("visit", "second", "moved", "alias") for end in ("", ".certificate")),
}

# Times that some tools take for none at all, or that somebody gave to a file by hand.
OLDEST = (damage.BEGAN, damage.BEGAN, 1, 0, 2, 3)

picks = st.integers(0, 30)
numbers = st.integers(0, 120)
levels = st.sampled_from(LEVELS)
samples = st.integers(1, 3)
seeds = st.integers(0, 1000)
streams = st.integers(1, 3)
# Damage in the middle of a run: before which task, and what.
meanwhile = st.one_of(
    st.none(),
    st.none(),
    st.tuples(
        st.sampled_from(("transfer", "verify_sizes")), st.sampled_from(damage.AT_DESTINATION), picks, numbers
    ),
    st.tuples(
        st.sampled_from(("transfer", "verify_sizes")), st.sampled_from(damage.AT_SOURCE), picks, numbers
    ),
)


class Truth(RuleBasedStateMachine):
    """A beamtime through its life; subclasses say by which engine it comes."""

    kind: ClassVar[str]
    chain: ClassVar[Chain]
    counts: ClassVar[Counts]
    _number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        Truth._number += 1
        self.number = Truth._number
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
        self.steps: list[str] = []
        self.entries: dict[str, Beamtime] = {}

    # --- the beginning and the end ----------------------------------------------------------------------------

    @initialize(
        chosen=st.sets(st.integers(0, 5), min_size=1, max_size=5),
        odd=picks,
        link=st.booleans(),
        oldest=st.sampled_from(OLDEST),
        how=st.sampled_from(("fresh", "home", "home", "found", "found")),
    )
    def begin(
        self, chosen: set[int], odd: int, link: bool, oldest: int = damage.BEGAN, how: str = "fresh"
    ) -> None:
        """Begin with a source; with its copy; or with a copy in which a comparison has found a damaged file."""
        self.counts.sequences += 1
        if self.counts.sequences % 50 == 0:
            print(f"{self.counts.sequences} sequences, {self.counts.verified} times VERIFIED", flush=True)
        for place in (self.sources / "A", self.sources / "elsewhere", self.share, self.beside):
            place.mkdir(parents=True)
        for place in (self.beside, self.sources / "elsewhere"):
            (place / "kept.dat").write_bytes(b"not ours")
            os.utime(place / "kept.dat", (damage.BEGAN, damage.BEGAN))
        (self.share / "alias").symlink_to("visit")
        self.kept = oracle.look(self.beside)
        source = self.at_source
        paths = [damage.EMPTY, self.odd[odd % len(self.odd)], *(damage.PLAIN[at] for at in sorted(chosen))]
        for at, path in enumerate(paths):
            size = {damage.EMPTY: 0, damage.LARGE: damage.LARGE_BYTES}.get(path, 1_000 * (1 + at % 2))
            source.write(
                path, damage.content(at, size), oldest if oldest != damage.BEGAN else damage.BEGAN + at
            )
        if link and self.kind == "rsync":
            os.symlink(b"raw", source.at(b"link"))
        self._tell(f"{self.kind}, source {source.paths('fl')}, of {oldest}")
        if how != "fresh":
            self._run("sync", "sizes", 1, 0, 2)
        if how == "found":
            self._happen("destination", "flip", odd, odd)
            self._run("verify only", "full", 1, 0, 2)

    def teardown(self) -> None:
        """Compare once more by what lists show alone, where nothing untrue was found before."""
        try:
            if self.entries and not self.blamed:
                self._run("verify only", "sizes", 1, 0, 2)
        finally:
            self._remove_all()

    def _remove_all(self) -> None:
        if self.killed:
            for beamtime in self.entries.values():
                self.chain.end(beamtime)
        for beamtime in self.entries.values():
            shutil.rmtree(self.chain.jobs(beamtime), ignore_errors=True)
        if self.sources.exists():
            Folder(self.sources, self.beside).make_readable()
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

    def _tell(self, step: str) -> None:
        self.steps.append(step)

    # --- rules ------------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(damage.AT_DESTINATION), pick=picks, number=numbers)
    def damage_destination(self, kind: str, pick: int, number: int) -> None:
        self.counts.steps += 1
        if self.destination.exists():
            self._happen("destination", kind, pick, number)

    @rule(kind=st.sampled_from(damage.AT_SOURCE), pick=picks, number=numbers)
    def change_source(self, kind: str, pick: int, number: int) -> None:
        self.counts.steps += 1
        self._happen("source", kind, pick, number)

    def _happen(self, end: str, kind: str, pick: int, number: int) -> None:
        folder = self.at_source if end == "source" else self.at_destination
        if end == "source" and kind == "link" and self.kind != "rsync":
            # FTP shows a link as what it leads to.
            return
        what = folder.happen(kind, pick, number, self.names)
        if what is not None:
            self.counts.things[self.kind, end, kind] += 1
            self._tell(f"at the {end}: {what} ({number})")

    @rule(level=levels, samples=samples, seed=seeds, streams=streams, turn=st.booleans(), meanwhile=meanwhile)
    def sync(
        self,
        level: str,
        samples: int,
        seed: int,
        streams: int,
        turn: bool = False,
        meanwhile: tuple[str, str, int, int] | None = None,
    ) -> None:
        self.counts.steps += 1
        self._run("sync", level, samples, seed, streams, turn=turn, meanwhile=meanwhile)

    @rule(level=levels, samples=samples, seed=seeds)
    def verify_only(self, level: str, samples: int, seed: int) -> None:
        self.counts.steps += 1
        self._run("verify only", level, samples, seed, 2)

    @rule(
        level=levels,
        seed=seeds,
        streams=streams,
        what=st.sampled_from(KILLS),
        part=st.sampled_from(PARTS),
        after=st.integers(0, 60),
        again=st.booleans(),
    )
    def killed_sync(
        self, level: str, seed: int, streams: int, what: str, part: str, after: int, again: bool
    ) -> None:
        self.counts.steps += 1
        self.killed = True
        kill = {"what": what, "part": part, "after": after / 100, "again": again}
        self._run("sync", level, 2, seed, streams, kill=kill)

    @rule(
        wish=st.sampled_from(("exclude", "exclude", "destination", "source", "narrow", "narrow", "folders")),
        pick=picks,
    )
    def change_entry(self, wish: str, pick: int) -> None:
        self.counts.steps += 1
        before = dict(self.wishes)
        narrow = "/" in self.wishes["source"]
        if wish == "exclude":
            path = ("a.dat", "raw/", "raw/b.dat", "processed/f.dat", "raw/deep/", "processed")[pick % 6]
            chosen = set(self.wishes["exclude"])
            self.wishes["exclude"] = tuple(sorted(chosen ^ {path}))
        elif wish == "folders":
            if self.kind != "rsync" and not narrow:
                self.wishes["folders"] = ((), ("raw",), ("processed",), ("processed", "raw"))[pick % 4]
        elif wish == "narrow":
            # A part of the beamtime under an entry that names that part.
            source, destination = (self.wishes[end].removesuffix("/raw") for end in ("source", "destination"))
            if narrow:
                self.wishes |= {"source": source, "destination": destination}
            elif (self.sources / source / "raw").is_dir() and not (
                self.share / destination / "raw"
            ).is_symlink():
                further = {"exclude": (), "folders": ()}
                self.wishes |= {"source": f"{source}/raw", "destination": f"{destination}/raw", **further}
        elif not narrow:
            if wish == "destination":
                self.wishes["destination"] = ("visit", "second", "alias")[pick % 3]
            else:
                self._other_source(pick)
        if before != self.wishes:
            self.counts.things[self.kind, "entry", wish] += 1
            self._tell(f"the entry's {wish}: {self.wishes}")

    @precondition(lambda self: self.entries)
    @rule(what=st.sampled_from(("moved", "moved", "moved back", "jobs removed")))
    def happens_on_rds(self, what: str) -> None:
        """A person moves the copy and lets the entry name its new place, or removes our jobs' files."""
        self.counts.steps += 1
        if what == "jobs removed":
            shutil.rmtree(self.chain.jobs(self.beamtime), ignore_errors=True)
        elif not self._moved(*(("visit", "moved") if what == "moved" else ("moved", "visit"))):
            return
        self.counts.things[self.kind, "RDS", what] += 1
        self._tell(f"on RDS: {what}")

    def _moved(self, old: str, new: str) -> bool:
        wished = self.wishes["destination"].split("/")
        if wished[0] != old or not (self.share / old).is_dir() or (self.share / new).exists():
            return False
        before, after = (os.path.realpath(os.fsencode(self.share / name)) for name in (old, new))
        (self.share / old).rename(self.share / new)
        self.wishes["destination"] = "/".join([new, *wished[1:]])
        self.remembered = {
            after + place[len(before) :] if place.startswith(before + b"/") else place: name
            for place, name in self.remembered.items()
        }
        return True

    def _other_source(self, pick: int) -> None:
        """Another folder at the facility: the same by sizes and times, and one byte of one file is another."""
        other = self.sources / "B"
        if not other.exists():
            shutil.copytree(self.sources / "A", other, symlinks=True)
            if (did := Folder(other, self.sources / "elsewhere").happen("flip", pick, pick)) is not None:
                self._tell(f"a second source, as the first, but: {did}")
        self.wishes["source"] = "B" if self.wishes["source"] == "A" else "A"

    @rule(seed=seeds)
    def settle(self, seed: int) -> None:
        """The source comes to rest: where nothing is in the way, all is home after two runs at most."""
        self.counts.steps += 1
        self.at_source.make_readable()
        self._tell("the source comes to rest")
        said = []
        for number in range(2):
            wanted = self.wanted
            there = oracle.look(self.destination)
            if not any(item.kind == "f" for item in wanted.values()) or self._in_the_way(wanted, there):
                return
            said.append(self._run("sync", "full", 3, seed + number, 2))
            if said[-1].verified:
                return
        words = " / ".join(one.sentence for one in said)
        self._blame(f"two runs at rest do not end VERIFIED: {words}")

    def _in_the_way(self, wanted: oracle.Tree, there: oracle.Tree) -> bool:
        """Whether something at the destination keeps its source out, or cannot be brought to agree with it."""
        kinds = any(path in there and there[path].kind != item.kind for path, item in wanted.items())
        return kinds or any(path not in wanted for path in self._still_differing())

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
        from tasks import Interrupted, Kill, Said, site_of

        from beamferry.beamtime import Level

        self._tell(
            f"{mode}, level {level}, samples {samples}, seed {seed}, streams {streams}"
            + (", folders in the other order" if turn else "")
            + (f", before {meanwhile[0]}: {meanwhile[1:]}" if meanwhile else "")
            + (f", kill {kill}" if kill else "")
        )
        wanted, before = self.wanted, oracle.look(self.destination)
        quiet = not meanwhile and not kill and not self.at_source.has_unreadable
        was_equal = quiet and self._is_equal(wanted, before) and not self._still_differing()
        hidden = self._hidden(wanted, before) if quiet else set()
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
        self._check(
            said,
            mode,
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
        if mode == "sync" and not said.error:
            for path in sorted(hidden & open_now):
                self._blame(f"what was found to differ was not fetched again: {path!r}")
        if was_equal and not said.error and not said.verified and any(i.kind == "f" for i in wanted.values()):
            self._blame(f"both ends agree, and it says: {said.sentence}")
        if said.level is not None:
            # It was compared in this run, and agrees.
            root = os.path.realpath(os.fsencode(self.destination))
            self.remembered = {
                place: name
                for place, name in self.remembered.items()
                if not place.startswith(root + b"/")
                or place[len(root) + 1 :] in open_now
                or name in said.differing
            }

    def _is_equal(self, wanted: oracle.Tree, there: oracle.Tree) -> bool:
        return oracle.equal(wanted, there, 0)

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
