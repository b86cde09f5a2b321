"""The first task of a beamtime's chain: can a transfer begin?"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.ssh.operators.ssh import SSHOperator

from beamferry import access
from beamferry.airflow.task import BeamtimeTask
from beamferry.errors import PermanentError
from beamferry.metadata import parse_metadata, readme_text
from beamferry.remote import Job, script_command

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
        today = pendulum.now("UTC").date()
        with self.telling(context):
            refusal = self.engine.refusal(today)
            if refusal is not None:
                raise refusal
            with self.rds() as session:
                self.hand_over_secret(session)
                try:
                    text = session.checked(script_command(*self.engine.probe()), timeout=PROBE_TIMEOUT)
                finally:
                    session.remove(Job(self.beamtime.key, "").secret)
            facts = access.parse_facts(text)
            findings = self.engine.judge(facts, today)
            for finding in findings:
                self.log.info("%s %s", "✓" if finding.ok else "✗", finding.sentence)
            error = access.first_error(findings)
            if error is not None:
                raise error
            self.keep_metadata(facts)
        return {key: value for key, value in facts.values.items() if key not in {"metadata", "readme"}}

    def keep_metadata(self, facts: access.Facts) -> None:
        """Keep what the facility itself says of the beamtime; a file that cannot be read is told and stops nothing."""
        if not facts.get("metadata"):
            return
        try:
            found = parse_metadata(
                base64.b64decode(facts.get("metadata")),
                self.beamtime.id,
                personal_data=self.site.personal_data,
            )
        except PermanentError as error:
            self.log.warning("%s", error)
            return
        if facts.get("readme"):
            found = found.model_copy(update={"readme": readme_text(base64.b64decode(facts.get("readme")))})
            self.log.info("README.non-conformant-files.txt says:\n%s", found.readme)
        self.state.set("metadata", found.model_dump(mode="json"))
