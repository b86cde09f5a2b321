"""Where a second factor is asked for, a run waits for a person, goes on over that session, and waits again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from beamferry import login
from beamferry.lab.desy_tree import BEAMTIME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamtime_runs import Runs

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def attended(runs: Runs) -> Iterator[Runs]:
    """The runs of DESY's beamtime over SFTP, where its host asks for a second factor."""
    before = runs.lab.registry.read_text()
    found = yaml.safe_load(runs.lab.registry_text(desy="sftp"))
    entry = next(one for one in found["beamtimes"] if one["facility"] == "desy")
    entry |= {"ended": datetime.now(UTC).date() - timedelta(days=400), "auth": "interactive"}
    entry["destination"] = f"{runs.lab.destination_root}/attended"
    new = runs.lab.registry.with_suffix(".new")
    ours = yaml.safe_load(before)
    new.write_text(yaml.safe_dump(ours | {"beamtimes": [*ours["beamtimes"], entry]}, sort_keys=False))
    new.replace(runs.lab.registry)
    runs.lab.route_desy("mfa")
    runs.lab.desy.mfa.forget()
    try:
        yield replace(runs, dag_id=f"beamtime_desy_{BEAMTIME}")
    finally:
        runs.lab.route_desy("sftp")
        runs.lab.registry.write_text(before)


def person_types(runs: Runs, command: str) -> None:
    """Type a command on RDS-SSH, and password and code where they are asked for."""
    desy = runs.lab.desy
    words = "".join(f"{word}\\n" for word in (desy.password, desy.code))
    script = f"""
cd && mkdir -p person && cd person
printf {shlex.quote(words)} > words
printf '#!/bin/sh\\nhead -n 1 ~/person/words\\nsed -i 1d ~/person/words\\n' > askpass
chmod 700 askpass
export SSH_ASKPASS=$HOME/person/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=:
{command} > said 2>&1 < /dev/null
echo code $? >> said
cat said
"""
    done = runs.lab.run_on_rds(("bash", "-s"), stdin=script.encode())
    assert b"code 0" in done.stdout, done.stdout + done.stderr


def asked(runs: Runs, run: str, task: str) -> dict[str, Any]:
    """Wait until a task waits for a person without a worker, and return what is asked."""

    def look() -> Any:
        states = {state for name, state in runs.tasks(run).items() if name.startswith(task)}
        return runs.known().get("log_in") if "deferred" in states else None

    return dict(runs.wait(look, lambda: f"{task} waits for a person; tasks are {runs.tasks(run)}"))


def test_a_run_waits_for_a_person_and_waits_again_when_the_session_is_lost(attended: Runs) -> None:
    runs, server = attended, attended.lab.desy.mfa
    mails = len(runs.lab.mail.messages())
    run = runs.begin(bandwidth_limit=1)
    first = asked(runs, run, "verify_access")

    def asking() -> list[dict[str, Any]]:
        return [mail for mail in runs.lab.mail.messages()[mails:] if "log in" in mail["subject"].lower()]

    told = runs.wait(asking, "the mail that asks for a log-in")
    assert first["command"] in " ".join(told[0]["text"].split())
    assert "-M" in first["command"]
    # It looks again and again, and the facility hears nothing of it.
    assert server.attempts() == 0

    person_types(runs, first["command"])
    runs.wait(
        lambda: any(
            # A folder may come home while its task still waits itself.
            name.startswith("transfer") and state in {"running", "deferred"}
            for name, state in runs.tasks(run).items()
        ),
        lambda: f"the transfer runs; tasks are {runs.tasks(run)}",
    )
    assert "log_in" not in runs.known()
    runs.wait(lambda: runs.known().get("progress", {}).get("bytes_done", 0) > 500_000, "bytes come")
    stop = (
        "ssh",
        "-O",
        "exit",
        "-o",
        f"ControlPath={login.socket(runs.beamtime)}",
        "-l",
        "cdaniel",
        "psftp.desy.de",
    )
    runs.lab.run_on_rds(stop)
    again = asked(runs, run, "transfer")
    assert again["command"] == first["command"]
    assert again["at"] > first["at"]
    assert server.attempts() == 1

    person_types(runs, again["command"])
    assert runs.end_of(run) == "success", runs.tasks(run)
    assert runs.certificate()["outcome"] == "verified"
    assert (server.attempts(accepted=True), server.attempts(accepted=False)) == (2, 0)
    assert "log_in" not in runs.known()
    assert len(asking()) == 2
    runs.lab.run_on_rds(stop)


@pytest.mark.long
def test_rsync_goes_over_a_persons_session_as_well(runs: Runs) -> None:
    """Diamond asks the lab's account for no second factor; nothing in the run knows that."""
    before = runs.lab.registry.read_text()
    found = yaml.safe_load(before)
    entry = found["beamtimes"][0] | {"id": "mg25682-3", "source": runs.lab.source, "auth": "interactive"}
    entry |= {"ended": datetime.now(UTC).date() - timedelta(days=100)}
    new = runs.lab.registry.with_suffix(".new")
    new.write_text(yaml.safe_dump(found | {"beamtimes": [*found["beamtimes"], entry]}, sort_keys=False))
    new.replace(runs.lab.registry)
    ours = replace(runs, dag_id="beamtime_diamond_mg25682-3")
    try:
        run = ours.begin(bandwidth_limit=1)
        command = asked(ours, run, "verify_access")["command"]
        person_types(ours, command)
        ours.wait(lambda: ours.tasks(run).get("transfer") == "deferred", "the transfer runs")
        stop = ("ssh", "-O", "exit", "-o", f"ControlPath={login.socket(ours.beamtime)}", "ssh.diamond.ac.uk")
        runs.lab.run_on_rds(stop)
        asked(ours, run, "transfer")
        person_types(ours, command)
        assert ours.end_of(run) == "success", ours.tasks(run)
        assert ours.certificate()["outcome"] == "verified"
        runs.lab.run_on_rds(stop)
    finally:
        runs.lab.registry.write_text(before)
