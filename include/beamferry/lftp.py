"""Calls of the scripts that run lftp on RDS-SSH, and the totals of what they listed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry.beamtime import Transport
from beamferry.census import SAMPLE_BYTES
from beamferry.errors import PermanentError
from beamferry.rsync import MIB, POSIX, STALL_SECONDS, Traits, group_arguments, ssh_words

if TYPE_CHECKING:
    from beamferry.beamtime import Level, Site
    from beamferry.facilities.desy import DesyBeamtime

# The files that lie in the beamtime's own folder.
TOP = "."
# Instances of one task that Airflow makes of a list, by its default ([core] max_map_length).
MOST_FOLDERS = 1024
_LINE = re.compile(r"(?P<kind>total|folder) (?P<figures>\d+ \d+ \d+ \d+ \d+) (?P<name>.+)", re.ASCII)


@dataclass(frozen=True)
class Folder:
    """What a folder holds, and what of it is to be fetched; bytes and counts, ``new_folders`` below it to be made,
    and copies that are to be opened to the group.
    """

    name: str
    files: int
    bytes: int
    todo_files: int
    todo_bytes: int
    new_folders: int


@dataclass(frozen=True)
class Totals:
    """The figures of a listing, named as those of rsync's ``--stats``; bytes and counts.

    Args:
        regular_files: files of the source, excludes left out.
        bytes: their size.
        transferred_files: files to fetch.
        transferred_bytes: their size.
        folders: the same folder by folder; ``.`` stands for the beamtime's own.
    """

    regular_files: int
    bytes: int
    transferred_files: int
    transferred_bytes: int
    folders: tuple[Folder, ...]

    @property
    def to_fetch(self) -> tuple[str, ...]:
        """Folders in which something is to be done."""
        return tuple(folder.name for folder in self.folders if folder.todo_files or folder.new_folders)


def parse_totals(text: str) -> Totals:
    """Return the figures that the step ``lftp_dry_run`` left in ``stats``.

    Raises:
        PermanentError: a line is missing or no such line, the sums do not agree, or a folder's name is not UTF-8.
    """
    folders: list[Folder] = []
    total: Folder | None = None
    # Not splitlines: it takes characters of names for the ends of lines.
    for line in text.removesuffix("\n").split("\n"):
        match = _LINE.fullmatch(line)
        if match is None or total is not None:
            raise _unreadable(f"'{line[:100]}' is no line of theirs")
        if "\ufffd" in match["name"]:
            raise PermanentError(
                "folder-name",
                f"The folder '{match['name']}' has a name that is not UTF-8",
                "give the entry the 'folders' to fetch without it, and ask the facility to rename it",
            )
        found = Folder(match["name"], *(int(number) for number in match["figures"].split()))
        if match["kind"] == "folder":
            folders.append(found)
        else:
            total = found
    if total is None:
        raise _unreadable("the last line is missing")
    for field in ("files", "bytes", "todo_files", "todo_bytes"):
        if sum(getattr(folder, field) for folder in folders) != getattr(total, field):
            raise _unreadable(f"the folders' {field} do not sum up")
    if len(folders) > MOST_FOLDERS:
        raise PermanentError(
            "folders-too-many",
            f"The beamtime has {len(folders):,} folders side by side, and a run can hold {MOST_FOLDERS:,}",
            "give the entry the 'folders' that are to be fetched",
        )
    return Totals(total.files, total.bytes, total.todo_files, total.todo_bytes, tuple(folders))


def _unreadable(what: str) -> PermanentError:
    return PermanentError(
        "totals-unreadable",
        f"The listing's totals cannot be read: {what}",
        "nothing was concluded from them; see that the home folder on RDS-SSH is not full, then start the run again",
    )


def far_arguments(beamtime: DesyBeamtime, secret: str) -> tuple[str, ...]:
    """Return the arguments that tell a step, or the probe, about the facility.

    Args:
        beamtime: the registry's entry.
        secret: file on RDS-SSH that holds the password while a job runs, where there is one.
    """
    over_ssh = beamtime.protocol is Transport.SFTP
    log_in = "password" if beamtime.connection else "ssh" if over_ssh else "netrc"
    words = ssh_words(beamtime, subsystem=True)
    if log_in == "password":
        # ssh asks, and is answered from the file, once.
        words = tuple(word.replace("BatchMode=yes", "NumberOfPasswordPrompts=1") for word in words)
    return (
        *("--transport", beamtime.protocol.value),
        *("--host", beamtime.host),
        *("--port", str(beamtime.port or 0)),
        *("--account", beamtime.account),
        *("--source", beamtime.source_path),
        *("--log-in", log_in),
        *(("--secret", secret) if beamtime.connection else ()),
        *(("--ca-file", beamtime.ca_file) if beamtime.ca_file else ()),
        *(("--ssh", " ".join(words)) if over_ssh else ()),
    )


def _scope(beamtime: DesyBeamtime) -> tuple[str, ...]:
    """Return which of the source's paths count."""
    return (
        *(word for path in beamtime.exclude for word in ("--exclude", path)),
        *(word for name in beamtime.chosen_folders for word in ("--folder", name)),
        *(("--tokens", "yes") if beamtime.tokens else ()),
    )


def _opening(beamtime: DesyBeamtime, site: Site, traits: Traits) -> tuple[str, ...]:
    """Return what tells a script which permissions the group is to have; none where the umask alone decides."""
    group = group_arguments(beamtime, site, traits)
    return ("--group-access", beamtime.access_of_group(site).value, *group) if group else ()


def probe_arguments(beamtime: DesyBeamtime, site: Site, secret: str) -> tuple[str, ...]:
    """Return the arguments of ``lftp_probe.sh``."""
    return (
        *("--destination-root", site.destination_root),
        *("--destination", beamtime.destination_below_root(site)),
        *("--beamtime", beamtime.id),
        *far_arguments(beamtime, secret),
    )


def dry_run_arguments(
    work: str, beamtime: DesyBeamtime, site: Site, secret: str, traits: Traits = POSIX, *, streams: int
) -> tuple[str, ...]:
    """Return the arguments of the step ``lftp_dry_run``; ``work`` is the folder on RDS-SSH that keeps the lists."""
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--destination-root", site.destination_root),
        *("--destination", beamtime.destination_below_root(site)),
        # As for rsync: some servers round times to two seconds.
        *("--modify-window", "0" if traits.modes else "2"),
        *("--stall", str(STALL_SECONDS)),
        *_opening(beamtime, site, traits),
        *_scope(beamtime),
        *far_arguments(beamtime, secret),
    )


def transfer_arguments(
    work: str,
    beamtime: DesyBeamtime,
    site: Site,
    secret: str,
    traits: Traits = POSIX,
    *,
    folder: str,
    streams: int,
    bandwidth_limit: int | None = None,
) -> tuple[str, ...]:
    """Return the arguments of the step ``lftp_transfer``.

    Args:
        work: folder on RDS-SSH where the dry run left its lists.
        beamtime: what to fetch.
        site: where it goes.
        secret: file on RDS-SSH that holds the password while the job runs.
        traits: what the destination can keep.
        folder: the folder to fetch, ``.`` for the files that lie beside the folders.
        streams: connections at the same time.
        bandwidth_limit: MiB/s of all connections together.
    """
    return (
        *("--work", work),
        *("--folder", folder),
        *("--streams", str(streams)),
        *("--limit", str((bandwidth_limit or 0) * MIB)),
        *("--stall", str(STALL_SECONDS)),
        *("--destination", beamtime.destination_below_root(site)),
        *_opening(beamtime, site, traits),
        *far_arguments(beamtime, secret),
    )


def verify_arguments(
    work: str,
    beamtime: DesyBeamtime,
    site: Site,
    secret: str,
    traits: Traits = POSIX,
    *,
    level: Level,
    streams: int,
    seed: int,
    bandwidth_limit: int | None = None,
) -> tuple[str, ...]:
    """Return the arguments of the step ``lftp_verify``, see ``census.verify_arguments``: all is fetched anew.

    Args:
        work: as for ``transfer_arguments``, as are the next ones.
        beamtime: what is compared.
        site: where the copy is.
        secret: file on RDS-SSH that holds the password while the job runs.
        traits: what the destination can keep.
        level: what is compared.
        streams: connections at the same time.
        seed: chooses the sample.
        bandwidth_limit: MiB/s of all connections together.
    """
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--level", level.value),
        *("--samples", str(beamtime.samples)),
        *("--sample-bytes", str(SAMPLE_BYTES)),
        *("--seed", str(seed)),
        *("--limit", str((bandwidth_limit or 0) * MIB)),
        *("--stall", str(STALL_SECONDS)),
        *("--destination", beamtime.destination_below_root(site)),
        *group_arguments(beamtime, site, traits),
        *_scope(beamtime),
        *far_arguments(beamtime, secret),
    )


def by_hand(beamtime: DesyBeamtime, site: Site) -> tuple[str, ...]:
    """Return the lftp that a person would type; it neither lists twice nor compares, as the scripts do."""
    over_ssh = beamtime.protocol is Transport.SFTP
    settings = ["set cmd:fail-exit yes", "set net:max-retries 3", "set xfer:use-temp-file yes"]
    if not over_ssh:
        settings += ["set ftp:ssl-force yes", "set ftp:ssl-protect-data yes", "set ftp:ssl-protect-list yes"]
    if beamtime.ca_file:
        settings.append(f'set ssl:ca-file "{beamtime.ca_file}"')
    ends = f'"{beamtime.source_path}" "{beamtime.destination_path(site)}"'
    mirror = f"mirror --parallel={beamtime.streams} --no-perms {ends}"
    port = ("-p", str(beamtime.port)) if beamtime.port else ()
    address = f"{'sftp' if over_ssh else 'ftp'}://{beamtime.host}"
    return ("lftp", "-u", beamtime.account, *port, "-e", "; ".join([*settings, mirror, "exit"]), address)
