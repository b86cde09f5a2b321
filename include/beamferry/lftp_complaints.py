"""What lftp and the scripts around it complain of: as sentences with their remedies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from beamferry.complaints import failing_files, some, unwell_at_facility, unwell_at_rds
from beamferry.complaints import interpret_exit as interpret_common
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.reasons import Kind, kind_of
from beamferry.ssh_complaints import interpret_ssh, last_line, refused_configuration, shown
from beamferry.tls_complaints import certificate_error

if TYPE_CHECKING:
    from beamferry.ssh_complaints import Errand

# Exit codes of our own steps, see lftp_transfer.py and lftp_dry_run.py of the agent.
UNREADABLE, CHANGED, BAD_LINE, CUT, LOG_IN, BROKEN = 23, 24, 65, 66, 67, 68
# The name ends the line, and begins at the first bracket: what a server says before it holds none.
_REFUSED = re.compile(
    r"^\w*:? ?Access failed: (?P<reason>(?:(?! \()[^\n])*) \((?:\./)?(?P<path>[^\n]*)\)$", re.MULTILINE
)
_GONE = "No such file"
_REPLY = re.compile(r"^[0-9]{3} ")
_OURS = re.compile(
    r"^beamferry: (?P<what>unlisted|unseen|cut|unchecked|unreadable-line|changed|unread|no-password): (?P<text>.*)$",
    re.MULTILINE,
)
# lftp's own lines "COMMAND: NAME: Fatal error: REASON"; what follows the last such words is the reason, not a name.
_FATAL, _LOG_IN = ": Fatal error: ", ": Login failed: "
_RETRIED = "max-retries exceeded"
_COMMANDS = re.compile(r"(?:cat|cd|chmod|cls|echo|find|get|ls|mv|pget|recls): ")
# All of these are looked for in reasons, each from its beginning. The reply's number is as lftp shows it.
_BUSY = re.compile(
    r"^(?:Login failed: )?421[ -]|^(?:Login failed: (?:[0-9]{3}[ -])?|[0-9]{3}[ -])[^\n]*"
    r"(?:[Tt]oo many (?:connections|users|logins)\b|maximum number of)",
    re.MULTILINE,
)
# lftp says it in one way; OpenSSH's sftp, which names no reason for most of it, in another one for each command.
_NO_SOURCE = re.compile(
    r"^(?:cd: Access failed: |stat remote: |remote readdir\(|Can't change directory: "
    r"|Couldn't (?:canonicalize|stat remote file|read directory)\b)",
    re.MULTILINE,
)
# What lftp says once it has got beyond the certificate.
_BEYOND_TLS = re.compile(r"^Login failed: 530", re.MULTILINE)
# GnuTLS's words and OpenSSL's: lftp is built with either.
_CERTIFICATE = re.compile(r"^(?:Login failed: )?Certificate verification: (?P<reason>[^\n]*)", re.MULTILINE)
_NO_TLS = re.compile(
    r"^(?:Login failed: )?[^\n]*"
    r"(?:ssl-force is set and server does not support|SSL/TLS required|TLS (?:not supported|unavailable))",
    re.MULTILINE,
)
_UNKNOWN_HOST = re.compile(
    r"(?:^|: )(?:Name or service not known|No address associated[^\n:]*|Temporary failure in name resolution)\.?$",
    re.MULTILINE,
)
_DENIED = r"^(?:[^\s@]+@[^\s:]+: )?[Pp]ermission denied[^\n(]*"
_WRONG_PASSWORD = re.compile(
    rf"^Login failed: |^(?:[0-9]{{3}} )?Login incorrect|{_DENIED}\([^)\n]*(?:password|keyboard)[^)\n]*\)",
    re.MULTILINE,
)
# What ssh says of a server that asks a person; one that takes keys too says so there.
_ASKS_A_PERSON = re.compile(rf"{_DENIED}\((?!publickey)[^)\n]*keyboard-interactive[^)\n]*\)", re.MULTILINE)
_SECOND_FACTOR = (
    "if it asks for a second factor, a person has to log in: write auth: interactive into the entry"
)


def reasons(stderr: str) -> str:
    """Return, line by line, why lftp and ssh did not go on: without lftp's wrapping, and without names of files."""
    told = []
    for written in stderr.split("\n"):
        line = written.rstrip("\r")
        before, fatal, reason = line.rpartition(_FATAL)
        if not fatal:
            before, fatal, reason = line.rpartition(_LOG_IN)
        if fatal and before:
            if reason.startswith(_RETRIED):
                reason = reason[len(_RETRIED) :].strip().removeprefix("(").removesuffix(")") or reason
            told.append(reason if fatal == _FATAL else f"Login failed: {reason}")
        elif not _COMMANDS.match(line):
            told.append(line)
    return "\n".join(told)


def interpret_exit(code: int, stderr: str, errand: Errand) -> BeamferryError | None:  # noqa: PLR0911
    """Return what an exit code of a script that runs lftp means, or None for 0.

    Args:
        code: exit code of the job.
        stderr: what lftp and the script complained of.
        errand: what was being done.
    """
    if code == UNREADABLE:
        return _unreadable(stderr, errand)
    if code == CHANGED:
        return _changed(stderr, errand)
    if code in {BAD_LINE, CUT}:
        return _listing(stderr, errand)
    if code == LOG_IN:
        return interpret_log_in(stderr, errand)
    if code == BROKEN:
        if tells_of_source(stderr):
            return source_missing(errand)
        words = reasons(stderr)
        if refused := refused_configuration(words):
            return refused
        if _BUSY.search(words) or _UNKNOWN_HOST.search(words) or _CERTIFICATE.search(words):
            return interpret_log_in(stderr, errand)
        return TransientError(
            "stream-broken",
            f"The connection to {errand.host} broke ({last_line(stderr) or 'no reason given'})",
            "this is tried again by itself and goes on where it stopped",
        )
    return interpret_common(code, stderr, errand)


def interpret_log_in(stderr: str, errand: Errand) -> BeamferryError:  # noqa: PLR0911
    """Return why lftp or sftp did not get in, as a sentence with its remedy."""
    at, host, account = errand.facility, errand.host, errand.account
    words = reasons(stderr)
    if errand.log_in is not None:
        return interpret_ssh(words, errand)
    where = f"the Airflow connection '{errand.connection}'" if errand.connection else "~/.netrc on RDS-SSH"
    ours = {match["what"]: match["text"] for match in _OURS.finditer(stderr)}
    if "no-password" in ours:
        return PermanentError(
            "facility-no-password",
            f"RDS-SSH has no password for {account} at {host} ({ours['no-password']})",
            f"put it into {where}, or name an Airflow connection in the entry",
        )
    if certificate := _CERTIFICATE.search(words):
        return certificate_error(certificate["reason"].strip(), errand)
    if _NO_TLS.search(words):
        return PermanentError(
            "facility-no-tls",
            f"{host} offers no encryption, and a password never goes in clear",
            f"check server and port of the entry; if they are right, ask {at}",
        )
    if _BUSY.search(words):
        return TransientError(
            "facility-busy",
            f"{host} takes no more connections of {account} just now",
            "this is tried again; if it stays, close other programs that are logged in there, or lower streams",
        )
    if _UNKNOWN_HOST.search(words):
        return TransientError(
            "facility-unknown-host",
            f"RDS-SSH cannot resolve the name {host}",
            "this is tried again; if it stays, ask Research IT about the name service of RDS-SSH",
        )
    asked = _ASKS_A_PERSON.search(words) is not None
    if errand.connection is None and "Login failed" not in words:
        if asked:
            return PermanentError(
                "facility-key-refused",
                f"{host} takes no key of account {account}",
                f"ask {at}; {_SECOND_FACTOR}",
            )
        return interpret_ssh(words, errand)
    if _WRONG_PASSWORD.search(words):
        return PermanentError(
            "facility-password-refused",
            f"{at} refused the password of {account} at {host}",
            f"write the right one into {where}; it was tried once and is not tried again before you start a run, "
            "as accounts are locked after a few wrong ones" + (f"; {_SECOND_FACTOR}" if asked else ""),
        )
    return interpret_ssh(words, errand)


def tells_of_source(stderr: str) -> bool:
    """Say whether lftp or sftp was let in, and then not into the source."""
    return _NO_SOURCE.search(stderr) is not None


def tells_of_account(stderr: str) -> bool:
    """Say whether lftp took the certificate for good and it was the account that was refused."""
    return _BEYOND_TLS.search(reasons(stderr)) is not None


def source_missing(errand: Errand) -> PermanentError:
    """Return the error of a beamtime's folder that the account is not shown."""
    return PermanentError(
        "source-missing",
        f"{errand.facility} shows {errand.account} no folder {errand.source}",
        "check id and account of the entry; if they are right, ask the beamtime's principal investigator to add you in "
        f"DOOR, or {errand.facility} whether the data went to tape",
    )


def _unreadable(stderr: str, errand: Errand) -> BeamferryError:
    ours = [(match["what"], shown(match["text"])) for match in _OURS.finditer(stderr)]
    here = tuple(dict.fromkeys(text for what, text in ours if what == "unread")) + failing_files(stderr)
    if here:
        if all(_passes(text.rpartition(" (")[2].removesuffix(")")) for text in here):
            return unwell_at_rds(errand.destination, some(here))
        return PermanentError(
            "files-unreadable",
            f"{len(here):,} files or folders of {errand.beamtime} cannot be read at RDS: {some(here)}",
            f"see who owns them below {errand.destination}, and that the share is healthy; then start the run again",
        )
    refused = tuple(_REFUSED.finditer(stderr))
    there = tuple(
        dict.fromkeys(
            [f"{shown(match['path'])} ({match['reason']})" for match in refused]
            + [text for what, text in ours if what == "unlisted"]
        )
    )
    if refused and all(_passes(match["reason"]) for match in refused):
        return unwell_at_facility(
            f"{len(there):,} files or folders of {errand.beamtime}", errand.facility, some(there)
        )
    return PermanentError(
        "files-unreadable",
        f"{len(there):,} files or folders of {errand.beamtime} cannot be read: {some(there)}"
        if there
        else f"Not everything of {errand.beamtime} can be read ({last_line(stderr) or 'no reason given'})",
        f"ask the person who owns them, or {errand.facility}, for read permission, or leave them behind by 'exclude' "
        "in the entry; then start the run again",
    )


def _passes(words: str) -> bool:
    """Say whether a reason may pass; an FTP server puts a number before it, and an SFTP server may name none."""
    plain = _REPLY.sub("", words).removesuffix(".")
    return plain == "Failure" or kind_of(plain) is Kind.PASSING


def _changed(stderr: str, errand: Errand) -> TransientError:
    ours = [shown(match["text"]) for match in _OURS.finditer(stderr) if match["what"] == "changed"]
    gone = [shown(match["path"]) for match in _REFUSED.finditer(stderr) if _GONE in match["reason"]]
    changed = tuple(dict.fromkeys(ours + gone))
    which = f" ({some(changed)})" if changed else ""
    return TransientError(
        "source-changing",
        f"Files of {errand.beamtime} changed or vanished while they were copied{which}: the source is still changing",
        "the next run fetches them anew; if it stays, wait until the experiment's processing is done",
    )


def _listing(stderr: str, errand: Errand) -> BeamferryError:
    found = [(match["what"], shown(match["text"])) for match in _OURS.finditer(stderr)]
    unseen = tuple(text for what, text in found if what == "unseen")
    if unseen:
        return PermanentError(
            "listing-incomplete",
            f"{errand.host} names {len(unseen):,} files that its listing does not show: {some(unseen)}",
            "a cut listing, a link that leads nowhere or a name that FTP cannot carry: look at them, leave them behind "
            "by 'exclude' in the entry, or take transport: sftp",
        )
    cut = tuple(text for what, text in found if what == "cut")
    if cut:
        return PermanentError(
            "listing-incomplete",
            f"Two listings of {errand.host} do not agree: {some(cut)}",
            "start the run again when nothing is written there; if it stays, a name there has a line break",
        )
    unchecked = tuple(text for what, text in found if what == "unchecked")
    if unchecked:
        return TransientError(
            "listing-unchecked",
            f"The listing of {errand.host} could not be checked by a second look at {len(unchecked):,} folders: "
            f"{some(unchecked)}",
            "nothing was concluded from it; this is tried again, and if it stays, lower streams or ask "
            f"{errand.facility}",
        )
    lines = tuple(text for what, text in found if what == "unreadable-line")
    return PermanentError(
        "listing-unreadable",
        f"A listing of {errand.host} cannot be read: {some(lines) or last_line(stderr) or 'no reason given'}",
        "nothing was concluded from it; a name with a line break looks so: leave its folder behind by 'exclude'",
    )
