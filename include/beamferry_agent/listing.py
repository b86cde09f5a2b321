"""What the facility holds, folder by folder over several connections, and whether its listings are whole.

Servers and lftp cut listings without a word (at 1000 entries, over SFTP at 98): each folder is therefore looked at
twice, in two ways. Over FTP, NLST and MLSD (or LIST) must have the same files; over SFTP, OpenSSH's own client must
count as many entries as lftp. The same look finds a name that one of the two cannot show, e.g. with a line break.
A second look that did not take place is told like one that disagrees.
"""

import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import IO, Callable, Dict, List, NamedTuple, Sequence, Tuple

from beamferry_agent.lftp_login import SourceError
from beamferry_agent.listing_answers import (
    Judged,
    Scope,
    judge,
    lftp_commands,
    lines_of,
    read_answers,
    read_counts,
)
from beamferry_agent.sessions import Facility, failed_session

# More connections list no faster, and servers limit those that come at once.
_CONNECTIONS = 8
# Folders that sftp is asked for in one session; so few of them that a session for each is no loss.
_ASKED_TOGETHER, _ASKED_ALONE = 500, 2
# Sessions of sftp that may end early, of one connection's share of a level.
_RESTARTS = 20
# A folder that holds itself would have no end.
_DEEPEST = 200
# Seconds before what was missed is looked at again, over one connection.
_PAUSES = (1, 5, 15)
# How many of these looks are worth their time: a refusal stays; two looks agree the next time if a file was written in
# the midst of them; a server that had no connection to spare has one later.
_REFUSED, _DISAGREES, _MISSED = 0, 1, len(_PAUSES)
# Where LIST is all that a server has, its times are exact to a day.
_DAY = 86400
# Lines of what a server says that it can do.
_FEATURES = 1000
# Entries after which servers like to cut: two looks that agree on it prove less than on another number.
_ROUND = 1000
# As the jobs' codes, see lftp_complaints.py.
_UNREADABLE, _BAD_LINE, _CUT = 23, 65, 66


class _Listed(NamedTuple):
    """A folder that was listed: its records are in the spool from ``start`` to ``end``."""

    spool: str
    start: int
    end: int
    judged: Judged


class _Doubt(NamedTuple):
    """Why a folder was not listed, or why its listing is doubted.

    ``line``: for people, see lftp_dry_run.py. ``words``: what the tool complained of. ``looks``: how often it is worth
    another look. ``broken``: whether the connection was the reason.
    """

    line: bytes
    words: bytes
    looks: int
    broken: bool = False


class _Look(NamedTuple):
    """What came of a look at some folders: those listed, and the doubts about others."""

    listed: Dict[bytes, _Listed]
    doubts: Dict[bytes, List[_Doubt]]


class Lister:
    """Lists a facility's folders level by level."""

    def __init__(
        self,
        facility: Facility,
        scope: Scope,
        scratch: str,
        streams: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take an empty folder for what is kept meanwhile, and how many connections may be open at once."""
        self._facility, self._scope, self._scratch, self._sleep = facility, scope, scratch, sleep
        self._streams = min(streams, _CONNECTIONS)
        self.entries = self._rounds = 0
        # One that nobody at the facility can foresee.
        self._mark = "beamferry-{}".format(secrets.token_hex(12)).encode()

    def list_all(self, output: IO[bytes]) -> Tuple[int, int]:
        """Write a census, unsorted; return the seconds to which times are exact, and the folders of a round number.

        Raises SourceError, DamagedListsError.
        """
        window = self._log_in()
        level, depth = [b"."], 0
        while level:
            depth += 1
            if depth > _DEEPEST:
                raise SourceError(
                    _BAD_LINE,
                    "beamferry: unreadable-line: .: folders within folders, {} deep\n".format(
                        _DEEPEST
                    ).encode(),
                )
            level = self._list_level(level, output)
        return window, self._rounds

    def _log_in(self) -> int:
        # One log-in first: a wrong password is one try, not one of each connection.
        command = b"quote FEAT\n" if self._facility.is_ftp else b"pwd\n"
        for pause in (0, *_PAUSES):
            self._sleep(pause)
            with self._facility.ask("lftp", command) as session:
                features = b"\n".join(islice(lines_of(session.answer), _FEATURES))
            if session.code == 0:
                break
            if session.is_refused or pause == _PAUSES[-1]:
                raise failed_session(session.words)
        return _DAY if self._facility.is_ftp and b"MLST" not in features.upper() else 1

    def _list_level(self, folders: List[bytes], output: IO[bytes]) -> List[bytes]:
        """List these folders, write their entries, and return the folders among them."""
        look = self._look(folders, self._streams)
        refusals = 0
        for number, pause in enumerate(_PAUSES):
            doubted = [folder for folder, doubts in look.doubts.items() if doubts[0].looks > number]
            refusals += any(self._facility.tells_refusal(words) for words in _words_of(look))
            # Accounts are locked after a few log-ins that failed.
            if not doubted or refusals > 1:
                break
            self._sleep(pause)
            again = self._look(doubted, 1)
            kept = {folder: doubts for folder, doubts in look.doubts.items() if folder not in again.listed}
            look = _Look({**look.listed, **again.listed}, {**kept, **again.doubts})
        _raise_for(look)
        found: List[bytes] = []
        for folder in folders:
            listed = look.listed[folder]
            with open(listed.spool, "rb") as spool:
                spool.seek(listed.start)
                output.write(spool.read(listed.end - listed.start))
            self._rounds += listed.judged.listed == _ROUND
            found.extend(listed.judged.folders)
        for spool_name in {listed.spool for listed in look.listed.values()}:
            os.remove(spool_name)
        return found

    def _look(self, folders: List[bytes], connections: int) -> _Look:
        """Look at folders over some connections at once."""
        count = min(connections, len(folders))
        shares = [folders[number::count] for number in range(count)]
        with ThreadPoolExecutor(count) as pool:
            looks = list(pool.map(self._look_at_share, shares))
        whole = _Look({}, {})
        for look in looks:
            whole.listed.update(look.listed)
            whole.doubts.update(look.doubts)
        return whole

    def _look_at_share(self, folders: List[bytes]) -> _Look:
        look = self._list_by_lftp(folders)
        if not self._facility.is_ftp:
            waiting = list(look.listed)
            # What an entry of a folder that is asked for alone is called cannot be taken for an answer.
            at_once = 1 if len(waiting) <= _ASKED_ALONE else _ASKED_TOGETHER
            for begin in range(0, len(waiting), at_once):
                self._count_by_sftp(look, waiting[begin : begin + at_once])
        return look

    def _list_by_lftp(self, folders: List[bytes]) -> _Look:
        look = _Look({}, {})
        spool_name = self._place("spool")
        commands = b"".join(lftp_commands(folders, self._mark, self._facility.is_ftp))
        refused: List[bytes] = []
        doubted: Dict[bytes, List[bytes]] = {}
        with open(spool_name, "wb") as spool, self._facility.ask("lftp", commands) as session:
            for answer in read_answers(lines_of(session.answer), self._mark, folders):
                if answer.refused:
                    refused.append(answer.folder)
                    continue
                judged = judge(answer, self._scope, self._facility.is_ftp)
                start = spool.tell()
                spool.writelines(judged.records)
                self.entries += len(judged.records)
                if judged.doubts:
                    doubted[answer.folder] = judged.doubts
                else:
                    small = judged._replace(records=[])
                    look.listed[answer.folder] = _Listed(spool_name, start, spool.tell(), small)
        if not look.listed:
            os.remove(spool_name)
        for folder, lines in doubted.items():
            look.doubts[folder] = [_Doubt(line, session.words, _DISAGREES) for line in lines]
        # A folder that may not be read is told of by its name; anything else is a connection that broke.
        looks = _MISSED if session.is_broken else _REFUSED
        for folder in refused:
            look.doubts[folder] = [_Doubt(b"unlisted: " + folder, session.words, looks, session.is_broken)]
        for folder in folders:
            if folder not in look.listed and folder not in look.doubts:
                look.doubts[folder] = [_Doubt(b"unlisted: " + folder, session.words, _MISSED, broken=True)]
        return look

    def _count_by_sftp(self, look: _Look, folders: Sequence[bytes]) -> None:
        """Count folders that lftp listed by OpenSSH's client, and doubt those that it does not confirm."""
        rest, restarts = list(folders), 0
        while rest:
            commands = b"".join(b"cd " + self._facility.place(folder) + b"\nls -1a\n" for folder in rest)
            with self._facility.ask("sftp", commands + b"bye\n") as session:
                counts = read_counts(list(lines_of(session.answer)), session.words, len(rest))
            done = len(counts)
            while done and counts[done - 1] is None:
                done -= 1
            # It ends at a folder that it cannot enter; those behind it are asked for by another session.
            goes_on = session.code == 1 and restarts < _RESTARTS
            asked = rest[: done + 1] if goes_on else rest
            for folder, count in zip(asked, counts):
                listed = look.listed[folder].judged.listed
                if count == listed:
                    continue
                if count is None:
                    reason = session.reason or b"sftp ended with code %d" % session.code
                    doubt = _Doubt(b"unchecked: " + folder + b" (" + reason + b")", session.words, _MISSED)
                else:
                    told = "{:,} names, {:,} listed".format(count, listed).encode()
                    doubt = _Doubt(b"cut: " + folder + b": " + told, session.words, _DISAGREES)
                look.doubts[folder] = [doubt]
                del look.listed[folder]
            rest = rest[len(asked) :]
            restarts += 1

    def _place(self, kind: str) -> str:
        return os.path.join(self._scratch, "{}.{}".format(kind, secrets.token_hex(8)))


def _words_of(look: _Look) -> List[bytes]:
    return list(dict.fromkeys(doubt.words for doubts in look.doubts.values() for doubt in doubts))


def _raise_for(look: _Look) -> None:
    doubts = [doubt for of_folder in look.doubts.values() for doubt in of_folder]
    broken = [doubt.words for doubt in doubts if doubt.broken]
    if broken:
        raise failed_session(b"".join(dict.fromkeys(broken)))
    lines = [doubt.line for doubt in doubts]
    lines += [line for listed in look.listed.values() for line in listed.judged.faults]
    if not lines:
        return
    kinds = {line.split(b":", 1)[0] for line in lines}
    code = _BAD_LINE if b"unreadable-line" in kinds else _UNREADABLE if kinds == {b"unlisted"} else _CUT
    told = b"".join(b"beamferry: " + line + b"\n" for line in lines)
    raise SourceError(code, b"".join(_words_of(look)) + told)
