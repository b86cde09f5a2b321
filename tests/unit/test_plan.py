"""A dry run's totals become figures that a person can decide on, or an error that says what to do."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beamferry import plan
from beamferry.beamtime import Site
from beamferry.errors import PermanentError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.plan import TransferPlan, make_plan
from beamferry.rsync_output import Totals

SITE = Site(destination_root="/mnt/eps01-rds/Fonseca-Lightform/shared")
NOW = datetime(2021, 5, 4, 2, 30, tzinfo=UTC)
# The visit of the group's own page.
FILES, BYTES = 20_412, 87_034_154_221


def visit(**settings: Any) -> DiamondBeamtime:
    entry: dict[str, Any] = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime(**entry | settings)


def totals(files: int = FILES, size: int = BYTES, todo_files: int = FILES, todo_bytes: int = BYTES) -> Totals:
    return Totals(
        files=files + 12,
        regular_files=files,
        bytes=size,
        transferred_files=todo_files,
        transferred_bytes=todo_bytes,
    )


def planned(found: Totals | None = None, **settings: Any) -> TransferPlan:
    usual: dict[str, Any] = {
        "beamtime": visit(),
        "site": SITE,
        "now": NOW,
        "bytes_free": 10**13,
        "inodes_free": None,
        "previous": None,
        "rate": None,
        "streams": 4,
        "accept_smaller_source": False,
    }
    return make_plan(found or totals(), **usual | settings)


def refused(found: Totals | None = None, **settings: Any) -> PermanentError:
    with pytest.raises(PermanentError) as caught:
        planned(found, **settings)
    return caught.value


def test_tape_begins_with_the_day_at_the_site() -> None:
    # 3 May and 40 days; British Summer Time.
    assert plan.deadline(visit(), SITE) == datetime(2021, 6, 11, 23, 0, tzinfo=UTC)
    assert plan.deadline(visit(ended=date(2021, 11, 1)), SITE) == datetime(2021, 12, 11, 0, 0, tzinfo=UTC)


def test_measured_rate_says_how_long_it_takes() -> None:
    found = planned(rate=15_500_000)
    assert (found.rate, found.rate_measured, found.seconds) == (15_500_000, True, 5616)
    assert plan.sentence(found) == (
        "To move: 87,034,154,221 bytes (87.0 GB) in 20,412 files, of 87.0 GB in 20,412 files; about 1 h 33 min."
    )


@pytest.mark.parametrize("rate", [None, 0])
def test_unknown_rate_is_an_assumption_and_says_so(rate: int | None) -> None:
    found = planned(rate=rate)
    assert (found.rate, found.rate_measured) == (4 * plan.ASSUMED_RATE, False)
    assert "assumed" in plan.table(found, SITE)


def test_limit_bounds_the_rate_and_never_raises_it() -> None:
    assert planned(rate=50_000_000, bandwidth_limit=10).rate == 10 * 1024**2
    assert planned(rate=5_000_000, bandwidth_limit=10).rate == 5_000_000


def test_in_time_to_the_second() -> None:
    before = plan.deadline(visit(), SITE) - timedelta(seconds=100)
    assert planned(totals(todo_bytes=1000), rate=10, now=before).in_time
    late = planned(totals(todo_bytes=1001), rate=10, now=before)
    assert not late.in_time
    assert plan.sentence(late).endswith("This would end after 2021-06-11 23:00 UTC, when tape begins.")
    assert "**no" in plan.table(late, SITE)


def test_more_than_any_calendar_holds_is_late_and_no_crash() -> None:
    assert not planned(totals(size=10**18, todo_bytes=10**18), rate=1, bytes_free=None).in_time


def test_nothing_to_move_is_in_time_and_needs_no_room() -> None:
    after = datetime(2022, 1, 1, tzinfo=UTC)
    found = planned(totals(todo_files=0, todo_bytes=0), now=after, bytes_free=0, inodes_free=0)
    assert found.in_time
    assert found.seconds == 0
    assert (
        plan.sentence(found) == "Nothing to move: all of 87.0 GB in 20,412 files is at RDS by size and time."
    )
    assert "| To move | nothing |" in plan.table(found, SITE)


def test_not_enough_bytes_gives_both_figures() -> None:
    error = refused(bytes_free=BYTES)
    assert error.code == "rds-bytes"
    assert "87.0 GB are to come (87,034,154,221 bytes), 87.0 GB are free" in error.problem
    assert SITE.destination_root in error.remedy
    assert refused(bytes_free=BYTES + plan.SPARE_BYTES - 1).code == "rds-bytes"
    assert planned(bytes_free=BYTES + plan.SPARE_BYTES).bytes_free == BYTES + plan.SPARE_BYTES


def test_not_enough_inodes_gives_both_figures() -> None:
    error = refused(inodes_free=FILES)
    assert error.code == "rds-inodes"
    assert "20,412 files are to come, 20,412 inodes are free" in error.problem
    planned(inodes_free=FILES + plan.SPARE_INODES)


def test_empty_source_is_suspicious() -> None:
    error = refused(totals(files=0, size=0, todo_files=0, todo_bytes=0), accept_smaller_source=True)
    assert error.code == "source-empty"
    assert "/dls/i12/data/2021/mg25682-2" in error.problem


@pytest.mark.parametrize("now", [totals(files=FILES - 1), totals(size=BYTES - 1)])
def test_smaller_source_freezes_the_sync(now: Totals) -> None:
    error = refused(now, previous=planned())
    assert error.code == "source-smaller"
    assert "20,412 files with 87,034,154,221 bytes; the sync is frozen" in error.problem
    assert "Accept a source that became smaller" in error.remedy


def test_smaller_source_goes_on_when_a_person_accepts_it() -> None:
    assert planned(totals(files=1), previous=planned(), accept_smaller_source=True).files == 1


@pytest.mark.parametrize(
    "before", [{"exclude": ()}, {"exclude": ("tmp/", "raw/dark")}, {"source": "/dls/i12/data/2021/other"}]
)
def test_other_source_or_excludes_say_nothing_about_becoming_smaller(before: dict[str, Any]) -> None:
    assert planned(totals(files=1), previous=planned(beamtime=visit(**before))).files == 1


def test_order_of_excludes_is_no_change() -> None:
    before = planned(beamtime=visit(exclude=("a", "b")))
    assert refused(totals(files=1), beamtime=visit(exclude=("b", "a")), previous=before)


counts = st.integers(1, 2**60)


@given(counts, counts, counts, counts, st.none() | counts, st.integers(1, 16))
def test_plan_survives_the_asset_state(
    files: int, size: int, todo_files: int, todo_bytes: int, rate: int | None, streams: int
) -> None:
    found = planned(totals(files, size, todo_files, todo_bytes), rate=rate, streams=streams, bytes_free=None)
    stored = found.model_dump(mode="json")
    assert TransferPlan.model_validate(json.loads(json.dumps(stored)), strict=False) == found
    assert TransferPlan.model_validate_json(found.model_dump_json()) == found


def test_plan_stays_small_however_much_is_excluded() -> None:
    exclude = tuple(f"{'folder' * 10}/{number}" for number in range(500))
    found = planned(beamtime=visit(exclude=exclude))
    assert len(json.dumps(found.model_dump_json())) < 2500
    left = 500 - len(found.exclude)
    assert f"and {left:,} more |" in plan.table(found, SITE)
    # Also those that are not shown tell one scope from another.
    assert found.scope != planned(beamtime=visit(exclude=exclude[:-1])).scope


def test_table_is_for_people() -> None:
    lines = plan.table(planned(rate=15_500_000), SITE).splitlines()
    assert "| To move | 87.0 GB (87,034,154,221 bytes) in 20,412 files |" in lines
    assert "| Takes about | 1 h 33 min at 15.5 MB/s (measured), 4 streams |" in lines
    assert "| Tape | from Saturday 12 June 2021, 00:00 BST on |" in lines
    assert "| Stays behind | `tmp/` |" in lines
    assert all(line.count("|") == 3 for line in lines)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (87_034_154_221, "87.0 GB"),
        (40 * 10**12, "40.0 TB"),
        (999_999_999_999_999, "1.0 PB"),
        (5 * 10**18, "5,000.0 PB"),
    ],
)
def test_bytes_in_words(size: int, words: str) -> None:
    assert plan.human(size) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (119, "1 min"),
        (3600, "1 h"),
        (5640, "1 h 34 min"),
        (86_400, "1 d"),
        (86_460, "1 d"),
        (40 * 86_400 + 7200, "40 d 2 h"),
    ],
)
def test_time_in_words(seconds: int, words: str) -> None:
    assert plan.duration(seconds) == words
