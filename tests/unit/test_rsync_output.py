"""Totals, exit codes and complaints, from what five versions of rsync really printed (tests/data/rsync)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry.complaints import failing_files, interpret_exit
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.rsync_output import Totals, parse_stats
from beamferry.ssh_complaints import Errand, interpret_ssh

RECORDED = Path(__file__).parents[1] / "data" / "rsync"
VERSIONS = sorted(folder.name for folder in RECORDED.iterdir() if folder.is_dir())
WITH_KINDS = [version for version in VERSIONS if version != "3.0.9"]

ERRAND = Errand(
    facility="Diamond",
    beamtime="mg25682-2",
    account="mbcx9cd4",
    host="ssh.diamond.ac.uk",
    source="/dls/mg25682-2",
    destination="/mnt/rds/visit",
)


def recorded(version: str, name: str) -> str:
    return (RECORDED / version / name).read_text()


def ended(version: str, case: str) -> tuple[int, str]:
    """Return the exit code and stderr of a recorded run."""
    (file,) = (RECORDED / version).glob(f"{case}.*.stderr")
    return int(file.name.split(".")[1]), file.read_text()


def told(code: int, stderr: str) -> BeamferryError:
    error = interpret_exit(code, stderr, ERRAND)
    assert error is not None
    return error


def of_version(version: str, case: str) -> BeamferryError:
    return told(*ended(version, case))


# Totals.


@pytest.mark.parametrize("version", WITH_KINDS)
def test_totals_of_a_dry_run(version: str) -> None:
    totals = parse_stats(recorded(version, "dry_run.stats"))
    assert (totals.files, totals.regular_files, totals.bytes) == (8, 4, 300_017)
    assert (totals.transferred_files, totals.transferred_bytes) == (4, 300_008)


@pytest.mark.parametrize("version", WITH_KINDS)
def test_totals_of_runs(version: str) -> None:
    first, again, empty, large = (
        parse_stats(recorded(version, f"{name}.stats"))
        for name in ("first", "again", "empty_source", "large")
    )
    assert (first.transferred_files, first.transferred_bytes) == (4, 300_008)
    assert (again.transferred_files, again.transferred_bytes, again.bytes) == (0, 0, 300_017)
    assert (empty.files, empty.regular_files, empty.bytes) == (1, 0, 0)
    assert (large.transferred_bytes, large.bytes) == (87_034_154_221, 87_034_454_238)


def test_a_version_that_counts_no_kinds_has_no_regular_files_to_tell_apart() -> None:
    text = recorded("3.0.9", "dry_run.stats")
    totals = parse_stats(text)
    assert (totals.transferred_files, totals.transferred_bytes, totals.bytes) == (4, 300_008, 300_017)


@pytest.mark.parametrize("version", VERSIONS)
def test_units_are_an_error(version: str) -> None:
    assert re.search(r"\d[KMG]\b", recorded(version, "units.unreadable"))
    with pytest.raises(PermanentError) as caught:
        parse_stats(recorded(version, "units.unreadable"))
    assert caught.value.code == "totals-unreadable"


@pytest.mark.parametrize("version", WITH_KINDS)
def test_commas_are_an_error(version: str) -> None:
    # rsync 3.0 puts none even without --no-h.
    with pytest.raises(PermanentError, match="Total file size"):
        parse_stats(recorded(version, "commas.unreadable"))


NEEDED = (
    "Number of files",
    "Number of regular files transferred",
    "Total file size",
    "Total transferred file size",
)


def line_of(label: str, text: str) -> str:
    (line,) = (line for line in text.splitlines(keepends=True) if line.startswith(f"{label}:"))
    return line


@pytest.mark.parametrize("label", NEEDED)
@pytest.mark.parametrize("version", WITH_KINDS)
def test_each_line_is_needed_once(version: str, label: str) -> None:
    text = recorded(version, "first.stats")
    line = line_of(label, text)
    for spoilt in (text.replace(line, ""), text + line, text.replace(line, f"{label}:\n")):
        with pytest.raises(PermanentError, match=label) as caught:
            parse_stats(spoilt)
        assert caught.value.code == "totals-unreadable"


@pytest.mark.parametrize("label", NEEDED[1:])
@pytest.mark.parametrize("value", ["3.22G", "1,234", "-1", "1.5", "", "x", "²", "٣", "1e3", "0x10"])
def test_only_a_plain_integer_will_do(label: str, value: str) -> None:
    text = recorded("3.5.0", "first.stats")
    with pytest.raises(PermanentError, match=label):
        parse_stats(text.replace(line_of(label, text), f"{label}: {value} bytes\n"))


@pytest.mark.parametrize(
    "value", ["8", "8 (reg: ², dir: 4)", "8 (reg: x)", "8 ()", "8 (reg: 1,000)", "8 (reg: 2, reg: 2)"]
)
def test_kinds_that_cannot_be_read_are_an_error(value: str) -> None:
    text = recorded("3.5.0", "first.stats")
    with pytest.raises(PermanentError, match="Number of files"):
        parse_stats(text.replace(line_of("Number of files", text), f"Number of files: {value}\n"))


def test_two_layouts_in_one_text_are_an_error() -> None:
    with pytest.raises(PermanentError, match="twice"):
        parse_stats(recorded("3.5.0", "first.stats") + "Number of files transferred: 7\n")


counts = st.integers(min_value=0, max_value=2**63 - 1)


@given(
    st.fixed_dictionaries(dict.fromkeys(NEEDED[1:], counts)),
    st.fixed_dictionaries({"reg": counts, "dir": counts, "link": counts}),
)
def test_any_figures_come_back(figures: dict[str, int], kinds: dict[str, int]) -> None:
    # rsync leaves out a kind of which there is none, and the brackets when there is none at all.
    listed = ", ".join(f"{kind}: {count}" for kind, count in kinds.items() if count)
    files = sum(kinds.values())
    lines = [f"Number of files: {files}" + (f" ({listed})" if listed else "")]
    lines += [
        f"{label}: {value}" + ("" if label.startswith("Number") else " bytes")
        for label, value in figures.items()
    ]
    found = parse_stats("\n".join(lines))
    assert found == Totals(
        files=files,
        regular_files=kinds["reg"],
        transferred_files=figures["Number of regular files transferred"],
        bytes=figures["Total file size"],
        transferred_bytes=figures["Total transferred file size"],
    )


@given(st.text())
def test_garbage_is_an_error_and_never_zero(text: str) -> None:
    with pytest.raises(PermanentError):
        parse_stats(text)


@given(st.sampled_from(NEEDED), st.text(max_size=12))
def test_garbage_behind_a_label_is_an_error_and_never_zero(label: str, value: str) -> None:
    text = recorded("3.5.0", "first.stats")
    spoilt = text.replace(line_of(label, text), f"{label}: {value}\n")
    try:
        totals = parse_stats(spoilt)
    except PermanentError:
        return
    # What was accepted is what rsync could have printed.
    plain = re.match(r"\d+", value.strip(), re.ASCII)
    assert plain is not None
    assert int(plain[0]) in vars(totals).values()


# Exit codes.


def test_success_is_no_error() -> None:
    assert interpret_exit(0, "anything", ERRAND) is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("case", "code", "kind", "names"),
    [
        ("source_missing", "source-missing", PermanentError, ("/dls/mg25682-2", "Diamond", "tape")),
        ("source_unreadable", "source-unreadable", PermanentError, ("/dls/mg25682-2", "mbcx9cd4")),
        ("source_changing", "source-changing", TransientError, ("/dls/mg25682-2", "changing")),
        ("far_no_rsync_bash", "facility-no-rsync", PermanentError, ("ssh.diamond.ac.uk", "rsync")),
        ("far_no_rsync_dash", "facility-no-rsync", PermanentError, ("ssh.diamond.ac.uk", "rsync")),
        ("noise", "login-shell-noise", PermanentError, ("ssh.diamond.ac.uk", "~/.bashrc")),
        ("far_killed", "stream-broken", TransientError, ("ssh.diamond.ac.uk", "tried again")),
        ("time_out", "stream-broken", TransientError, ("ssh.diamond.ac.uk", "timeout")),
        ("near_terminated", "job-killed", TransientError, ("killed",)),
        ("disk_full", "rds-full", PermanentError, ("/mnt/rds/visit", "Research IT")),
        ("inodes_full", "rds-full", PermanentError, ("/mnt/rds/visit", "Research IT")),
        ("read_only", "rds-not-writable", PermanentError, ("Read-only file system", "Research IT")),
        ("destination_closed", "rds-not-writable", PermanentError, ("/mnt/rds/closed", "Permission denied")),
        (
            "destination_closed_below",
            "rds-not-writable",
            PermanentError,
            ("/mnt/rds/closed/visit", "Permission denied"),
        ),
        (
            "destination_partly_closed",
            "rds-not-writable",
            PermanentError,
            ("/mnt/rds/partly/raw", "Permission denied"),
        ),
        ("files_unreadable", "files-unreadable", PermanentError, ("Diamond", "Permission denied")),
        ("many_unreadable", "files-unreadable", PermanentError, ("45 files", "and 25 more", "frame_1.tif")),
    ],
)
def test_recorded_complaints(
    version: str, case: str, code: str, kind: type[BeamferryError], names: tuple[str, ...]
) -> None:
    error = of_version(version, case)
    assert (error.code, type(error)) == (code, kind)
    assert [name for name in names if name not in str(error)] == []


def test_a_destination_that_is_somebody_elses_link() -> None:
    # rsync 3.5 refuses the link itself; older ones follow it and cannot write there.
    assert of_version("3.5.0", "destination_link").code == "destination-unusable"
    assert of_version("3.4.1", "destination_link").code == "rds-not-writable"


@pytest.mark.parametrize(
    ("code", "name", "kind"),
    [
        (3, "destination-unusable", PermanentError),
        (70, "destination-unusable", PermanentError),
        (5, "stream-broken", TransientError),
        (10, "stream-broken", TransientError),
        (11, "rds-io", PermanentError),
        (12, "stream-broken", TransientError),
        (20, "job-killed", TransientError),
        (23, "partial-transfer", PermanentError),
        (24, "source-changing", TransientError),
        (30, "stream-broken", TransientError),
        (35, "stream-broken", TransientError),
        (69, "lists-missing", PermanentError),
        (75, "stalled", TransientError),
        (77, "rds-tool-missing", PermanentError),
        (78, "job-refused", PermanentError),
        (79, "job-busy", TransientError),
        (137, "job-killed", TransientError),
        (143, "job-killed", TransientError),
        (255, "facility-unreachable", TransientError),
    ],
)
def test_a_code_without_words(code: int, name: str, kind: type[BeamferryError]) -> None:
    error = told(code, "")
    assert (error.code, type(error)) == (name, kind)
    assert error.problem
    assert error.remedy


def test_a_log_in_shell_that_says_nothing_is_not_said_to_print() -> None:
    silent = told(80, "")
    assert silent.code == "login-shell-ends"
    assert "says nothing" in silent.problem
    printed = told(80, "beamferry: printed: Welcome to beamline 12 \n")
    assert printed.code == "login-shell-noise"
    assert "'Welcome to beamline 12'" in printed.problem


@pytest.mark.parametrize("code", [1, 42, 76, 126])
def test_an_unknown_code_is_never_success(code: int) -> None:
    assert str(code) in told(code, "").problem


@pytest.mark.parametrize(
    "line",
    [
        "bash: line 1: rsync: command not found",
        "bash: rsync: command not found",
        "/bin/dash: 1: rsync: not found",
        "sh: 1: exec: rsync: not found",
        "rsync: Command not found.",
        "zsh:1: command not found: rsync",
        "fish: Unknown command: rsync",
        "ksh: rsync: not found [No such file or directory]",
    ],
)
def test_every_shells_way_of_not_finding_rsync(line: str) -> None:
    assert told(
        127, f"{line}\nrsync: connection unexpectedly closed (0 bytes received so far) [Receiver]"
    ).code == ("facility-no-rsync")


def test_a_tool_missing_here_is_not_taken_for_one_missing_there() -> None:
    error = told(77, "rsync: not found on this host")
    assert (error.code, "RDS-SSH" in error.problem) == ("rds-tool-missing", True)


# Files.

ODD = (
    '/dls/mg25682-2/raw/odd/a "quoted" name (Permission denied)',
    "/dls/mg25682-2/raw/odd/café (Permission denied)",
    "/dls/mg25682-2/raw/odd/latin\\xe9 (Permission denied)",
    "/dls/mg25682-2/raw/odd/new\\nline (Permission denied)",
    "/dls/mg25682-2/raw/odd/-dash (Permission denied)",
    "/dls/mg25682-2/raw/odd/back\\#134slash (Permission denied)",
    "/dls/mg25682-2/raw/odd/failed: No space left on device (28) (Permission denied)",
    '/dls/mg25682-2/raw/odd/x": Permission denied (13) (Permission denied)',
    "/dls/mg25682-2/raw/odd/esc\\x1b[31m (Permission denied)",
    "/dls/mg25682-2/closed (Permission denied)",
)


@pytest.mark.parametrize("version", VERSIONS)
def test_odd_names_are_shown_as_they_are_and_harmless(version: str) -> None:
    code, stderr = ended(version, "files_unreadable")
    files = [str(file) for file in failing_files(stderr)]
    assert [name for name in ODD if name not in files] == []
    # One file is one complaint line: no name makes two, or hides one.
    assert len(files) == sum(line.startswith("rsync: ") for line in stderr.splitlines())
    error = told(code, stderr)
    assert error.problem.isprintable()
    assert error.code == "files-unreadable"


def test_a_file_named_like_a_fault_is_not_that_fault() -> None:
    for name in ("x: No space left on device (28)", "rsync: command not found", "is your shell clean"):
        line = f'rsync: [sender] send_files failed to open "/dls/mg25682-2/{name}": Permission denied (13)\n'
        assert told(23, line).code == "files-unreadable"
    # The stream broke after a file was refused: that is no refused key.
    denied = 'rsync: [sender] send_files failed to open "/dls/mg25682-2/a": Permission denied (13)\n'
    assert (
        told(255, denied + "Connection to ssh.diamond.ac.uk closed by remote host.").code
        == "facility-unreachable"
    )


def test_what_find_complains_of_is_named() -> None:
    stderr = "find: './raw/closed': Permission denied\nfind: ‘raw/b’: Input/output error\n"
    assert [str(file) for file in failing_files(stderr)] == [
        "./raw/closed (Permission denied)",
        "raw/b (Input/output error)",
    ]


@given(st.sampled_from([1, 3, 11, 12, 23, 77, 78, 255]), st.text())
def test_no_control_character_reaches_a_sentence(code: int, stderr: str) -> None:
    for text in (
        stderr,
        f"rsync: [sender] {stderr}",
        f'rsync: opendir "{stderr}" failed: Permission denied (13)',
    ):
        error = told(code, text)
        assert str(error).isprintable()
        assert len(error.problem) < 10_000


@given(st.integers(min_value=1, max_value=255), st.text())
def test_no_failure_is_success(code: int, stderr: str) -> None:
    assert isinstance(interpret_exit(code, stderr, ERRAND), (PermanentError, TransientError))


# ssh.

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for ssh.diamond.ac.uk has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = (
    "No ED25519 host key is known for ssh.diamond.ac.uk and you have requested strict checking.\n"
    "Host key verification failed.\n"
)
UNKNOWN_OPTION = (
    "/home/mbcx9cd4/.ssh/config: line 7: Bad configuration option: usekeychain\n"
    "/home/mbcx9cd4/.ssh/config: terminating, 1 bad configuration options\n"
)
REFUSED = "mbcx9cd4@ssh.diamond.ac.uk: Permission denied (publickey,gssapi-with-mic).\n"


@pytest.mark.parametrize(
    ("stderr", "code", "kind", "names"),
    [
        (CHANGED, "facility-host-key-changed", PermanentError, ("ssh.diamond.ac.uk", "known_hosts")),
        (UNKNOWN, "facility-host-key-unknown", PermanentError, ("ssh mbcx9cd4@ssh.diamond.ac.uk",)),
        (REFUSED, "facility-key-refused", PermanentError, ("mbcx9cd4", "Diamond", "authorized_keys")),
        (UNKNOWN_OPTION, "rds-ssh-config", PermanentError, ("line 7", "usekeychain", "IgnoreUnknown")),
        (
            "Bad owner or permissions on /home/mbcx9cd4/.ssh/config\r\n",
            "rds-ssh-config",
            PermanentError,
            ("(Bad owner or permissions on /home/mbcx9cd4/.ssh/config)", "chmod 600"),
        ),
        (
            "/etc/ssh/ssh_config line 2: Missing argument.\n",
            "rds-ssh-config",
            PermanentError,
            ("(/etc/ssh/ssh_config line 2: Missing argument.)", "Research IT"),
        ),
        (
            f"{UNKNOWN_OPTION}ssh: connect to host ssh.diamond.ac.uk port 22: Connection refused\n",
            "facility-unreachable",
            TransientError,
            ("Connection refused",),
        ),
        (
            "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures\n",
            "facility-key-refused",
            PermanentError,
            ("mbcx9cd4",),
        ),
        (
            "ssh: Could not resolve hostname ssh.diamond.ac.uk: Name or service not known\n",
            "facility-unknown-host",
            TransientError,
            ("ssh.diamond.ac.uk", "name service"),
        ),
        (
            "ssh: connect to host ssh.diamond.ac.uk port 22: Connection refused\n",
            "facility-unreachable",
            TransientError,
            ("ssh.diamond.ac.uk", "Connection refused"),
        ),
    ],
)
def test_what_ssh_says(stderr: str, code: str, kind: type[BeamferryError], names: tuple[str, ...]) -> None:
    tail = (
        "rsync: connection unexpectedly closed (0 bytes received so far) [Receiver]\n"
        "rsync error: unexplained error (code 255) at io.c(285) [Receiver=3.5.0]\n"
    )
    # rsync hands ssh's words on, with ssh's own code or with that of its broken stream.
    for error in (interpret_ssh(stderr, ERRAND), told(255, stderr), told(255, stderr + tail)):
        assert (error.code, type(error)) == (code, kind)
    if kind is PermanentError or stderr.startswith("ssh: "):
        assert told(12, stderr + tail).code == code
    error = interpret_ssh(stderr, ERRAND)
    assert [name for name in names if name not in str(error)] == []
