"""Sample mails for ``beamferry mail preview``: every kind, with figures as they occur."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from beamferry.alerts import Alert, Digest, Item, Kind, Urgency
from beamferry.mail import all_well, digest, notice

if TYPE_CHECKING:
    from beamferry.mail import Message

_TO = "you@example.ac.uk"
_AT = "Monday 8 June 2026, 07:10"
_BOARD = "https://airflow.example.ac.uk"


def _item(
    name: str,
    kind: Kind,
    urgency: Urgency,
    words: tuple[str, str, str],
    *,
    facility: str = "Diamond",
    instrument: str = "i12",
    title: str = "",
    tape: tuple[str, int] = ("Thursday 11 June 2026", 3),
    done: tuple[int, int] | None = (35_900_000_000, 87_034_154_221),
    also: tuple[str, ...] = (),
) -> Item:
    key = f"{facility.lower()}_{name}"
    alert = Alert(key, kind, None, datetime(2026, 6, 10, 23, tzinfo=UTC), urgency, *words)
    return Item(
        alert=alert,
        id=name,
        facility=facility,
        instrument=instrument,
        title=title,
        tape=tape[0],
        days_left=tape[1],
        bytes_done=None if done is None else done[0],
        bytes_total=None if done is None else done[1],
        link=f"{_BOARD}/dags/beamtime_{key}",
        also=also,
    )


_TAPE = _item(
    "mg25682-2",
    Kind.TAPE,
    Urgency.URGENT,
    (
        "Goes to tape in 3 days",
        "51.1 GB in 8,412 files left. Done 47 hours before tape, on Tuesday 9 June, at the measured rate.",
        "Start a run in mode sync now rather than wait for the next one, tonight at 23:41.",
    ),
    title="Fatigue of Ti-6Al-4V",
)
_LATE = _item(
    "nt33730-1",
    Kind.FORECAST,
    Urgency.URGENT,
    (
        "Will be 2 days late for tape",
        "31.2 TB left. 2 days late: ends on Wednesday 8 July, at the measured rate.",
        (
            "Start a run now with more streams (now 4, at most 16); if it stays late, ask Diamond for a later day and "
            "write it into the entry as deadline."
        ),
    ),
    instrument="i15-1",
    tape=("Monday 6 July 2026", 28),
    done=(8_800_000_000_000, 40_000_000_000_000),
)
_REGISTRATION = _item(
    "11013475",
    Kind.REGISTRATION,
    Urgency.URGENT,
    (
        "Its registration ends tomorrow",
        "Without it the facility refuses the log-in, and nothing more can be fetched.",
        "Register the beamtime again at the facility's portal and write the day into the entry as registered.",
    ),
    facility="DESY",
    instrument="p07",
    tape=("Monday 31 August 2026", 84),
    done=(1_710_000_000_000, 2_900_000_000_000),
)
_STILL = _item(
    "lb18145-153",
    Kind.STANDSTILL,
    Urgency.SOON,
    (
        "Nothing was fetched yet",
        "No byte came since Thursday 4 June, and it is not known how much there is.",
        "Start a run in mode sync, and see that the DAG of this beamtime is not paused.",
    ),
    instrument="i04",
    tape=("Tuesday 14 July 2026", 36),
    done=None,
    also=("Could already be moving to tape",),
)
_NEW = _item(
    "nt33201-1",
    Kind.NEW_DATA,
    Urgency.NOTICE,
    (
        "New data at the facility",
        "2.2 GB in 14 files came after the copy was verified.",
        "Nothing, if the nightly runs are on: the next one fetches and verifies it.",
    ),
    instrument="i13-2",
    tape=("Friday 3 July 2026", 25),
    done=(610_000_000_000, 612_200_000_000),
)
_EARLY = _item(
    "cm37221-2",
    Kind.MAY_MOVE,
    Urgency.SOON,
    (
        "Could already be moving to tape",
        "The facility's policy promises 30 days from a file's creation; the oldest file is of Thursday 7 May.",
        "Start a run in mode sync now rather than wait for the next one, tonight at 23:41.",
    ),
    tape=("Friday 19 June 2026", 11),
    done=(1_900_000_000_000, 2_000_000_000_000),
)
_FAILED = _item(
    "mg25682-3",
    Kind.PROBLEM,
    Urgency.URGENT,
    (
        "The transfer failed",
        "Diamond refused the key of account mbcx9cd4.",
        "Add ~/.ssh/id_ed25519.pub of RDS-SSH to ~/.ssh/authorized_keys of mbcx9cd4 at ssh.diamond.ac.uk.",
    ),
    tape=("Sunday 28 June 2026", 20),
    done=(0, 12_400_000_000),
)
_LOST = _item(
    "mg25001-1",
    Kind.TAPE,
    Urgency.LOST,
    (
        "The tape day has passed (2 days ago)",
        "The copy at RDS is not verified. 4.1 GB in 212 files left.",
        (
            "Ask Diamond today whether the data is still on disk; if not, ask for it back from tape and write "
            "restore_requested into the entry."
        ),
    ),
    tape=("Saturday 6 June 2026", -2),
    done=(59_900_000_000, 64_000_000_000),
)
_HOME = _item(
    "mg25682-1",
    Kind.CERTIFICATE,
    Urgency.GOOD,
    (
        "Home and verified",
        "All 20,412 files (87.0 GB) are at RDS with the same sizes; 32 of them were compared byte by byte.",
        "Nothing. The certificate is in /mnt/eps01-rds/Fonseca-Lightform/shared/mg25682-1.certificate.",
    ),
    done=(87_034_154_221, 87_034_154_221),
)
_LOG_IN = _item(
    "mg25682-4",
    Kind.LOG_IN,
    Urgency.URGENT,
    (
        "The run waits for you to log in",
        "ssh.diamond.ac.uk asks for a second factor, which only a person can give.",
        "On RDS-SSH type: ssh -M -S ~/.beamferry/session -fN mbcx9cd4@ssh.diamond.ac.uk",
    ),
)


_WARNING = "2 problems in the registry: those beamtimes are not watched. Run 'beamferry check'."

# Every item that a sample shows.
ITEMS = (_LOST, _TAPE, _REGISTRATION, _LATE, _EARLY, _STILL, _NEW, _FAILED, _HOME, _LOG_IN)


def messages() -> dict[str, Message]:
    """Return every kind of mail, by a name for its files."""
    urgent = (_LOST, _TAPE, _REGISTRATION, _LATE, _STILL)
    return {
        "digest": digest(Digest(_TO, urgent, _AT, 6, _BOARD)),
        "digest-with-warning": digest(Digest(_TO, (_EARLY, _NEW), _AT, 6, _BOARD, _WARNING)),
        "rehearsal": digest(Digest(_TO, (_TAPE,), _AT, 6, _BOARD), rehearsal=True),
        "failed": notice(_TO, _FAILED, _AT),
        "certificate": notice(_TO, _HOME, _AT),
        "log-in": notice(_TO, _LOG_IN, _AT),
        "all-is-well": all_well(Digest(_TO, (_EARLY, _NEW), _AT, 6, _BOARD)),
    }
