"""What the group may do with the data on RDS, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beamferry.beamtime import GroupAccess, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    class Facts(Protocol):
        """What the probe saw."""

        def get(self, key: str) -> str:
            """Return a value, '' where the probe did not come to it."""

        def is_so(self, key: str) -> bool:
            """Say whether a yes-or-no fact is a yes."""


_MAY = {
    GroupAccess.READ: "may read files and folders",
    GroupAccess.WRITE: "may read and change files and folders",
    GroupAccess.KEEP: "may do what the modes at the facility say",
}


def permissions(
    access: GroupAccess | None, protocol: Transport, unsafe_modes: int | None
) -> Iterator[tuple[str, str]]:
    """Yield the certificate's rows on what the group may do, and on what of the facility's modes stayed behind."""
    if access is not None:
        # lftp brings no modes: what it makes is readable.
        kept = access is GroupAccess.KEEP and protocol is Transport.RSYNC
        yield "Group", _MAY[GroupAccess.READ if access is GroupAccess.KEEP and not kept else access]
    if unsafe_modes:
        entries = "1 file or folder" if unsafe_modes == 1 else f"{unsafe_modes:,} files and folders"
        yield (
            "Modes",
            f"the setuid or setgid bit, or the leave for others to write, of {entries} stayed behind",
        )


def kept_out(facts: Facts, access: GroupAccess, root: str) -> Iterator[str]:
    """Yield what keeps the group from the data, whatever the modes of the data are: nothing that stops a transfer."""
    if access is GroupAccess.KEEP:
        return
    group, new_group, new_mode = facts.get("root_group"), facts.get("new_group"), facts.get("new_mode")
    mode, _, folder = facts.get("closed_folder").partition(" ")
    if folder:
        yield (
            f"{folder} does not let the group {group} in (mode {mode}): the group cannot reach what comes home. Ask "
            "the folder's owner to give the group r and x there"
        )
    if not facts.is_so("keeps_modes"):
        if new_mode and not int(new_mode, 8) & 0o040:
            yield (
                f"The mount gives new files at {root} the mode {new_mode}: the group cannot read them. Ask Research IT "
                f"for a mount that lets the group {new_group} read"
            )
    elif new_group != group:
        yield (
            f"What comes to {root} belongs to the group {new_group}, not to {group} as that folder does, for want of "
            "the setgid bit: quota and permissions are those of the other group. Ask the folder's owner for chmod g+s"
        )
