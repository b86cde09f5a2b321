"""A megabyte of words of a tool, or of a facility, is read as fast as it is long: no pattern comes back late."""

from __future__ import annotations

import contextlib
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from beamferry import complaints, lftp, lftp_complaints, refused_names, rsync_output, ssh_complaints
from beamferry.access import parse_facts
from beamferry.errors import BeamferryError
from beamferry.refusals import refusals
from beamferry.ssh_complaints import Errand

if TYPE_CHECKING:
    from collections.abc import Callable

LENGTH = 1_000_000
ERRAND = Errand("Diamond", "mg25682-2", "mbcx9cd4", "ssh.diamond.ac.uk", "/dls/mg25682-2", "/mnt/rds/visit")
# What begins like a complaint and goes on, what could end it, and lines that are nearly one.
BEGINNINGS = (
    "",
    "rsync: [sender] opendir ",
    "find: ",
    "get: Access failed: ",
    "Login failed: 530 ",
    "u@h: Permission denied (",
    "agent: ",
    "Number of files: ",
    "cannot be held: ",
)
PIECES = (
    *('"', "'", " (", ")", ": ", ":", "a", "a ", "a@", "\\#", "\\#012", "/", "-", "421 ", " \r", "0,"),
    "x: rsync: not found ",
    "rsync: command not found: ",
    "bash: rsync: ",
    "Unknown command: rsync ",
    "Permission denied ",
    "Permission denied (password",
    "Permission denied, please try again. (a",
    "No such file or directory (2) ",
    ": No space left on device",
    "x.sh: line 1: ",
    "Login failed: ",
    "Access failed: x (",
    "SSL/TLS required ",
    "Too many connections ",
    "Certificate verification: ",
    "No address associated ",
    "agent: names that cannot be held: 1",
    "Received disconnect from a port 1:",
    "rsync: [sender] ",
    "(reg: 1, ",
)
ENDS = ("", '"', "(", "\0", "\n")


def read_by_all(text: str) -> None:
    """Have everything that reads a tool's words read them; what it makes of them is no matter here."""
    refusals(text, writing=True)
    complaints.failing_files(text)
    for code in (12, 23):
        complaints.interpret_exit(code, text, ERRAND)
        lftp_complaints.interpret_exit(code, text, ERRAND)
    lftp_complaints.interpret_log_in(text, ERRAND)
    lftp_complaints.tells_of_source(text)
    lftp_complaints.tells_of_account(text)
    ssh_complaints.interpret_ssh(text, ERRAND)
    ssh_complaints.shown(text)
    ssh_complaints.last_line(text)
    for code in (72, 73):
        refused_names.interpret_names(code, text, ERRAND)
    readers: tuple[Callable[[str], object], ...] = (
        rsync_output.parse_stats,
        lftp.parse_totals,
        parse_facts,
    )
    for read in readers:
        with contextlib.suppress(BeamferryError):
            read(text)


# Ten times what it takes on a busy machine; what is not linear takes an hour.
@pytest.mark.timeout(600)
@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_words_is_read(piece: str) -> None:
    read_by_all(piece * (LENGTH // len(piece)) + '"')
    middle = piece * (LENGTH // len(BEGINNINGS) // len(piece))
    read_by_all("\n".join(beginning + middle + end for beginning, end in zip(BEGINNINGS, cycle(ENDS))))
