"""DESY: lftp from psftp.desy.de, over FTP with TLS or over SFTP."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from beamferry.beamtime import AbsolutePath, Beamtime, ConnectionId, Day, Spelling, Transport, refusal

BeamtimeId = Annotated[
    str,
    Spelling(
        r"[1-9][0-9]{7}|c20[0-9]{6}_[0-9]{3}_[A-Z]{3}",
        "must be a beamtime's number: eight digits, or c, day, number and letters of a commissioning",
        'write it in quotes as in DESY\'s paths, e.g. "11010750" or c20210823_000_MAA',
    ),
]
FolderName = Annotated[
    str,
    Spelling(
        r"[A-Za-z0-9_][A-Za-z0-9._+=@ -]{0,254}",
        "must be one folder of the beamtime, without '/'",
        "write the names as the listing shows them, e.g. [raw, processed]",
    ),
]
HostName = Annotated[
    str,
    Field(max_length=253),
    Spelling(
        r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*",
        "must be the name of a host",
        "write it without protocol and port, e.g. psftp.desy.de",
    ),
]
# Beyond that the curve is flat: see the bench.
MOST_STREAMS = 32
# Whoever has one can read the beamtime's live data streams.
TOKENS = "shared/asapo-token*.txt"


class DesyBeamtime(Beamtime):
    """A beamtime at DESY, e.g. ``11010750`` on ``p07``."""

    id: BeamtimeId = Field(description='Beamtime number in quotes, e.g. "11010750".')
    facility: Literal["desy"] = Field(description="Where the data is.")
    transport: Literal[Transport.FTPS, Transport.SFTP] = Field(
        Transport.SFTP, description="sftp, which is open today, or ftps as on the group's transfer page."
    )
    registered: Day | None = Field(
        None,
        validate_default=True,
        description="Day on which the beamtime was registered for FTP in the Gamma Portal; needed for ftps.",
    )
    connection: ConnectionId | None = Field(
        None,
        validate_default=True,
        description="Airflow connection that holds the account's password; without it RDS-SSH uses its ~/.netrc "
        "(ftps) or its ssh key (sftp).",
    )
    folders: Annotated[tuple[FolderName, ...], Field(strict=False)] = Field(
        (),
        description="Folders to fetch, with the files beside them; all that the listing shows when left out.",
    )
    tokens: bool = Field(
        False, description=f"Also fetch {TOKENS}, which open the beamtime's live data streams."
    )
    ca_file: AbsolutePath | None = Field(
        None,
        description="File on RDS-SSH with the issuer of DESY's certificate; the system's own when left out.",
    )
    server: HostName | None = Field(None, description="Another host than psftp.desy.de.")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="Another port than the protocol's own, 21 or 22."
    )
    # Files come one after the other on each connection, and most of the time is spent waiting: more than for rsync.
    streams: Annotated[int, Field(ge=1, le=MOST_STREAMS)] = Field(
        8, description="Connections to the facility at the same time."
    )

    @property
    def facility_name(self) -> str:
        """DESY, in capitals."""
        return "DESY"

    @property
    def protocol(self) -> Transport:
        """What the entry chose."""
        return self.transport

    @property
    def most_streams(self) -> int:
        """What ``streams`` may be at most."""
        return MOST_STREAMS

    @property
    def log_in_port(self) -> int | None:
        """What the entry says."""
        return self.port

    @property
    def host(self) -> str:
        """DESY's host for both protocols."""
        return self.server or "psftp.desy.de"

    @property
    def retention(self) -> timedelta:
        """Half a year on disk, as DESY's metadata files and its pages for users say."""
        return timedelta(days=180)

    @property
    def registration_ends(self) -> date | None:
        """A week after the registration for FTP, by DESY's page; SFTP needs none."""
        return None if self.registered is None else self.registered + timedelta(days=7)

    @property
    def derived_source(self) -> str:
        """FTP shows the beamtime that is registered, SFTP all of the account's by their numbers."""
        return "/" if self.transport is Transport.FTPS else f"/{self.id}"

    @property
    def secret_connection(self) -> str | None:
        """What the entry names."""
        return self.connection

    @property
    def chosen_folders(self) -> tuple[str, ...]:
        """What the entry names."""
        return self.folders

    @property
    def left_behind(self) -> tuple[str, ...]:
        """The excludes, and the tokens unless the entry asks for them."""
        return self.exclude if self.tokens else (*self.exclude, TOKENS)

    @field_validator("registered")
    @classmethod
    def _registration_of_ftps(cls, registered: date | None, info: ValidationInfo) -> date | None:
        transport = info.data.get("transport")
        if transport is Transport.FTPS and registered is None:
            raise refusal(
                "is missing", "write the day on which you registered it for FTP in the Gamma Portal"
            )
        if transport is Transport.SFTP and registered is not None:
            raise refusal("is for ftps alone", "leave it out, or write transport: ftps")
        return registered

    @field_validator("connection")
    @classmethod
    def _one_log_in(cls, connection: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("auth") == "interactive":
            if info.data.get("transport") is Transport.FTPS:
                raise refusal(
                    "cannot be: a person opens sessions of ssh, not of FTP", "write transport: sftp"
                )
            if connection is not None:
                raise refusal(
                    "is of no use where a person logs in", "leave it out, or write auth: unattended"
                )
        return connection
