"""Which end refused which file and why: read from whole lines, whatever the names in them look like."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.reasons import REASONS, End, Kind, Reason, reason_at_end
from beamferry.refusals import AT_RDS, refusals

# What a name may look like once rsync has escaped what is not printable; a reason is a favourite.
NAMES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1),
    st.sampled_from([f"x: {reason.words} ({reason.number})" for reason in REASONS]),
    st.sampled_from(
        ['a" failed: Disk quota exceeded (122)', "rsync: [receiver] mkstemp", "b (No space left on device)"]
    ),
)
ANY = st.sampled_from(REASONS)


@given(NAMES, ANY, st.sampled_from(["send_files failed to open", "opendir", "read errors mapping"]))
def test_what_a_sender_cannot_read_is_the_facilitys(name: str, reason: Reason, action: str) -> None:
    (found,) = refusals(f'rsync: [sender] {action} "/dls/{name}" failed: {reason.words} ({reason.number})\n')
    assert (found.end, found.path, found.reason) == (End.FACILITY, f"/dls/{name}", reason)


@given(NAMES, ANY, st.sampled_from(["receiver", "Receiver", "generator"]), st.booleans())
def test_what_a_receiver_cannot_write_is_rds(name: str, reason: Reason, role: str, named: bool) -> None:
    who = f"[{role}] " if named else ""
    (found,) = refusals(f'rsync: {who}mkstemp "/mnt/{name}" failed: {reason.words} ({reason.number})')
    assert (found.end, found.path, found.reason) == (End.RDS, f"/mnt/{name}", reason)


@pytest.mark.parametrize(
    ("path", "end"),
    [("/mnt/rds/visit", End.RDS), ("/mnt/rds/visit/a", End.RDS), ("/mnt/rds/visitor", End.FACILITY)],
)
def test_an_old_rsync_is_known_by_its_paths(path: str, end: End) -> None:
    line = f'rsync: opendir "{path}" failed: Stale file handle (116)'
    (found,) = refusals(line, destination="/mnt/rds/visit")
    assert (found.end, found.reading) == (end, True)


@given(ANY, st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_the_number_counts_and_not_the_language(reason: Reason, words: str) -> None:
    """A far rsync may speak another language."""
    (found,) = refusals(f'rsync: [sender] opendir "/dls/x" failed: Kein Zugriff ({reason.number})')
    assert found.reason == reason


@given(
    NAMES,
    ANY,
    st.sampled_from(["find: '{}'", "find: ‘{}’", "sh: line 3: {}", "sh: 1: cannot open {}"]),
    st.booleans(),
)
def test_what_reads_at_rds_is_marked(name: str, reason: Reason, form: str, at_rds: bool) -> None:
    mark = AT_RDS if at_rds else ""
    (found,) = refusals(f"{mark}{form.format('./' + name)}: {reason.words}")
    assert (found.end, found.reason) == (End.RDS if at_rds else End.FACILITY, reason)
    assert found.path.strip("'‘’") == f"./{name}".strip("'‘’")


@given(st.text(), ANY)
def test_what_no_tool_says_is_no_refusal(text: str, reason: Reason) -> None:
    for line in (
        f"*** {text}: {reason.words}",
        f'skipping "{text}": {reason.words}',
        f'file has vanished: "/dls/{text}: {reason.words} ({reason.number})"',
        f"get: Access failed: 550 {text} (./x: {reason.words})",
    ):
        assert refusals(line.replace("\n", " "), writing=True) == ()


@pytest.mark.parametrize("reason", REASONS, ids=lambda reason: reason.name)
def test_who_writes_where(reason: Reason) -> None:
    for line, end in (
        ("dd: error writing 'standard output'", End.RDS),
        ("mkdir: cannot create directory '/mnt/rds/visit'", End.RDS),
        ("get: ./raw/a: /mnt/rds/.beamferry-partial/.beamferry-lftp/1-2-3", End.RDS),
        ("sort: write failed: /home/x/.beamferry/jobs/a/work/verify/scratch/sort1", End.HOME),
        (
            ".beamferry/bin/0123456789abcdef/login.sh: line 7: /home/x/.beamferry/jobs/a/work/live/log.1",
            End.HOME,
        ),
        ("beamferry: refused at home: dd: error writing 'x'", End.HOME),
        ("beamferry: refused at RDS: dd: error writing 'x'", End.RDS),
    ):
        (found,) = refusals(f"{line}: {reason.words}", writing=True)
        assert (found.end, found.reason) == (end, reason)
    # A facility's profile says the like; only the end of a job tells that it was ours.
    assert refusals(f"mkdir: cannot create directory '/home/x/.cache': {reason.words}") == ()


@pytest.mark.parametrize(
    "piece", ['"', " (", ": ", "a", "x.sh: line 1", "rsync: [sender] ", "Permission denied "]
)
def test_a_line_as_long_as_all_that_is_kept_is_read(piece: str) -> None:
    """A pattern that is not linear would not come back."""
    for before in ("", "rsync: [sender] opendir ", "find: ", "dd: ", "get: "):
        refusals(before + piece * (65536 // len(piece)), writing=True)


def test_each_reason_is_told_once_and_every_kind_is_there() -> None:
    assert len({reason.number for reason in REASONS}) == len(REASONS)
    assert {reason.kind for reason in REASONS} == set(Kind)
    for reason in REASONS:
        assert reason_at_end(f"dd: error writing 'x': {reason.words}") == reason
        assert reason_at_end(f"OSError: [Errno {reason.number}] {reason.words}: 'x'") == reason
