"""The first task of a beamtime's chain: can a transfer begin?"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.ssh.operators.ssh import SSHOperator
from airflow.sdk.exceptions import DownstreamTasksSkipped

from beamferry import access, agent
from beamferry.airflow import secret
from beamferry.airflow.login import AttendedTask
from beamferry.engine import engine
from beamferry.errors import PermanentError
from beamferry.metadata import parse_metadata, readme_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

    from beamferry.remote import Session

# Seconds that the probe has: it waits for the facility's answer, and says all that it saw at its end.
PROBE_TIMEOUT = 180
# Facts for people, which are kept with the beamtime: nothing is decided by them.
_PEOPLES = {"metadata", "readme"}


class VerifyAccess(AttendedTask, SSHOperator):
    """Find out whether a transfer can begin, and name the remedy for each reason why not.

    Where a person has to log in, it asks and waits until the session is open.
    """

    template_fields: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        """Fix the connection and the time-out; the command is built when it runs."""
        if kwargs["beamtime"].interactive:
            # Whoever waits for a person loads nothing, and must not keep others from their transfers.
            kwargs["pool"] = None
        super().__init__(ssh_conn_id=kwargs["site"].rds_connection, cmd_timeout=PROBE_TIMEOUT, **kwargs)

    def execute(self, context: Context) -> JsonValue:  # type: ignore[override]
        """Run the probe on RDS-SSH and judge what it saw; returns its facts, for showing."""
        self.chosen(context)
        return self.begin(context)

    def begin(self, context: Context) -> JsonValue:
        """Look, over a person's session if there is to be one."""
        today = pendulum.now("UTC").date()
        with self.telling(context):
            refusal = self.engine.refusal(today)
            if refusal is not None:
                raise refusal
            with self.rds() as rds:
                self.expect_session(context, rds)
                facts = self.probe(rds)
                if rds.greeting:
                    self.log.warning("%s", rds.greeted())
                findings = self.engine.judge(facts, today)
                for finding in findings:
                    self.log.info("%s %s", "✓" if finding.ok else "✗", finding.sentence)
                error = access.first_error(findings)
                if error is not None:
                    self.ask_if_lost(context, rds, error)
                    raise error
                plain = {key: value for key, value in facts.values.items() if key not in _PEOPLES}
                self.records(context).write(rds, "facts", dict(plain))
            self.keep_metadata(facts)
        return dict(plain)

    def expect_session(self, context: Context, rds: Session) -> None:
        """Ask a person to log in where that is needed and nobody is; nothing is tried in place of that person.

        Raises:
            DownstreamTasksSkipped: the copy is whole, and no person is asked every night to see that it still is.
        """
        if not self.beamtime.interactive:
            return
        session = self.session(rds)
        if session.open:
            self.state.forget("log_in")
            self.log.info("✓ The session at %s is open since %d s", self.beamtime.host, session.age)
        elif context["dag_run"].run_type == "scheduled" and self.state.known().complete:
            self.log.info(
                "The copy is verified, and nobody is logged in: start a run by hand to look for new data"
            )
            raise DownstreamTasksSkipped(tasks=sorted(self.get_flat_relative_ids(upstream=False)))
        else:
            self.ask(context, session)

    def probe(self, rds: Session) -> access.Facts:
        """Return what the probe sees."""
        with secret.handed_over(rds, self.beamtime, "probe") as file:
            probe = engine(self.beamtime, self.site, file).probe()
            return access.parse_facts(agent.ask(rds, "probe", probe, timeout=PROBE_TIMEOUT))

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
