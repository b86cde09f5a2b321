"""A person's account on RDS-SSH or iCSF, made ready as the group's transfer page does by hand."""

from beamferry.account.answers import parse_answer
from beamferry.account.calls import pin_request, prepare_request, scan_request
from beamferry.account.rows import Answer, HostKey, Row, State, fingerprint
from beamferry.account.wishes import (
    MOST_CA_CHARACTERS,
    Gate,
    Host,
    LinkName,
    Mode,
    Step,
    Usual,
    Wishes,
    certificates,
    facilities_of,
    gates,
    usual,
)
from beamferry.account.words import question, report, stopped, unpinned

__all__ = [
    "MOST_CA_CHARACTERS",
    "Answer",
    "Gate",
    "Host",
    "HostKey",
    "LinkName",
    "Mode",
    "Row",
    "State",
    "Step",
    "Usual",
    "Wishes",
    "certificates",
    "facilities_of",
    "fingerprint",
    "gates",
    "parse_answer",
    "pin_request",
    "prepare_request",
    "question",
    "report",
    "scan_request",
    "stopped",
    "unpinned",
    "usual",
]
