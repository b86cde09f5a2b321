"""Random sequences of damage, runs, kills and changes of the entry; after each run an oracle says what is true."""

from __future__ import annotations

import os
import shutil

import damage
import oracle
from damage import Folder
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from life import Life

LEVELS = ("sizes", "sampled", "full")
PARTS = ("dry_run", "transfer", "verify_sizes")
KILLS = ("stop", "tool", "leader", "all", "folder")

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


class Truth(Life, RuleBasedStateMachine):
    """A random life of a beamtime; subclasses say by which engine it comes."""

    # --- the beginning and the end ----------------------------------------------------------------------------

    @initialize(
        chosen=st.sets(st.integers(0, 5), min_size=1, max_size=5),
        odd=picks,
        link=st.booleans(),
        oldest=st.sampled_from(OLDEST),
        how=st.sampled_from(("fresh", "copied", "copied", "found", "found")),
    )
    def begin(
        self, chosen: set[int], odd: int, link: bool, oldest: int = damage.BEGAN, how: str = "fresh"
    ) -> None:
        """Begin with a source, with a copy that somebody made, or with one in which a comparison found damage."""
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
            shutil.copytree(self.source, self.destination, symlinks=True)
            self._tell("somebody copies it to RDS")
        if how == "found":
            self._happen("destination", "flip", odd, odd)
            self._run("verify only", "full", 1, 0, 2)

    def teardown(self) -> None:
        """Compare once more by what lists show alone, where nothing untrue was found before."""
        try:
            if self.steps and not self.blamed:
                self._run("verify only", "sizes", 1, 0, 2)
        finally:
            self._remove_all()

    # --- rules ------------------------------------------------------------------------------------------------

    @rule(
        things=st.lists(
            st.tuples(st.sampled_from(damage.AT_DESTINATION), picks, numbers), min_size=1, max_size=3
        )
    )
    def damage_destination(self, things: list[tuple[str, int, int]]) -> None:
        self.counts.steps += 1
        for thing in things:
            if self.destination.exists():
                self._happen("destination", *thing)

    @rule(kind=st.sampled_from(damage.AT_SOURCE), pick=picks, number=numbers)
    def change_source(self, kind: str, pick: int, number: int) -> None:
        self.counts.steps += 1
        self._happen("source", kind, pick, number)

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
    @rule(what=st.sampled_from(("moved", "moved", "moved back", "jobs removed", "memory damaged")))
    def happens_on_rds(self, what: str) -> None:
        """A person moves the copy and lets the entry name its new place; or our own files there suffer."""
        self.counts.steps += 1
        if what == "jobs removed":
            shutil.rmtree(self.chain.jobs(self.beamtime), ignore_errors=True)
        elif what == "memory damaged":
            if not (files := self.memory):
                return
            for file in files:
                file.write_bytes(file.read_bytes()[:-3])
            self.damaged = True
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
            nothing = not any(item.kind == "f" for item in wanted.values())
            if nothing or self.is_by_link or self._in_the_way(wanted, there):
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
