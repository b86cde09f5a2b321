"""What lftp and the scripts around it complain of: as sentences with their remedies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry.complaints import failing_files, interpret_ssh, shown
from beamferry.complaints import interpret_exit as interpret_common
from beamferry.errors import BeamferryError, PermanentError, TransientError

if TYPE_CHECKING:
    from datetime import date

    from beamferry.complaints import Errand

# Exit codes of our own scripts, see lftp_transfer.sh and listing.sh.
UNREADABLE, CHANGED, BAD_LINE, CUT, LOG_IN, BROKEN = 23, 24, 65, 66, 67, 68
# Names in a message; more than this helps nobody, the count says the rest.
_NAMED = 20
_REFUSED = re.compile(
    r"^\w*:? ?Access failed: (?P<reason>[^\n]*?) \((?:\./)?(?P<path>[^\n]*)\)$", re.MULTILINE
)
_GONE = "No such file"
_OURS = re.compile(
    r"^beamferry: (?P<what>unlisted|unseen|cut|unchecked|unreadable-line|changed|unread|no-password): (?P<text>.*)$",
    re.MULTILINE,
)
# The reply's number as lftp shows it, and not in the name of a file.
_BUSY = re.compile(
    r"(?:^|[ (])421[ -]|[Tt]oo many (?:connections|users|logins)|maximum number of", re.MULTILINE
)
# lftp says it in one way; OpenSSH's sftp, which names no reason for most of it, in another one for each command.
_NO_SOURCE = re.compile(
    r"(?:^|\s)(?:cd: Access failed: |stat remote: |remote readdir\(|Can't change directory: "
    r"|Couldn't (?:canonicalize|stat remote file|read directory)\b)"
)
# What lftp says once it has got beyond the certificate.
_BEYOND_TLS = re.compile(r"Login failed: 530")
# GnuTLS's words and OpenSSL's: lftp is built with either.
_CERTIFICATE = re.compile(r"Certificate verification: (?P<reason>[^\n]*)")
_EXPIRED = re.compile(r"expired|not yet (?:valid|activated)")
_OTHER_NAME = re.compile(r"(?:n't|not) match|mismatch", re.IGNORECASE)
_NO_TLS = re.compile(
    r"ssl-force is set and server does not support|SSL/TLS required|TLS (?:not supported|unavailable)"
)
_UNKNOWN_HOST = re.compile(
    r"Name or service not known|No address associated|Temporary failure in name resolution"
)
_WRONG_PASSWORD = re.compile(
    r"Login failed: |Login incorrect|[Pp]ermission denied[^\n]*\([^)]*(?:password|keyboard)[^)]*\)"
)
# What ssh says of a server that asks a person; one that takes keys too says so there.
_ASKS_A_PERSON = re.compile(r"[Pp]ermission denied[^\n]*\((?!publickey)[^)]*keyboard-interactive[^)]*\)")
_SECOND_FACTOR = (
    "if it asks for a second factor, a person has to log in: write auth: interactive into the entry"
)


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
        if _BUSY.search(stderr) or _UNKNOWN_HOST.search(stderr) or _CERTIFICATE.search(stderr):
            return interpret_log_in(stderr, errand)
        return TransientError(
            "stream-broken",
            f"The connection to {errand.host} broke ({_last_line(stderr)})",
            "this is tried again by itself and goes on where it stopped",
        )
    return interpret_common(code, stderr, errand)


def interpret_log_in(stderr: str, errand: Errand) -> BeamferryError:  # noqa: PLR0911
    """Return why lftp or sftp did not get in, as a sentence with its remedy."""
    at, host, account = errand.facility, errand.host, errand.account
    if errand.log_in is not None:
        return interpret_ssh(stderr, errand)
    where = f"the Airflow connection '{errand.connection}'" if errand.connection else "~/.netrc on RDS-SSH"
    ours = {match["what"]: match["text"] for match in _OURS.finditer(stderr)}
    if "no-password" in ours:
        return PermanentError(
            "facility-no-password",
            f"RDS-SSH has no password for {account} at {host} ({ours['no-password']})",
            f"put it into {where}, or name an Airflow connection in the entry",
        )
    if certificate := _CERTIFICATE.search(stderr):
        return certificate_error(certificate["reason"].strip(), errand)
    if _NO_TLS.search(stderr):
        return PermanentError(
            "facility-no-tls",
            f"{host} offers no encryption, and a password never goes in clear",
            f"check server and port of the entry; if they are right, ask {at}",
        )
    if _BUSY.search(stderr):
        return TransientError(
            "facility-busy",
            f"{host} takes no more connections of {account} just now",
            "this is tried again; if it stays, close other programs that are logged in there, or lower streams",
        )
    if _UNKNOWN_HOST.search(stderr):
        return TransientError(
            "facility-unknown-host",
            f"RDS-SSH cannot resolve the name {host}",
            "this is tried again; if it stays, ask Research IT about the name service of RDS-SSH",
        )
    asked = _ASKS_A_PERSON.search(stderr) is not None
    if errand.connection is None and "Login failed" not in stderr:
        if asked:
            return PermanentError(
                "facility-key-refused",
                f"{host} takes no key of account {account}",
                f"ask {at}; {_SECOND_FACTOR}",
            )
        return interpret_ssh(stderr, errand)
    if _WRONG_PASSWORD.search(stderr):
        return PermanentError(
            "facility-password-refused",
            f"{at} refused the password of {account} at {host}",
            f"write the right one into {where}; it was tried once and is not tried again before you start a run, "
            "as accounts are locked after a few wrong ones" + (f"; {_SECOND_FACTOR}" if asked else ""),
        )
    return interpret_ssh(stderr, errand)


def tells_of_source(stderr: str) -> bool:
    """Say whether lftp or sftp was let in, and then not into the source."""
    return _NO_SOURCE.search(stderr) is not None


def tells_of_account(stderr: str) -> bool:
    """Say whether lftp took the certificate for good and it was the account that was refused."""
    return _BEYOND_TLS.search(stderr) is not None


def source_missing(errand: Errand) -> PermanentError:
    """Return the error of a beamtime's folder that the account is not shown."""
    return PermanentError(
        "source-missing",
        f"{errand.facility} shows {errand.account} no folder {errand.source}",
        "check id and account of the entry; if they are right, ask the beamtime's principal investigator to add you in "
        f"DOOR, or {errand.facility} whether the data went to tape",
    )


@dataclass(frozen=True)
class Seen:
    """What a look at a certificate showed: its last day, the names it is for, who vouches for it."""

    ended: date | None = None
    names: str = ""
    issuer: str = ""


def certificate_error(reason: str, errand: Errand, seen: Seen = Seen()) -> PermanentError:
    """Return what is wrong with a facility's certificate, by the words of GnuTLS or OpenSSL."""
    at, host = errand.facility, errand.host
    if _EXPIRED.search(reason):
        return PermanentError(
            "certificate-expired",
            f"The certificate of {host} has expired" + (f" on {seen.ended}" if seen.ended else ""),
            f"only {at} can renew it: tell them; SFTP, which needs none, may be open meanwhile",
        )
    if _OTHER_NAME.search(reason):
        return PermanentError(
            "certificate-name",
            f"The certificate that {host} shows is another host's"
            + (f" ({seen.names})" if seen.names else ""),
            f"check server of the entry; if it is right, ask {at} before you trust it",
        )
    return PermanentError(
        "certificate-issuer",
        f"RDS-SSH does not trust the issuer of the certificate of {host} ({seen.issuer or reason})",
        f"put the issuer's certificate, from {at}'s own pages, on RDS-SSH and name the file in the entry as ca_file",
    )


def _unreadable(stderr: str, errand: Errand) -> PermanentError:
    ours = [(match["what"], shown(match["text"])) for match in _OURS.finditer(stderr)]
    here = tuple(dict.fromkeys(text for what, text in ours if what == "unread")) + failing_files(stderr)
    if here:
        return PermanentError(
            "files-unreadable",
            f"{len(here):,} files or folders of {errand.beamtime} cannot be read at RDS: {_some(here)}",
            f"see who owns them below {errand.destination}, and that the share is healthy; then start the run again",
        )
    there = tuple(
        dict.fromkeys(
            [f"{shown(match['path'])} ({match['reason']})" for match in _REFUSED.finditer(stderr)]
            + [text for what, text in ours if what == "unlisted"]
        )
    )
    return PermanentError(
        "files-unreadable",
        f"{len(there):,} files or folders of {errand.beamtime} cannot be read: {_some(there)}"
        if there
        else f"Not everything of {errand.beamtime} can be read ({_last_line(stderr)})",
        f"ask the person who owns them, or {errand.facility}, for read permission, or leave them behind by 'exclude' "
        "in the entry; then start the run again",
    )


def _changed(stderr: str, errand: Errand) -> TransientError:
    ours = [shown(match["text"]) for match in _OURS.finditer(stderr) if match["what"] == "changed"]
    gone = [shown(match["path"]) for match in _REFUSED.finditer(stderr) if _GONE in match["reason"]]
    changed = tuple(dict.fromkeys(ours + gone))
    which = f" ({_some(changed)})" if changed else ""
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
            f"{errand.host} names {len(unseen):,} files that its listing does not show: {_some(unseen)}",
            "a cut listing, a link that leads nowhere or a name that FTP cannot carry: look at them, leave them behind "
            "by 'exclude' in the entry, or take transport: sftp",
        )
    cut = tuple(text for what, text in found if what == "cut")
    if cut:
        return PermanentError(
            "listing-incomplete",
            f"Two listings of {errand.host} do not agree: {_some(cut)}",
            "start the run again when nothing is written there; if it stays, a name there has a line break",
        )
    unchecked = tuple(text for what, text in found if what == "unchecked")
    if unchecked:
        return TransientError(
            "listing-unchecked",
            f"The listing of {errand.host} could not be checked by a second look at {len(unchecked):,} folders: "
            f"{_some(unchecked)}",
            "nothing was concluded from it; this is tried again, and if it stays, lower streams or ask "
            f"{errand.facility}",
        )
    lines = tuple(text for what, text in found if what == "unreadable-line")
    return PermanentError(
        "listing-unreadable",
        f"A listing of {errand.host} cannot be read: {_some(lines) or _last_line(stderr)}",
        "nothing was concluded from it; a name with a line break looks so: leave its folder behind by 'exclude'",
    )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _last_line(stderr: str) -> str:
    lines = [text for line in stderr.split("\n") if (text := shown(line.rstrip("\r")).strip())]
    return lines[-1][:300] if lines else "no reason given"
