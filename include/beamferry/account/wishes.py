"""What a person asks of ``prepare_account``, and the gates at which the account knocks."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from beamferry.beamtime import AbsolutePath, ConnectionId, Frozen, Spelling, Transport, refusal
from beamferry.errors import PermanentError
from beamferry.registry.entries import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from beamferry.beamtime import Beamtime, Site

# A chain has three; the whole call is one argument of a shell, which takes 128 KiB.
MOST_CA_CHARACTERS = 60_000


class Host(StrEnum):
    """Where the account is."""

    RDS = "rds"
    ICSF = "icsf"

    @property
    def spoken(self) -> str:
        """Its name in sentences."""
        return "RDS-SSH" if self is Host.RDS else "iCSF"


class Mode(StrEnum):
    """What a run does."""

    PREPARE = "prepare"
    UNLINK = "unlink"


class Step(StrEnum):
    """What can be prepared."""

    WORKSPACE = "workspace"
    LINKS = "links"
    KEY_PAIR = "key pair"
    HOST_KEYS = "host keys"
    LFTP = "lftp"


LinkName = Annotated[
    str,
    Field(max_length=64),
    Spelling(
        r"[A-Za-z0-9_][A-Za-z0-9._-]*",
        "must be one plain name in the home folder",
        "write it without '/', e.g. rds_lightform",
    ),
]


class Wishes(Frozen):
    """What the trigger form was answered."""

    host: Host
    mode: Mode
    steps: tuple[Step, ...]
    facilities: tuple[str, ...]
    own_link: LinkName
    own_folder: AbsolutePath | None
    shared_link: LinkName
    shared_folder: AbsolutePath
    ca_certificate: Annotated[str, Field(max_length=MOST_CA_CHARACTERS)] | None
    icsf_connection: ConnectionId

    @field_validator("facilities")
    @classmethod
    def _known_facilities(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(MODELS)):
            raise refusal(f"does not know '{unknown[0]}'", f"choose from {', '.join(sorted(MODELS))}")
        return names

    @field_validator("shared_link")
    @classmethod
    def _two_names(cls, name: str, info: ValidationInfo) -> str:
        if name == info.data.get("own_link"):
            raise refusal("must differ from the other link's name", "give each link a name of its own")
        return name

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Wishes:
        """Read the form's answers.

        Raises:
            PermanentError: an answer is none that the form offers; names all such answers.
        """
        try:
            return cls.model_validate_json(json.dumps(dict(params)))
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))} {one['msg']}" for one in error.errors())
            raise PermanentError(
                "form-refused",
                f"The form was answered with what it does not take ({wrong})",
                "trigger it again",
            ) from error

    def asks_for(self, step: Step) -> bool:
        """Say whether a step is part of the run."""
        return self.mode is Mode.PREPARE and step in self.steps

    def connection(self, site: Site) -> str:
        """Return the id of the Airflow connection that leads to the account."""
        return site.rds_connection if self.host is Host.RDS else self.icsf_connection


@dataclass(frozen=True)
class Usual:
    """What the form proposes for the links, as the group's transfer page has them.

    Args:
        group: folder of the group on RDS, with one folder for each account.
        own_link: name of the link to the account's folder.
        shared_link: name of the link to the folder that all share.
        shared_folder: that folder.
    """

    group: str
    own_link: str
    shared_link: str
    shared_folder: str


def usual(site: Site) -> Usual:
    """Derive the links from where beamtimes land: on the page, ``rds_lightform`` for ``Fonseca-Lightform``."""
    root = PurePosixPath(site.destination_root)
    places = (root, *root.parents)
    shared = next((place for place in places if place.name == "shared"), root)
    group = shared.parent
    words = re.findall(r"[a-z0-9]+", group.name.lower())
    name = f"rds_{words[-1][:40] if words else 'group'}"
    return Usual(str(group), name, f"{name}_shared", str(shared))


@dataclass(frozen=True)
class Gate:
    """Where a facility lets people in by ssh.

    Args:
        facility: its name in sentences, e.g. ``Diamond``.
        host: as the registry and ssh name it.
        port: where the registry names one; else the one that ssh takes.
        accounts: log-in names there, of the registry's beamtimes.
    """

    facility: str
    host: str
    port: int | None
    accounts: tuple[str, ...]

    @property
    def label(self) -> str:
        """Host, and port where one is named; the script's answers bear it."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def words(self) -> tuple[str, str, str]:
        """The gate as the script takes it."""
        port = "" if self.port is None else str(self.port)
        return self.host, port, self.accounts[0] if self.accounts else ""


def facilities_of(beamtimes: Iterable[Beamtime]) -> tuple[str, ...]:
    """Return the facilities from which beamtimes come by ssh, by the registry's names; all where there are none."""
    return tuple(sorted({one.facility for one in _by_ssh(beamtimes)})) or tuple(sorted(MODELS))


def gates(beamtimes: Iterable[Beamtime], facilities: Iterable[str]) -> tuple[Gate, ...]:
    """Return the gates of these facilities, in a constant order; the facility's own where the registry has none."""
    wanted = set(facilities)
    found: dict[tuple[str, str, str, int], set[str]] = {}
    for one in _by_ssh(beamtimes):
        if one.facility in wanted:
            key = (one.facility, one.facility_name, one.host, one.log_in_port or 0)
            found.setdefault(key, set()).add(one.account)
    for name in wanted - {facility for facility, *_ in found}:
        # Host and name are the facility's own and need no beamtime.
        bare = MODELS[name].model_construct(facility=name)  # type: ignore[call-arg]
        found[name, bare.facility_name, bare.host, 0] = set()
    return tuple(
        Gate(spoken, host, port or None, tuple(sorted(accounts)))
        for (_, spoken, host, port), accounts in sorted(found.items())
    )


def _by_ssh(beamtimes: Iterable[Beamtime]) -> Iterator[Beamtime]:
    return (one for one in beamtimes if not one.archived and one.protocol is not Transport.FTPS)


def certificates(text: str, now: datetime) -> str:
    """Return the certificates of a PEM text, and nothing else of it.

    Raises:
        PermanentError: there is none, or one that cannot vouch for a server.
    """
    remedy = "paste the issuer's certificate as PEM, from '-----BEGIN CERTIFICATE-----' on, or leave the field empty"
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise PermanentError(
            "ca-unreadable", "The CA certificate of the form cannot be read", remedy
        ) from error
    for one in found:
        name = one.subject.rfc4514_string()
        try:
            authority = one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except (x509.ExtensionNotFound, ValueError):
            authority = False
        if not authority:
            raise PermanentError("ca-none", f"'{name}' is no authority's certificate", remedy)
        if one.not_valid_after_utc <= now:
            raise PermanentError(
                "ca-expired",
                f"The certificate '{name}' expired on {one.not_valid_after_utc:%Y-%m-%d}",
                remedy,
            )
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
