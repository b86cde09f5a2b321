"""A facility by lftp: does it let this account in, and what does it show?

It logs in once: a wrong password is not tried again.
"""

import base64
import os
import re
import time
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.errors import AgentError
from beamferry_agent.lftp_login import LFTP, NAMES, LogIn, word
from beamferry_agent.probe_certificate import look_at_certificate
from beamferry_agent.probe_destination import look_at_destination
from beamferry_agent.probe_facts import Facts, text_of
from beamferry_agent.probe_running import Runner
from beamferry_agent.probe_tools import first_line, look_at_tools, path_of
from beamferry_agent.step import NO_TOOL

_NAMES = ("destination-root", "destination", "beamtime", *NAMES)
# What is larger is no metadata; the rest of a README is for an editor.
_KEPT = {"metadata": 65536, "readme": 8192}
_README = "README.non-conformant-files.txt"
_SECONDS = 90
# What the log-in may write to the host's /tmp, into each file.
_LIMIT = 64 * 1024 * 1024
# Of its complaints: the reason stands in their end.
_WORDS = 64 * 1024
# Of the names of folders in our answer.
_FOLDERS_BYTES = 30000
_KNOWN_LENGTH = 1000
# Stands in the listing where the folder could be listed.
_LISTED = b"beamferry-listed"
# As OpenSSH's sftp has them: PERMISSIONS LINKS USER GROUP SIZE MONTH DAY TIME NAME.
_LONG = re.compile(rb"([-dlbcps][^ ]*)(?: +[^ ]+){3} +[0-9]+(?: +[^ ]+){3} (.*)\Z")
_METADATA_FILE = re.compile(rb"beamtime-metadata-[A-Za-z0-9_]+\.json\Z")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


def look(words: Sequence[str], facts: Facts, runner: Runner) -> None:
    """Look at this host, the destination, and the facility. Raises AgentError where it is asked wrongly."""
    asked = Arguments("probe", words, _NAMES)
    root, destination, beamtime = map(asked.needed, ("destination-root", "destination", "beamtime"))
    log_in = LogIn(asked)
    try:
        facts.say("lftp", _version(runner))
        facts.say("openssl", first_line(runner, "openssl", "version"))
        look_at_tools(runner, facts, "lftp")
        look_at_destination(facts, root, destination)
        facts.say("near_time", int(time.time()))
        code, words_said = NO_TOOL, b""
        if all(map(path_of, ("lftp", "sftp", *(() if log_in.is_ftp else ("ssh",))))):
            if log_in.is_ftp:
                look_at_certificate(facts, runner, log_in.host, log_in.port, asked.text("ca-file"))
            code, words_said = _log_in(log_in, facts, runner, "beamtime-metadata-{}.json".format(beamtime))
        facts.say("far_exit", code)
        facts.say_lines("far_errors", words_said)
    finally:
        # Whatever came before the log-in.
        log_in.forget()


def _version(runner: Runner) -> str:
    """Return the first two parts of ``LFTP | Version 4.9.2 | Copyright ...``."""
    return " ".join(first_line(runner, "lftp", "--version").split(" | ")[:2])


def _log_in(log_in: LogIn, facts: Facts, runner: Runner, metadata: str) -> Tuple[int, bytes]:
    """Log in and tell what is shown; return the tool's code and what it complained of."""
    wanted = {"metadata": metadata, "readme": _README}
    try:
        with log_in:
            ask = _ask_lftp if log_in.is_ftp else _ask_sftp
            code = ask(log_in, runner, wanted)
    except AgentError as error:
        return error.exit_code, error.told()
    if _tell_listing(facts, runner, log_in.is_ftp):
        code = 0
        # Small files whose loss would cost nothing but a title: whether they came is a fact of its own.
        for kind, limit in _KEPT.items():
            content = runner.read(kind, limit)
            if content:
                facts.say_whole(kind, base64.b64encode(content).decode("ascii"))
    return code, runner.read_end("errors", _WORDS)


def _ask_lftp(log_in: LogIn, runner: Runner, wanted: Dict[str, str]) -> int:
    """Ask over FTP by lftp, which also shows whether it and the server understand each other."""
    commands = [
        b'set cmd:cls-default ""',
        b'cls -1aB --perms "./"',
        b"echo " + _LISTED,
        b"set cmd:fail-exit no",
        *(b"get %b -o %b" % (_word("./" + name), _word(runner.place(kind))) for kind, name in wanted.items()),
    ]
    return _ask(runner, LFTP, log_in.opening() + _lines(commands), {})


def _ask_sftp(log_in: LogIn, runner: Runner, wanted: Dict[str, str]) -> int:
    """Ask over SFTP by OpenSSH, whose words name what is wrong with a key or a host."""
    words, own = log_in.sftp()
    commands = [
        b"cd " + word(log_in.source or b"/"),
        b"ls -lan",
        b"pwd",
        *(b"-get %b %b" % (_word("./" + name), _word(runner.place(kind))) for kind, name in wanted.items()),
    ]
    return _ask(runner, words, _lines(commands), own)


def _ask(runner: Runner, words: Sequence[str], commands: bytes, own: Dict[str, str]) -> int:
    return runner.run(
        words, "listing", "errors", seconds=_SECONDS, limit=_LIMIT, given=commands, own=own
    ).code


def _lines(commands: Iterable[bytes]) -> bytes:
    return b"".join(command + b"\n" for command in commands)


def _word(text: str) -> bytes:
    return word(text.encode("utf-8", "surrogateescape"))


# --- what is shown ----------------------------------------------------------------------------------------------


class Shown:
    """What a listing shows: folders, how many files, and the files by which a beamtime is known."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.is_listed = False
        self.folders: List[bytes] = []
        self.folders_cut = self.files = 0
        self.known: List[bytes] = []
        self._size = 0

    def take(self, line: bytes) -> None:
        """Read one line: our mark, or PERMISSIONS NAME."""
        if line == _LISTED:
            self.is_listed = True
            return
        permissions, _, name = line.partition(b" ")
        name = _CONTROL.sub(b" ", name.lstrip(b" "))
        if name in (b"", b".", b".."):
            return
        if not permissions.startswith(b"d"):
            self.files += 1
            if _METADATA_FILE.match(name):
                self.known.append(name)
        elif self._size + len(name) < _FOLDERS_BYTES:
            self.folders.append(name)
            self._size += len(name) + 1
        else:
            self.folders_cut += 1


def short_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what sftp's ``ls -lan`` and ``pwd`` print as lines of a listing, see ``Shown``."""
    for line in lines:
        entry = _LONG.match(line)
        if entry is not None:
            yield entry.group(1) + b" " + entry.group(2)
        elif line.startswith(b"Remote working directory: "):
            yield _LISTED


def _tell_listing(facts: Facts, runner: Runner, is_ftp: bool) -> bool:
    """Tell what the listing shows; say whether there is one."""
    shown = Shown()
    if os.path.exists(runner.place("listing")):
        with open(runner.place("listing"), "rb") as file:
            lines = (line.rstrip(b"\n") for line in file)
            for line in lines if is_ftp else short_lines(lines):
                shown.take(line)
    if not shown.is_listed:
        return False
    facts.say("source_listed", value=True)
    # A slash stands behind each name, as no name holds one.
    facts.say_whole("folders", _joined(shown.folders))
    facts.say("folders_cut", shown.folders_cut)
    facts.say("files", shown.files)
    facts.say_whole("metadata_files", _joined(shown.known)[:_KNOWN_LENGTH])
    return True


def _joined(names: List[bytes]) -> str:
    return text_of(b"".join(name + b"/" for name in names))
