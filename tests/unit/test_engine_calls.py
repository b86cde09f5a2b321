"""What the form chose reaches the scripts."""

from __future__ import annotations

from datetime import date

import pytest

from beamferry.beamtime import Level, Site
from beamferry.engine import Choice, engine
from beamferry.facilities.desy import DesyBeamtime

DESY = DesyBeamtime(
    id="11010234",
    facility="desy",
    instrument="p07",
    account="cdaniel",
    ended=date(2020, 12, 7),
)


@pytest.mark.parametrize(("chosen", "told"), [(None, "0"), (3, str(3 * 1024 * 1024))])
def test_the_limit_holds_for_a_comparison_that_fetches_anew(chosen: int | None, told: str) -> None:
    calls = engine(DESY, Site(destination_root="/rds"), "~/.beamferry/secret")
    script, arguments = calls.verify(Choice(2, chosen, Level.FULL, 10), seed=1)
    assert script == "lftp_verify.sh"
    assert arguments[arguments.index("--limit") + 1] == told
