"""What lftp's probe sees of real servers, and what it leaves: nothing."""

from __future__ import annotations

import base64
import socketserver
import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import desy_client
import pytest
from desy_engine import KINDS
from test_lftp_listing import Folder

from beamferry.access import first_error
from beamferry.errors import TransientError
from beamferry.lab.desy_faults import DesyFaults
from beamferry.lab.desy_tree import BEAMTIME, README
from beamferry.lab.keys import make_key
from beamferry.lftp_access import judge
from beamferry_agent.probe_request import ProbeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from desy_engine import DesyEngine

    from beamferry.access import Facts, Finding
    from beamferry.lab.desy import Desy

METADATA = f"beamtime-metadata-{BEAMTIME}.json"


def judged(engine: DesyEngine, facts: Facts) -> tuple[Finding, ...]:
    return judge(facts, engine.beamtime, engine.site, datetime.now(UTC).date())


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_sees(
    desy: Desy,
    at_desy: Callable[..., DesyEngine],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    engine = at_desy(kind)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    facts = engine.facts()
    assert facts.get("folders") == "processed/raw/scratch_cc/shared/"
    assert (facts.get("folders_cut"), facts.get("files")) == ("0", "2")
    assert facts.get("metadata_files") == f"{METADATA}/"
    assert base64.b64decode(facts.get("metadata")) == (desy.tree / METADATA).read_bytes()
    assert base64.b64decode(facts.get("readme")) == (desy.tree / README).read_bytes()
    assert facts.get("lftp").startswith("LFTP Version ")
    assert (facts.get("tools_missing"), facts.get("far_errors")) == ("", "")
    assert facts.get("cert_code") == ("" if kind.startswith("sftp") else "0")
    # Nothing is left, neither here nor at the destination.
    assert list(scratch.iterdir()) == []
    assert not engine.secret.exists()
    assert [path.name for path in engine.destination.parent.iterdir()] == ["other group's"]


@pytest.mark.parametrize("kind", ["pyftpdlib", "sftp"])
def test_what_is_large_is_cut(
    desy: Desy, at_desy: Callable[..., DesyEngine], kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    top = "" if kind == "pyftpdlib" else f"/{BEAMTIME}"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with Folder(desy, "probe") as folder:
        folder.mkdir()
        engine = at_desy(kind, settings={"source": f"{top}/processed/probe"})
        with (folder / METADATA).open("wb") as file:
            file.truncate(100_000_000)
        (folder / README).write_bytes(b"x" * 20_000)
        (folder / "a  b").mkdir()
        for number in range(2_000):
            (folder / f"scan of a sample {number:04}").mkdir()
        facts = engine.facts()
    assert base64.b64decode(facts.get("metadata")) == bytes(65_536)
    # What is larger than all of /tmp may be ends the look before the other is fetched.
    assert len(base64.b64decode(facts.get("readme"))) in {0, 8_192}
    names = facts.get("folders").split("/")[:-1]
    assert names[0] == "a  b"
    assert 1_000 < len(names) == 2_001 - int(facts.get("folders_cut"))
    assert len(facts.get("folders")) <= 30_000
    assert list(scratch.iterdir()) == []


# Faults that the sentences' own test does not have, see test_lftp_sentences.py; their words are in tests/data/lftp.


@contextmanager
def taken(engine: DesyEngine) -> Iterator[None]:
    """Another program holds the one connection that the account may have."""
    desy = engine.desy
    server = desy.ftps if engine.kind == "pyftpdlib" else desy.pure
    with DesyFaults(desy).connections_limited(1):
        held = desy_client.ftps(desy, server.port)
        try:
            yield
        finally:
            held.close()


def lead_to(engine: DesyEngine, old: str, new: str) -> AbstractContextManager[None]:
    """Let ssh read another configuration."""
    config = engine.folder / "ssh_config"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    return nullcontext()


def other_host_key(engine: DesyEngine) -> AbstractContextManager[None]:
    key = engine.folder / "other"
    make_key(key, "other")
    (engine.folder / "known_hosts").write_text("psftp.desy.de " + key.with_suffix(".pub").read_text())
    return nullcontext()


def ask_a_person(engine: DesyEngine) -> AbstractContextManager[None]:
    """The server that wants a second factor."""
    desy = engine.desy
    (engine.folder / "known_hosts").write_text(f"psftp.desy.de {desy.mfa.pinned}\n")
    lead_to(engine, f"HostName {desy.sftp.address}\n", f"HostName {desy.mfa.address}\n")
    return lead_to(engine, f"Port {desy.sftp.port}\n", f"Port {desy.mfa.port}\n")


FAULTS: list[
    tuple[str, str, dict[str, Any], Callable[[DesyEngine], AbstractContextManager[None]], str, bool]
] = [
    ("busy", "pyftpdlib", {}, taken, "facility-busy", True),
    ("busy-pure", "pure-ftpd", {}, taken, "facility-busy", True),
    (
        "dropped",
        "pyftpdlib",
        {},
        lambda engine: DesyFaults(engine.desy).control_dropped(commands=1),
        "facility-unreachable",
        True,
    ),
    ("no-folder", "pyftpdlib", {"source": "/nowhere"}, lambda _: nullcontext(), "source-missing", False),
    (
        "a-file",
        "sftp",
        {"source": f"/{BEAMTIME}/{README}"},
        lambda _: nullcontext(),
        "source-missing",
        False,
    ),
    (
        "key-missing",
        "sftp",
        {},
        lambda engine: lead_to(engine, str(engine.key), f"{engine.folder}/none"),
        "facility-key-refused",
        False,
    ),
    ("host-key", "sftp", {}, other_host_key, "facility-host-key-changed", False),
    ("second-factor", "sftp", {}, ask_a_person, "facility-key-refused", False),
    ("no-session", "sftp", {"auth": "interactive"}, lambda _: nullcontext(), "session-lost", True),
]


@pytest.mark.parametrize(
    ("kind", "fields", "broken", "code", "again"),
    [fault[1:] for fault in FAULTS],
    ids=[fault[0] for fault in FAULTS],
)
def test_each_fault_has_its_sentence(
    at_desy: Callable[..., DesyEngine],
    kind: str,
    fields: dict[str, Any],
    broken: Callable[[DesyEngine], AbstractContextManager[None]],
    code: str,
    again: bool,
) -> None:
    engine = at_desy(kind, settings=fields)
    with broken(engine):
        facts = engine.facts()
    error = first_error(judged(engine, facts))
    assert error is not None
    assert (error.code, isinstance(error, TransientError)) == (code, again), str(error)
    # What ended the look is its own code, whichever tool it was.
    assert facts.get("far_exit") not in {"", "0"}


def test_an_empty_beamtime_is_told(desy: Desy, at_desy: Callable[..., DesyEngine]) -> None:
    with Folder(desy, "probe") as folder:
        folder.mkdir()
        for kind, source in (
            ("pyftpdlib", "/processed/probe"),
            ("pure-ftpd", "/processed/probe"),
            ("sftp", f"/{BEAMTIME}/processed/probe"),
        ):
            engine = at_desy(kind, settings={"source": source})
            facts = engine.facts()
            assert (facts.get("source_listed"), facts.get("files")) == ("yes", "0")
            error = first_error(judged(engine, facts))
            assert error is not None
            assert "shows nothing at all" in error.problem


class Plain(socketserver.StreamRequestHandler):
    """An FTP server that knows no TLS and takes any password."""

    heard: list[bytes]

    def handle(self) -> None:
        self.wfile.write(b"220 hello\r\n")
        for line in self.rfile:
            word = line.split()[0].upper() if line.split() else b""
            self.heard.append(word)
            answer = {b"USER": b"331 password?", b"PASS": b"230 come in", b"QUIT": b"221 bye"}
            self.wfile.write(answer.get(word, b"500 what?") + b"\r\n")


def test_a_password_never_goes_in_clear(at_desy: Callable[..., DesyEngine]) -> None:
    heard: list[bytes] = []
    handler = type("Handler", (Plain,), {"heard": heard})
    with socketserver.ThreadingTCPServer(("127.0.0.3", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        engine = at_desy(settings={"port": server.server_address[1]})
        error = first_error(engine.probe())
        server.shutdown()
        thread.join()
    assert error is not None
    assert error.code == "facility-no-tls"
    assert b"AUTH" in heard
    assert b"PASS" not in heard


# openssl: worth a look where it is there, and no more.


def all_but(missing: str, folder: Path) -> Path:
    """A folder with all tools of this host but one."""
    tools = folder / "tools"
    tools.mkdir()
    for place in ("/usr/bin", "/bin", "/usr/sbin"):
        for tool in Path(place).iterdir():
            link = tools / tool.name
            if tool.name != missing and not link.is_symlink():
                link.symlink_to(tool)
    return tools


@pytest.mark.parametrize(
    ("kind", "missing", "code"),
    [("pyftpdlib", "lftp", "rds-no-lftp"), ("sftp-password", "ssh", "rds-no-ssh")],
)
def test_a_tool_that_is_missing_keeps_no_password(
    at_desy: Callable[..., DesyEngine],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    missing: str,
    code: str,
) -> None:
    tools = all_but(missing, tmp_path)
    engine = at_desy(kind)
    (engine.shims / "ssh").unlink(missing_ok=True)
    monkeypatch.setenv("PATH", str(tools))
    facts = engine.facts()
    assert facts.get("far_exit") == "77"
    error = first_error(judged(engine, facts))
    assert error is not None
    assert error.code == code
    assert not engine.secret.exists()


def test_without_openssl_lftp_looks_for_itself(
    at_desy: Callable[..., DesyEngine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = all_but("openssl", tmp_path)
    engine = at_desy()
    monkeypatch.setenv("PATH", str(tools))
    facts = engine.facts()
    assert (facts.get("openssl"), facts.get("tools_missing"), facts.get("cert_code")) == ("", "", "")
    assert first_error(judged(engine, facts)) is None


def test_an_openssl_that_trusts_nobody_stops_nothing(at_desy: Callable[..., DesyEngine]) -> None:
    engine = at_desy()
    shim = engine.shims / "openssl"
    # As one of a conda environment, which has a list of issuers of its own.
    shim.write_text(
        "#!/bin/bash\nfor word; do\n"
        '  if [[ $word == -CAfile ]]; then skip=yes; elif [[ -n ${skip:-} ]]; then skip=; else words+=("$word"); fi\n'
        'done\nexec /usr/bin/openssl "${words[@]}"\n'
    )
    shim.chmod(0o755)
    facts = engine.facts()
    assert facts.get("cert_code") not in {"", "0"}
    findings = judged(engine, facts)
    assert first_error(findings) is None
    assert any("openssl does not" in finding.sentence for finding in findings)


def test_a_probe_that_is_called_wrongly_says_so() -> None:
    for arguments in (("--beamtime", BEAMTIME), ("--what", "x")):
        done = subprocess.run(
            (sys.executable, "-m", "beamferry_agent", "probe"),
            input=ProbeRequest("lftp", arguments).to_json().encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 78
        assert b"agent: probe: " in done.stderr
