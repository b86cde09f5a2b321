"""Names that RDS cannot hold: what the agent says of them as one sentence with its remedy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from beamferry.errors import PermanentError
from beamferry.ssh_complaints import shown

if TYPE_CHECKING:
    from beamferry.ssh_complaints import Errand

# What a job ends with that could not try names at the destination, or found such that it cannot hold.
_NO_PLACE, _REFUSED = 73, 72
_SAID = re.compile(r"^agent: (?P<reason>.+)$", re.MULTILINE)
_COUNT = re.compile(r"^agent: names that cannot be held: (?P<count>[0-9]+)$", re.MULTILINE)
_NAME = re.compile(r"^cannot be held: (?P<name>.+)$", re.MULTILINE)


def interpret_names(code: int, errors: str, errand: Errand) -> PermanentError | None:
    """Return what the trial of a beamtime's names at RDS found, None if the job ended for another reason.

    Args:
        code: exit code of the job.
        errors: what the agent said.
        errand: what was being done.
    """
    if code == _REFUSED:
        return _names_refused(errors, errand)
    if code == _NO_PLACE:
        said = _SAID.findall(errors)
        return PermanentError(
            "rds-io",
            f"RDS cannot be written at {errand.destination} ({said[-1] if said else 'no reason given'})",
            "check that the share is mounted, writable and healthy, then start the run again",
        )
    return None


def _names_refused(errors: str, errand: Errand) -> PermanentError:
    found = _COUNT.search(errors)
    names = [shown(name) for name in _NAME.findall(errors)]
    if found is None:
        said = f"RDS cannot hold some names of {errand.beamtime} at {errand.destination}"
    else:
        left = int(found["count"]) - len(names)
        listed = ", ".join(names) + (f" and {left:,} more" if left > 0 else "")
        what = "1 name" if found["count"] == "1" else f"{int(found['count']):,} names"
        said = f"RDS cannot hold {what} of {errand.beamtime} at {errand.destination}: {listed}"
    return PermanentError(
        "rds-names",
        f"{said}; nothing was fetched",
        f"have them renamed at {errand.facility}, leave them behind by exclude, or ask Research IT for a share that "
        "keeps such names; ~/.beamferry/jobs/.../work/names_refused on RDS-SSH has them all",
    )
