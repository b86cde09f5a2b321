"""What rsync and ssh complain of: exit codes and stderr as sentences with their remedies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from beamferry.errors import BeamferryError, PermanentError, TransientError

# Names in a message; more than this helps nobody, the count says the rest.
_NAMED = 20


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


# A name may hold quotes and what looks like the end of a complaint, a reason holds no quote: the last quote of a
# line ends the name. From 3.2 on rsync says which end complains, before that the action tells.
_READING = "send_files failed to open|opendir|readlink_stat|change_dir|link_stat|read errors mapping"
_UNREADABLE = re.compile(
    rf'^rsync: (?:\[sender\] )?(?:{_READING})[ (]"(?P<path>.*)"\)?'
    r'(?: \(in [^)"]*\))?(?: failed)?: (?P<reason>[^"\n]+) \([0-9]+\)$',
    re.MULTILINE,
)
_UNWRITABLE = re.compile(
    r"^rsync: (?:\[(?:receiver|Receiver|generator)\] )?(?:recv_generator: )?"
    r'(?:mkdir|mkstemp|symlink|rename|open|write failed on|delete_file|unlink)\b[^"\n]* "(?P<path>.*)"'
    r"(?: failed)?: (?P<reason>Permission denied|Operation not permitted|Read-only file system) \([0-9]+\)$",
    re.MULTILINE,
)
# As the last words of a line only: a file may have such a name.
_FULL = re.compile(
    r": (?:No space left on device|Disk quota exceeded|File too large)(?: \([0-9]+\))?\r?$", re.MULTILINE
)
# bash, dash, ksh; tcsh; zsh; fish; ssh's own "exec".
_NO_RSYNC = re.compile(
    r'^(?:[^"\n]*: )?(?:rsync: (?:[Cc]ommand )?not found\b[^"\n]*|command not found: rsync'
    r'|rsync: No such file or directory|Unknown command:? [\'"]?rsync\b[^\n]*)\r?$',
    re.MULTILINE,
)
_NOISE = re.compile(r"is your shell clean\?$", re.MULTILINE)
# Not by lines: the probe hands ssh's words on as one. A file's refusal ends in a number: "Permission denied (13)".
_REFUSED = re.compile(
    r"Permission denied(?:, please try again\.)? \([a-z][a-z0-9@.,-]*\)|Too many authentication failures"
)
_CHANGED_HOST_KEY = re.compile(r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed")
_NO_HOST_KEY = re.compile(r"Host key verification failed\.|No \S+ host key is known for ")
# Before there was any stream that could break.
_NO_LOG_IN = (
    _NO_HOST_KEY,
    _REFUSED,
    re.compile(r"^ssh: (?:connect to host|Could not resolve hostname) ", re.MULTILINE),
    # A person's session: its socket is gone, or it ended, and there is no other way.
    re.compile(r"^(?:Control socket connect\(|mux_client_|Connection closed by UNKNOWN port)", re.MULTILINE),
)
# The far sshd counts the sessions of a connection (MaxSessions).
_SESSIONS_TAKEN = re.compile(r"session request failed: |[Ss]ession open refused")
_FIND = re.compile(
    r"^(?:find|sha256sum|sh): ['‘]?(?P<path>.*?)['’]?: (?P<reason>Permission denied|Input/output error)$",
    re.MULTILINE,
)
_ESCAPED = re.compile(r"(?:\\#[0-7]{3})+")


def failing_files(stderr: str) -> tuple[str, ...]:
    """Return each file that was complained of with the reason, e.g. ``raw/a.cbf (Permission denied)``."""
    found = dict.fromkeys(
        f"{shown(match['path'])} ({match['reason']})"
        for pattern in (_UNREADABLE, _FIND)
        for match in pattern.finditer(stderr)
    )
    return tuple(found)


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
    if max(octets) > 255:
        return match[0]
    return bytes(octets).decode("utf-8", "backslashreplace")


def interpret_ssh(stderr: str, errand: Errand) -> BeamferryError:
    """Return what an ssh from RDS-SSH to the facility complained of, as a sentence with its remedy."""
    at, who = errand.facility, errand.account
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
    if "Could not resolve hostname" in stderr:
        return TransientError(
            "facility-unknown-host",
            f"RDS-SSH cannot resolve the name {errand.host}",
            "this is tried again; if it stays, ask Research IT about the name service of RDS-SSH",
        )
    reason = _last_line(stderr) or "no reason given"
    return TransientError(
        "facility-unreachable",
        f"RDS-SSH cannot reach {errand.host} ({reason})",
        f"this is tried again; if it stays, look for announced work at {at}",
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


def interpret_exit(code: int, stderr: str, errand: Errand) -> BeamferryError | None:  # noqa: PLR0911, PLR0912
    """Return what an exit code of rsync or of one of our scripts means, or None for 0.

    Args:
        code: exit code of the job.
        stderr: what the tools complained of.
        errand: what was being done.
    """
    at, source, destination = errand.facility, errand.source, errand.destination
    files = failing_files(stderr)
    named = ", ".join(files[:_NAMED]) + (f" and {len(files) - _NAMED:,} more" if len(files) > _NAMED else "")
    reason = _last_line(stderr) or "no reason given"
    if code == 0:
        return None
    if code == 77:
        return PermanentError(
            "rds-tool-missing",
            f"A tool is missing on RDS-SSH ({reason})",
            "ask Research IT to install it there",
        )
    if _FULL.search(stderr):
        return PermanentError(
            "rds-full",
            f"RDS became full while {errand.beamtime} was written to {destination}",
            "make room there or ask Research IT for more, then start the run again: it goes on where it stopped",
        )
    # rsync gives ssh's failure its own code or that of its broken stream.
    if code == 255 or (code == 12 and any(words.search(stderr) for words in _NO_LOG_IN)):
        return interpret_ssh(stderr, errand)
    if _NO_RSYNC.search(stderr):
        return PermanentError(
            "facility-no-rsync",
            f"There is no rsync at {errand.host} for account {errand.account}",
            f"ask {at} how to get rsync on that host, or give the entry a host that has it",
        )
    if entered := _source_itself(stderr, source):
        if entered.startswith("No such file"):
            return PermanentError(
                "source-missing",
                f"There is no folder {source} at {at}",
                "check instrument, year and id of the entry; if they are right, the data may be on tape: "
                "ask for it back",
            )
        return PermanentError(
            "source-unreadable",
            f"{errand.account} may not read {source} at {at} ({entered})",
            f"ask the visit's principal investigator or {at} to add {errand.account} to visit {errand.beamtime}",
        )
    if code == 2 or _NOISE.search(stderr):
        return PermanentError(
            "login-shell-noise",
            f"The log-in shell of {errand.account} at {errand.host} prints text, which breaks rsync's protocol",
            "remove what prints from ~/.bashrc, ~/.cshrc or ~/.profile there, or print it in interactive shells only",
        )
    if code == 3:
        return PermanentError(
            "destination-unusable",
            f"rsync cannot use {destination} ({reason})",
            "check that it is a folder of your own and not somebody else's link",
        )
    if unwritable := _UNWRITABLE.search(stderr):
        return PermanentError(
            "rds-not-writable",
            f"RDS is not writable at {shown(unwritable['path'])} ({unwritable['reason']})",
            "ask the owner of the folder, or Research IT, for write permission for the account on RDS-SSH",
        )
    if code in {5, 10, 12, 30, 35}:
        return TransientError(
            "stream-broken",
            f"The connection to {errand.host} broke ({reason})",
            "this is tried again by itself and goes on where it stopped",
        )
    if code == 11:
        return PermanentError(
            "rds-io",
            f"RDS cannot be written at {destination} ({reason})",
            "check that the share is mounted, writable and healthy, then start the run again",
        )
    if code == 23:
        if files:
            return PermanentError(
                "files-unreadable",
                f"{len(files):,} files or folders of {errand.beamtime} cannot be read: {named}",
                f"ask the person who owns them, or {at}, for read permission, then start the run again",
            )
        return PermanentError(
            "partial-transfer",
            f"rsync could not bring everything of {errand.beamtime} ({reason})",
            "the job's file 'errors' on RDS-SSH has its words; start the run again when the cause is gone",
        )
    if code == 24:
        return TransientError(
            "source-changing",
            f"Files vanished from {source} while it was copied: the source is still changing",
            "this is tried again; if it stays, wait until the experiment's processing is done",
        )
    if code == 75:
        return TransientError(
            "stalled",
            f"Nothing moved from {errand.host} for a long time, so the streams were stopped",
            "this is tried again by itself and goes on where it stopped",
        )
    if code == 78:
        return PermanentError(
            "job-refused", f"The job on RDS-SSH was called wrongly ({reason})", "this is a fault of Beamferry"
        )
    if code == 79:
        return TransientError(
            "job-busy",
            f"Another job of {errand.beamtime} still holds its lock on RDS-SSH",
            "this is tried again; if it stays, look for its processes there with: ps -u $USER",
        )
    if code in {20, 137, 143}:
        return TransientError(
            "job-killed",
            "The job on RDS-SSH was killed, perhaps by a restart of the host",
            "this is tried again by itself and goes on where it stopped",
        )
    return TransientError(
        "job-failed",
        f"The job on RDS-SSH ended with code {code} ({reason})",
        "this is tried again; if it stays, the job's files 'errors' and 'log' on RDS-SSH have its words",
    )


def _source_itself(stderr: str, source: str) -> str | None:
    """Return why the source folder itself cannot be entered, None where it is not complained of."""
    for match in _UNREADABLE.finditer(stderr):
        if shown(match["path"]).rstrip("/.") == source:
            return match["reason"]
    return None


def _last_line(stderr: str) -> str:
    # Not splitlines: it takes characters of names for the ends of lines.
    lines = [text for line in stderr.split("\n") if (text := shown(line.rstrip("\r")).strip())]
    told = [line for line in lines if not line.startswith("rsync error:")] or lines
    return told[-1][:300] if told else ""
