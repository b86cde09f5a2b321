"""The destination of a step: found without links of others on the way, made where it is missing, and kept open."""

import os
from contextlib import contextmanager
from typing import Iterator

from beamferry_agent.destination import prepare, resolve
from beamferry_agent.places import ForeignError, PlaceError, open_below
from beamferry_agent.reading_words import OF_RDS
from beamferry_agent.step import AT_RDS, Step, StepEnd

_FOREIGN = 70


def real_destination(step: Step, path: str) -> str:
    """Return the folder's path without links on the way, as rsync 3.5 follows none of another owner's. Raises StepEnd.

    What somebody else's link leads to is no destination.
    """
    with at_rds(step):
        step.destination = resolve(path)
        return step.destination


def prepared_destination(step: Step, path: str, below: str, umask: int) -> str:
    """Do the same, and make the folder, and one of the transfer's own below it, through no link. Raises StepEnd."""
    with at_rds(step):
        step.destination = prepare(path, below, umask)
        return step.destination


@contextmanager
def opened(step: Step, path: str) -> Iterator[int]:
    """Open a destination that was prepared: whatever somebody puts into its place from now on, this folder is meant.

    Raises StepEnd.
    """
    with at_rds(step), open_below("/", path, 0o755) as folder:
        yield folder


def still_there(step: Step, folder: int, path: str) -> None:
    """End the step where the folder that is open has lost its path meanwhile, e.g. to a link. Raises StepEnd."""
    if os.readlink("/proc/self/fd/{}".format(folder)) != path:
        step.hear("agent: {} is not the folder any more that it was when the job began".format(path))
        raise StepEnd(_FOREIGN)


@contextmanager
def at_rds(step: Step) -> Iterator[None]:
    """End the step where a place at RDS cannot be used. Raises StepEnd."""
    try:
        yield
    except ForeignError as error:
        step.hear(error.told())
        raise StepEnd(_FOREIGN)
    except PlaceError as error:
        # It is not the home folder that refuses.
        step.hear(OF_RDS + error.told())
        raise StepEnd(AT_RDS)
