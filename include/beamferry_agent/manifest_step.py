"""The step "manifest": writes the SHA-256 of every file at the destination, sorted by path, for ``sha256sum -c`` there.

Ends with 23 when a file could not be read, 24 when it went away meanwhile: then no manifest is written.
"""

import os
import shutil
from contextlib import suppress
from typing import Callable, Iterator, NoReturn, Sequence

from beamferry_agent.arguments import Arguments
from beamferry_agent.census import Listing, sort_records
from beamferry_agent.census_script import copy_script
from beamferry_agent.copy_reading import can_enter, open_copy
from beamferry_agent.digests import Shard, Stream, chosen_in, cut, led_away, records_of
from beamferry_agent.places import ForeignError, PlaceError, open_root, place_error
from beamferry_agent.reading_words import OF_RDS, UNREAD, hear_lines, reading_code
from beamferry_agent.records import encode_name, read_names, size_of
from beamferry_agent.step import AT_HOME, AT_RDS, Progress, Step, StepEnd
from beamferry_agent.step_destination import at_rds, real_destination
from beamferry_agent.ticker import Ticker
from beamferry_agent.together import together
from beamferry_agent.tools import DATA_UMASK, Tools

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LINES = 1000


def run(step: Step, tools: Tools, words: Sequence[str]) -> None:
    """Do it; the words are those of ``census.manifest_arguments``."""
    asked = Arguments("manifest", words, ("work", "streams", "destination", "exclude", "output"))
    work, output = (os.path.realpath(asked.needed(name)) for name in ("work", "output"))
    asked.needed("destination")
    asked.matching("streams", "[1-9][0-9]?")
    tools.require(("find", "sh", "sort"))
    scratch = os.path.join(work, "manifest")
    try:
        _Manifest(step, tools, asked, output, scratch).run()
    except OSError as error:
        # What fails at RDS is told where it is read or written: this is of our own folder.
        step.hear_if_possible("agent: {}".format(os.strerror(error.errno or 0)))
        raise StepEnd(AT_HOME)


class _Manifest:
    def __init__(self, step: Step, tools: Tools, asked: Arguments, output: str, scratch: str) -> None:
        self._step, self._tools, self._asked = step, tools, asked
        self._output, self._scratch = output, scratch
        self._destination = real_destination(step, asked.needed("destination"))
        with at_rds(step):
            self._copy = open_copy(self._destination)
        self._exclude = asked.all_of("exclude")
        if output.startswith(self._destination + "/"):
            # A manifest cannot hold its own hash.
            below = output[len(self._destination) + 1 :]
            self._exclude = [*self._exclude, below, below + ".new"]
        shutil.rmtree(scratch, ignore_errors=True)
        os.makedirs(scratch)
        self._listing = Listing(self._path("raw"), self._path("list.errors"))
        self._files = self._path("files")

    def run(self) -> None:
        """Write it, and end."""
        if self._copy is None:
            self._refuse("No such file or directory")
        self._list(self._copy)
        chosen = chosen_in(self._files)
        shards = cut(self._files, chosen, self._asked.number("streams", 1))
        streams = [
            Stream(self._files, shard, self._path("near.{}".format(number)))
            for number, shard in enumerate(shards)
        ]

        def tick() -> None:
            done = sum(stream.bytes for stream in streams), sum(stream.files for stream in streams)
            self._step.report(Progress(done[0], chosen.bytes, done[1], chosen.files))

        with Ticker(self._step, self._tools, tick) as ticker:
            codes = together(ticker.check, [self._reading(stream, self._copy) for stream in streams])
        led = led_away(streams)
        if led is not None:
            raise led
        if any(codes):
            self._end_badly(
                reading_code(one.complaints for one in streams), [one.complaints for one in streams]
            )
        try:
            self._write(shards, streams)
        except ForeignError:
            raise
        except PlaceError as error:
            # It is not the home folder that takes nothing.
            self._step.hear(OF_RDS + error.told())
            raise StepEnd(AT_RDS)
        self._step.report(Progress(chosen.bytes, chosen.bytes, chosen.files, chosen.files))
        shutil.rmtree(self._scratch)
        self._step.say("The manifest holds {} files.".format(chosen.files))
        raise StepEnd(0, files=chosen.files, bytes=chosen.bytes)

    def _path(self, name: str) -> str:
        return os.path.join(self._scratch, name)

    def _refuse(self, reason: str) -> NoReturn:
        self._step.hear(OF_RDS + encode_name("find: {}: {}".format(self._destination, reason)))
        raise StepEnd(UNREAD)

    def _end_badly(self, code: int, complaints: Sequence[str]) -> NoReturn:
        for path in complaints:
            hear_lines(self._step, path, OF_RDS)
        self._step.say("The manifest ended with code {}.".format(code))
        raise StepEnd(code)

    def _list(self, copy: int) -> None:
        """Write the list of files. Raises StepEnd."""
        reason = can_enter(copy)
        if reason is not None:
            self._refuse(reason)
        script = copy_script([encode_name(path) for path in self._exclude], os.fsencode(os.devnull))
        code = self._listing.of_copy(self._tools, script, copy)
        if code:
            complaints = self._listing.complaints
            self._end_badly(reading_code([complaints]) if code == 1 else code, [complaints])
        raw = self._path("raw")
        with open(raw, "rb") as records, open(self._path("unsorted"), "wb") as output:
            for record in read_names(records):
                path, kind, size = record.split(b"//", 3)[:3]
                if kind == b"f":
                    output.write(b"%b//f//%b\0" % (path, size))
        os.unlink(raw)
        sort_records(self._step, self._tools, self._path("unsorted"), self._files, self._scratch)

    def _reading(self, stream: Stream, copy: int) -> Callable[[], int]:
        return lambda: stream.here(self._tools, copy, from_storage=False)

    def _write(self, shards: Sequence[Shard], streams: Sequence[Stream]) -> None:
        """Put the manifest into its place, whole or not at all. Raises PlaceError."""
        above, name = os.path.split(self._output)
        folder = open_root(above)
        try:
            new = name + ".new"
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=folder)
            before = os.umask(DATA_UMASK)
            try:
                handle = os.open(new, _NEW, 0o666, dir_fd=folder)
            finally:
                os.umask(before)
            with os.fdopen(handle, "wb") as file:
                for shard, stream in zip(shards, streams):
                    file.writelines(self._lines(shard, stream))
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise place_error(self._output, error)
        finally:
            os.close(folder)

    def _lines(self, shard: Shard, stream: Stream) -> Iterator[bytes]:
        for record, found in zip(records_of(self._files, shard), stream.sums()):
            yield manifest_line(found or b"", size_of(record)[0])


def manifest_line(digest: bytes, name: bytes) -> bytes:
    """Return a line that ``sha256sum -c`` reads.

    A newline or a backslash in a name is escaped and marked by a backslash before the hash; so is a carriage return at
    the end, which coreutils 9 would cut off.
    """
    # "-" alone would be read as stdin.
    name, mark = (b"./-" if name == b"-" else name), b""
    if b"\\" in name or b"\n" in name or name.endswith(b"\r"):
        mark, name = b"\\", name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
        if name.endswith(b"\r"):
            name = name[:-1] + b"\\r"
    return b"%b%b  %b\n" % (mark, digest, name)
