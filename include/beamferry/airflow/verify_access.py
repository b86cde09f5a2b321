"""The first task of a beamtime's chain: can a transfer begin?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.ssh.operators.ssh import SSHOperator

from beamferry import access
from beamferry.airflow.task import BeamtimeTask
from beamferry.remote import script_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

# Seconds without a word from the probe; it is silent only while it waits for the facility's answer.
PROBE_TIMEOUT = 180


class VerifyAccess(BeamtimeTask, SSHOperator):
    """Find out whether a transfer can begin, and name the remedy for each reason why not."""

    template_fields: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        """Fix the connection and the time-out; the command is built when it runs."""
        super().__init__(ssh_conn_id=kwargs["site"].rds_connection, cmd_timeout=PROBE_TIMEOUT, **kwargs)

    def execute(self, context: Context) -> JsonValue:  # type: ignore[override]
        """Run the probe on RDS-SSH and judge what it saw; returns its facts for the tasks after this."""
        self.chosen(context)
        command = script_command("probe.sh", access.probe_arguments(self.beamtime, self.site))
        with self.telling(context):
            with self.rds() as session:
                text = session.checked(command, timeout=PROBE_TIMEOUT)
            facts = access.parse_facts(text)
            findings = access.judge(facts, self.beamtime, self.site)
            for finding in findings:
                self.log.info("%s %s", "✓" if finding.ok else "✗", finding.sentence)
            error = access.first_error(findings)
            if error is not None:
                raise error
        return dict(facts.values)
