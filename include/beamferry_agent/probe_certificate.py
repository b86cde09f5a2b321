"""What a server over FTP shows before anybody logs in: whether its certificate is good, and until when."""

import calendar
import re
import time
from typing import Optional

from beamferry_agent.probe_facts import Facts
from beamferry_agent.probe_running import Runner
from beamferry_agent.probe_tools import path_of

_SECONDS, _LIMIT = 30, 1024 * 1024
_VERDICT = re.compile(rb"^ *Verify return code: ([0-9]+) *(?:\((.*)\))?\r?$", re.MULTILINE)
_FTP_PORT = 21


def look_at_certificate(facts: Facts, runner: Runner, host: str, port: int, ca: str) -> None:
    """Tell what openssl says of it; nothing where there is no openssl, or no certificate."""
    if path_of("openssl") is None:
        return
    kind = "ip" if re.match(r"[0-9.]+\Z", host) else "hostname"
    runner.run(
        (
            *("openssl", "s_client", "-starttls", "ftp", "-connect", "{}:{}".format(host, port or _FTP_PORT)),
            *("-servername", host, "-verify_" + kind, host),
            *(("-CAfile", ca) if ca else ()),
        ),
        "certificate",
        "complaints",
        seconds=_SECONDS,
        limit=_LIMIT,
    )
    shown = runner.read("certificate")
    if b"BEGIN CERTIFICATE" not in shown:
        return
    verdicts = _VERDICT.findall(shown)
    code, text = verdicts[-1] if verdicts else (b"", b"")
    facts.say("cert_code", code)
    facts.say("cert_text", text)
    facts.say("cert_issuer", re.sub(b"^issuer= *", b"", _told(runner, "-issuer", "-nameopt", "RFC2253")))
    facts.say("cert_names", names_of(_told(runner, "-text")))
    facts.say("cert_ends", end_of(_told(runner, "-enddate")))


def _told(runner: Runner, *words: str) -> bytes:
    runner.run(
        ("openssl", "x509", "-in", runner.place("certificate"), "-noout", *words),
        "told",
        "complaints",
        seconds=_SECONDS,
        limit=_LIMIT,
    )
    return runner.read("told")


def names_of(text: bytes) -> bytes:
    """Return the names that a certificate is for, by openssl's text."""
    lines = text.split(b"\n")
    for line, below in zip(lines, lines[1:]):
        if b"Subject Alternative Name" in line:
            return re.sub(b"(IP Address|DNS):", b"", below).strip()
    return b""


def end_of(text: bytes) -> Optional[int]:
    """Return when a certificate ends, by openssl's ``notAfter=...``; None where it does not say so."""
    try:
        return calendar.timegm(time.strptime(text.decode("ascii").strip(), "notAfter=%b %d %H:%M:%S %Y GMT"))
    except ValueError:
        return None
