"""What lftp and sftp answer, read: nothing that they say is taken for more than it is, whatever names are there."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry_agent.errors import DamagedListsError
from beamferry_agent.listing_answers import FolderAnswer, Scope, judge, lines_of, read_answers, read_counts
from beamferry_agent.sessions import Facility

MARK = b"beamferry-0123"
ALL = Scope(frozenset(), frozenset(), tokens=False)
NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: b"\n" not in name and b"/" not in name and b"\0" not in name and name not in {b".", b".."}
)


def answered(
    folders: dict[bytes, dict[bytes, int]], *, whole: bool = True, names: bool = True
) -> list[bytes]:
    lines = []
    for files in folders.values():
        lines.append(MARK + b" folder")
        lines += [b"-rw-r--r-- %d T1600000000 " % size + name for name, size in files.items()]
        if names:
            lines += [MARK + b" names", *files]
    return [*lines, MARK + b" whole"] if whole else lines


def listed(lines: list[bytes], *folders: bytes) -> list[FolderAnswer]:
    return list(read_answers(lines, MARK, folders))


@given(folders=st.dictionaries(NAMES, st.dictionaries(NAMES, st.integers(0, 10**12), max_size=4), max_size=4))
def test_every_folder_is_read_as_it_is(folders: dict[bytes, dict[bytes, int]]) -> None:
    answers = listed(answered(folders), *folders)
    assert [answer.folder for answer in answers] == list(folders)
    for answer, files in zip(answers, folders.values(), strict=True):
        judged = judge(answer, ALL, by_names=True)
        assert judged.records == [
            b"%s/%s//f//%d//1600000000//\0" % (answer.folder, name, size) for name, size in files.items()
        ]
        assert (judged.listed, judged.faults, judged.doubts) == (len(files), [], [])


@given(cut=st.integers(0, 20))
def test_a_folder_in_which_the_answer_ends_is_not_listed(cut: int) -> None:
    folders = {b"a": {b"1": 1, b"2": 2}, b"b": {b"3": 3}}
    lines = answered(folders)
    found = listed(lines[:cut], *folders)
    whole = listed(lines, *folders)
    assert found == whole[: len(found)]
    assert (len(found) == len(folders)) == (cut >= len(lines))


def test_more_answers_than_questions_are_no_answer() -> None:
    with pytest.raises(DamagedListsError, match="more than it was asked for"):
        listed(answered({b"a": {}, b"b": {}}), b"a")


def test_a_line_without_an_end_is_no_listing() -> None:
    with pytest.raises(DamagedListsError, match="a line of more than"):
        list(lines_of(io.BytesIO(b"x" * 10**6)))


def doubts(names: list[bytes] | None, *files: bytes, scope: Scope = ALL) -> list[bytes]:
    entries = [(b"f", 1, 1, name, b"") for name in files]
    return judge(FolderAnswer(b"raw", entries, [], refused=False, names=names), scope, by_names=True).doubts


def test_a_name_that_is_not_listed_is_told() -> None:
    assert doubts([b"a", b"b", b"b"], b"a") == [b"unseen: raw/b"]
    assert doubts([b"a", b"b"], b"a", scope=ALL._replace(excluded=frozenset({b"raw/b"}))) == []


def test_a_second_look_that_sees_less_is_no_check() -> None:
    assert doubts([b"a"], b"a", b"b", b"c") == [
        b"unchecked: raw (the server lists 2 files that it does not name)"
    ]
    assert doubts(None, b"a") == [b"unchecked: raw (the server does not name its files)"]


def test_what_servers_leave_out_of_names_is_no_doubt() -> None:
    assert doubts(None) == []
    assert doubts([b"a"], b"a", b".hidden") == []


def test_a_line_that_is_no_entry_is_told_and_never_a_file() -> None:
    lines = [MARK + b" folder", b"-rw-r--r-- x", b"-rw-r--r-- T1 no size", MARK + b" whole"]
    judged = judge(listed(lines, b"raw")[0], ALL, by_names=False)
    assert judged.records == []
    assert judged.faults == [
        b"unreadable-line: raw: no size of no size",
        b"unreadable-line: raw: -rw-r--r-- x",
    ]


@pytest.mark.parametrize(
    ("path", "kind", "counts"),
    [
        (b"shared/asapo-token-1.txt", b"f", False),
        (b"shared/asapo-token/x.txt", b"f", True),
        (b"raw/out", b"d", False),
        (b"raw/out", b"f", True),
        (b"other", b"d", False),
        (b"other", b"f", True),
    ],
)
def test_what_counts(path: bytes, kind: bytes, *, counts: bool) -> None:
    scope = Scope(frozenset({b"raw/out/"}), frozenset({b"raw", b"shared"}), tokens=False)
    folder, _, name = path.rpartition(b"/")
    answer = FolderAnswer(folder or b".", [(kind, 1, 1, name, b"")], [], refused=False, names=[])
    judged = judge(answer, scope, by_names=False)
    assert bool(judged.records) is counts
    assert bool(judged.folders) is (counts and kind == b"d")
    assert judged.listed == 1


def said(*parts: list[bytes]) -> list[bytes]:
    lines = []
    for names in parts:
        lines += [b'sftp> cd "/x"', b"sftp> ls -1a", b".", b"..", *names]
    return [*lines, b"sftp> bye"]


def test_entries_are_counted_by_folder() -> None:
    assert read_counts(said([b"a", b"b"], [], [b"c"]), b"", 3) == [2, 0, 1]


def test_a_folder_that_was_not_entered_has_no_count() -> None:
    # sftp ends with the first command that fails: what it has not repeated was not done.
    lines = [*said([b"a"])[:-1], b'sftp> cd "/y"']
    assert read_counts(lines, b"stat remote: No such file or directory\n", 3) == [1, None, None]
    assert read_counts([*said([b"a"], [b"b"])[:-1], b'sftp> cd "/y"'], b"", 3) == [1, 1, None]
    assert read_counts([], b"Connection closed\n", 2) == [None, None]


def test_a_folder_that_may_not_be_listed_has_no_count() -> None:
    lines = [b'sftp> cd "/x"', b"sftp> ls -1a", b'sftp> cd "/y"', b"sftp> ls -1a", b".", b"a", b"sftp> bye"]
    assert read_counts(lines, b'remote readdir("/x/"): Permission denied\n', 2) == [None, 1]
    # A server may leave out the folder itself.
    assert read_counts(lines, b"", 2) == [0, 1]


def test_a_folders_name_is_no_reason_of_a_log_in_that_failed() -> None:
    named = b"cls: Access failed: 550 Permission denied (./Login failed: Certificate)\n"
    assert not Facility.tells_refusal(named)
    assert Facility.tells_refusal(named + b"open: Login failed: 530 Login incorrect\n")
    assert not Facility.tells_refusal(b"open: Login failed: 530 Too many connections\n")


@given(names=st.lists(NAMES | st.sampled_from([b"sftp> cd x", b"sftp> bye", b"sftp> ls -1a"]), max_size=4))
def test_names_that_look_like_commands_never_make_a_wrong_count(names: list[bytes]) -> None:
    real = len(names)
    assert read_counts(said(names), b"", 1) == [real]
    first, second = read_counts(said(names, [b"z"]), b"", 2)
    assert first in {real, None} or any(name.startswith(b"sftp> ") for name in names)
    assert second in {1, None} or b"sftp> bye" in names or any(name.startswith(b"sftp> ") for name in names)
