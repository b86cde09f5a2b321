"""The tasks of a beamtime's chain, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pendulum
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator

from beamferry import access, census, rsync
from beamferry.airflow.jobs import RemoteJobOperator
from beamferry.airflow.task import BeamtimeTask
from beamferry.plan import TransferPlan, make_plan, sentence, table
from beamferry.remote import script_command
from beamferry.rsync_output import parse_stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

    from beamferry.airflow.jobs import Outcome
    from beamferry.remote import Session

# Seconds without a word from the probe; it is silent only while it waits for the facility's answer.
PROBE_TIMEOUT = 180


class VerifyAccess(BeamtimeTask, SSHOperator):
    """Find out whether a transfer can begin, and name the remedy for each reason why not."""

    template_fields: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        """Fix the connection and the time-out; the command is built when it runs."""
        super().__init__(ssh_conn_id=kwargs["site"].rds_connection, cmd_timeout=PROBE_TIMEOUT, **kwargs)

    def execute(self, context: Context) -> JsonValue:  # type: ignore[override]
        """Run the probe on RDS-SSH and judge what it saw; returns its facts."""
        self.options(context)
        command = script_command("probe.sh", access.build_probe(self.beamtime, self.site))
        with self.telling(context):
            with self.rds() as session:
                done = session.run(command, timeout=PROBE_TIMEOUT)
            facts = access.parse_facts(done.stdout)
            findings = access.judge(facts, self.beamtime, self.site)
            for finding in findings:
                self.log.info("%s %s", "✓" if finding.ok else "✗", finding.sentence)
            error = access.first_error(findings)
            if error is not None:
                raise error
        return facts.to_json()
