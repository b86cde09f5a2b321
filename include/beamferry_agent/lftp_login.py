"""How lftp logs in to a facility: settings that leave no default to chance, and the password by stdin alone."""

import os
import shutil
import stat
import subprocess
from contextlib import suppress
from typing import Dict, List, Optional, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.census_script import quoted
from beamferry_agent.environment import tool_environment
from beamferry_agent.errors import AgentError
from beamferry_agent.facility_shell import known_words
from beamferry_agent.log_in_checks import netrc_has, settings_complaint
from beamferry_agent.tools import Tools

# The names of the arguments that tell of the facility.
NAMES = ("transport", "host", "port", "account", "source", "ca-file", "log-in", "secret", "ssh")
_LOG_IN = 67
# lftp keeps what it takes for one answer, and a facility may go on for ever: 2 GB came in 6 s. A folder with a million
# files takes half of this. Where somebody has set less, that stays.
_KIB = 1048576
_BOUND = 'ulimit -c 0; ulimit -v {} 2>/dev/null || :; exec "$@"'.format(_KIB)
# Every default that could hurt is set, whatever ~/.lftprc or /etc/lftp.conf say. What an older lftp may not know comes
# before fail-exit, what must hold after it.
_SETTINGS = b"""\
set cmd:move-background no
set cmd:interactive no
set cmd:save-rl-history no
set cache:enable no
set bmk:save-passwords no
set net:persist-retries 0
set net:reconnect-interval-multiplier 2
set net:reconnect-interval-max 30
set ftp:ssl-protect-fxp yes
set ftp:fix-pasv-address yes
set ftp:use-mlsd yes
set ftp:use-mdtm yes
set ftp:use-utf8 no
set ftp:list-options ""
set ftp:timezone GMT
set ftp:retry-530 ""
set ftp:retry-530-anonymous ""
set sftp:auto-confirm no
set sftp:max-packets-in-flight 64
set xfer:make-backup no
set xfer:log no
set xfer:use-temp-file no
set cmd:fail-exit yes
set net:timeout 30
set net:max-retries 1
set net:reconnect-interval-base 2
set dns:order "inet inet6"
set dns:fatal-timeout 60
set ftp:passive-mode yes
set ftp:ssl-allow yes
set ftp:ssl-force yes
set ftp:ssl-auth TLS
set ftp:ssl-protect-data yes
set ftp:ssl-protect-list yes
set ssl:verify-certificate yes
set ssl:check-hostname yes
set xfer:clobber yes
set xfer:disk-full-fatal yes
"""


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


def word(text: bytes) -> bytes:
    """Return a text as one word of lftp's language, and of sftp's."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


# What bash reads before it looks for a script of the question's name.
_ANSWER = b"""\
[ -z "${BASH_EXECUTION_STRING+set}" ] && [ ! -e "$0" ] && [ "${0##*/}" != bash ] || return 0
printf '%%s\\n' "$(<%b)"
exit 0
"""


class LogIn:
    """A facility and the way to log in there, by a step's arguments.

    ``password``: by ssh or FTP, handed over in a file that does not outlive the step; ``netrc``: lftp reads it itself;
    ``ssh``: a key.
    """

    def __init__(self, arguments: Arguments) -> None:
        """Look at the arguments, and at nothing else. Raises AgentError."""
        self.host = arguments.needed("host")
        self.account = arguments.needed("account")
        self.port = arguments.number("port")
        self.transport = arguments.matching("transport", "ftps|sftp")
        self.kind = arguments.matching("log-in", "password|netrc|ssh")
        self.source = _bytes(arguments.text("source").rstrip("/"))
        self.secret = arguments.text("secret")
        self.words: Tuple[str, ...] = tuple(arguments.text("ssh", "ssh").split())
        self._ca = arguments.text("ca-file")
        self._password = b""
        self.secret = os.path.abspath(self.secret) if self.secret else ""
        self._question = os.path.join(os.environ["BEAMFERRY_JOB"], "question")
        if self.transport == "ftps" and self.kind == "ssh":
            raise AgentError("FTP knows no ssh log-in")
        if self.kind == "password" and not self.secret:
            raise AgentError("--secret is needed")

    @property
    def is_ftp(self) -> bool:
        """Say whether it goes over FTP."""
        return self.transport == "ftps"

    def __enter__(self) -> "LogIn":
        """Read what a log-in needs; see that it is there, before anybody is asked. Raises SourceError."""
        try:
            self._look()
        except BaseException:
            self._forget()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the password's file: it lives as long as the step."""
        self._forget()

    def _forget(self) -> None:
        if self.secret:
            # What cannot be removed now is removed by the supervisor, and by the sweep of the next start.
            with suppress(OSError):
                os.unlink(self.secret)

    def _look(self) -> None:
        if not self.is_ftp:
            self.words = known_words(self.words)
            complaint = settings_complaint(self.words, self.host)
            if complaint:
                raise SourceError(_LOG_IN, complaint)
        if self.kind == "password":
            self._password = self._read_password()
            if not self.is_ftp:
                self._write_answer()
        elif self.kind == "netrc":
            self._look_at_netrc()

    def _read_password(self) -> bytes:
        content = b""
        with suppress(FileNotFoundError), open(self.secret, "rb") as file:
            content = file.read().rstrip(b"\n")
        if not content:
            raise _no_password("no password for {} at {} was handed over".format(self.account, self.host))
        return content

    def _look_at_netrc(self) -> None:
        """Without a password lftp would log in as anonymous."""
        path = os.path.join(tool_environment()["HOME"], ".netrc")
        try:
            found = os.lstat(path)
        except OSError:
            raise _no_password("there is no {}".format(path))
        if not stat.S_ISREG(found.st_mode):
            raise _no_password("there is no {}".format(path))
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise _no_password("{} can be read by others than its owner".format(path))
        with open(path, "rb") as file:
            if not netrc_has(file.read(), _bytes(self.host), _bytes(self.account)):
                raise _no_password("{} has no password for {} at {}".format(path, self.account, self.host))

    def sftp(self) -> Tuple[List[str], Dict[str, str]]:
        """Return the words that start OpenSSH's sftp, with the same log-in, and what is set in its environment."""
        path = tool_environment()["PATH"]
        ssh, bash = shutil.which("ssh", path=path) or "ssh", shutil.which("bash", path=path) or "bash"
        batch, own = "yes", {}
        if self.kind == "password":
            batch = "no"
            own = {
                "DISPLAY": ":",
                "SSH_ASKPASS": bash,
                "BASH_ENV": self._question,
                "SSH_ASKPASS_REQUIRE": "force",
            }
        options = [
            "-o",
            "BatchMode=" + batch,
            "-o",
            "NumberOfPasswordPrompts=1",
            "-o",
            "User=" + self.account,
        ]
        port = ["-o", "Port={}".format(self.port)] if self.port else []
        # -b would forbid the question: what stands first holds.
        return ["sftp", "-S", ssh, *options, *self.words[1:], *port, "-b", "-", "--", self.host], own

    def _write_answer(self) -> None:
        """Write what answers ssh's question for the password.

        ssh has no terminal, so it runs SSH_ASKPASS: this bash, with the question as the name of a script. Bash first
        reads BASH_ENV, which answers. Nothing of ours has to be executable, as where our files lie nothing may be
        executed on some hosts. Any other bash that ssh starts, e.g. for a jump host, goes on as if there were no such
        file.
        """
        with open(os.open(self._question, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_ANSWER % quoted(_bytes(self.secret)))
        bash = shutil.which("bash", path=tool_environment()["PATH"]) or "bash"
        done = subprocess.run(
            (bash, "a question"),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=tool_environment({"BASH_ENV": self._question}),
        )
        if done.stdout.rstrip(b"\n") != self._password:
            raise _no_password(
                "the bash of this host does not read BASH_ENV, by which ssh is told the password"
            )

    # --- what lftp is told ------------------------------------------------------------------------------------

    def opening(self, rate: Optional[int] = None) -> bytes:
        """Return the commands that come before all others; ``rate`` is a limit in bytes per second.

        lftp reads them from its stdin, so that no other process sees the password.
        """
        lines = []
        if self._ca:
            lines.append(b"set ssl:ca-file " + word(_bytes(self._ca)))
        if rate is not None:
            lines.append(b"set net:limit-rate %d" % rate)
        if not self.is_ftp:
            lines.append(b"set sftp:connect-program " + word(_bytes(" ".join((*self.words, "-a", "-x")))))
        password = b"" if self.kind == "netrc" else b","
        if self.kind == "password":
            password += word(self._password)
        port = b" -p %d" % self.port if self.port else b""
        address = _bytes("{}://{}".format("ftp" if self.is_ftp else "sftp", self.host))
        lines.append(b"open -u " + word(_bytes(self.account)) + password + port + b" " + address)
        # One try to log in, and none after it: accounts are locked after a few wrong ones.
        lines.append(b"cd " + word(self.source or b"/"))
        return _SETTINGS + b"".join(line + b"\n" for line in lines)


def start_lftp(
    tools: Tools, *, complaints: int, umask: Optional[int] = None, folder: Optional[int] = None
) -> "subprocess.Popen[bytes]":
    """Start lftp, bound in memory, with pipes; see ``Tools.start``. Raises OSError, StepEnd.

    ``complaints``: whether they have a pipe of their own.
    """
    return tools.start(
        ("sh", "-c", _BOUND, "sh", "lftp", "--norc"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        umask=umask,
        folder=folder,
    )


def _no_password(reason: str) -> SourceError:
    return SourceError(_LOG_IN, _bytes("beamferry: no-password: {}\n".format(reason)))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
