"""The tools on RDS-SSH: which are there, of which version, and whether they can do what they are needed for."""

import os
import platform
import re
import shutil
from typing import Callable, Dict, Iterable, List, NamedTuple, Optional, Union

from beamferry_agent.destination import PARTIAL
from beamferry_agent.environment import tool_environment
from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_running import Runner
from beamferry_agent.todo_list import FORMAT

# What the steps start, beside what is told with its version.
_OF_STEPS = ("find", "sh", "shuf", "sort", "sync")
# Bash answers the question for a password over SFTP, see lftp_login.py.
NEEDED = {"rsync": _OF_STEPS, "lftp": ("bash", "lftp", "sftp", *_OF_STEPS)}
_SECONDS, _LIMIT = 10, 64 * 1024

# A name that only a NUL ends; the time is one that a file system with steps of two seconds keeps.
_NAME, _TIME = b"first\nname", 1000000000
_RECORDS, _SAMPLES = b"b\0a\nb\0a\0", {b"", b"a", b"b", b"a\nb"}
# As rsync tells of that name.
_COPIED = re.compile(rb"^@ >f\S* 4 first\\#012name$", re.MULTILINE)


class _Trial(NamedTuple):
    """What a tool is needed for, how it is asked, what it is given on stdin, and whether its answer is right."""

    need: str
    words: List[str]
    given: bytes
    is_right: Callable[[bytes], bool]


def path_of(tool: str) -> Optional[str]:
    """Return where a tool is, None where it is not."""
    return shutil.which(tool, path=tool_environment()["PATH"])


def first_line(runner: Runner, *words: str) -> str:
    """Return the first line of what a tool says, '' where it is not there."""
    if path_of(words[0]) is None:
        return ""
    runner.run(words, "version", seconds=_SECONDS, limit=_LIMIT)
    return runner.read("version").split(b"\n")[0].decode("utf-8", "replace")


def look_at_tools(runner: Runner, facts: Facts, transport: str) -> None:
    """Tell what is there."""
    facts.say("node", os.uname().nodename)
    facts.say("rsync", first_line(runner, "rsync", "--version"))
    facts.say("ssh", first_line(runner, "ssh", "-V"))
    facts.say("python", platform.python_version())
    facts.say("tools_missing", " ".join(tool for tool in NEEDED[transport] if path_of(tool) is None))
    facts.say("tools_unfit", ", ".join(unfit(runner, (transport, *NEEDED[transport]))))


def unfit(runner: Runner, tools: Iterable[str]) -> List[str]:
    """Return what some of these tools cannot do: ``PATH (NEED)``. What is missing is no matter here."""
    folder = runner.place("trial")
    os.mkdir(folder)
    path = os.path.join(os.fsencode(folder), _NAME)
    _write(path, b"data")
    os.utime(path, (_TIME, _TIME))
    _write(runner.place("records"), _RECORDS)
    _write(runner.place("names"), _NAME + b"\0")
    _write(runner.place("source"), bytes(range(256)) * 16)
    found = []
    for tool, trial in _trials(runner).items():
        where = path_of(tool) if tool in tools else None
        if where is None:
            continue
        done = runner.run(
            [where, *trial.words], "answer", "complaints", seconds=_SECONDS, limit=_LIMIT, given=trial.given
        )
        if done.code != 0 or not trial.is_right(runner.read("answer")):
            found.append("{} ({})".format(where, trial.need))
    return found


def _write(path: Union[str, bytes], content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _trials(runner: Runner) -> Dict[str, _Trial]:
    """Return the trials by tool, each with the options that the steps use."""
    folder, records = runner.place("trial"), runner.place("records")
    return {
        "find": _Trial(
            "list names with sizes and times, a NUL at the end of each, by -printf",
            [
                *(folder, "-mindepth", "1", "!", "-perm", "/6002", "-type", "f", "-newerct", "@0"),
                *("-printf", "%P//f//%s//%Ts//\\0"),
            ],
            b"",
            lambda answer: answer == _NAME + b"//f//4//%d//\0" % _TIME,
        ),
        "sort": _Trial(
            "sort what ends with a NUL, by -z",
            ["-z", "-S", "1M", "-T", folder, "-o", runner.place("sorted"), "--", records],
            b"",
            lambda _: runner.read("sorted") == b"a\0a\nb\0b\0",
        ),
        "shuf": _Trial(
            "take a sample of what ends with a NUL, by -z and --random-source",
            ["-z", "-n", "2", "--random-source=" + runner.place("source"), "--", records],
            b"",
            lambda answer: len(set(answer.split(b"\0"))) == 3 and set(answer.split(b"\0")) < _SAMPLES,
        ),
        "rsync": _Trial(
            "copy listed files with their times, and tell their names",
            [
                *("-r", "-l", "-p", "-t", "-s", "--no-h", "--chmod=Du+rwx,Fu+rw,a-s,o-w"),
                *("--partial-dir=" + PARTIAL, "--temp-dir=" + folder, FORMAT),
                *(
                    "--files-from=" + runner.place("names"),
                    "--from0",
                    "--",
                    folder + "/",
                    runner.place("copy") + "/",
                ),
            ],
            b"",
            lambda answer: _COPIED.search(answer) is not None and _is_copied(runner),
        ),
    }


def _is_copied(runner: Runner) -> bool:
    try:
        return os.stat(os.path.join(os.fsencode(runner.place("copy")), _NAME)).st_mtime == _TIME
    except OSError:
        return False
