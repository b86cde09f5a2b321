"""The DAG that prepares a person's account on RDS-SSH or iCSF: triggered by hand, each step said in one table."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.providers.ssh.hooks.ssh import SSHHook
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, BaseOperator, Param, chain
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException
from pydantic import TypeAdapter

from beamferry import account, agent
from beamferry.account import Answer, Host, HostKey, LinkName, Mode, Row, Step, Wishes
from beamferry.airflow import policy
from beamferry.airflow.session import session_over
from beamferry.beamtime import AbsolutePath, ConnectionId
from beamferry.errors import PermanentError
from beamferry.login import PATIENCE
from beamferry.registry.entries import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

    from beamferry.beamtime import Beamtime, Site
    from beamferry.registry import Registry
    from beamferry.remote import Session
    from beamferry_agent.answers import AccountRequest

DAG_ID = "prepare_account"
# Seconds without an answer: each gate is given half a minute, and another run may hold the account for two.
TIMEOUT = 300.0
# XComs of `confirm`: the keys that a person was shown, and the answer.
SHOWN, ANSWER = "shown", "answer"


class AccountTask(BaseOperator):
    """A step of preparing an account.

    Args:
        site: the group's own side.
        beamtimes: the registry's, for the facilities' hosts and accounts.
        kwargs: what the operator takes.
    """

    def __init__(self, *, site: Site, beamtimes: tuple[Beamtime, ...], **kwargs: Any) -> None:
        """Keep both; they come from the registry again each time the DAG is parsed."""
        super().__init__(**kwargs)
        self.site = site
        self.beamtimes = beamtimes

    def wishes(self, context: Context) -> Wishes:
        """Return the form's answers, checked."""
        return Wishes.of(dict(context["params"]))

    def gates(self, wishes: Wishes) -> tuple[account.Gate, ...]:
        """Return where the facilities that are asked for let people in."""
        return account.gates(self.beamtimes, wishes.facilities)

    def call(self, wishes: Wishes, request: AccountRequest) -> Answer:
        """Ask the agent in the account and return its answer, in words."""
        with self.account(wishes) as session:
            said = agent.ask(session, "account", request, timeout=TIMEOUT, host=wishes.host.spoken)
        answer = account.parse_answer(said, wishes.host, self.gates(wishes))
        for row in answer.rows:
            self.log.info("%s: %s (%s)", row.what, row.state, row.where)
        return answer

    @contextmanager
    def account(self, wishes: Wishes) -> Iterator[Session]:
        """Open a connection to the account, with the agent in place.

        Raises:
            PermanentError: there is no such connection, the host shows another key, or refuses the log-in.
            TransientError: the host cannot be reached, or the connection broke.
        """
        name = wishes.connection(self.site)
        try:
            hook = SSHHook(ssh_conn_id=name, conn_retry_attempts=1)
        except AirflowNotFoundException as error:
            raise PermanentError(
                "connection-missing",
                f"There is no Airflow connection '{name}' to {wishes.host.spoken}",
                "add it under Admin, Connections, with host, login, key_file and host_key",
            ) from error
        with session_over(hook, wishes.host.spoken) as session:
            yield session


class Prepare(AccountTask):
    """Make, or remove again, what needs no person's yes: the workspace, links, key pairs, lftp's files."""

    def execute(self, context: Context) -> JsonValue:
        """Return the rows of what was done; what was refused is told by the report, with all the rest."""
        wishes, ca = self.wishes(context), ""
        if wishes.asks_for(Step.LFTP) and wishes.ca_certificate:
            ca = account.certificates(wishes.ca_certificate, datetime.now(UTC))
        request = account.prepare_request(wishes, self.site, self.gates(wishes), ca)
        answer = self.call(wishes, request)
        for paste in dict.fromkeys(row.paste for row in answer.rows if row.paste):
            self.log.info(paste)
        return answer.model_dump(mode="json")


class LookAtHostKeys(AccountTask):
    """See which host keys the facilities show, and which are pinned."""

    def execute(self, context: Context) -> JsonValue:
        """Return what is settled and what a person has to confirm."""
        wishes = self.wishes(context)
        if not wishes.asks_for(Step.HOST_KEYS):
            raise AirflowSkipException("No host keys asked for")
        return self.call(wishes, account.scan_request(self.gates(wishes))).model_dump(mode="json")


class Confirm(AccountTask, ApprovalOperator):
    """Show new fingerprints to a person and wait for a yes; silence is never one."""

    template_fields: Sequence[str] = ()

    def execute(self, context: Context) -> Any:
        """Ask, or go on where nothing is new."""
        seen = _answer(context, "look_at_host_keys")
        if seen is None or not seen.unconfirmed:
            self.log.info("No host key is new")
            return None
        # What is pinned later is what was shown here, whatever a later look may see.
        context["ti"].xcom_push(SHOWN, [key.model_dump(mode="json") for key in seen.unconfirmed])
        self.body = account.question(seen, self.wishes(context).host)
        self.log.info(self.body)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Keep the answer for the report, as a no skips what comes next and returns nothing.

        Raises:
            PermanentError: nobody answered in time.
        """
        if event.get("error_type") == "timeout":
            raise PermanentError(
                "host-keys-not-confirmed",
                f"Nobody confirmed the host keys within {int(PATIENCE.total_seconds()) // 3600} hours",
                "nothing was pinned; trigger this again when somebody can compare the fingerprints",
            )
        if chosen := event.get("chosen_options"):
            context["ti"].xcom_push(ANSWER, str(chosen[0]))
        return super().execute_complete(context, event)


class Pin(AccountTask):
    """Pin the host keys that a person confirmed, these and no others."""

    def execute(self, context: Context) -> JsonValue:
        """Return the rows of what was pinned."""
        keys = _shown(context)
        # Cleared by hand, this task would run without its predecessor's leave.
        if not keys or _said(context) != ApprovalOperator.APPROVE:
            raise AirflowSkipException("Nobody confirmed a new host key")
        wishes = self.wishes(context)
        return self.call(wishes, account.pin_request(self.gates(wishes), keys)).model_dump(mode="json")


class Report(AccountTask):
    """Say in one table what was done; red where something was not."""

    def execute(self, context: Context) -> JsonValue:
        """Log and return the table.

        Raises:
            PermanentError: something was not done; the table is in the log all the same.
        """
        wishes = self.wishes(context)
        rows: list[Row] = []
        missing: list[str] = []
        keys, said = _shown(context), _said(context)
        rejected = bool(keys) and said == ApprovalOperator.REJECT
        parts = {
            "prepare": True,
            "look_at_host_keys": wishes.asks_for(Step.HOST_KEYS),
            "pin_host_keys": bool(keys) and not rejected,
        }
        for part, wanted in parts.items():
            answer = _answer(context, part)
            if answer is not None:
                rows += answer.rows
            elif wanted:
                missing.append(part)
        if rejected:
            rows += account.unpinned(keys, "a person said no")
        elif "pin_host_keys" in missing:
            rows += account.unpinned(
                keys, "nobody said yes" if said is None else "see the task pin_host_keys"
            )
        text = account.report(rows)
        for line in text.splitlines():
            self.log.info(line)
        context["ti"].xcom_push("table", text)
        error = account.stopped(rows)
        if error is not None:
            raise error
        if missing:
            raise PermanentError(
                "account-not-prepared",
                f"The account was not prepared in full: {', '.join(missing)} came to no end",
                "read the message of the task that failed, and trigger this again",
            )
        return [f"{row.what}: {row.state}" for row in rows]


def _answer(context: Context, task_id: str) -> Answer | None:
    """Return what a task of this run came to, None if it was left out or failed."""
    found = context["ti"].xcom_pull(task_ids=task_id)
    return None if found is None else Answer.model_validate_json(json.dumps(found))


def _shown(context: Context) -> tuple[HostKey, ...]:
    found = context["ti"].xcom_pull(task_ids="confirm_fingerprints", key=SHOWN) or []
    return tuple(HostKey.model_validate(key) for key in found)


def _said(context: Context) -> str | None:
    found = context["ti"].xcom_pull(task_ids="confirm_fingerprints", key=ANSWER)
    return None if found is None else str(found)


def prepare_account_dag(registry: Registry, site: Site) -> DAG:
    """Return the DAG that prepares an account."""
    known: dict[str, Any] = {"site": site, "beamtimes": registry.beamtimes}
    with DAG(
        DAG_ID,
        description="Prepares a person's account: links, keys, known hosts, lftp",
        doc_md=_DOC,
        schedule=None,
        start_date=policy.START,
        catchup=False,
        is_paused_upon_creation=False,
        params=form(registry.beamtimes, site),
        tags=["account"],
        default_args=policy.retrying(policy.RETRIES, policy.RETRY_DELAY, policy.MAX_RETRY_DELAY),
    ) as dag:
        # A run that waits for a person must not hold a place that a transfer could have.
        chain(
            Prepare(task_id="prepare", pool=policy.POOL, **known),
            LookAtHostKeys(
                task_id="look_at_host_keys", pool=policy.POOL, trigger_rule="none_failed", **known
            ),
            Confirm(
                task_id="confirm_fingerprints",
                subject="Trust these host keys?",
                response_timeout=PATIENCE,
                trigger_rule="none_failed",
                **known,
            ),
            Pin(task_id="pin_host_keys", pool=policy.POOL, trigger_rule="none_failed", **known),
            Report(task_id="report", trigger_rule="all_done", **known),
        )
    return dag


def form(beamtimes: tuple[Beamtime, ...], site: Site) -> dict[str, Param]:
    """Return the trigger form; the registry gives the defaults."""
    usual = account.usual(site)
    link, folder, connection = (
        TypeAdapter(kind).json_schema() for kind in (LinkName, AbsolutePath, ConnectionId)
    )
    return {
        "host": Param(
            Host.RDS.value,
            enum=[host.value for host in Host],
            values_display={host.value: host.spoken for host in Host},
            title="Where",
            description="The account that Airflow's connection to this host logs in to.",
        ),
        "mode": Param(
            Mode.PREPARE.value,
            enum=[mode.value for mode in Mode],
            title="What to do",
            description="prepare: make what is missing; what is there stays as it is. unlink: only remove the two "
            "links again, if they lead where the form says.",
        ),
        "steps": Param(
            [step.value for step in Step if step is not Step.LFTP],
            **_some_of([step.value for step in Step]),
            title="What to prepare",
            description="On iCSF the links are enough: data comes through RDS-SSH. lftp is for your own use of it; "
            "Beamferry needs no settings there.",
        ),
        "facilities": Param(
            list(account.facilities_of(beamtimes)),
            **_some_of(sorted(MODELS)),
            title="For which facilities",
            description="Key pair and host keys. You are asked before a host key is trusted.",
        ),
        "own_link": _text(link, usual.own_link, "Link to your folder", "Its name in the home folder."),
        "own_folder": _text(
            folder,
            None,
            "Your folder on RDS",
            f"Empty: {usual.group}/ and the account's name.",
        ),
        "shared_link": _text(
            link, usual.shared_link, "Link to the shared folder", "Its name in the home folder."
        ),
        "shared_folder": _text(folder, usual.shared_folder, "Shared folder on RDS", "Where the link leads."),
        "ca_certificate": Param(
            None,
            type=["null", "string"],
            format="multiline",
            maxLength=account.MOST_CA_CHARACTERS,
            # A private key that is pasted by mistake must not be kept with the run.
            pattern=r"^(?![\s\S]*PRIVATE KEY)[\s\S]*-----BEGIN CERTIFICATE-----",
            title="CA certificate for lftp",
            description="PEM text of who issued the facility's certificate, for ~/.lftp/certs/desy.pem. Empty: lftp "
            "trusts whom the host trusts.",
            section="lftp",
        ),
        "icsf_connection": _text(
            connection, "icsf_ssh", "Connection to iCSF", "Airflow connection, of type SSH.", section="iCSF"
        ),
    }


def _some_of(choices: list[str]) -> dict[str, Any]:
    """Return the schema of a choice of several; the form shows the examples, the items are what is checked."""
    items = {"type": "string", "enum": choices}
    return {"type": "array", "items": items, "examples": choices, "uniqueItems": True}


def _text(
    schema: dict[str, Any], default: str | None, title: str, help_: str, section: str = "Links"
) -> Param:
    limits = {name: schema[name] for name in ("pattern", "maxLength") if name in schema}
    kind = "string" if default is not None else ["null", "string"]
    return Param(default, type=kind, title=title, description=help_, section=section, **limits)


_DOC = """
Prepares the account that Airflow logs in to on RDS-SSH or iCSF, as the group's transfer page does by hand. What is
there stays as it is (only the workspace is closed to others where it was open); a second run finds it all and says so.

`confirm_fingerprints` shows host keys that are new and waits for a person: compare them with what the facility tells
you. The task `report` has the table of what was done, and the public key to paste at the facility.
"""
