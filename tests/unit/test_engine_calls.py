"""What the form chose reaches the scripts."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from beamferry.access import Facts
from beamferry.beamtime import Level, Site
from beamferry.engine import Choice, engine
from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime

DESY = DesyBeamtime(
    id="11010234",
    facility="desy",
    instrument="p07",
    account="cdaniel",
    ended=date(2020, 12, 7),
)
VISIT = DiamondBeamtime(
    id="mg25682-2", facility="diamond", instrument="i12", account="mbcx9cd4", ended=date(2021, 5, 3)
)
KEEPS_ALL = Facts({"keeps_modes": "yes", "keeps_times": "yes", "keeps_links": "yes"})


@pytest.mark.parametrize(("chosen", "told"), [(None, "0"), (3, str(3 * 1024 * 1024))])
def test_the_limit_holds_for_a_comparison_that_fetches_anew(chosen: int | None, told: str) -> None:
    calls = engine(DESY, Site(destination_root="/rds"), "~/.beamferry/secret")
    script, arguments = calls.verify(KEEPS_ALL, Choice(2, chosen, Level.FULL, 10), seed=1)
    assert script == "lftp_verify"
    assert arguments[arguments.index("--limit") + 1] == told


@pytest.mark.parametrize("beamtime", [VISIT, DESY])
@pytest.mark.parametrize(
    ("access", "facts", "told"),
    [
        ("read", KEEPS_ALL, "own"),
        ("write", Facts(KEEPS_ALL.values | {"share_group": "54321"}), "54321"),
        ("read", Facts(KEEPS_ALL.values | {"share_group": ""}), "own"),
        ("keep", Facts(KEEPS_ALL.values | {"share_group": "54321"}), None),
        # Where nothing can be set nothing is promised: doctor tells what the mount does.
        ("read", Facts(KEEPS_ALL.values | {"keeps_modes": "no", "share_group": "54321"}), None),
    ],
)
def test_a_comparison_looks_what_the_group_can_read_where_that_is_promised(
    beamtime: Beamtime, access: str, facts: Facts, told: str | None
) -> None:
    entry = beamtime.model_copy(update={"group_access": access})
    calls = engine(entry, Site(destination_root="/rds"), "~/.beamferry/secret")
    _, arguments = calls.verify(facts, Choice(2, None, Level.SIZES, 10), seed=1)
    assert (arguments[arguments.index("--group") + 1] if "--group" in arguments else None) == told
