"""Settings of lftp for people who call it by hand: the certificate is checked, nothing goes in clear."""

import os
import re
from typing import List

from beamferry_agent.account_steps import Steps, reason_of

_SETTINGS = (
    "set ssl:verify-certificate yes",
    "set ssl:check-hostname yes",
    "set ftp:ssl-allow yes",
    "set ftp:ssl-force yes",
    "set ftp:ssl-protect-data yes",
    "set ftp:ssl-protect-list yes",
    "set sftp:auto-confirm no",
)
_CA = "set ssl:ca-file ~/.lftp/certs/desy.pem"
# How much lftp says is a matter of taste: it is written, and not insisted on.
_WORDY = "debug 3"
_MUST_BE_ON = re.compile("verify|check-|ssl-force|ssl-allow$|protect-(data|list)")
_ON, _OFF = ("yes", "true", "on", "1", "+"), ("no", "false", "off", "0", "-")


def make_settings(steps: Steps, ca: str) -> None:
    """See that lftp's settings and the CA certificate, if one is given, are there; what is a person's own stays."""
    folder = os.path.join(steps.home, ".lftp")
    elsewhere = os.path.join(
        os.environ.get("XDG_CONFIG_HOME") or os.path.join(steps.home, ".config"), "lftp", "rc"
    )
    # lftp reads that one only as long as there is no ~/.lftp.
    if not os.path.exists(folder) and os.path.exists(elsewhere):
        steps.refuse("rc", "", elsewhere, "hides")
        return
    certificates = os.path.join(folder, "certs")
    try:
        os.makedirs(certificates, exist_ok=True)
    except OSError as error:
        steps.refuse("rc", "", certificates, "failed", reason_of(error))
        return
    if ca:
        _make_ca(steps, os.path.join(certificates, "desy.pem"), ca)
    _make_rc(steps, os.path.join(folder, "rc"), [_CA] * bool(ca) + list(_SETTINGS))


def _make_ca(steps: Steps, place: str, text: str) -> None:
    if not os.path.lexists(place):
        steps.new_file("ca", place, text)
        return
    try:
        with open(place, "rb") as file:
            same = file.read(len(text.encode()) + 1) == text.encode()
    except OSError:
        same = False
    if same:
        steps.tell("ca", "", "was-there", place)
    else:
        steps.refuse("ca", "", place, "differs")


def _make_rc(steps: Steps, place: str, settings: List[str]) -> None:
    if not os.path.lexists(place):
        steps.new_file("rc", place, "\n".join([*settings, _WORDY, ""]))
        return
    try:
        if not os.path.isfile(place):
            raise OSError
        with open(place, encoding="utf-8", errors="surrogateescape") as file:
            differences = rc_differences(settings, file.read())
    except OSError:
        steps.refuse("rc", "", place, "unreadable")
        return
    if differences:
        steps.refuse("rc", "", place, "differs", differences)
    else:
        steps.tell("rc", "", "was-there", place)


def rc_differences(settings: List[str], text: str) -> str:
    """Return which settings a file lacks, and which lines of its own undo them, in words.

    Lines of the file are told by their numbers and by a setting's name, never whole: passwords may stand there.
    """
    # str.splitlines takes characters for the ends of lines that lftp does not.
    lines = text.split("\n")
    there = set(map(_plain, lines))
    told = ["add: " + line for line in settings if line not in there]
    for number, line in enumerate(lines, 1):
        for part in line.split(";"):
            words = _plain(part).split(" ")
            if len(words) >= 3 and words[0] == "set" and _undoes(words[1].split("/")[0], words[2]):
                told.append("take out line {} ({})".format(number, words[1].split("/")[0]))
    return "; ".join(told)


def _undoes(name: str, value: str) -> bool:
    plain = value.lower().replace('"', "").replace("'", "")
    if _MUST_BE_ON.search(name):
        return plain not in _ON
    return "auto-confirm" in name and plain not in _OFF


def _plain(line: str) -> str:
    return re.sub("[ \t]+", " ", line).strip(" ")
