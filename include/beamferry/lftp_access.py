"""Can lftp fetch a beamtime? What its probe saw on RDS-SSH, judged and put into words."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from beamferry.access import Facts, Finding, bad, errand, judge_destination, judge_tools
from beamferry.beamtime import Transport
from beamferry.errors import PermanentError
from beamferry.lftp_complaints import (
    interpret_log_in,
    source_missing,
    tells_of_account,
    tells_of_source,
)
from beamferry.tls_complaints import Seen, certificate_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from beamferry.beamtime import Site
    from beamferry.facilities.desy import DesyBeamtime

# A certificate with fewer days left is worth a word: facilities forget theirs too.
CERTIFICATE_DAYS = 14
# Names in a message; more than this helps nobody.
_NAMED = 20
# openssl's verify return codes: 9 and 10 are times, 62 and 64 names; 0 is well.
_TIMES, _NAMES = {"9", "10"}, {"62", "64"}
_METADATA = re.compile(r"beamtime-metadata-(?P<id>[A-Za-z0-9_]+)\.json")
_PORTAL = "open the Gamma Portal (https://gammaportal.desy.de), register the beamtime for FTP again"


def registration_expired(beamtime: DesyBeamtime, today: date) -> PermanentError | None:
    """Return the error of a registration for FTP that is over, before anybody tries to log in; else None."""
    ends = beamtime.registration_ends
    if ends is None or today < ends:
        return None
    return PermanentError(
        "registration-expired",
        f"The FTP registration of {beamtime.id} expired on {ends}",
        f"{_PORTAL}, and write the day into the entry as 'registered'; SFTP needs no registration",
    )


def judge(facts: Facts, beamtime: DesyBeamtime, site: Site, today: date) -> tuple[Finding, ...]:
    """Return all findings in the order in which a person would look; each error carries its remedy."""
    return (
        *judge_tools(facts, ("lftp", "ssh")),
        *judge_destination(facts, beamtime, site),
        *_certificate(facts, beamtime, site, today),
        *_log_in(facts, beamtime, site),
    )


def _certificate(facts: Facts, beamtime: DesyBeamtime, site: Site, today: date) -> Iterator[Finding]:
    code = facts.get("cert_code")
    if not code:
        return
    ends = facts.number("cert_ends")
    day = None if ends is None else datetime.fromtimestamp(ends, UTC).date()
    if code != "0" and (facts.is_so("source_listed") or tells_of_account(facts.lines("far_errors"))):
        # lftp checks it too, and what it checks against is what counts.
        text = f"lftp trusts the certificate of {beamtime.host}; openssl does not ({facts.get('cert_text')})"
        yield Finding("certificate", text)
        return
    if code != "0":
        reason = (
            "expired" if code in _TIMES else "does not match" if code in _NAMES else facts.get("cert_text")
        )
        seen = Seen(ended=day, names=facts.get("cert_names"), issuer=facts.get("cert_issuer"))
        yield bad("certificate", certificate_error(reason, errand(beamtime, site), seen))
        return
    left = None if day is None else (day - today).days
    if left is not None and left <= CERTIFICATE_DAYS:
        when = "today" if left == 0 else "tomorrow" if left == 1 else f"in {left} days"
        yield Finding("certificate", f"The certificate of {beamtime.host} expires {when}: tell DESY")
    else:
        yield Finding(
            "certificate", f"The certificate of {beamtime.host} is trusted" + (f" until {day}" if day else "")
        )


def _log_in(facts: Facts, beamtime: DesyBeamtime, site: Site) -> Iterator[Finding]:
    if "far_exit" not in facts.values:
        return
    who = errand(beamtime, site)
    if not facts.is_so("source_listed"):
        words = facts.lines("far_errors")
        if tells_of_source(words):
            yield bad("source", source_missing(who))
        elif facts.get("far_exit") == "124":
            yield bad("log-in", interpret_log_in("no answer in time", who))
        else:
            yield bad("log-in", interpret_log_in(words, who))
        return
    how = "FTP with TLS" if beamtime.protocol is Transport.FTPS else "SFTP"
    yield Finding("log-in", f"DESY lets {beamtime.account} in at {beamtime.host} by {how}")
    yield from _source(facts, beamtime)


def _source(facts: Facts, beamtime: DesyBeamtime) -> Iterator[Finding]:
    """Yield whether what is shown is the beamtime, with the folders that the entry names."""
    folders, files = _names(facts.get("folders")), facts.number("files") or 0
    known = _names(facts.get("metadata_files"))
    others = [match["id"] for name in known if (match := _METADATA.fullmatch(name))]
    over_ftp = beamtime.protocol is Transport.FTPS
    if not folders and not files:
        yield bad("source", _nothing_there(beamtime))
        return
    if others and beamtime.id not in others:
        yield bad(
            "source",
            PermanentError(
                "registration-other",
                f"DESY shows beamtime {others[0]} here, not {beamtime.id}",
                f"one beamtime is open to FTP at a time: {_PORTAL}"
                if over_ftp
                else "correct the id or the source of the entry",
            ),
        )
        return
    # A list too long to be told is no proof that a folder is missing.
    if facts.get("folders_cut") in {"", "0"}:
        for name in beamtime.folders:
            if name not in folders:
                yield bad("folders", _no_folder(name, folders, beamtime))
    there = _few(folders) or "no folder"
    yield Finding("source", f"{beamtime.source_path} holds {there} and {files:,} file{'s' * (files != 1)}")
    if not others and over_ftp:
        yield Finding(
            "beamtime", f"No metadata file there says whether it is {beamtime.id}: see for yourself"
        )


def _nothing_there(beamtime: DesyBeamtime) -> PermanentError:
    return PermanentError(
        "source-missing",
        f"DESY lets {beamtime.account} in and shows nothing at all in {beamtime.source_path}",
        f"no beamtime may be open to FTP: {_PORTAL}"
        if beamtime.protocol is Transport.FTPS
        else "ask DESY whether the data went to tape",
    )


def _no_folder(name: str, folders: tuple[str, ...], beamtime: DesyBeamtime) -> PermanentError:
    near = difflib.get_close_matches(name, folders, n=1)
    meant = f"did you mean '{near[0]}'? " if near else ""
    return PermanentError(
        "folder-missing",
        f"{beamtime.id} has no folder '{name}' at DESY",
        f"{meant}correct 'folders' in the entry; DESY shows {_few(folders) or 'none'}",
    )


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _names(value: str) -> tuple[str, ...]:
    return tuple(name for name in value.split("/") if name)
