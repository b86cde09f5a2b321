"""What became of each step in an account, and the steps that need no program: folders, links and new files."""

import os
import re
import stat
import tempfile
from typing import List

from beamferry_agent.answers import PinnedKey, ShownKey, StepAnswer

_LONGEST = 4000
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f]+")


def one_line(text: str) -> str:
    """Return a text without what would break a line, and no longer than anybody reads."""
    return _UNPRINTABLE.sub(" ", text)[:_LONGEST]


class Steps:
    """The account, and what was said of it so far."""

    def __init__(self, home: str, account: str, node: str) -> None:
        """Begin with nothing said."""
        self.home = home
        self.account = account
        self.node = node
        self.answers: List[StepAnswer] = []
        self.pinned: List[PinnedKey] = []
        self.shown: List[ShownKey] = []

    def tell(self, step: str, subject: str, state: str, place: str, detail: str = "") -> None:
        """Note what was done, or was there."""
        self._note(step, subject, state, place, "", detail)

    def refuse(self, step: str, subject: str, place: str, reason: str, detail: str = "") -> None:
        """Note what was not done, and why."""
        self._note(step, subject, "refused", place, reason, detail)

    def _note(self, *fields: str) -> None:
        self.answers.append(StepAnswer(*map(one_line, fields)))

    def link(self, name: str, target: str) -> None:
        """Make a link in the home folder, unless anything is there."""
        place = os.path.join(self.home, name)
        if os.path.islink(place):
            there = os.readlink(place)
            if there.rstrip("/") == target.rstrip("/"):
                self.tell("link", name, "was-there", place, target)
            else:
                self.refuse("link", name, place, "other-link", there)
        elif os.path.lexists(place):
            self.refuse("link", name, place, "is-folder" if os.path.isdir(place) else "is-file")
        elif not os.path.isdir(target):
            self.refuse("link", name, place, "no-target", target)
        else:
            try:
                os.symlink(target, place)
            except OSError as error:
                self.refuse("link", name, place, "failed", reason_of(error))
            else:
                self.tell("link", name, "made", place, target)

    def unlink(self, name: str, target: str) -> None:
        """Remove a link that leads to the target, and nothing else."""
        place = os.path.join(self.home, name)
        if not os.path.lexists(place):
            self.tell("link", name, "was-not-there", place, target)
        elif not os.path.islink(place):
            self.refuse("link", name, place, "no-link")
        elif os.readlink(place).rstrip("/") != target.rstrip("/"):
            self.refuse("link", name, place, "other-link", os.readlink(place))
        else:
            try:
                os.unlink(place)
            except OSError as error:
                self.refuse("link", name, place, "failed", reason_of(error))
            else:
                self.tell("link", name, "removed", place, target)

    def new_file(self, step: str, place: str, text: str) -> None:
        """Make a file, whole or not at all, where there is none."""
        try:
            handle, new = tempfile.mkstemp(prefix=".beamferry-", dir=os.path.dirname(place))
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                # Unlike a rename, it fails where something has come meanwhile.
                os.link(new, place)
            finally:
                os.unlink(new)
        except OSError as error:
            self.refuse(step, "", place, "failed", reason_of(error))
        else:
            self.tell(step, "", "made", place)


def folder_is_private(steps: Steps, step: str, place: str) -> None:
    """See that a folder is there, and for this account alone."""
    try:
        if os.path.isdir(place):
            if stat.S_IMODE(os.stat(place).st_mode) & 0o777 == 0o700:
                steps.tell(step, "", "was-there", place)
                return
            os.chmod(place, 0o700)
            steps.tell(step, "", "changed", place)
        elif os.path.lexists(place):
            steps.refuse(step, "", place, "not-a-folder")
        else:
            os.mkdir(place, 0o700)
            steps.tell(step, "", "made", place)
    except OSError as error:
        steps.refuse(step, "", place, "failed", reason_of(error))


def reason_of(error: OSError) -> str:
    """Return the system's words for an error, without the name that the sentence has already."""
    return error.strerror or str(error)
