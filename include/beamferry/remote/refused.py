"""Why the home folder of RDS-SSH refused something, as an error with its remedy."""

from __future__ import annotations

from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.reasons import Kind, Reason, reason_at_end


def refused(what: str, words: str, host: str) -> BeamferryError | None:
    """Return the error of a home folder that is full, closed or unwell; None where a tool's words tell of none.

    Args:
        what: was not done, e.g. ``~/.beamferry/plan cannot be used``.
        words: a tool's last line.
        host: as people know it.
    """
    reason = reason_at_end(words)
    return None if reason is None else refused_for(reason, f"{what} ({words})", host)


def refused_for(reason: Reason, told: str, host: str) -> BeamferryError:
    """Return the error of a home folder that refused for a reason that we know; ``told`` says what was not done."""
    if reason.kind is Kind.FULL:
        return PermanentError(
            "rds-home-full",
            f"The home folder on {host} is full, or its quota is used up: {told}",
            f"make room there ('du -xsh ~/.[!.]* ~/*' on {host} shows what takes it) or ask Research IT for more, "
            "then start the run again",
        )
    if reason.kind is Kind.DENIED:
        return PermanentError(
            "rds-home-denied",
            f"The home folder on {host} is not writable for the account: {told}",
            f"see who owns ~/.beamferry on {host} and that the home folder there is healthy, then start the run again",
        )
    return TransientError(
        "rds-home-unwell",
        f"The file system of the home folder on {host} is unwell: {told}",
        "this is tried again; if it stays, ask Research IT about the home folders there",
    )


def refused_file(path: str, said: str, trial: tuple[int, str], host: str) -> BeamferryError:
    """Return why a file could not be used over SFTP, which seldom says so itself.

    Args:
        path: of the file, below the home folder.
        said: by SFTP.
        trial: the exit code and the words of a command that tried the same.
        host: as people know it.
    """
    code, words = trial
    what = f"~/{path} cannot be used"
    if code == 0:
        return TransientError(
            "rds-home-unsteady",
            f"{what} on {host} ({said}), but it could when that was tried once more",
            "this is tried again; if it stays, ask Research IT about the home folders there",
        )
    last = (words.strip().splitlines() or ["no reason given"])[-1]
    return refused(what, last, host) or PermanentError(
        "rds-home-refused",
        f"{what} on {host} ({last})",
        f"look at it there: everything in ~/.beamferry on {host} is Beamferry's own and can be moved away",
    )
