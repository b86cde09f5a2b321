"""The tasks of a beamtime's chain, in its order."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

import pendulum
from airflow.providers.standard.operators.hitl import ApprovalOperator

from beamferry import agent, census
from beamferry.airflow.jobs import RemoteJobOperator
from beamferry.airflow.task import BeamtimeTask
from beamferry.beamtime import GroupAccess
from beamferry.certificate import (
    JSON_NAME,
    MANIFEST_NAME,
    TEXT_NAME,
    Moved,
    certificate_folder,
    certify,
    to_json,
    to_text,
)
from beamferry.engine import Choice
from beamferry.errors import PermanentError
from beamferry.fetched import Brought, Fetched
from beamferry.known import Issued, Rate
from beamferry.lftp import TOP
from beamferry.plan import TransferPlan, make_plan, sentence, table
from beamferry.remote import Job
from beamferry.rsync import streams_for
from beamferry.verification import Ends, Listed, Outcome, Verdict, judge, remedy, request
from beamferry_agent.answers import PublicationRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

    from beamferry.airflow.jobs import Ended
    from beamferry.airflow.params import Options
    from beamferry.beamtime import Beamtime
    from beamferry.engine import Call
    from beamferry.remote import Session

# Name of the XCom with the plan; the tasks' values themselves are what Airflow can make instances of.
PLAN = "plan"
# What the asset keeps of a certificate, so that people can read it without RDS-SSH; REST takes 64 kB of a value.
CERTIFICATE_CHARACTERS = 16_000
# Less than this does not tell what the link can do.
RATE_BYTES = 50_000_000


class DryRun(RemoteJobOperator):
    """Count what is to do; the list stays on RDS-SSH, the totals come back."""

    part: ClassVar[str] = "dry_run"

    def call(self, context: Context, session: Session) -> Call:
        """Return the engine's call; the last plan says how large a list is to be expected."""
        known = self.state.known("plan").plan
        return self.engine.dry_run(
            self.facts(context, session),
            choice(self.beamtime, self.chosen(context)),
            None if known is None else known.files,
        )

    def finish(self, context: Context, session: Session, ended: Ended) -> JsonValue:
        """Return the figures as the step left them."""
        self.raise_for(ended)
        # Whatever is changed at the source from here on is changing, not missing.
        self.records(context).write(session, "listing", int(ended.result["began"]))
        return ended.stats


class ParseTotals(BeamtimeTask):
    """Turn the dry run's totals into the plan: how much, does it fit, will it be in time."""

    def execute(self, context: Context) -> JsonValue:
        """Keep the plan with the beamtime, and return the folders to fetch where the transfer is one for each."""
        options = self.chosen(context)
        with self.telling(context), self.rds() as session:
            facts = self.facts(context, session)
            totals = self.engine.totals(session.read(f"{Job(self.beamtime.key, DryRun.part).folder}/stats"))
            known = self.state.known("plan", "rate", "progress", "transfer", "fetched")
            plan = make_plan(
                totals,
                beamtime=self.beamtime,
                site=self.site,
                now=pendulum.now("UTC"),
                bytes_free=facts.number("bytes_free"),
                inodes_free=facts.number("inodes_free"),
                previous=self.last_plan(context, session) or known.plan,
                rate=None if known.rate is None else known.rate.bytes_per_second,
                streams=options.streams,
                bandwidth_limit=options.bandwidth_limit,
                accept_smaller_source=options.accept_smaller_source,
            )
            self.records(context).write(session, "plan", plan.model_dump(mode="json"))
        folders = self.engine.folders(totals)
        fetched = Fetched(
            plan_made_at=plan.made_at,
            run_id=context["run_id"],
            transfers=0 if plan.todo_files == 0 else 1 if folders is None else len(folders),
            moved_at=known.last_moved,
        )
        # In this order nothing that came before can be taken for what this plan's transfers brought.
        self.state.set("plan", plan.model_dump(mode="json"))
        self.state.forget("transfer")
        self.state.set("fetched", fetched.model_dump(mode="json"))
        self.log.info(sentence(plan))
        context["ti"].xcom_push(PLAN, plan.model_dump_json())
        return None if folders is None else list(folders)


class Approve(BeamtimeTask, ApprovalOperator):
    """Show the plan to a person and wait for a yes, if the run asks for it; silence is never a yes."""

    template_fields: Sequence[str] = ()

    def __init__(self, **kwargs: Any) -> None:
        """Say what is asked; the plan's figures come when it runs."""
        beamtime = kwargs["beamtime"]
        super().__init__(
            subject=f"Bring {beamtime.id} home?",
            # A no ends the run: nothing after it may act as if it had been a yes.
            ignore_downstream_trigger_rules=True,
            **kwargs,
        )

    def execute(self, context: Context) -> Any:
        """Ask, or go on."""
        options = self.chosen(context)
        if not options.require_approval:
            self.log.info("No approval asked for")
            return None
        with self.telling(context), self.rds() as session:
            plan = TransferPlan.model_validate(self.records(context).read(session, "plan"), strict=False)
        self.body = (
            f"{table(plan, self.site)}\n\nThe data goes to `{self.beamtime.destination_path(self.site)}`. "
            "*Approve*: it begins to move. *Reject*: this run ends and nothing moves. "
            "Until somebody answers, nothing moves."
        )
        return super().execute(context)


class Transfer(RemoteJobOperator):
    """Fetch what the dry run listed: all of it, or a folder.

    Args:
        folder: the folder that this instance fetches, None where the transfer is one job.
        kwargs: what the other operators take.
    """

    part: ClassVar[str] = "transfer"

    def __init__(self, *, folder: str | None = None, **kwargs: Any) -> None:
        """Keep the folder."""
        super().__init__(**kwargs)
        self.folder = folder

    @property
    def of_folder(self) -> str | None:
        """See ``BeamtimeTask``."""
        return self.folder

    @property
    def shown(self) -> str:
        """Name of this instance for people."""
        return "files beside the folders" if self.folder in {None, TOP} else str(self.folder)

    def call(self, context: Context, session: Session) -> Call:
        """Return the engine's call for the run's choice of streams and limit."""
        plan = self.plan(context, session)
        known_files = None if plan is None else plan.files
        return self.engine.transfer(
            self.facts(context, session),
            choice(self.beamtime, self.chosen(context)),
            known_files,
            self.folder,
        )

    def finish(self, context: Context, session: Session, ended: Ended) -> JsonValue:
        """Keep that this part is fetched and the measured rate, and return what was moved."""
        self.raise_for(ended)
        moved = Moved(
            bytes=int(ended.result["bytes"]),
            files=int(ended.result["files"]),
            seconds=int(ended.result["seconds"]),
        )
        # A few seconds or a few small files say nothing about the link.
        if moved.seconds >= 10 and moved.bytes >= RATE_BYTES:  # noqa: PLR2004
            rate = moved.bytes // moved.seconds
            if rate > 0:
                measured = Rate(bytes_per_second=rate, bytes=moved.bytes, at=pendulum.now("UTC"))
                self.state.set("rate", measured.model_dump(mode="json"))
        self.records(context).add(session, "moved", self.folder or "", moved.model_dump(mode="json"))
        plan = TransferPlan.model_validate(self.records(context).read(session, "plan"), strict=False)
        number = context["ti"].map_index
        self.state.keep_end(
            # One that is not one of several has none.
            0 if number is None or number < 0 else number,
            Brought(plan_made_at=plan.made_at, bytes=moved.bytes, files=moved.files, at=pendulum.now("UTC")),
        )
        return moved.model_dump(mode="json")


class VerifySizes(RemoteJobOperator):
    """Compare both ends afresh, file by file, and some or all of the content."""

    part: ClassVar[str] = "verify"

    def call(self, context: Context, session: Session) -> Call:
        """Return the engine's call; the seed is the run's, so that a retry attaches to the same job."""
        seed = int.from_bytes(sha256(context["run_id"].encode()).digest()[:4])
        return self.engine.verify(
            self.facts(context, session), choice(self.beamtime, self.chosen(context)), seed
        )

    def finish(self, context: Context, session: Session, ended: Ended) -> JsonValue:
        """Have the differences judged on RDS-SSH, keep the verdict with the beamtime, and return it."""
        self.raise_for(ended)
        result, facts = ended.result, self.facts(context, session)
        began = self.records(context).read_if_made(session, "listing")
        lists = f"{self.job.work}/verify"
        source, destination = _end(result, "source"), _end(result, "destination")
        # The lists can be as long as the beamtime: they are read where they are.
        comparison = agent.compare(
            session,
            request(
                lists,
                listed=Listed(
                    only_source=int(result["only_source"]),
                    only_destination=int(result["only_destination"]),
                    mismatches=int(result["content_mismatches"]),
                    unstable=int(result["unstable"]),
                    unresolved=int(result["unresolved"]),
                    closed=int(result["closed"]),
                ),
                source=source,
                destination=destination,
                listing_began=began if isinstance(began, int) else None,
                modify_window=int(result.get("modify_window", 0 if facts.traits.modes else 2)),
                keeps_links=facts.traits.links,
            ),
        )
        verdict = judge(
            comparison,
            level=self.chosen(context).verification,
            source=source,
            destination=destination,
            sampled_files=int(result["sampled_files"]) - int(result["again_files"]),
            sampled_bytes=int(result["sampled_bytes"]),
            partial_files=int(result["destination_partials"]),
            checked_at=pendulum.now("UTC").subtract(seconds=int(result["seconds"])),
            again_files=int(result["again_files"]),
            cached_files=int(result["cached"]),
            # Only listings over FTP and SFTP have it.
            round_folders=int(result.get("round_folders", 0)),
            # They list no setuid bits, and lftp brings no modes.
            unsafe_modes=_number(result, "unsafe_modes"),
        )
        self.state.set("verification", verdict.for_state().model_dump(mode="json"))
        self.log.info(verdict.sentence)
        # All that is known by name goes to the certificate by way of RDS-SSH, not through Airflow's database.
        self.records(context).write(session, "verdict", verdict.model_dump(mode="json"))
        return verdict.for_state().model_dump_json()


class Certify(RemoteJobOperator):
    """Write the certificate beside the data, with a manifest if asked for; red unless it says verified."""

    part: ClassVar[str] = "manifest"
    reaches_out: ClassVar[bool] = False

    @property
    def folder(self) -> str:
        """Folder of the certificate on RDS."""
        return certificate_folder(self.beamtime.destination_path(self.site))

    def call(self, context: Context, session: Session) -> Call:
        """Return the call of the manifest's step."""
        return "manifest", census.manifest_arguments(
            self.job.work,
            self.beamtime,
            self.site,
            streams=self.chosen(context).streams,
            output=f"{self.folder}/{MANIFEST_NAME}",
        )

    def execute(self, context: Context) -> Any:
        """Have the manifest made where it is wanted and the copy is good, else write the certificate at once."""
        options = self.chosen(context)
        with self.telling(context), self.rds() as session:
            verified = self.verdict(context, session).outcome is Outcome.VERIFIED
            if not (options.manifest and verified):
                return self.issue(context, session, manifest=False)
            # The manifest's job finds its folder there.
            self.publish(session, {})
        return super().execute(context)

    def verdict(self, context: Context, session: Session) -> Verdict:
        """Return what this run's comparison came to, all that is known by name included."""
        return Verdict.model_validate(self.records(context).read(session, "verdict"), strict=False)

    def moved(self, context: Context, session: Session) -> Moved | None:
        """Return what this run moved, all folders together; None if nothing was to be moved."""
        kept = self.records(context).read_if_made(session, "moved")
        parts = (
            [Moved.model_validate(part, strict=False) for part in kept.values()]
            if isinstance(kept, dict)
            else []
        )
        if not parts:
            return None
        return Moved(
            bytes=sum(part.bytes for part in parts),
            files=sum(part.files for part in parts),
            seconds=sum(part.seconds for part in parts),
        )

    def publish(self, session: Session, files: dict[str, str]) -> None:
        """Write these files into the certificate's folder, which is made where it is missing."""
        opens = self.beamtime.access_of_group(self.site) is not GroupAccess.KEEP
        agent.publish(session, PublicationRequest(self.site.destination_root, self.folder, files, opens))

    def finish(self, context: Context, session: Session, ended: Ended) -> JsonValue:
        """Write the certificate once the manifest is there."""
        self.raise_for(ended)
        return self.issue(context, session, manifest=True)

    def issue(self, context: Context, session: Session, *, manifest: bool) -> JsonValue:
        """Write the certificate, good or not, since an old one must not go on saying that all is well.

        Raises:
            PermanentError: it does not say verified.
        """
        verdict = self.verdict(context, session)
        moved, facts = self.moved(context, session), self.facts(context, session)
        certificate = certify(
            self.beamtime,
            self.site,
            verdict,
            moved=moved,
            tools=facts.tools,
            keeps_modes=facts.traits.modes,
            manifest=manifest,
            run=context["run_id"],
            issued_at=pendulum.now("UTC"),
            metadata=self.state.known("metadata").metadata,
        )
        text = to_text(certificate)
        self.publish(session, {JSON_NAME: to_json(certificate), TEXT_NAME: text})
        issued = Issued(
            outcome=verdict.outcome,
            folder=self.folder,
            at=certificate.issued_at,
            run_id=context["run_id"],
            text=text if len(text) <= CERTIFICATE_CHARACTERS else None,
        )
        self.state.set("certificate", issued.model_dump(mode="json"))
        for line in text.splitlines()[:12]:
            self.log.info(line)
        if verdict.outcome is Outcome.VERIFIED:
            self.state.forget("problem")
            self.state.forget("retry")
            return {"outcome": verdict.outcome.value, "folder": self.folder}
        if verdict.outcome is Outcome.CHANGING:
            raise PermanentError(
                "source-changing",
                verdict.sentence,
                "when the facility's processing is done, start a run; the nightly run does it by itself",
            )
        raise PermanentError(
            "not-verified",
            verdict.sentence,
            remedy(verdict, f"{self.folder}/{TEXT_NAME}"),
        )


def choice(beamtime: Beamtime, options: Options) -> Choice:
    """Return what the form was answered, as the engines take it; over a person's session with fewer streams."""
    streams = streams_for(beamtime, options.streams)
    return Choice(streams, options.bandwidth_limit, options.verification, options.samples)


def _number(result: dict[str, Any], name: str) -> int | None:
    return int(result[name]) if name in result else None


def _end(result: dict[str, Any], end: str) -> Ends:
    """Return what the step "verify" counted at one end."""
    return Ends(**{field: int(result[f"{end}_{field}"]) for field in Ends.model_fields})
