"""One step of a job: what it tells of its progress, what it heard of its tools, and how it ends."""

import json
import os
import time
from contextlib import suppress
from typing import Any, Dict, NamedTuple, Optional, Union

from beamferry_agent.refusal import refusal_of

# Of complaints. Beyond this much they help nobody: the first half names the cause, the last half the outcome.
_WORDS_LIMIT = 65536
_CUT = 64
# What comes in now counts this much in the rate; so it follows the last twenty seconds or so.
_NEWEST = 0.2
# Codes with which a step says that something was not taken, without saying by whom; others have a reason of their own.
_REFUSED_BY_SOMEBODY = frozenset((1, 2, 11, 74, 76))
# As all steps have them: RDS takes nothing, our own folder at home takes nothing.
AT_RDS, AT_HOME, STALLED, UNEXPECTED, NO_TOOL, STOPPED = 11, 74, 75, 76, 77, 143


class StepEnd(Exception):  # noqa: N818
    """The step is over, for good or not; ``code`` is its exit code, ``numbers`` stand in its result."""

    def __init__(self, code: int, **numbers: int) -> None:
        """Take them."""
        super().__init__(code)
        self.code, self.numbers = code, numbers


class Progress(NamedTuple):
    """How far a step is: bytes and files, those that came and all of them."""

    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int


class Step:
    """A step of the job in ``folder``.

    ``name`` is the step's, as progress and result have it; ``phase`` may change on the way. ``destination`` is the
    folder at RDS, as far as it is known: it is asked when the step ends because something was not taken.
    """

    def __init__(self, folder: str, name: str, phase: Optional[str] = None) -> None:
        """Begin: forget what an earlier start heard."""
        self.folder, self.name, self.phase = folder, name, phase or name
        self.destination: Optional[str] = None
        self._begun = time.time()
        self._rate: Optional[float] = None
        self._reported = 0
        self._reported_at = int(self._begun)
        self._errors = os.path.join(folder, "errors.all")
        with open(self._errors, "wb"):
            pass

    # --- what it heard ----------------------------------------------------------------------------------------

    def hear(self, words: Union[bytes, str]) -> None:
        """Keep a tool's words, or our own on what went wrong; each is one line or more."""
        content = words.encode("utf-8", "surrogateescape") if isinstance(words, str) else words
        if content:
            with open(self._errors, "ab") as file:
                file.write(content if content.endswith(b"\n") else content + b"\n")

    def hear_if_possible(self, words: Union[bytes, str]) -> None:
        """Do the same where our own folder may take nothing."""
        try:
            self.hear(words)
        except OSError as error:
            self.say("Words were lost ({}).".format(error.strerror))

    def say(self, sentence: str) -> None:
        """Write a sentence into the job's log."""
        # Where our own folder takes nothing, nobody can be told.
        with suppress(OSError):
            print(sentence, flush=True)

    # --- progress ---------------------------------------------------------------------------------------------

    def counts_from(self, bytes_there: int) -> None:
        """Have the rate tell of what comes from here on alone."""
        self._reported = bytes_there

    def report(self, progress: Progress) -> None:
        """Tell how far the step is; what is shown neither runs over its total nor goes backwards."""
        at = int(time.time())
        # A file fetched twice counts twice in the tools' logs.
        done = max(min(progress.bytes_done, progress.bytes_total), self._reported)
        if at > self._reported_at:
            latest = (done - self._reported) / (at - self._reported_at)
            self._rate = latest if self._rate is None else self._rate * (1 - _NEWEST) + latest * _NEWEST
            self._reported, self._reported_at = done, at
        found: Dict[str, Any] = {"phase": self.phase}
        found.update(progress._replace(bytes_done=done)._asdict())
        found.update(rate=int(self._rate or 0), updated=at)
        self.put("progress.json", json.dumps(found, separators=(",", ":")) + "\n")

    # --- its end ----------------------------------------------------------------------------------------------

    def finish(self, end: StepEnd) -> int:
        """Write the result and what was heard; return the exit code."""
        code = end.code
        if code in _REFUSED_BY_SOMEBODY:
            code = self._who_refuses(code)
        result: Dict[str, Any] = {"phase": self.name, "exit_code": code}
        result.update(seconds=int(time.time()) - int(self._begun), **end.numbers)
        try:
            self._put_errors()
            self.put("result.json", json.dumps(result, separators=(",", ":")) + "\n")
        except OSError as error:
            self.say("The result cannot be written ({}).".format(error.strerror))
            return code or AT_HOME
        return code

    def _who_refuses(self, code: int) -> int:
        """Find whether it is RDS or our own folder at home that takes nothing, and say it."""
        words = refusal_of(self.folder)
        if words:
            code = AT_HOME
            self.hear_if_possible("beamferry: refused at home: " + words)
        elif code == AT_RDS and self.destination is not None:
            words = refusal_of(self.destination)
            if words:
                self.hear_if_possible("beamferry: refused at RDS: " + words)
        return code

    def _put_errors(self) -> None:
        with open(self._errors, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _WORDS_LIMIT:
                content = file.read()
            else:
                half = _WORDS_LIMIT // 2 - _CUT
                content = file.read(half)
                left_out = "\n[{} bytes left out]\n".format(size - 2 * half)
                file.seek(-half, os.SEEK_END)
                content += left_out.encode("ascii") + file.read()
        self.put("errors", content)
        os.unlink(self._errors)

    def put(self, name: str, content: Union[bytes, str]) -> None:
        """Write a file of the job's folder, whole or not at all."""
        path = os.path.join(self.folder, name)
        # What tells of the progress and what tells of the end may do so at the same time.
        new = "{}.{}.new".format(path, os.urandom(4).hex())
        with open(new, "xb") as file:
            file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
        os.replace(new, path)
