"""What brings a beamtime home: rsync or lftp, one set of calls for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from beamferry import access, census, complaints, lftp, lftp_access, lftp_complaints, rsync, rsync_output
from beamferry.facilities.desy import DesyBeamtime
from beamferry.refused_names import interpret_names
from beamferry.remote import Job

if TYPE_CHECKING:
    from datetime import date

    from beamferry.access import Facts, Finding
    from beamferry.beamtime import Beamtime, Level, Site
    from beamferry.errors import BeamferryError
    from beamferry.plan import Counted

# A script of the bundle and its arguments.
Call = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class Choice:
    """What a run was asked for: connections, MiB/s of all together (None for no limit), and how to verify."""

    streams: int
    bandwidth_limit: int | None
    level: Level
    samples: int


class Engine(Protocol):
    """The calls of a beamtime's chain on RDS-SSH, and what their answers mean."""

    def refusal(self, today: date) -> BeamferryError | None:
        """Return why not even a log-in is worth a try, None where it is."""

    def probe(self) -> Call:
        """Return the call that looks whether a transfer can begin."""

    def judge(self, facts: Facts, today: date) -> tuple[Finding, ...]:
        """Return what the probe's facts mean, in the order in which a person would look."""

    def dry_run(self, facts: Facts, choice: Choice, known_files: int | None) -> Call:
        """Return the call that counts what is to do; ``known_files`` is the last plan's count."""

    def totals(self, stats: str) -> Counted:
        """Return what the dry run counted.

        Raises:
            PermanentError: the figures cannot be read.
        """

    def folders(self, totals: Counted) -> tuple[str, ...] | None:
        """Return the folders to fetch one after the other, None where the transfer is one job."""

    def transfer(
        self, facts: Facts, choice: Choice, known_files: int | None, folder: str | None = None
    ) -> Call:
        """Return the call that fetches what the dry run listed, or a folder of it."""

    def verify(self, facts: Facts, choice: Choice, seed: int) -> Call:
        """Return the call that compares both ends."""

    def interpret(self, code: int, errors: str) -> BeamferryError | None:
        """Return what a job's exit code and the tools' complaints mean, None for success."""

    def by_hand(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return what a person would type instead, each with a title."""


def engine(beamtime: Beamtime, site: Site, secret: str | None = None) -> Engine:
    """Return what brings this beamtime home; ``secret`` is the file on RDS-SSH that holds a password for its calls."""
    if isinstance(beamtime, DesyBeamtime):
        return LftpEngine(beamtime, site, secret)
    return RsyncEngine(beamtime, site)


@dataclass(frozen=True)
class RsyncEngine:
    """rsync over ssh."""

    beamtime: Beamtime
    site: Site

    @property
    def _work(self) -> str:
        return Job(self.beamtime.key, "").work

    def refusal(self, today: date) -> BeamferryError | None:  # noqa: ARG002
        """See ``Engine``."""
        return None

    def probe(self) -> Call:
        """See ``Engine``."""
        return "probe.sh", access.probe_arguments(self.beamtime, self.site)

    def judge(self, facts: Facts, today: date) -> tuple[Finding, ...]:  # noqa: ARG002
        """See ``Engine``."""
        return access.judge(facts, self.beamtime, self.site)

    def dry_run(self, facts: Facts, choice: Choice, known_files: int | None) -> Call:  # noqa: ARG002
        """See ``Engine``."""
        flat = rsync.is_flat(known_files)
        return "dry_run", rsync.dry_run_arguments(
            self._work, self.beamtime, self.site, facts.traits, flat=flat
        )

    def totals(self, stats: str) -> Counted:
        """See ``Engine``."""
        return rsync_output.parse_stats(stats)

    def folders(self, totals: Counted) -> tuple[str, ...] | None:  # noqa: ARG002
        """See ``Engine``."""
        return None

    def transfer(
        self,
        facts: Facts,
        choice: Choice,
        known_files: int | None,
        folder: str | None = None,  # noqa: ARG002
    ) -> Call:
        """See ``Engine``."""
        return "transfer", rsync.transfer_arguments(
            self._work,
            self.beamtime,
            self.site,
            facts.traits,
            flat=rsync.is_flat(known_files),
            streams=choice.streams,
            bandwidth_limit=choice.bandwidth_limit,
        )

    def verify(self, facts: Facts, choice: Choice, seed: int) -> Call:
        """See ``Engine``."""
        return "verify", census.verify_arguments(
            self._work,
            self.beamtime.model_copy(update={"samples": choice.samples}),
            self.site,
            ssh=rsync.ssh_words(self.beamtime),
            level=choice.level,
            streams=choice.streams,
            seed=seed,
            stall=rsync.STALL_SECONDS,
            group=rsync.group_arguments(self.beamtime, self.site, facts.traits),
        )

    def interpret(self, code: int, errors: str) -> BeamferryError | None:
        """See ``Engine``."""
        errand = access.errand(self.beamtime, self.site)
        return interpret_names(code, errors, errand) or complaints.interpret_exit(code, errors, errand)

    def by_hand(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """See ``Engine``."""
        limit = self.beamtime.bandwidth_limit
        base = rsync.rsync_command(
            self.beamtime, self.site, flat=False, limit=None if limit is None else limit * 1024
        )
        return (
            ("what is to do", (base[0], "-n", "--stats", *base[1:])),
            ("the transfer on one stream", base),
        )


@dataclass(frozen=True)
class LftpEngine:
    """lftp over FTP with TLS, or over SFTP."""

    beamtime: DesyBeamtime
    site: Site
    secret: str | None = None

    @property
    def _work(self) -> str:
        return Job(self.beamtime.key, "").work

    @property
    def _secret(self) -> str:
        # Where none was handed over, the calls are only shown.
        return self.secret or f"{Job(self.beamtime.key, '').folder}secret"

    def refusal(self, today: date) -> BeamferryError | None:
        """See ``Engine``."""
        return lftp_access.registration_expired(self.beamtime, today)

    def probe(self) -> Call:
        """See ``Engine``."""
        return "lftp_probe.sh", lftp.probe_arguments(self.beamtime, self.site, self._secret)

    def judge(self, facts: Facts, today: date) -> tuple[Finding, ...]:
        """See ``Engine``."""
        return lftp_access.judge(facts, self.beamtime, self.site, today)

    def dry_run(self, facts: Facts, choice: Choice, known_files: int | None) -> Call:  # noqa: ARG002
        """See ``Engine``."""
        return "lftp_dry_run", lftp.dry_run_arguments(
            self._work,
            self.beamtime,
            self.site,
            self._secret,
            facts.traits,
            streams=choice.streams,
        )

    def totals(self, stats: str) -> lftp.Totals:
        """See ``Engine``."""
        return lftp.parse_totals(stats)

    def folders(self, totals: Counted) -> tuple[str, ...] | None:
        """See ``Engine``."""
        return totals.to_fetch if isinstance(totals, lftp.Totals) else None

    def transfer(
        self,
        facts: Facts,
        choice: Choice,
        known_files: int | None,  # noqa: ARG002
        folder: str | None = None,
    ) -> Call:
        """See ``Engine``."""
        return "lftp_transfer", lftp.transfer_arguments(
            self._work,
            self.beamtime,
            self.site,
            self._secret,
            facts.traits,
            folder=folder or lftp.TOP,
            streams=choice.streams,
            bandwidth_limit=choice.bandwidth_limit,
        )

    def verify(self, facts: Facts, choice: Choice, seed: int) -> Call:
        """See ``Engine``."""
        return "lftp_verify", lftp.verify_arguments(
            self._work,
            self.beamtime.model_copy(update={"samples": choice.samples}),
            self.site,
            self._secret,
            facts.traits,
            level=choice.level,
            streams=choice.streams,
            seed=seed,
            bandwidth_limit=choice.bandwidth_limit,
        )

    def interpret(self, code: int, errors: str) -> BeamferryError | None:
        """See ``Engine``."""
        errand = access.errand(self.beamtime, self.site)
        return interpret_names(code, errors, errand) or lftp_complaints.interpret_exit(code, errors, errand)

    def by_hand(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """See ``Engine``."""
        return (("the transfer, which asks for the password", lftp.by_hand(self.beamtime, self.site)),)
