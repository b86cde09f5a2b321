"""The trigger form: what a person may choose for one run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow.sdk import Param

from beamferry.beamtime import Level

if TYPE_CHECKING:
    from collections.abc import Mapping

    from beamferry.beamtime import Beamtime


class Mode(StrEnum):
    """What a run does."""

    SYNC = "sync"
    DRY_RUN = "dry run only"
    VERIFY = "verify only"


@dataclass(frozen=True)
class Options:
    """The form's answers, checked; ``bandwidth_limit`` in MiB/s for all streams together."""

    mode: Mode
    require_approval: bool
    verification: Level
    samples: int
    streams: int
    bandwidth_limit: int | None
    manifest: bool
    accept_smaller_source: bool

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Options:
        """Read what Airflow's form has validated; only enums, booleans and integers come out."""
        limit = params["bandwidth_limit"]
        return cls(
            mode=Mode(params["mode"]),
            require_approval=bool(params["require_approval"]),
            verification=Level(params["verification"]),
            samples=int(params["samples"]),
            streams=int(params["streams"]),
            bandwidth_limit=None if limit is None else int(limit),
            manifest=bool(params["manifest"]),
            accept_smaller_source=bool(params["accept_smaller_source"]),
        )


def form(beamtime: Beamtime) -> dict[str, Param]:
    """Return the form of a beamtime's DAG; the registry entry gives the defaults."""
    return {
        "mode": Param(
            Mode.SYNC.value,
            enum=[mode.value for mode in Mode],
            values_display={
                Mode.SYNC.value: "bring home and verify",
                Mode.DRY_RUN.value: "only count what is to do",
                Mode.VERIFY.value: "only compare both ends",
            },
            title="What to do",
            description="Bring the data home and verify it; or only count what is to do; or only compare both ends.",
        ),
        "require_approval": Param(
            default=False,
            type="boolean",
            title="Ask me before data moves",
            description="The run stops after the dry run, shows its figures and waits for a person's yes.",
        ),
        "verification": Param(
            beamtime.verification.value,
            enum=[level.value for level in Level if level is not Level.LISTED],
            title="How thoroughly to verify",
            description="sizes: every file by path and size. sampled: also some files byte by byte. "
            "full: the content of every file at both ends; as slow as reading it all.",
        ),
        "streams": Param(
            beamtime.streams,
            type="integer",
            minimum=1,
            maximum=beamtime.most_streams,
            title="Streams",
            description="Connections to the facility at the same time.",
        ),
        "bandwidth_limit": Param(
            beamtime.bandwidth_limit,
            type=["null", "integer"],
            minimum=1,
            maximum=10_000,
            title="Bandwidth limit in MiB/s",
            description="For all streams together; empty for none.",
        ),
        "samples": Param(
            beamtime.samples,
            type="integer",
            minimum=1,
            maximum=100_000,
            title="Samples",
            description="Files compared byte by byte at level 'sampled'.",
            section="More",
        ),
        "manifest": Param(
            beamtime.manifest,
            type="boolean",
            title="Write a SHA-256 manifest",
            description="A list that 'sha256sum -c' accepts, beside the data; reads all of it once.",
            section="More",
        ),
        "accept_smaller_source": Param(
            default=False,
            type="boolean",
            title="Accept a source that became smaller",
            description="Go on although files disappeared at the facility. Nothing on RDS is ever deleted.",
            section="More",
        ),
    }
