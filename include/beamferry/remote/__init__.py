"""Jobs on RDS-SSH: the scripts, where they go, and how a job is started, watched and stopped there.

Paths are relative to the home of the account on RDS-SSH, where both ssh and SFTP begin.
"""

from __future__ import annotations

import hashlib
import secrets
import shlex
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, NamedTuple

from beamferry.errors import PermanentError, TransientError
from beamferry.remote.archive import agent_archive
from beamferry.remote.home_files import BREAKS, Files
from beamferry.remote.home_files import READ_LIMIT as READ_LIMIT
from beamferry.remote.home_files import Completed as Completed
from beamferry.remote.refused import refused
from beamferry.remote.status import Progress as Progress
from beamferry.remote.status import Status as Status
from beamferry.remote.status import parse_status as parse_status
from beamferry_agent.job_request import JobRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from beamferry.remote.starts import Owner

HOME = ".beamferry"
# Script bundles of earlier versions may still be running a job, so each version has a folder of its own.
BIN = f"{HOME}/bin"
JOBS = f"{HOME}/jobs"
# Outside of what they guard: nothing of ours removes them.
LOCKS = f"{HOME}/locks"
# What starts our scripts there, and what it says before their answer.
_OWN, _MARK = "own.sh", "beamferry-answer"
# Of one answer; a start file may print without end.
ANSWER_LIMIT = 64 * 1024 * 1024


@cache
def bundle() -> Mapping[str, bytes]:
    """Return the scripts and the agent that run on RDS-SSH, by file name."""
    scripts = {
        item.name: item.read_bytes()
        for item in sorted(files(__name__).iterdir(), key=lambda item: item.name)
        if item.name.endswith(".sh")
    }
    return {**scripts, "agent.pyz": agent_archive()}


@cache
def bundle_folder() -> str:
    """Return the folder of this version's scripts on RDS-SSH, named by their content."""
    digest = hashlib.sha256()
    for name, content in bundle().items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return f"{BIN}/{digest.hexdigest()[:16]}"


def said(output: str) -> tuple[str, str] | None:
    """Return what start files of the account printed, and the answer of a command of ours; None where there is none."""
    printed, mark, answer = f"\n{output}".partition(f"\n{_MARK}\n")
    return (printed.strip(), answer) if mark else None


def answer_of(output: str) -> str:
    """Return the answer of a command of ours, '' where it gave none: that is nobody's answer."""
    parts = said(output)
    return parts[1] if parts else ""


def agent_command(*words: str) -> tuple[str, ...]:
    """Return the command that has the agent do something, see ``said`` for its answer.

    Args:
        words: its verb; the request comes on stdin. A person may give it the name and the arguments of a step.
    """
    return ("sh", f"{bundle_folder()}/{_OWN}", *words)


class Question(NamedTuple):
    """A command, and the request that it reads from stdin."""

    command: tuple[str, ...]
    request: str


@dataclass(frozen=True)
class Job:
    """One part of a beamtime's work on RDS-SSH; its folder is the same for every run and every try.

    Args:
        beamtime: the beamtime's key, e.g. ``diamond_mg25682-2``.
        part: what the job does, e.g. ``transfer``.
    """

    beamtime: str
    part: str

    @property
    def folder(self) -> str:
        """Folder with the job's log, progress and result."""
        return f"{JOBS}/{self.beamtime}/{self.part}"

    @property
    def status_file(self) -> str:
        """File in which the job itself tells how it is, for as long as it can."""
        return f"{self.folder}/status.json"

    @property
    def work(self) -> str:
        """Folder with the lists that the parts of one beamtime share."""
        return f"{JOBS}/{self.beamtime}/work"

    def new_secret(self) -> str:
        """Return the name of a file for the password of the facility's account, which no other job or try has."""
        return f"{self.folder}/secret-{secrets.token_hex(8)}"

    @property
    def lock(self) -> str:
        """File whose lock lets one job of a beamtime run at a time; beside it lie those of the destinations."""
        return f"{LOCKS}/{self.beamtime}"

    def start(
        self, key: str, script: str, arguments: tuple[str, ...], *, destination: str, owner: Owner
    ) -> Question:
        """Return the question that starts the job, or attaches to it when the same one is under way.

        Args:
            key: names the run that asks; a finished job answers for the same key only.
            script: the name of one of the agent's steps, or the path of a script.
            arguments: of the step.
            destination: folder that the job writes or reads; one job at a time has it.
            owner: the Airflow installation that asks; the job of another one is never stopped.
        """
        request = JobRequest(
            verb="start",
            job=self.folder,
            lock=self.lock,
            owner=owner.id,
            destination=destination,
            key=key,
            name=owner.name,
            script=script,
            arguments=list(arguments),
        )
        return _question(request)

    def verb(self, verb: Literal["status", "acknowledge"]) -> Question:
        """Return the question for the job's status, or that which forgets that it ended."""
        return _question(JobRequest(verb, self.folder, self.lock))

    def stop(self, *, generation: str | None = None, owner: str | None = None) -> Question:
        """Return the question that stops the job, if it is of this generation, and of this installation."""
        return _question(JobRequest("stop", self.folder, self.lock, owner or "", generation or ""))


def _question(request: JobRequest) -> Question:
    return Question(agent_command("job"), request.to_json())


class Session(Files):
    """Commands and small files over one open connection to RDS-SSH, or to another host.

    Args:
        client: a connected paramiko client; the caller owns and closes it.
        name: of the host, as people know it.
        address: of the host.
    """

    # What start files of the account print before an answer of ours: no harm, but worth a word.
    greeting = ""

    def run(self, command: tuple[str, ...], *, timeout: float, request: str = "") -> Completed:
        """Run a command to its end; ``timeout`` in seconds without any output ends the wait.

        Args:
            command: program and arguments.
            timeout: seconds.
            request: what the command reads from stdin.

        Raises:
            PermanentError: a command of ours was not begun: a start file of the account ends or replaces its shell.
            TransientError: nothing came back in time, or the connection broke.
        """
        try:
            stdin, stdout, stderr = self._client.exec_command(shlex.join(command), timeout=timeout)
            # One that ended before it read all has said why; a connection that broke gives no exit code.
            with suppress(OSError):
                stdin.write(request.encode())
                stdin.close()
            out = stdout.read(ANSWER_LIMIT)
            if len(out) == ANSWER_LIMIT:
                raise self._unsaid(f"it prints without end: '{out[:80].decode('utf-8', 'replace')}'")
            err = stderr.read(ANSWER_LIMIT)
            code = stdout.channel.recv_exit_status()
        except TimeoutError as error:
            raise TransientError(
                "rds-ssh-slow",
                f"{self._name} gave no answer to '{command[1]}' for {timeout:.0f} seconds",
                "this is tried again; if it stays, the file system of RDS may hang: ask Research IT",
            ) from error
        except BREAKS as error:
            raise self._broken(error) from error
        if code < 0:
            # Lost with the connection, or ended there by a signal.
            raise self._broken(EOFError(f"'{command[1]}' was ended before its time"))
        text, words = out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
        if f"{bundle_folder()}/{_OWN}" not in command:
            return Completed(code, text, words)
        parts = said(text)
        if parts is None:
            told = (text.strip() or words.strip())[-200:]
            raise self._unsaid(f"it says '{told}' and ends with code {code}" if told else "it says nothing")
        self.greeting, answer = parts
        return Completed(code, answer, words)

    def greeted(self) -> str:
        """Say what start files print there, '' where they print nothing."""
        if not self.greeting:
            return ""
        return (
            f"A start file of the account on {self._name} prints '{self.greeting[:80]}' at each log-in: no harm here, "
            "but it can break SFTP; let ~/.bashrc, ~/.profile or what BASH_ENV names print in interactive shells only"
        )

    def _unsaid(self, reason: str) -> PermanentError:
        return PermanentError(
            "rds-login-shell",
            f"The log-in shell on {self._name} does not run what it is asked for ({reason})",
            "look for 'exec', 'exit' or what prints in ~/.bashrc, ~/.profile or ~/.cshrc there, and in the file that "
            "BASH_ENV names, and let it be for interactive shells only",
        )

    def checked(self, command: tuple[str, ...], *, timeout: float) -> str:
        """Run a command of our own that must succeed and return what it printed.

        Raises:
            PermanentError: it ended with another code than 0.
            TransientError: the connection broke, or the file system of the home folder is unwell.
        """
        done = self.run(command, timeout=timeout)
        if done.exit_code != 0:
            reason = (done.stderr or done.stdout).strip()[-500:]
            last = (reason.splitlines() or [""])[-1]
            raise refused(f"'{command[1]}' failed", last, self._name) or PermanentError(
                "rds-ssh-command-failed",
                f"'{command[1]}' ended with code {done.exit_code} on {self._name} ({reason})",
                "look at ~/.beamferry in the home folder there; bash and coreutils are needed",
            )
        return done.stdout

    def install(self) -> None:
        """Bring this version's scripts to RDS-SSH; a second call finds them there and does nothing."""
        folder = bundle_folder()
        done = f"{folder}/complete"
        if self.exists(done):
            return
        self.make_folder(folder, mode=0o700)
        for name, content in bundle().items():
            self.write(f"{folder}/{name}", content, mode=0o600)
        self.write(done, b"", mode=0o600)
