"""Sessions with a facility by lftp or sftp: commands in, an answer and complaints out."""

import os
import re
import subprocess
from types import TracebackType
from typing import IO, Optional, Tuple, Type, Union

from beamferry_agent.errors import AgentError

# What is kept of a session's complaints.
_WORDS_LIMIT = 64 * 1024
_REASON_LIMIT = 200
# A log-in that failed, and not for want of a free connection.
_LOG_IN = re.compile(
    rb"Login failed|Certificate|GetPass|ssl-force|[Pp]ermission denied \(|Host key|^beamferry: no-password",
    re.MULTILINE,
)
_BUSY = re.compile(rb"421|[Tt]oo many|maximum number")
# What lftp says of a folder that may not be read; a reply of the 400s passes.
_REFUSED = re.compile(rb"Access failed: (?!4\d\d)")


class SourceError(AgentError):
    """The facility could not be asked, or does not answer as it must.

    ``exit_code``: see ``lftp_complaints.py``. ``words``: lines for people, the tool's and ours, with names as they are.
    """

    def __init__(self, code: int, words: bytes) -> None:
        """Take both."""
        super().__init__(code)
        self.exit_code = code
        self._words = words

    def told(self) -> bytes:
        """Return the words: they are lines already."""
        return self._words


def failed_session(words: bytes) -> SourceError:
    """Return the error of a session that did not come about, or broke, by the tool's words."""
    return SourceError(67 if Facility.tells_refusal(words) else 68, words)


class Facility:
    """A facility that a script logs in to, see ``lftp_session.sh``."""

    def __init__(self, script: str, arguments: Tuple[bytes, ...], transport: str, source: bytes) -> None:
        """Take the script, its arguments, ``ftps`` or ``sftp``, and the folder in which sessions begin."""
        self._script, self._arguments, self._source = script, arguments, source.rstrip(b"/")
        self.is_ftp = transport == "ftps"

    def ask(self, tool: str, commands: bytes, place: str) -> "Session":
        """Begin a session of ``lftp`` or ``sftp``; ``place`` names files for what it is asked and complains of."""
        return Session(("bash", self._script, tool, *self._arguments), commands, place)

    def place(self, folder: bytes) -> bytes:
        """Return a folder below the source, from the server's root, as one word of sftp's language."""
        return word((self._source or b"/") if folder == b"." else self._source + b"/" + folder)

    @staticmethod
    def tells_refusal(words: bytes) -> bool:
        """Say whether a tool's words tell of a log-in that failed, and would fail again."""
        # A line on a folder that may not be read holds its name, which may be anything.
        told = b"\n".join(line for line in words.split(b"\n") if not _REFUSED.search(line))
        return _LOG_IN.search(told) is not None and _BUSY.search(told) is None


def word(text: bytes) -> bytes:
    """Return a text as one word of lftp's language, and of sftp's."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


class Session:
    """One session: read ``answer`` to its end within ``with``; the rest is known afterwards."""

    def __init__(self, command: Tuple[Union[str, bytes], ...], commands: bytes, place: str) -> None:
        """Take what to run and what to tell it; ``place`` is the beginning of names for files."""
        self._command, self._commands, self._place = command, commands, place
        self.code = -1
        self.words = b""

    def __enter__(self) -> "Session":
        """Start it."""
        with open(self._place + ".commands", "wb") as file:
            file.write(self._commands)
        with open(self._place + ".commands", "rb") as commands, open(self._place + ".words", "wb") as words:
            self._process = subprocess.Popen(
                self._command, stdin=commands, stdout=subprocess.PIPE, stderr=words
            )
        return self

    @property
    def answer(self) -> IO[bytes]:
        """What the tool prints."""
        stream = self._process.stdout
        if stream is None:
            raise RuntimeError("the session has no answer")
        return stream

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
        self.code = self._process.wait()
        with open(self._place + ".words", "rb") as file:
            self.words = file.read(_WORDS_LIMIT)
        os.remove(self._place + ".words")
        os.remove(self._place + ".commands")

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
