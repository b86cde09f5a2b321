"""Can a transfer begin? What the probe saw on RDS-SSH, judged and put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry import login
from beamferry.complaints import destination_unusable, unwell_at_facility, unwell_at_rds
from beamferry.errors import BeamferryError, PermanentError, TransientError
from beamferry.group import kept_out
from beamferry.reasons import Kind, kind_of
from beamferry.rsync import Traits, ssh_words
from beamferry.ssh_complaints import Errand, FarShell, interpret_shell, shell_floods, shell_noise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from beamferry.beamtime import Beamtime, Site

# Clocks further apart than this make "changed since" a guess; seconds.
CLOCK_SKEW = 120
# Seconds that the facility has for a log-in and for a look at the source.
FAR_SECONDS = 60
_ALWAYS = ("node", "ssh", "python", "tools_missing", "root_exists", "end")


@dataclass(frozen=True)
class Facts:
    """What the probe saw; None or '' where it could not look.

    Args:
        values: the probe's own keys and values.
    """

    values: dict[str, str]

    def get(self, key: str) -> str:
        """Return a value, '' where the probe did not come to it."""
        return self.values.get(key, "")

    def lines(self, key: str) -> str:
        """Return what a tool said, by lines as it said it; a value has tabs in their place."""
        return self.get(key).replace("\t", "\n")

    def is_so(self, key: str) -> bool:
        """Say whether a yes-or-no fact is a yes."""
        return self.values.get(key) == "yes"

    def number(self, key: str) -> int | None:
        """Return a count, None where it is not known or not limited."""
        value = self.values.get(key, "")
        return int(value) if value.isascii() and value.isdecimal() else None

    @property
    def traits(self) -> Traits:
        """What the destination's file system can keep."""
        modes = self.is_so("keeps_modes") and self.is_so("keeps_times")
        return Traits(modes, self.is_so("keeps_links"), self.number("share_group"))

    @property
    def tools(self) -> dict[str, str]:
        """Versions for the certificate."""
        known = {"rsync at the facility": self.get("far_rsync"), "ssh at RDS-SSH": self.get("ssh")}
        # What brought the data: a host that has lftp's probe behind it used that.
        mover = "lftp" if self.get("lftp") else "rsync"
        known = {f"{mover} at RDS-SSH": self.get(mover)} | known
        return {name: version for name, version in known.items() if version}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: well, or an error with its remedy."""

    name: str
    sentence: str
    error: BeamferryError | None = None

    @property
    def ok(self) -> bool:
        """Whether it is well."""
        return self.error is None


def errand(beamtime: Beamtime, site: Site) -> Errand:
    """Return the names for sentences about a beamtime."""
    return Errand(
        facility=beamtime.facility_name,
        beamtime=beamtime.id,
        account=beamtime.account,
        host=beamtime.host,
        source=beamtime.source_path,
        destination=beamtime.destination_path(site),
        connection=beamtime.secret_connection,
        log_in=login.command(beamtime) if beamtime.interactive else None,
    )


def probe_arguments(beamtime: Beamtime, site: Site) -> tuple[str, ...]:
    """Return the arguments of the probe, see ``probe_facility.py`` of the agent."""
    return (
        *("--host", beamtime.host),
        *("--account", beamtime.account),
        *("--source", beamtime.source_path),
        *("--destination-root", site.destination_root),
        *("--destination", beamtime.destination_below_root(site)),
        *("--ssh", " ".join(ssh_words(beamtime))),
        *("--seconds", str(FAR_SECONDS)),
    )


def parse_facts(text: str) -> Facts:
    """Return what a probe printed.

    Raises:
        TransientError: the answer is cut short or is not the probe's.
    """
    # Not splitlines: what the far shell printed is in a value, and must not begin a line of its own.
    lines = text.split("\n")
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    absent = [key for key in _ALWAYS if key not in values]
    if not absent and lines[-2:] != ["end=yes", ""]:
        absent = ["end"]
    if absent:
        raise TransientError(
            "probe-unreadable",
            f"The probe on RDS-SSH gave no whole answer ('{absent[0]}' is missing)",
            "this is tried again; if it stays, this is a fault of Beamferry",
        )
    return Facts(values)


def judge(facts: Facts, beamtime: Beamtime, site: Site) -> tuple[Finding, ...]:
    """Return all findings in the order in which a person would look; each error carries its remedy."""
    return (
        *judge_tools(facts, ("rsync", "ssh")),
        *judge_destination(facts, beamtime, site),
        *_facility(facts, beamtime, site),
    )


def first_error(findings: tuple[Finding, ...]) -> BeamferryError | None:
    """Return the error to act upon first, a person's task before what may pass by itself."""
    errors = [finding.error for finding in findings if finding.error is not None]
    return min(errors, key=lambda error: not isinstance(error, PermanentError), default=None)


def bad(name: str, error: BeamferryError) -> Finding:
    """Return the finding of something that is not well."""
    return Finding(name, error.problem, error)


def judge_tools(facts: Facts, tools: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what RDS-SSH has of these tools, each a fact with its version, and what it lacks of the others."""
    for tool in tools:
        if not facts.get(tool):
            yield bad(
                tool,
                PermanentError(
                    f"rds-no-{tool}",
                    f"There is no {tool} on RDS-SSH ({facts.get('node')})",
                    f"ask Research IT to install {tool} there",
                ),
            )
        else:
            yield Finding(tool, f"RDS-SSH ({facts.get('node')}) has {facts.get(tool)}")
    if facts.get("tools_missing"):
        missing = facts.get("tools_missing").replace(" ", ", ")
        yield bad(
            "tools",
            PermanentError(
                "rds-tool-missing",
                f"RDS-SSH lacks {missing}",
                "ask Research IT to install coreutils and findutils there",
            ),
        )
    if facts.get("tools_unfit"):
        yield bad(
            "tools",
            PermanentError(
                "rds-tool-unfit",
                f"RDS-SSH has tools that cannot do what they are needed for: {facts.get('tools_unfit')}",
                "ask Research IT for the GNU tools there (coreutils, findutils), or take what comes before them out of "
                "the account's PATH",
            ),
        )


def judge_destination(facts: Facts, beamtime: Beamtime, site: Site) -> Iterator[Finding]:
    """Yield whether RDS can be written to, and what it cannot keep."""
    root = site.destination_root
    if not facts.is_so("root_exists") or not facts.is_so("root_mounted"):
        state = (
            "is empty and on no file system of its own" if facts.is_so("root_exists") else "does not exist"
        )
        yield bad(
            "destination",
            PermanentError(
                "rds-not-mounted",
                f"RDS is not mounted on RDS-SSH: {root} {state}",
                "check destination_root in the registry; if it is right, ask Research IT to mount the share",
            ),
        )
        return
    if refused := facts.get("destination_refused"):
        yield bad("destination", destination_unusable(refused, beamtime.destination_path(site)))
        return
    if not facts.is_so("writable"):
        reason = facts.get("writable_reason").rsplit(": ", 1)[-1] or "no reason given"
        # A file system without a free byte or inode refuses to write as one without permission does.
        if kind_of(reason) is Kind.FULL:
            yield bad("destination", _full(facts, root))
        elif kind_of(reason) is Kind.PASSING:
            yield bad("destination", unwell_at_rds(root, reason))
        else:
            yield bad(
                "destination",
                PermanentError(
                    "rds-not-writable",
                    f"RDS is not writable at {root} ({reason})",
                    "ask the owner of the folder, or Research IT, for write permission for the account on RDS-SSH",
                ),
            )
        return
    free = facts.number("bytes_free")
    room = "unknown room" if free is None else f"{free:,} bytes free"
    yield Finding("destination", f"{root} is mounted ({facts.get('file_system')}), writable, {room}")
    traits = facts.traits
    if not traits.modes or not traits.links:
        yield Finding(
            "file system", f"{root} does not keep permissions, times or links: rsync leaves them out"
        )
    yield from (Finding("group", told) for told in kept_out(facts, beamtime.access_of_group(site), root))


def _full(facts: Facts, root: str) -> PermanentError:
    if facts.number("inodes_free") == 0:
        return PermanentError(
            "rds-inodes",
            f"RDS has no inode left at {root}",
            "delete small files that nobody needs there or ask Research IT for more inodes",
        )
    return PermanentError("rds-full", f"RDS is full at {root}", "make room there or ask Research IT for more")


def _facility(facts: Facts, beamtime: Beamtime, site: Site) -> Iterator[Finding]:
    at, host, account = beamtime.facility_name, beamtime.host, beamtime.account
    if "far_exit" not in facts.values:
        return
    who, ours = errand(beamtime, site), facts.get("far_command") == "beamferry"
    printed, stderr = facts.get("far_noise"), facts.lines("far_errors")
    shell = FarShell(facts.get("far_exit"), facts.is_so("far_begun"), ours, printed, stderr, FAR_SECONDS)
    if facts.is_so("far_endless"):
        yield bad("log-in shell", shell_floods(shell, who))
        return
    if not ours or not facts.get("far_time"):
        if ours and shell.code == "124":
            late = f"no answer in {FAR_SECONDS} seconds"
            yield bad("source", unwell_at_facility(beamtime.source_path, at, late))
        else:
            yield bad("log-in", interpret_shell(shell, who))
        return
    yield Finding("log-in", f"{at} lets {account} in at {host} without a password")
    if facts.get("far_noise"):
        yield bad("log-in shell", shell_noise(facts.get("far_noise"), who))
    if not facts.get("far_rsync"):
        yield bad(
            "rsync there",
            PermanentError(
                "facility-no-rsync",
                f"There is no rsync at {host} for account {account}",
                f"ask {at} how to get rsync on that host",
            ),
        )
    else:
        yield Finding("rsync there", f"{at} has {facts.get('far_rsync')}")
    for tool, purpose in (("find", "to list the source"), ("sha256sum", "to compare content")):
        if not facts.is_so(f"far_{tool}"):
            yield bad(
                tool,
                PermanentError(
                    f"facility-no-{tool}",
                    f"There is no GNU {tool} at {host}, which is needed {purpose}",
                    f"ask {at} for a host with GNU tools",
                ),
            )
    yield _source(facts, beamtime)
    near, far = facts.number("near_time"), facts.number("far_time")
    if near is not None and far is not None and abs(near - far) > CLOCK_SKEW:
        yield Finding("clocks", f"The clocks of RDS-SSH and {at} are {abs(near - far):,} s apart")


def _source(facts: Facts, beamtime: Beamtime) -> Finding:
    at, account, source = beamtime.facility_name, beamtime.account, beamtime.source_path
    if facts.is_so("source_readable") and facts.is_so("source_is_folder"):
        return Finding("source", f"{source} is there and readable")
    if kind_of(facts.get("source_reason")) is Kind.PASSING:
        return bad("source", unwell_at_facility(source, at, facts.get("source_reason")))
    if facts.is_so("source_exists"):
        return bad(
            "source",
            PermanentError(
                "source-unreadable",
                f"{account} may not read {source} at {at}",
                f"ask the visit's principal investigator or {at} to add {account} to visit {beamtime.id}",
            ),
        )
    return bad(
        "source",
        PermanentError(
            "source-missing",
            f"There is no folder {source} at {at}",
            "check instrument, year and id of the entry; if they are right, the data may be on tape: ask for it back",
        ),
    )
