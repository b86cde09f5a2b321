"""Sessions with a facility by lftp or sftp: commands in, an answer and complaints out."""

import os
import re
import subprocess
import threading
from contextlib import suppress
from types import TracebackType
from typing import IO, Callable, List, Optional, Type

from beamferry_agent.facility_shell import opened
from beamferry_agent.lftp_login import LogIn, SourceError, start_lftp, word
from beamferry_agent.tools import Tools

# What is kept of a session's complaints.
_WORDS_LIMIT, _CHUNK = 64 * 1024, 64 * 1024
_LAST_WORDS_SECONDS = 5
_REASON_LIMIT = 200
# A log-in that failed, and not for want of a free connection.
_LOG_IN = re.compile(
    rb"Login failed|Certificate|GetPass|ssl-force|[Pp]ermission denied \(|Host key|^beamferry: no-password",
    re.MULTILINE,
)
_BUSY = re.compile(rb"421|[Tt]oo many|maximum number")
# What lftp says of a folder that may not be read; a reply of the 400s passes.
_REFUSED = re.compile(rb"Access failed: (?!4\d\d)")


def failed_session(words: bytes) -> SourceError:
    """Return the error of a session that did not come about, or broke, by the tool's words."""
    return SourceError(67 if Facility.tells_refusal(words) else 68, words)


class Facility:
    """A facility that a step logs in to."""

    def __init__(self, tools: Tools, log_in: LogIn) -> None:
        """Take what starts sessions, and how they log in."""
        self._tools, self._log_in = tools, log_in
        self.is_ftp = log_in.is_ftp

    def ask(self, tool: str, commands: bytes) -> "Session":
        """Begin a session of ``lftp`` or ``sftp``."""
        if tool == "lftp":
            return Session(
                lambda: start_lftp(self._tools, complaints=subprocess.PIPE), self._log_in.opening() + commands
            )
        return Session(self._start_sftp, commands)

    def _start_sftp(self) -> "subprocess.Popen[bytes]":
        words, own = self._log_in.sftp()
        return self._tools.start(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, own=own
        )

    def place(self, folder: bytes) -> bytes:
        """Return a folder below the source, from the server's root, as one word of sftp's language."""
        source = self._log_in.source
        return word((source or b"/") if folder == b"." else source + b"/" + folder)

    @staticmethod
    def tells_refusal(words: bytes) -> bool:
        """Say whether a tool's words tell of a log-in that failed, and would fail again."""
        # A line on a folder that may not be read holds its name, which may be anything.
        told = b"\n".join(line for line in words.split(b"\n") if not _REFUSED.search(line))
        return _LOG_IN.search(told) is not None and _BUSY.search(told) is None


class Session:
    """One session: read ``answer`` to its end within ``with``; the rest is known afterwards."""

    def __init__(self, start: Callable[[], "subprocess.Popen[bytes]"], commands: bytes) -> None:
        """Take what starts it, and what to tell it."""
        self._start, self._commands = start, commands
        self._threads: List[threading.Thread] = []
        self.code = -1
        self.words = b""

    def __enter__(self) -> "Session":
        """Start it."""
        self._process = self._start()
        for function in (self._tell, self._keep_words):
            thread = threading.Thread(target=function, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    @property
    def answer(self) -> IO[bytes]:
        """What the tool prints."""
        return opened(self._process.stdout)

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Wait for its end."""
        if error is not None:
            self._process.terminate()
        self.answer.close()
        code = self._process.wait()
        self.code = code if code >= 0 else 128 - code
        for thread in self._threads:
            # A child of the tool's may hold the pipe for longer.
            thread.join(_LAST_WORDS_SECONDS)

    def _tell(self) -> None:
        # It may have ended, and its words tell why.
        with suppress(OSError), opened(self._process.stdin) as stream:
            stream.write(self._commands)

    def _keep_words(self) -> None:
        with opened(self._process.stderr) as stream:
            for chunk in iter(lambda: os.read(stream.fileno(), _CHUNK), b""):
                self.words += chunk[: _WORDS_LIMIT - len(self.words)]

    @property
    def is_refused(self) -> bool:
        """Say whether the log-in failed, and would fail again."""
        return Facility.tells_refusal(self.words)

    @property
    def is_broken(self) -> bool:
        """Say whether lftp complained of anything but folders that may not be read."""
        return any(line.strip() and not _REFUSED.search(line) for line in self.words.split(b"\n"))

    @property
    def reason(self) -> bytes:
        """Return the last line of the complaints, '' where there is none."""
        lines = [line.strip() for line in self.words.split(b"\n") if line.strip()]
        return lines[-1][:_REASON_LIMIT] if lines else b""
