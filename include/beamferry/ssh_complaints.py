"""What an ssh from RDS-SSH to a facility complains of, as sentences with their remedies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from beamferry.errors import BeamferryError, PermanentError, TransientError

# ssh's own lines, each from its beginning: a banner or a profile at the facility may print the like within a line.
_REFUSED = re.compile(
    r"^(?:[^\s@]+@[^\s:]+: )?Permission denied(?:, please try again\.)? \([a-z][a-z0-9@.,-]*\)\.?\r?$"
    r"|^Received disconnect from \S+(?: port [0-9]+)?: ?[0-9]+: Too many authentication failures",
    re.MULTILINE,
)
_CHANGED_HOST_KEY = re.compile(
    r"^@ +WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!|^Host key for \S+ has changed and you have requested strict",
    re.MULTILINE,
)
_NO_HOST_KEY = re.compile(
    r"^Host key verification failed\.\r?$|^No \S+ host key is known for \S+ and you have requested strict",
    re.MULTILINE,
)
_NO_NAME = re.compile(r"^(?:ssh: )?Could not resolve hostname ", re.MULTILINE)
# Before there was any stream that could break.
_NO_LOG_IN = (
    _NO_HOST_KEY,
    _REFUSED,
    _NO_NAME,
    re.compile(r"^(?:ssh: )?connect to host \S+ port [0-9]+: ", re.MULTILINE),
    # A person's session: its socket is gone, or it ended, and there is no other way.
    re.compile(r"^(?:Control socket connect\(|mux_client_|Connection closed by UNKNOWN port)", re.MULTILINE),
)
# The far sshd counts the sessions of a connection (MaxSessions).
_SESSIONS_TAKEN = re.compile(
    r"^(?:mux_client_\w+: )?[Ss]ession (?:request failed: |open refused)", re.MULTILINE
)
# ssh reads its configuration before anything else, and says nothing more when it refuses it.
_CONFIGURATION = re.compile(
    r"/.*(?:: terminating, [0-9]+ bad configuration options| line [0-9]+: Missing argument\.)"
    r"|Bad owner or permissions on /.*"
)
# Of sftp's own end nobody learns anything.
_SFTP_ENDED = re.compile(r"Connection closed\.?")
# Of what came in the place of an answer, see facility_shell.py.
PRINTED = "beamferry: printed: "
_ESCAPED = re.compile(r"(?:\\#[0-7]{3})+")


@dataclass(frozen=True)
class Errand:
    """What was being done, for the sentences: names of people and places, never a secret.

    ``log_in`` is the command that opens the session where a person logs in, see ``login.command``; None elsewhere.
    """

    facility: str
    beamtime: str
    account: str
    host: str
    source: str
    destination: str
    connection: str | None = None
    log_in: str | None = None


def shown(path: str) -> str:
    """Return a name as text that can be shown: rsync's escapes undone, what is not printable escaped again."""
    plain = _ESCAPED.sub(_unescaped, path)
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in plain
    )


def _unescaped(match: re.Match[str]) -> str:
    """Undo rsync's ``\\#303\\#251``: each is a byte, and names are mostly UTF-8."""
    octets = [int(number, 8) for number in match[0].split("\\#")[1:]]
    if max(octets) >= 1 << 8:
        return match[0]
    return bytes(octets).decode("utf-8", "backslashreplace")


def interpret_ssh(stderr: str, errand: Errand) -> BeamferryError:  # noqa: PLR0911
    """Return what an ssh from RDS-SSH to the facility complained of, as a sentence with its remedy."""
    at, who = errand.facility, errand.account
    if refused := refused_configuration(stderr):
        return refused
    if errand.log_in is not None:
        return _interpret_session(stderr, errand, errand.log_in)
    if _NO_HOST_KEY.search(stderr):
        if _CHANGED_HOST_KEY.search(stderr):
            return PermanentError(
                "facility-host-key-changed",
                f"{errand.host} shows another host key than the one that RDS-SSH knows",
                f"ask {at} whether they changed it; if so, put the new one into ~/.ssh/known_hosts on RDS-SSH",
            )
        return PermanentError(
            "facility-host-key-unknown",
            f"RDS-SSH does not know the host key of {errand.host}",
            f"on RDS-SSH run: ssh {who}@{errand.host}, compare the fingerprint with the one {at} publishes, say yes",
        )
    if _REFUSED.search(stderr):
        return PermanentError(
            "facility-key-refused",
            f"{at} refused the key of account {who}",
            f"add ~/.ssh/id_ed25519.pub of RDS-SSH to ~/.ssh/authorized_keys of {who} at {errand.host}",
        )
    if _NO_NAME.search(stderr):
        return TransientError(
            "facility-unknown-host",
            f"RDS-SSH cannot resolve the name {errand.host}",
            "this is tried again; if it stays, ask Research IT about the name service of RDS-SSH",
        )
    # At its log level ssh says nothing of a server that does not answer any more.
    reason = last_line(stderr) or "no answer any more"
    return TransientError(
        "facility-unreachable",
        f"RDS-SSH cannot reach {errand.host} ({reason})",
        f"this is tried again; if it stays, look for announced work at {at}",
    )


def refused_configuration(stderr: str) -> PermanentError | None:
    """Return that ssh on RDS-SSH refused its own configuration; None where it did not."""
    # What a facility prints comes after a log-in, and so does ssh's last word on that.
    lines = [
        line for line in _lines(stderr) if not line.startswith("rsync") and not _SFTP_ENDED.fullmatch(line)
    ]
    if not lines or not _CONFIGURATION.fullmatch(lines[-1]):
        return None
    summed_up = len(lines) > 1 and ": terminating, " in lines[-1]
    return PermanentError(
        "rds-ssh-config",
        f"ssh on RDS-SSH refuses its own configuration ({lines[-2 if summed_up else -1][:300]})",
        "log in there and mend what it names: take the line out, or write 'IgnoreUnknown' with the option's name above "
        "it; 'Bad owner or permissions' needs chmod 600 on that file; what lies below /etc is Research IT's",
    )


def _interpret_session(stderr: str, errand: Errand, command: str) -> BeamferryError:
    """Return why there was no way through a person's session; ssh tries no other, so its last words say little."""
    if _SESSIONS_TAKEN.search(stderr):
        return TransientError(
            "session-busy",
            f"{errand.host} takes no more streams over the session that you opened",
            "this is tried again; if it stays, lower streams or let fewer runs of that account go at a time",
        )
    return TransientError(
        "session-lost",
        f"The session of {errand.account} at {errand.host} that you opened has ended",
        f"log in again: type '{command}' on RDS-SSH; the run waits for it and goes on where it stopped",
    )


@dataclass(frozen=True)
class FarShell:
    """How a command at a facility began and ended.

    Args:
        code: its exit code; ssh's own is 255, and 124 that of a command that took too long.
        begun: whether anything ran there that reads our script.
        ours: whether that was the shell that ssh asked for.
        printed: what the log-in shell printed before.
        stderr: what ssh and the log-in shell complained of.
        seconds: time that it had.
    """

    code: str
    begun: bool
    ours: bool
    printed: str
    stderr: str
    seconds: int


def interpret_shell(far: FarShell, errand: Errand) -> BeamferryError:
    """Return why a command at the facility came to nothing: the log-in shell may have kept it from running."""
    who = f"The log-in shell of {errand.account} at {errand.host}"
    if far.begun and not far.ours:
        return PermanentError(
            "login-shell-replaced",
            f"{who} is replaced by another one, which never runs what ssh asks for",
            "look for 'exec' or 'newgrp' in ~/.bashrc, ~/.cshrc or ~/.profile there, and let it be for interactive "
            "shells only",
        )
    if far.code == "124":
        return interpret_ssh(f"no answer in {far.seconds} seconds", errand)
    if far.code == "255":
        return interpret_ssh(far.stderr, errand)
    said = shown(far.printed[:80]) or last_line(far.stderr)
    return PermanentError(
        "login-shell-ends",
        f"{who} ends before it runs what ssh asks for " + (f"('{said}')" if said else "and says nothing"),
        "look for 'exit', 'return' or a program that reads in ~/.bashrc, ~/.cshrc or ~/.profile there, and let it be "
        f"for interactive shells only; if there is none, ask {errand.facility} whether the account may run commands",
    )


def shell_noise(printed: str, errand: Errand) -> PermanentError:
    """Return the error of a log-in shell that prints text before every command."""
    return PermanentError(
        "login-shell-noise",
        f"The log-in shell of {errand.account} at {errand.host} prints text ('{printed[:80]}'), "
        "which breaks rsync's protocol",
        "remove what prints from ~/.bashrc, ~/.cshrc or ~/.profile there, or print it in interactive shells only",
    )


def shell_floods(far: FarShell, errand: Errand) -> PermanentError:
    """Return the error of a log-in shell that prints more than anybody reads."""
    said = shown(far.printed[:80]) or last_line(far.stderr)[:80]
    return PermanentError(
        "login-shell-noise",
        f"The log-in shell of {errand.account} at {errand.host} prints without end ('{said}')",
        "remove what prints from ~/.bashrc, ~/.cshrc or ~/.profile there; if nothing does, tell "
        f"{errand.facility}: it has been stopped, and is asked again when you start a run",
    )


def is_log_in(stderr: str) -> bool:
    """Say whether ssh complains of what comes before there is any stream that could break."""
    return any(words.search(stderr) for words in _NO_LOG_IN) or refused_configuration(stderr) is not None


def last_line(stderr: str) -> str:
    """Return the last line that is not rsync's summing-up, '' where there is none."""
    lines = _lines(stderr)
    told = [
        line for line in lines if not line.startswith("rsync error:") and not _SFTP_ENDED.fullmatch(line)
    ] or lines
    return told[-1][:300] if told else ""


def _lines(stderr: str) -> list[str]:
    # Not splitlines: it takes characters of names for the ends of lines.
    lines = [line.rstrip("\r") for line in stderr.split("\n") if not line.startswith(PRINTED)]
    return [text for line in lines if (text := shown(line).strip())]
