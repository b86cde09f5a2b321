"""A facility by ssh: does it let this account in, is the source there, has it the tools?"""

import time
from typing import Dict, List, Sequence, Tuple

from beamferry_agent.arguments import Arguments
from beamferry_agent.census_script import quoted
from beamferry_agent.facility_shell import BEGUN, SAY_MARK, known_words
from beamferry_agent.probe_destination import look_at_destination
from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_running import Runner
from beamferry_agent.probe_tools import look_at_tools, path_of

_NAMES = ("host", "account", "source", "destination-root", "destination", "ssh", "seconds")
_ENDED = b"beamferry-end"
# Of what a log-in prints; it may do so without end.
_LIMIT = 256 * 1024
# Of what stands before our mark.
_NOISE_LINES = 3
# Our script is called with it, which tells it from a shell that the log-in shell began in its place, and that reads
# the same lines.
_OURS = "beamferry"
_SCRIPT = b"""\
echo far_command=$1
LC_ALL=C; export LC_ALL
s=%b
t() { if "$@" >/dev/null 2>&1; then echo yes; else echo no; fi; }
echo "source_exists=$(t test -e "$s")"
echo "source_is_folder=$(t test -d "$s")"
echo "source_readable=$(t ls "$s/.")"
echo "source_reason=$(ls "$s/." 2>&1 >/dev/null | sed -n '$s/.*: //p')"
echo "far_rsync=$(command -v rsync >/dev/null 2>&1 && rsync --version 2>/dev/null | sed -n 1p)"
echo "far_find=$(t find / -maxdepth 0 -printf x)"
echo "far_sha256sum=$(t sha256sum /dev/null)"
echo "far_time=$(date +%%s)"
echo %b
"""
_KEYS = (
    *("far_command", "source_exists", "source_is_folder", "source_readable", "source_reason"),
    *("far_rsync", "far_find", "far_sha256sum", "far_time"),
)


def look(words: Sequence[str], facts: Facts, runner: Runner) -> None:
    """Look at this host, the destination, and the facility. Raises AgentError where it is asked wrongly."""
    asked = Arguments("probe", words, _NAMES)
    host, account, source = (asked.needed(name) for name in ("host", "account", "source"))
    root, destination = asked.needed("destination-root"), asked.needed("destination")
    seconds = asked.number("seconds", 60, least=1)
    look_at_tools(runner, facts, "rsync")
    look_at_destination(facts, root, destination)
    if path_of("ssh") is None:
        return
    ssh = known_words(asked.text("ssh", "ssh").split())
    done = runner.run(
        (*ssh, "-l", account, "--", host, "exec", "sh", "-s", _OURS),
        "answer",
        "errors",
        seconds=seconds,
        limit=_LIMIT,
        given=script(source),
    )
    facts.say("far_exit", done.code)
    facts.say("far_endless", done.is_endless)
    facts.say_lines("far_errors", runner.read("errors"))
    noise, has_begun, found = read_answer(runner.read("answer"))
    facts.say("far_begun", has_begun)
    facts.say("far_noise", b"\n".join(noise[:_NOISE_LINES]))
    for key, value in found.items():
        facts.say(key, value)
    facts.say("near_time", int(time.time()))


def script(source: str) -> bytes:
    """Return what is run at the facility, by a sh of our own: the log-in shell is unknown, and may print text."""
    return SAY_MARK + _SCRIPT % (quoted(source.encode("utf-8", "surrogateescape")), _ENDED)


def read_answer(answer: bytes) -> Tuple[List[bytes], bool, Dict[str, bytes]]:
    """Return the lines before our mark, whether there is one, and what our script said behind it."""
    lines = answer.replace(b"\0", b"").split(b"\n")
    at = lines.index(BEGUN) if BEGUN in lines else len(lines)
    own = lines[at + 1 :]
    if _ENDED in own:
        own = own[: own.index(_ENDED)]
    pairs = [line.partition(b"=") for line in own]
    found = {key.decode("ascii", "replace"): value for key, equals, value in pairs if equals}
    return lines[:at], at < len(lines), {key: found[key] for key in _KEYS if key in found}
