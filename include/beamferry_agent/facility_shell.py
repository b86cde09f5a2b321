"""A facility's shell by ssh: it is given a script of ours on stdin, and what is heard of it has a bound in bytes."""

import subprocess
import threading
from types import TracebackType
from typing import IO, Iterable, Iterator, List, Optional, Sequence, Tuple, Type, Union

from beamferry_agent.errors import AgentError
from beamferry_agent.tools import Tools

# Our scripts say it first: what a start file at the facility prints stands before it.
BEGUN = b"beamferry-begin"
SAY_MARK = b"echo " + BEGUN + b"\n"
# Whole, or piece by piece where it names millions of files.
Script = Union[bytes, Iterable[bytes]]
# Of complaints. No tool of ours has more to say that anybody reads.
WORDS_LIMIT = 8 * 1024 * 1024
# What a log-in shell may print before it runs what it is asked for.
_GREETING_LIMIT = 64 * 1024
_SHOWN = 80
_CHUNK = 64 * 1024
NO_CONNECTION, NO_MARK = 255, 80


class FacilityShell:
    """ssh to a facility.

    ``words``: of ssh up to the account, with options that this host's ssh may not know; they are left out then.
    """

    def __init__(self, tools: Tools, words: Sequence[str], account: str, host: str) -> None:
        """Take them; ssh itself is asked which options it knows."""
        self._tools = tools
        self.words = known_words(words)
        self.command = (*self.words, "-l", account, "--", host, "exec")

    def ask(self, script: Script, complaints: str, limit: Optional[int]) -> "Answer":
        """Begin to run a POSIX shell's script there; the file ``complaints`` is added what it says on stderr.

        ``limit``: bytes of its answer, None where whoever reads it by lines stops at what is too much.
        """
        return Answer(self._tools, (*self.command, "sh", "-s"), script, complaints, limit)


class Answer:
    """What a script of ours says at the facility: read ``chunks`` or ``lines`` within ``with``; then ``code`` is known.

    ``code``: the script's; 255 without a connection, 80 where the shell there never said our mark or said too much.
    """

    def __init__(
        self, tools: Tools, command: Tuple[str, ...], script: Script, complaints: str, limit: Optional[int]
    ) -> None:
        """Take what to run."""
        self._tools, self._command, self._script = tools, command, script
        self._complaints, self._limit = complaints, limit
        self._threads: List[threading.Thread] = []
        self._is_cut = False
        self.code = -1

    def __enter__(self) -> "Answer":
        """Start it."""
        self._process = self._tools.start(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._begin(self._write)
        self._begin(self._keep_words)
        return self

    def chunks(self) -> Iterator[bytes]:
        """Yield what comes behind the mark, piece by piece; nothing where there is no mark."""
        stream = opened(self._process.stdout)
        greeting, rest = _after_mark(stream)
        if rest is None:
            self._is_cut = True
            note_greeting(greeting, self._complaints)
            return
        left = self._limit
        while rest:
            if left is not None and len(rest) > left:
                self._is_cut = True
                yield rest[:left]
                return
            left = None if left is None else left - len(rest)
            self._tools.moved(len(rest))
            yield rest
            rest = stream.read1(_CHUNK)  # type: ignore[attr-defined]

    def lines(self, longest: int) -> Iterator[bytes]:
        """Yield lines without their ends; one that is longer comes in pieces."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line[:longest]
            while len(rest) > longest:
                yield rest[:longest]
                rest = rest[longest:]
        if rest:
            yield rest

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Wait for its end; what is not read to its end is ended."""
        if error is not None or self._is_cut:
            self._process.terminate()
        opened(self._process.stdout).close()
        code = self._process.wait()
        for thread in self._threads:
            thread.join()
        if self._is_cut and code != NO_CONNECTION:
            code = NO_MARK
        self.code = code if code >= 0 else 128 - code

    def _begin(self, function: "object") -> None:
        thread = threading.Thread(target=function, daemon=True)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)

    def _write(self) -> None:
        try:
            with opened(self._process.stdin) as stream:
                for piece in (self._script,) if isinstance(self._script, bytes) else self._script:
                    stream.write(piece)
        except OSError:
            # It has ended, and its code tells why.
            pass

    def _keep_words(self) -> None:
        keep_words(opened(self._process.stderr), self._complaints)


def note_greeting(printed: bytes, complaints: str) -> None:
    """Add to the complaints what a log-in shell printed that never said our mark, if it is anything."""
    shown = b" ".join(printed.split())[:_SHOWN]
    if shown:
        with open(complaints, "ab") as file:
            file.write(b"beamferry: printed: " + shown + b"\n")


def keep_words(stream: IO[bytes], path: str) -> None:
    """Add to a file what comes, up to a bound; the rest is read and left."""
    left = WORDS_LIMIT
    with stream, open(path, "ab", 0) as file:
        for chunk in iter(lambda: stream.read1(_CHUNK), b""):  # type: ignore[attr-defined]
            file.write(chunk[:left])
            left -= min(left, len(chunk))


def _after_mark(stream: IO[bytes]) -> Tuple[bytes, Optional[bytes]]:
    """Return what comes before the mark, and what came with it behind it; None where there is no mark."""
    held = b"\n"
    while len(held) <= _GREETING_LIMIT:
        greeting, mark, rest = held.partition(b"\n" + BEGUN + b"\n")
        if mark:
            return greeting, rest or stream.read1(_CHUNK)  # type: ignore[attr-defined]
        chunk = stream.read1(_CHUNK)  # type: ignore[attr-defined]
        if not chunk:
            break
        held += chunk
    return held, None


def known_words(words: Sequence[str]) -> Tuple[str, ...]:
    """Return ssh's words without the options that this ssh does not know.

    They came after it, so nobody can have set them in its configuration. ``-V`` ends ssh after its options are read,
    before any configuration and any host.
    """
    if _said((*words, "-V"))[0] == 0:
        return tuple(words)
    kept, at = [words[0]], 1
    while at < len(words):
        taken = words[at : at + 2] if words[at] == "-o" else words[at : at + 1]
        at += len(taken)
        if len(taken) == 1 or b"Bad configuration option" not in _said((words[0], *taken, "-V"))[1]:
            kept.extend(taken)
    return tuple(kept)


def _said(words: Sequence[str]) -> Tuple[int, bytes]:
    done = subprocess.run(
        words, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout


def opened(stream: Optional[IO[bytes]]) -> IO[bytes]:
    """Return a pipe that a tool was started with."""
    if stream is None:
        raise AgentError("a tool was started without a pipe")
    return stream
