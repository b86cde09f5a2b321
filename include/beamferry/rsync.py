"""Commands for rsync over ssh, run on RDS-SSH: what a beamtime and its destination make of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from beamferry import login
from beamferry.beamtime import GroupAccess

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime, Site

# Keeps a facility's banner, which ssh prints on stderr, out of what the tools say; errors are still told.
LOG_LEVEL = ("-o", "LogLevel=ERROR")
# What people set for every host (`Host *` in ~/.ssh/config) is meant for their terminals, and would end or garble a
# stream. Names, ports, jump hosts and keys stay theirs. RDS-SSH leaves out what its ssh does not
# know, see ``facility_shell.py``.
_NOT_A_TERMINAL = (
    *("-o", "RequestTTY=no"),
    *("-o", "RemoteCommand=none"),
    *("-o", "StdinNull=no"),
    *("-o", "ForkAfterAuthentication=no"),
    # A jump host needs none: ssh reaches it by another ssh.
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "PermitLocalCommand=no"),
    *("-o", "VisualHostKey=no"),
)
# Not beside ssh's -s, with which lftp and sftp ask for a session of theirs.
_COMMAND = ("-o", "SessionType=default")
_ALWAYS = (
    "ssh",
    *("-o", "BatchMode=yes"),
    *LOG_LEVEL,
    *("-o", "StrictHostKeyChecking=yes"),
    *_NOT_A_TERMINAL,
)
# ssh from RDS-SSH to a facility. No word holds a space: rsync's -e and our steps split them again. Each
# stream has a connection of its own, as over a shared one (ControlMaster) four rsyncs were as slow as one.
_OWN_CONNECTION = (
    *("-o", "ConnectTimeout=20"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=4"),
    *("-o", "ControlMaster=no"),
    *("-o", "ControlPath=none"),
)
SSH = (*_ALWAYS, *_OWN_CONNECTION, *_COMMAND)

# Where unfinished files wait beside their folder's others; never listed, never compared.
PARTIAL_FOLDER = ".beamferry-partial"

# Up to this many files rsync gets the whole list before it begins (--no-inc-recursive): a run with nothing to
# do is then several times faster over a long link. It costs 84 MB of memory per million files at the facility
# and 77 MB on RDS-SSH, where a forked process shares them (measured: rsync 3.5.0, 2,000,000 files with names
# of 27 characters, 168 and 153 MB; 7 MB with incremental recursion). Larger visits go folder by folder.
FLAT_LIST_LIMIT = 2_000_000

# rsync ends when no byte of its own protocol came for this long.
RSYNC_TIMEOUT_SECONDS = 300
# A transfer is stopped, and tried again, when none of its streams moved anything for this long: longer than
# rsync's own time-out, so that one stream that hangs ends alone.
STALL_SECONDS = 600

MIB = 1024 * 1024
# Ranges cost a connection more and a second reading, about a second: smaller files are not worth it, as one
# stream has them in three. The step raises this when there
# are many large files, as each stream then has whole ones to fetch.
RANGE_THRESHOLD = 32 * MIB
# A kill costs at most the ranges in flight: 64 MiB are 5 s at 13 MB/s. With less to do ranges are shorter.
RANGE_BYTES = 64 * MIB


@dataclass(frozen=True)
class Traits:
    """What the destination's file system can keep.

    Args:
        modes: it has owners and permission bits that can be set, and times of folders; a CIFS mount has not.
        links: it has symbolic links.
        group: number of the group that the share's folders give, by their setgid bit, to what is put there; None where
            they give none.
    """

    modes: bool
    links: bool = True
    group: int | None = None


POSIX = Traits(modes=True)
CIFS = Traits(modes=False)
# What the group gets, and what it loses, in words of rsync's --chmod.
_GROUP_MODES = {
    GroupAccess.READ: "Dg+rx,Fg+r,g-w,",
    GroupAccess.WRITE: "Dg+rwx,Fg+rw,",
    GroupAccess.KEEP: "",
}


def ssh_words(beamtime: Beamtime, *, subsystem: bool = False) -> tuple[str, ...]:
    """Return the words of ssh, up to the account, that reach this beamtime's facility.

    ``subsystem``: for a program that asks by ``-s`` for a session that is no command.

    Where a person logs in they lead through that session and nowhere else. Without it ssh would begin a log-in of its
    own, and accounts are locked after a few that fail: with ``false`` in the place of a connection it ends at once, and
    the facility hears nothing of it (seen with OpenSSH 9.2, for a session that is gone and for one that is refused).
    """
    way: tuple[str, ...] = _OWN_CONNECTION
    if beamtime.interactive:
        way = (
            *("-o", "ControlMaster=no"),
            *("-o", f"ControlPath={login.socket(beamtime)}"),
            *("-o", "ProxyCommand=false"),
        )
    return (*_ALWAYS, *way, *(() if subsystem else _COMMAND))


def streams_for(beamtime: Beamtime, streams: int) -> int:
    """Return how many connections a job may have at most; over a person's session the far sshd counts them."""
    return min(streams, login.STREAMS) if beamtime.interactive else streams


def is_flat(known_files: int | None) -> bool:
    """Say whether rsync may hold the whole list; ``known_files`` is the last plan's count, or None."""
    return known_files is not None and known_files <= FLAT_LIST_LIMIT


def rsync_command(
    beamtime: Beamtime,
    site: Site,
    traits: Traits = POSIX,
    *,
    flat: bool,
    limit: int | None = None,
) -> tuple[str, ...]:
    """Return the rsync that brings a beamtime home; the steps add what makes it a dry run or a shard.

    Args:
        beamtime: what to fetch; its excludes are paths below the source.
        site: where it goes.
        traits: what the destination can keep.
        flat: whether rsync gets the whole list first, see ``is_flat``.
        limit: KiB/s of this one connection, None for no limit.
    """
    return (
        "rsync",
        *_attributes(traits, beamtime.access_of_group(site)),
        # Paths reach the far side as they are, whatever its log-in shell would make of them.
        "-s",
        "--no-h",
        f"--partial-dir={PARTIAL_FOLDER}",
        f"--timeout={RSYNC_TIMEOUT_SECONDS}",
        *(f"--exclude=/{path}" for path in beamtime.exclude),
        # Of whatever kind it is there: a link of that name would lead what comes next out of the destination.
        f"--exclude={PARTIAL_FOLDER}",
        *(("--no-inc-recursive",) if flat else ()),
        *((f"--bwlimit={limit}",) if limit is not None else ()),
        *("-e", " ".join(ssh_words(beamtime))),
        "--",
        f"{beamtime.account}@{beamtime.host}:{beamtime.source_path}/",
        f"{beamtime.destination_path(site)}/",
    )


def _attributes(traits: Traits, access: GroupAccess) -> tuple[str, ...]:
    """Return which attributes come along; the facility's owners and groups mean nothing here."""
    links = ("-l",) if traits.links else ()
    # Read-only folders of the facility must be writable here, or nothing could be put into them. What would have
    # others run a file as this account, or write to it, stays behind.
    modes = f"--chmod=Du+rwx,Fu+rw,{_GROUP_MODES[access]}a-s,o-w"
    if not traits.modes:
        # Some servers round times to two seconds.
        return (
            "-r",
            *links,
            "-t",
            "-O",
            "--no-perms",
            "--no-owner",
            "--no-group",
            modes,
            "--modify-window=2",
        )
    # -p would take the setgid bit from folders that have it from the share.
    share = () if traits.group is None else ("--chmod=Dg+s", "-g", f"--groupmap=*:{traits.group}")
    return ("-r", *links, "-p", "-t", modes, *share)


def group_arguments(beamtime: Beamtime, site: Site, traits: Traits) -> tuple[str, ...]:
    """Return what tells a step which group is to be able to read the copy; none where nothing is promised."""
    # Where modes cannot be set, the mount alone decides.
    if beamtime.access_of_group(site) is GroupAccess.KEEP or not traits.modes:
        return ()
    return ("--group", "own" if traits.group is None else str(traits.group))


def dry_run_arguments(
    work: str, beamtime: Beamtime, site: Site, traits: Traits = POSIX, *, flat: bool
) -> tuple[str, ...]:
    """Return the arguments of the step "dry_run"; ``work`` is the folder on RDS-SSH that keeps the lists."""
    return (
        *("--work", work),
        *("--destination-root", site.destination_root),
        *("--destination", beamtime.destination_below_root(site)),
        *("--stall", str(STALL_SECONDS)),
        "--",
        *rsync_command(beamtime, site, traits, flat=flat),
    )


def transfer_arguments(
    work: str,
    beamtime: Beamtime,
    site: Site,
    traits: Traits = POSIX,
    *,
    flat: bool,
    streams: int,
    bandwidth_limit: int | None = None,
) -> tuple[str, ...]:
    """Return the arguments of the step "transfer".

    Args:
        work: folder on RDS-SSH where the dry run left its list.
        beamtime: what to fetch.
        site: where it goes.
        traits: what the destination can keep.
        flat: whether the finishing pass gets the whole list first.
        streams: connections at the same time, fewer over a session that a person opened.
        bandwidth_limit: MiB/s of all streams together; ranges, which know no limit, are then left out.
    """
    streams = streams_for(beamtime, streams)
    limit = None if bandwidth_limit is None else max(1, bandwidth_limit * 1024 // streams)
    return (
        *("--work", work),
        *("--streams", str(streams)),
        *("--range-threshold", str(RANGE_THRESHOLD if limit is None else 0)),
        *("--range-bytes", str(RANGE_BYTES)),
        *("--stall", str(STALL_SECONDS)),
        *("--host", beamtime.host),
        *("--account", beamtime.account),
        *("--source", beamtime.source_path),
        *("--destination", beamtime.destination_below_root(site)),
        *("--ssh", " ".join(ssh_words(beamtime))),
        "--",
        *rsync_command(beamtime, site, traits, flat=flat, limit=limit),
    )
