"""What the registry says of one beamtime: frozen models, validated field by field."""

from __future__ import annotations

from datetime import date, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints


class Level(StrEnum):
    """How thoroughly a copy was compared with its source; each level includes the ones before it."""

    LISTED = "listed"
    SIZES = "sizes"
    SAMPLED = "sampled"
    FULL = "full"


def _absolute(path: str) -> str:
    """Refuse what could leave its folder or be read as an option; links are the server's own business."""
    pure = PurePosixPath(path)
    if not pure.is_absolute():
        raise ValueError(f"must be an absolute path, got {path!r}")
    if ".." in pure.parts:
        raise ValueError("must not contain '..'")
    if str(pure) != path or path == "/":
        raise ValueError(f"must be a plain path without '//', '/./' or a trailing '/', got {path!r}")
    return path


def _relative(path: str) -> str:
    """Refuse excludes that are not a plain path below the visit's folder."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or path.startswith("-"):
        raise ValueError(f"must be a path below the beamtime's folder, without '..', got {path!r}")
    if str(pure) != path.removesuffix("/") or path in {"", ".", "/"}:
        raise ValueError(f"must be a plain path, got {path!r}")
    return path


# Allow-lists: what passes here is used as an argument of ssh, rsync and find on other people's machines.
AbsolutePath = Annotated[
    str, StringConstraints(pattern=r"^/[A-Za-z0-9._+=@ /-]{1,1000}$"), AfterValidator(_absolute)
]
ExcludePath = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9._+=@ /-]{1,500}$"), AfterValidator(_relative)
]
AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_.-]{0,31}$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]
InstrumentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,15}$")]
ConnectionId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,199}$")]
MailAddress = Annotated[str, StringConstraints(pattern=r"^[^@\s,;<>\"]+@[A-Za-z0-9.-]+$", max_length=254)]


class Frozen(BaseModel):
    """Base of all models: immutable, and an unknown field is an error rather than a silent nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Site(Frozen):
    """The group's own side, once per registry."""

    rds_connection: ConnectionId = Field(
        "rds_ssh", description="Airflow connection of RDS-SSH; its host key is pinned in the extras."
    )
    destination_root: AbsolutePath = Field(
        description="Folder on RDS below which all beamtimes land; must exist on RDS-SSH."
    )
    notify: tuple[MailAddress, ...] = Field((), description="Mail addresses that get every alert.")
    time_zone: str = Field("Europe/London", description="IANA zone used in texts; all reckoning is UTC.")


class Beamtime(Frozen):
    """What every facility's entry has; a facility's own model adds the rest and fixes the derived values."""

    id: str = Field(description="The facility's own name of the beamtime; never used again for another one.")
    facility: str = Field(description="Where the data is.")
    instrument: InstrumentName = Field(description="Beamline, as in the facility's paths.")
    account: AccountName = Field(description="Log-in name at the facility.")
    ended: date = Field(description="Last day of the beamtime; the countdown to tape starts here.")
    source: AbsolutePath | None = Field(None, description="Folder at the facility; derived when left out.")
    destination: AbsolutePath | None = Field(
        None, description="Folder on RDS; derived below destination_root when left out."
    )
    deadline: date | None = Field(
        None, description="Day on which the data goes to tape; derived when left out. Needs deadline_reason."
    )
    deadline_reason: str | None = Field(None, max_length=500, description="Why the deadline differs.")
    exclude: tuple[ExcludePath, ...] = Field((), description="Paths below the source that stay behind.")
    streams: Annotated[int, Field(ge=1, le=16)] = Field(
        4, description="Connections to the facility at the same time."
    )
    bandwidth_limit: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Upper limit in MiB/s for all streams together; none when left out."
    )
    verification: Level = Field(Level.SAMPLED, description="How thoroughly the copy is compared.")
    samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        32, description="Files compared byte by byte at level 'sampled'."
    )
    manifest: bool = Field(False, description="Write a SHA-256 manifest beside the data.")
    notify: tuple[MailAddress, ...] = Field((), description="Further mail addresses for this beamtime.")
    archived: bool = Field(False, description="Retired: kept for the record, no DAG is made.")

    @property
    def key(self) -> str:
        """Name that is unique over all facilities, e.g. ``diamond_mg25682-2``."""
        return f"{self.facility}_{self.id}"

    @property
    def host(self) -> str:
        """Host from which the data is fetched."""
        raise NotImplementedError

    @property
    def year(self) -> int:
        """Year under which the facility files the beamtime."""
        return self.ended.year

    @property
    def retention(self) -> timedelta:
        """Time on disk after the end of the beamtime, by the facility's own rule."""
        raise NotImplementedError

    @property
    def derived_source(self) -> str:
        """Folder at the facility when the entry does not name one."""
        raise NotImplementedError

    @property
    def source_path(self) -> str:
        """Folder at the facility."""
        return self.source or self.derived_source

    @property
    def tape_day(self) -> date:
        """First day on which the facility may move the data to tape."""
        return self.deadline or self.ended + self.retention

    def destination_path(self, site: Site) -> str:
        """Folder on RDS that will hold what ``source_path`` holds."""
        return self.destination or "/".join(
            (site.destination_root, self.facility, self.instrument, str(self.year), self.id)
        )

    def model_post_init(self, _context: Any) -> None:
        """Check what spans two fields."""
        if self.deadline is not None and not self.deadline_reason:
            raise ValueError("deadline needs deadline_reason: say who promised the later (or earlier) day")
