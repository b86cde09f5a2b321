"""Diamond Light Source: rsync over ssh from ssh.diamond.ac.uk."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from beamferry.beamtime import Beamtime, ExcludePaths, Spelling

# Proposal code, proposal number, visit number: mg25682-2, nt33730-1, lb18145-153.
VisitId = Annotated[
    str,
    Spelling(
        r"[a-z]{2}[1-9][0-9]{0,8}-[1-9][0-9]{0,4}",
        "must be a visit code: two small letters, proposal, '-', visit",
        "write it as in Diamond's paths, e.g. mg25682-2",
    ),
]


class DiamondBeamtime(Beamtime):
    """A visit at Diamond, e.g. ``mg25682-2`` on ``i12``."""

    id: VisitId = Field(description="Visit code, e.g. mg25682-2.")
    facility: Literal["diamond"] = Field(description="Where the data is.")
    exclude: ExcludePaths = Field(
        # Diamond's own dispenser of visits copies everything but tmp/.
        ("tmp/",),
        description="Paths below the source that stay behind.",
    )

    @property
    def host(self) -> str:
        """Diamond's gateway for log-in by ssh."""
        return "ssh.diamond.ac.uk"

    @property
    def retention(self) -> timedelta:
        """Days on disk after the visit, as the group's transfer page gives them."""
        return timedelta(days=40)

    @property
    def published_minimum(self) -> timedelta:
        """Days that Diamond's policy page grants each file from its creation on."""
        return timedelta(days=30)

    @property
    def derived_source(self) -> str:
        """Diamond's layout: beamline, year, visit."""
        return f"/dls/{self.instrument}/data/{self.year}/{self.id}"
