"""Sessions that a person opens, where a facility asks for a second factor: what to type, and how long one lives.

A session is one ssh on RDS-SSH whose connection others share through its socket (OpenSSH's ControlMaster).
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError, TransientError
from beamferry.remote import HOME, Question, agent_command
from beamferry_agent.probe_request import SessionRequest

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime

# OpenSSH's sshd lets one connection carry 10 sessions (MaxSessions); lists and probes need theirs, too.
STREAMS = 6
# A person who is asked on Friday night may answer on Saturday; a run that waits keeps nobody's worker.
PATIENCE = timedelta(hours=20)
# Before its end a session is worth a mail; one that lives shorter is told of when a quarter of its life is left.
NOTICE = timedelta(hours=1)
# Two reckonings of one end: the age of a session is told in whole seconds.
_SAME_END = timedelta(minutes=5)
_LINE = re.compile(r"(?P<key>[a-z]+)=(?P<value>.*)")


@dataclass(frozen=True)
class Session:
    """What the agent says of a person's session.

    Args:
        open: whether it is there.
        node: host name of RDS-SSH: its sockets are that node's own.
        age: seconds since it was opened, 0 for none.
        lives: seconds that earlier sessions lived until a job lost them, the last five.
        reason: ssh's words where it is not open.
    """

    open: bool
    node: str
    age: int
    lives: tuple[int, ...]
    reason: str

    def ends(self, now: datetime) -> datetime | None:
        """Return when it will end, if the facility ends it as early as any before; None where nobody knows."""
        if not self.open or not self.lives:
            return None
        return now + timedelta(seconds=min(self.lives) - self.age)


def socket(beamtime: Beamtime) -> str:
    """Return the socket of the session that serves all beamtimes of this account at this host.

    ``%L`` is the node's name: a home folder may be shared by several. Without blanks, and short, as the path of a
    socket has about 100 bytes.
    """
    whom = f"{beamtime.account}@{beamtime.host}:{beamtime.log_in_port or ''}"
    return f"~/{HOME}/s/{sha256(whom.encode()).hexdigest()[:12]}.%L"


def command(beamtime: Beamtime) -> str:
    """Return what a person types on RDS-SSH: it asks for password and code, then stays in the background."""
    return shlex.join(
        (
            *("ssh", "-M", "-N", "-f"),
            *("-o", f"ControlPath={socket(beamtime)}"),
            *("-o", "ServerAliveInterval=15"),
            *_whom(beamtime),
        )
    )


def renewal(beamtime: Beamtime) -> str:
    """Return what a person types before a session ends: what goes over the old one goes on, the next over the new."""
    stop = shlex.join(("ssh", "-O", "stop", "-o", f"ControlPath={socket(beamtime)}", *_whom(beamtime)))
    return f"{stop}; {command(beamtime)}"


def _whom(beamtime: Beamtime) -> tuple[str, ...]:
    port = ("-p", str(beamtime.log_in_port)) if beamtime.log_in_port else ()
    return (*port, "-l", beamtime.account, "--", beamtime.host)


def wanted(beamtime: Beamtime, rds_host: str, node: str) -> str:
    """Return what a task's log says to the person who has to log in."""
    return (
        f"{beamtime.host} asks for a second factor, which only a person can give. Log in to RDS-SSH ({rds_host}, node "
        f"{node}) and type:\n\n    {command(beamtime)}\n\nThis run notices it and goes on by itself."
    )


def check(beamtime: Beamtime, ssh: tuple[str, ...], *, lost: bool = False) -> Question:
    """Return the question how the session on RDS-SSH is; the facility hears nothing of it.

    Args:
        beamtime: the registry's entry.
        ssh: words of ssh up to the account, ``rsync.ssh_words``.
        lost: a job used the session until just now, so that its life can be told.
    """
    request = SessionRequest(ssh, beamtime.account, beamtime.host, lost)
    return Question(agent_command("session"), request.to_json())


def parse_session(text: str) -> Session:
    """Read what the agent answers.

    Raises:
        TransientError: the answer is cut short, or is none.
    """
    lines = text.split("\n")
    values = {match["key"]: match["value"] for line in lines if (match := _LINE.fullmatch(line))}
    try:
        if lines[-2:] != ["end=yes", ""]:
            raise ValueError("it has no end")
        return Session(
            open={"yes": True, "no": False}[values["open"]],
            node=values["node"],
            age=int(values["age"] or 0),
            lives=tuple(int(life) for life in values["lives"].split()),
            reason=values["reason"],
        )
    except (KeyError, ValueError) as error:
        raise TransientError(
            "session-unreadable",
            f"RDS-SSH did not say whether somebody is logged in at the facility ({error})",
            "this is tried again; if it stays, this is a fault of Beamferry",
        ) from error


def since(asked: datetime | None, began: datetime, now: datetime) -> datetime:
    """Return since when this run waits: from the first time that it asked, so that a retry does not begin anew."""
    return asked if asked is not None and began <= asked <= now else now


def until(since: datetime) -> datetime:
    """Return when nobody is waited for any more."""
    return since + PATIENCE


def given_up(beamtime: Beamtime) -> PermanentError:
    """Return the error of a run for which nobody logged in."""
    hours = int(PATIENCE.total_seconds()) // 3600
    return PermanentError(
        "log-in-missing",
        f"Nobody logged in at {beamtime.host} within {hours} hours",
        f"on RDS-SSH type: {command(beamtime)}; then start a run, or wait for the next nightly one",
    )


def notice_at(session: Session, now: datetime) -> datetime | None:
    """Return the moment at which a person should be told that the session will end; None where nobody knows."""
    ends = session.ends(now)
    if ends is None:
        return None
    return ends - min(NOTICE, timedelta(seconds=min(session.lives)) / 4)


def told_at(before: datetime, ended: datetime | None, ends: datetime, now: datetime) -> datetime:
    """Return the moment of a notice: that of an earlier one where it was of the same end, so that it is told once."""
    return before if ended is not None and abs(ended - ends) < _SAME_END else now
