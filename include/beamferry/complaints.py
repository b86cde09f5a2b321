"""What rsync and ssh complain of: exit codes and stderr as sentences with their remedies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from beamferry.connection import RDS_SSH
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.reasons import End, Kind
from beamferry.refusals import refusals
from beamferry.remote.refused import refused_for
from beamferry.ssh_complaints import (
    PRINTED,
    FarShell,
    interpret_shell,
    interpret_ssh,
    is_log_in,
    last_line,
    shell_noise,
    shown,
)
from beamferry_agent.errors import LINK_BELOW

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beamferry.refusals import Refusal
    from beamferry.ssh_complaints import Errand

# Names in a message; more than this helps nobody, the count says the rest.
_NAMED = 20


# bash, dash, ksh; tcsh; zsh; fish; ssh's own "exec".
# What may follow is short: ksh's reason in brackets, fish's own advice. Without a bound a line of many such words would
# be read once for each.
_NO_RSYNC = re.compile(
    r'^(?:[^"\n]*: )?(?:rsync: (?:[Cc]ommand )?not found\b[^"\n]{0,100}|command not found: rsync'
    r'|rsync: No such file or directory|Unknown command:? [\'"]?rsync\b[^\n]{0,100})\r?$',
    re.MULTILINE,
)
# As the agent says it, see facility_shell.py.
NO_MARK = 80
_PRINTED = re.compile(rf"^{PRINTED}(.*)$", re.MULTILINE)
_NOISE = re.compile(r"^protocol version mismatch -- is your shell clean\?\r?$", re.MULTILINE)


# rsync's words for a path that no call of the system takes (flist.c of rsync 3.1 to 3.5).
_TOO_LONG = re.compile(r"^(?:\[\w+\] )?filename overflows max-path len by [0-9]+: (.*)$", re.MULTILINE)
_SHOWN_OF_PATH = 60


def failing_files(stderr: str) -> tuple[str, ...]:
    """Return each file that could not be read with the reason, e.g. ``raw/a.cbf (Permission denied)``."""
    return _named(refusal for refusal in refusals(stderr) if refusal.reading)


def _named(found: Iterable[Refusal]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{shown(one.path)} ({one.words})" for one in found))


def some(names: tuple[str, ...]) -> str:
    """Return the first of many names, and how many more there are."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def destination_unusable(reason: str, destination: str) -> PermanentError:
    """Return the error of a destination that is, or whose way leads through, what is not to be trusted."""
    if LINK_BELOW in reason:
        remedy = "name in the entry the folder that the link leads to, or put a folder in the link's place"
    else:
        remedy = "see that it is a folder of the account's own, with no link and nothing of anybody else in the way"
    return PermanentError("destination-unusable", f"{destination} cannot be used ({reason})", remedy)


def interpret_exit(code: int, stderr: str, errand: Errand) -> BeamferryError | None:  # noqa: PLR0911, PLR0912
    """Return what an exit code of rsync or of one of our steps means, or None for 0.

    Args:
        code: exit code of the job.
        stderr: what the tools complained of.
        errand: what was being done.
    """
    at, source = errand.facility, errand.source
    found = refusals(stderr, writing=code in {11, 74}, destination=errand.destination)
    reason = last_line(stderr) or "no reason given"
    if code == 0:
        return None
    if code == 77:
        return PermanentError(
            "rds-tool-missing",
            f"A tool is missing on RDS-SSH ({reason})",
            "ask Research IT to install it there",
        )
    # rsync's own code for it, and the agent's.
    if code in {3, 70}:
        return destination_unusable(reason.removeprefix("agent: "), errand.destination)
    if code == NO_MARK:
        if said := _PRINTED.findall(stderr):
            return shell_noise(shown(said[-1].strip()), errand)
        silent = FarShell(str(code), begun=False, ours=False, printed="", stderr=stderr, seconds=0)
        return interpret_shell(silent, errand)
    if full := _full(found, errand):
        return full
    # rsync gives ssh's failure its own code or that of its broken stream.
    if code == 255 or (code == 12 and is_log_in(stderr)):
        return interpret_ssh(stderr, errand)
    # rsync's code for a far shell that did not find it, or for the stream that broke on that.
    if code in {12, 127} and _NO_RSYNC.search(stderr):
        return PermanentError(
            "facility-no-rsync",
            f"There is no rsync at {errand.host} for account {errand.account}",
            f"ask {at} how to get rsync on that host, or give the entry a host that has it",
        )
    if entered := _source_itself(found, errand):
        return entered
    if _NOISE.search(stderr):
        return PermanentError(
            "login-shell-noise",
            f"The log-in shell of {errand.account} at {errand.host} prints text, which breaks rsync's protocol",
            "remove what prints from ~/.bashrc, ~/.cshrc or ~/.profile there, or print it in interactive shells only",
        )
    if refused := _refused_at_rds(found, errand):
        return refused
    if code in {5, 10, 12, 30, 35}:
        return TransientError(
            "stream-broken",
            f"The connection to {errand.host} broke ({reason})",
            "this is tried again by itself and goes on where it stopped",
        )
    if code == 11:
        return PermanentError(
            "rds-io",
            f"RDS cannot be written at {errand.destination} ({reason})",
            "check that the share is mounted, writable and healthy, then start the run again",
        )
    if code == 23:
        if long := _TOO_LONG.search(stderr):
            return _path_too_long(long[1], errand)
        if unread := _unread(found, errand):
            return unread
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
    if code == 69:
        return PermanentError(
            "lists-missing",
            f"The lists of {errand.beamtime} that its transfer goes by were removed from RDS-SSH ({reason})",
            "clear the task dry_run and those after it, or start a new run: it goes on where this one stopped",
        )
    if code == 74:
        return PermanentError(
            "rds-home-refused",
            f"Beamferry's lists cannot be written in the home folder on RDS-SSH ({reason})",
            "see that ~/.beamferry there can be written to and that no quota is used up, then start the run again",
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


def _path_too_long(path: str, errand: Errand) -> PermanentError:
    name = shown(path)
    return PermanentError(
        "path-too-long",
        f"A path of {errand.beamtime} is longer than the 4,096 bytes that Linux takes, and rsync cannot bring it: it "
        f"begins with '{name[:_SHOWN_OF_PATH]}', ends in '{name[-_SHOWN_OF_PATH:]}'",
        f"ask whoever made these folders at {errand.facility} to give them shorter names, or to pack them; "
        "until then give the entry the first of them as an 'exclude'",
    )


def _full(found: Iterable[Refusal], errand: Errand) -> BeamferryError | None:
    """Return that RDS is full, or what is wrong with the home folder on RDS-SSH, None where neither is told."""
    for one in found:
        if one.end is End.HOME and one.reason is not None:
            return refused_for(one.reason, f"Beamferry's lists cannot be written ({one.words})", RDS_SSH)
        if one.end is End.RDS and one.kind is Kind.FULL:
            return PermanentError(
                "rds-full",
                f"RDS became full, or its quota was used up, while {errand.beamtime} was written to "
                f"{errand.destination} ({one.words})",
                "make room there or ask Research IT for more, then start the run again: it goes on where it stopped",
            )
    return None


def _source_itself(found: Iterable[Refusal], errand: Errand) -> PermanentError | None:
    """Return why the source folder itself cannot be entered, None where it is not complained of for good."""
    at, source = errand.facility, errand.source
    for one in found:
        if one.end is not End.FACILITY or one.kind is Kind.PASSING or shown(one.path).rstrip("/.") != source:
            continue
        if one.words.startswith("No such file"):
            return PermanentError(
                "source-missing",
                f"There is no folder {source} at {at}",
                "check instrument, year and id of the entry; if they are right, the data may be on tape: "
                "ask for it back",
            )
        return PermanentError(
            "source-unreadable",
            f"{errand.account} may not read {source} at {at} ({one.words})",
            f"ask the visit's principal investigator or {at} to add {errand.account} to visit {errand.beamtime}",
        )
    return None


def _refused_at_rds(found: Iterable[Refusal], errand: Errand) -> BeamferryError | None:
    """Return why RDS refused something, the reasons that stay before those that pass, None where it did not."""
    at_rds = tuple(one for one in found if one.end is End.RDS)
    for one in at_rds:
        if one.kind is Kind.DENIED:
            what = "readable" if one.reading else "writable"
            where = shown(one.path) or errand.destination
            return PermanentError(
                "rds-not-writable",
                f"RDS is not {what} at {where} ({one.words})",
                "ask the owner of the folder, or Research IT, for permission for the account on RDS-SSH",
            )
    unwell = tuple(one for one in at_rds if one.kind is Kind.PASSING)
    if unwell:
        return unwell_at_rds(errand.destination, some(_named(unwell)))
    return None


def unwell_at_rds(where: str, told: str) -> TransientError:
    """Return the error of an RDS that refused something below a folder for a reason that may pass."""
    return TransientError(
        "rds-unwell",
        f"The file system of RDS has errors below {where}: {told}",
        "this is tried again; if it stays, ask Research IT whether the share is healthy",
    )


def unwell_at_facility(what: str, facility: str, told: str) -> TransientError:
    """Return the error of a facility that did not let something be read for a reason that may pass."""
    return TransientError(
        "facility-storage-unwell",
        f"{what} cannot be read at {facility} just now: {told}",
        f"this is tried again; if it stays, tell {facility} that its file system has errors there",
    )


def _unread(found: Iterable[Refusal], errand: Errand) -> BeamferryError | None:
    """Return which files of the facility cannot be read, None where none is told."""
    there = tuple(one for one in found if one.end is End.FACILITY and one.reading)
    files = _named(there)
    if not files:
        return None
    which = f"{len(files):,} files or folders of {errand.beamtime}"
    if all(one.kind is Kind.PASSING for one in there):
        return unwell_at_facility(which, errand.facility, some(files))
    return PermanentError(
        "files-unreadable",
        f"{which} cannot be read at {errand.facility}: {some(files)}",
        f"ask the person who owns them, or {errand.facility}, for read permission, then start the run again",
    )
