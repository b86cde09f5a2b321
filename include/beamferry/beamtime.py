"""What the registry says of one beamtime: frozen models, validated field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

# Names that begin like this are the transfer's own, e.g. rsync's folder of unfinished files.
RESERVED_PREFIX = ".beamferry"
# What the folder of the certificate, beside the data, has behind the destination's name.
CERTIFICATE_SUFFIX = ".certificate"


# sshds refuse more log-ins at a time sooner or later, and the links to RDS-SSH are full before that.
MOST_STREAMS = 16


class Level(StrEnum):
    """How thoroughly a copy was compared with its source; each level includes the ones before it."""

    LISTED = "listed"
    SIZES = "sizes"
    SAMPLED = "sampled"
    FULL = "full"


class Transport(StrEnum):
    """How the data comes: rsync over ssh, or lftp over FTP with TLS or over SFTP."""

    RSYNC = "rsync"
    FTPS = "ftps"
    SFTP = "sftp"


class GroupAccess(StrEnum):
    """What the group may do with what came home: read it, write to it too, or what the modes of the source say."""

    READ = "read"
    WRITE = "write"
    KEEP = "keep"


def refusal(must: str, remedy: str) -> PydanticCustomError:
    """Return a value's error: ``must`` completes "<field> ...", ``remedy`` says what to write instead."""
    return PydanticCustomError("refusal", "{must}: {remedy}", {"must": must, "remedy": remedy})


@dataclass(frozen=True)
class Spelling:
    """Annotation of a text: the allow-list that the whole text must match, and the words for who missed it.

    Args:
        pattern: regular expression without anchors, valid in Python and in JSON schema.
        must: completes "<field> ...".
        remedy: what to write instead.
    """

    pattern: str
    must: str
    remedy: str

    def check(self, text: str) -> str:
        """Return the text.

        Raises:
            PydanticCustomError: something in it is not on the list, be it a newline at the end.
        """
        # fullmatch, because Python's $ would let a newline pass.
        if not re.fullmatch(self.pattern, text):
            raise refusal(self.must, self.remedy)
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Check after pydantic's own checks of the annotated type."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Show the pattern to editors."""
        return handler(schema) | {"pattern": f"^{self.pattern}$"}


def _path(path: str) -> str:
    """Refuse what could leave its folder, be read as an option or be taken for the transfer's own files."""
    pure = PurePosixPath(path)
    if ".." in pure.parts:
        raise refusal("must not contain '..'", "write the folder's own path")
    if path.startswith("-"):
        raise refusal("must not begin with '-'", "write the path from its first folder on")
    # pathlib keeps two slashes at the beginning.
    if str(pure) != path or path in {"", ".", "/"} or path.startswith("//"):
        raise refusal("must be a plain path", "leave out '//', '/./' and a '/' at the end")
    if any(part != part.strip() for part in pure.parts):
        raise refusal("must not have spaces at the end of a name", "remove the space beside the '/'")
    if any(len(part) > 255 for part in pure.parts):  # noqa: PLR2004
        raise refusal("has a name of more than 255 characters", "write the folder's real path")
    if any(part.startswith(RESERVED_PREFIX) for part in pure.parts):
        raise refusal(
            f"must not contain a name that begins with '{RESERVED_PREFIX}'",
            "choose another folder: transfers keep unfinished files under such names",
        )
    return path


def _absolute(path: str) -> str:
    """Check a folder's path on a server; links in it are the server's own business."""
    if not path.startswith("/"):
        raise refusal("must be an absolute path", "write it from / on")
    return _path(path)


def _relative(path: str) -> str:
    """Check an exclude: a literal path below the visit's folder, a '/' at the end meaning a folder."""
    if path.startswith("/"):
        raise refusal(
            "must be a path below the beamtime's folder", "write it from that folder on, without / in front"
        )
    _path(path.removesuffix("/"))
    return path


def _zone(name: str) -> str:
    """Check that the time zone is one that this machine knows."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise refusal("is no time zone", "write one of the IANA names, e.g. Europe/London") from None
    return name


# Allow-lists: what passes here is used as an argument of ssh, rsync and find on other people's machines.
_PATH_WORDS = (
    "may hold only letters without accents, digits, spaces and . _ + = @ - /",
    "write the path exactly, or a folder that has a plain name",
)
AbsolutePath = Annotated[
    str, AfterValidator(_absolute), Spelling(r"/[A-Za-z0-9._+=@ /-]{1,1000}", *_PATH_WORDS)
]
ExcludePath = Annotated[str, AfterValidator(_relative), Spelling(r"[A-Za-z0-9._+=@ /-]{1,500}", *_PATH_WORDS)]
AccountName = Annotated[
    str,
    Field(max_length=32),
    Spelling(
        r"[a-z_][a-z0-9_-]*(\.[a-z0-9_-]+)*",
        "must be a log-in name: small letters, digits and . _ -",
        "write the name with which you log in at the facility, without @ and host",
    ),
]
InstrumentName = Annotated[
    str,
    Field(max_length=16),
    Spelling(
        r"[a-z][a-z0-9]*([.-][a-z0-9]+)*",
        "must be a beamline's name as in the facility's paths",
        "write it in small letters, e.g. i12 or i15-1",
    ),
]
ConnectionId = Annotated[
    str,
    Field(max_length=200),
    Spelling(
        r"[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*",
        "must be the name of an Airflow connection",
        "write its connection id, e.g. rds_ssh",
    ),
]
MailAddress = Annotated[
    str,
    Field(max_length=254),
    Spelling(
        r"[A-Za-z0-9_][A-Za-z0-9._%+'-]*@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*",
        "must be one mail address",
        "write it without a name, e.g. group-data@example.ac.uk",
    ),
]
_LINE = Spelling(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+", "must be one line of text", "write it in one line")
# A registry is younger than the facilities' data policies, and reckoning with days must not overflow.
Day = Annotated[date, Field(ge=date(2000, 1, 1), le=date(2099, 12, 31))]
# A YAML list is a list; everything else is taken strictly, so that no number passes for a day or a word.
_List = Field(strict=False)
ExcludePaths = Annotated[tuple[ExcludePath, ...], _List]
MailAddresses = Annotated[tuple[MailAddress, ...], _List]


class Frozen(BaseModel):
    """Base of all models: immutable, and an unknown field is an error rather than a silent nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Site(Frozen):
    """The group's own side, once per registry."""

    rds_connection: ConnectionId = Field(
        "rds_ssh", description="Airflow connection of RDS-SSH; its host key is pinned in the extras."
    )
    destination_root: AbsolutePath = Field(
        description="Folder on RDS below which all beamtimes land; must exist on RDS-SSH."
    )
    notify: MailAddresses = Field((), description="Mail addresses that get every alert.")
    smtp_connection: ConnectionId = Field(
        "smtp_default", description="Airflow connection of the mail server; from_email is in its extras."
    )
    weekly_summary: bool = Field(
        False, description="Also mail every Monday that all is well, when nothing else is to be told."
    )
    personal_data: bool = Field(
        False, description="Keep the names of principal investigators that a facility's metadata file gives."
    )
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        "Europe/London", description="IANA zone used in texts; all reckoning is UTC."
    )
    group_access: Literal[GroupAccess.READ, GroupAccess.WRITE, GroupAccess.KEEP] = Field(
        GroupAccess.READ,
        description="What the group may do with the data on RDS: read, also write, or what the source's modes say.",
    )


class Beamtime(Frozen):
    """What every facility's entry has; a facility's own model adds the rest and fixes the derived values."""

    id: str = Field(description="The facility's own name of the beamtime; never used again for another one.")
    facility: str = Field(description="Where the data is.")
    instrument: InstrumentName = Field(description="Beamline, as in the facility's paths.")
    account: AccountName = Field(description="Log-in name at the facility.")
    ended: Day = Field(description="Last day of the beamtime; the countdown to tape starts here.")
    source: AbsolutePath | None = Field(None, description="Folder at the facility; derived when left out.")
    destination: AbsolutePath | None = Field(
        None, description="Folder on RDS; derived below destination_root when left out."
    )
    deadline: Day | None = Field(
        None, description="Day on which the data goes to tape; derived when left out. Needs deadline_reason."
    )
    deadline_reason: Annotated[str, Field(max_length=500), _LINE] | None = Field(
        None, validate_default=True, description="Why the deadline differs: who promised it, and when."
    )
    exclude: ExcludePaths = Field((), description="Paths below the source that stay behind.")
    streams: Annotated[int, Field(ge=1, le=MOST_STREAMS)] = Field(
        4, description="Connections to the facility at the same time."
    )
    bandwidth_limit: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="Upper limit in MiB/s for all streams together; none when left out."
    )
    verification: Literal[Level.SIZES, Level.SAMPLED, Level.FULL] = Field(
        Level.SAMPLED, description="How thoroughly the copy is compared."
    )
    samples: Annotated[int, Field(ge=1, le=100_000)] = Field(
        32, description="Files compared byte by byte at level 'sampled'."
    )
    manifest: bool = Field(False, description="Write a SHA-256 manifest beside the data.")
    group_access: Literal[GroupAccess.READ, GroupAccess.WRITE, GroupAccess.KEEP] | None = Field(
        None, description="What the group may do with the data on RDS; as the site says when left out."
    )
    auth: Literal["unattended", "interactive"] = Field(
        "unattended",
        description="Who logs in at the facility: RDS-SSH by itself, or a person whose ssh session the run then uses, "
        "where a second factor is asked for.",
    )
    notify: MailAddresses = Field((), description="Further mail addresses for this beamtime.")
    restore_requested: Day | None = Field(
        None,
        description="Day on which the data was asked back from tape; alerts about tape pause from then on.",
    )
    archived: bool = Field(False, description="Retired: kept for the record, no DAG is made.")

    @property
    def key(self) -> str:
        """Name that is unique over all facilities, e.g. ``diamond_mg25682-2``."""
        return f"{self.facility}_{self.id}"

    @property
    def dag_id(self) -> str:
        """Name of its DAG in Airflow, e.g. ``beamtime_diamond_mg25682-2``."""
        return f"beamtime_{self.key}"

    @property
    def protocol(self) -> Transport:
        """How the data comes."""
        return Transport.RSYNC

    @property
    def secret_connection(self) -> str | None:
        """Airflow connection with the password of the account, None where no password is needed or known."""
        return None

    @property
    def chosen_folders(self) -> tuple[str, ...]:
        """Folders below the source that are fetched, with the files beside them; all of them when empty."""
        return ()

    @property
    def left_behind(self) -> tuple[str, ...]:
        """Everything below the source that stays there, in words for people; the excludes are part of it."""
        return self.exclude

    @property
    def most_streams(self) -> int:
        """What ``streams`` may be at most."""
        return MOST_STREAMS

    @property
    def log_in_port(self) -> int | None:
        """Port of the facility's ssh where the entry names one; else its own, or that of ~/.ssh/config."""
        return None

    @property
    def interactive(self) -> bool:
        """Whether a person opens the session over which the data comes."""
        return self.auth == "interactive"

    @property
    def asset_name(self) -> str:
        """Name of the asset that stands for its data on RDS, e.g. ``rds/diamond/mg25682-2``."""
        return f"rds/{self.facility}/{self.id}"

    @property
    def facility_name(self) -> str:
        """The facility as sentences name it, e.g. ``Diamond``."""
        return self.facility.title()

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
    def published_minimum(self) -> timedelta | None:
        """Time after which the facility's own policy lets it move a file, where that is earlier; else None."""
        return None

    @property
    def registration_ends(self) -> date | None:
        """First day on which the facility no longer lets the account fetch this beamtime, None where it always does."""
        return None

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

    def destination_below_root(self, site: Site) -> str:
        """The same folder as RDS-SSH is told of it: ``ROOT/./REST``; it follows no link in REST.

        Raises:
            ValueError: the folder is not below destination_root; the registry has no such beamtime.
        """
        root = site.destination_root
        return f"{root}/./{PurePosixPath(self.destination_path(site)).relative_to(root)}"

    def access_of_group(self, site: Site) -> GroupAccess:
        """What the group may do with its data on RDS."""
        return GroupAccess(self.group_access or site.group_access)

    @field_validator("deadline")
    @classmethod
    def _deadline_after_end(cls, deadline: date | None, info: ValidationInfo) -> date | None:
        ended = info.data.get("ended")
        if deadline is not None and ended is not None and deadline < ended:
            raise refusal(f"must not be before the beamtime's end on {ended}", "correct one of the two days")
        return deadline

    @field_validator("deadline_reason")
    @classmethod
    def _deadline_has_reason(cls, reason: str | None, info: ValidationInfo) -> str | None:
        if reason is None and info.data.get("deadline") is not None:
            raise refusal(
                "is missing, and the deadline needs one", "say who promised the later (or earlier) day"
            )
        return reason
