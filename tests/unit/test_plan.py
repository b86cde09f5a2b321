"""How much is to come, whether it fits, and whether it comes before the tape."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from beamferry.beamtime import Site
from beamferry.errors import PermanentError
from beamferry.facilities.diamond import DiamondBeamtime
from beamferry.plan import (
    ASSUMED_RATE,
    SPARE_BYTES,
    TransferPlan,
    deadline,
    duration,
    human,
    make_plan,
    sentence,
    table,
)
from beamferry.rsync_output import Totals

SITE = Site(destination_root="/mnt/rds")
NOW = datetime(2021, 5, 4, 9, 30, tzinfo=UTC)


def visit(**settings: Any) -> DiamondBeamtime:
    entry: dict[str, Any] = {
        "id": "mg25682-2",
        "facility": "diamond",
        "instrument": "i12",
        "account": "mbcx9cd4",
        "ended": date(2021, 5, 3),
    }
    return DiamondBeamtime(**entry | settings)


def totals(*, files: int = 1000, size: int = 10**12, todo_files: int = 400, todo: int = 4 * 10**11) -> Totals:
    return Totals(
        files=files + 10,
        regular_files=files,
        bytes=size,
        transferred_files=todo_files,
        transferred_bytes=todo,
        literal_bytes=0,
        matched_bytes=0,
        received_bytes=0,
    )


def plan(found: Totals | None = None, **settings: Any) -> TransferPlan:
    inputs: dict[str, Any] = {
        "beamtime": visit(),
        "site": SITE,
        "now": NOW,
        "bytes_free": 10**13,
        "inodes_free": 10**9,
        "previous": None,
        "rate": None,
        "streams": 4,
        "accept_smaller_source": False,
    }
    return make_plan(found or totals(), **inputs | settings)


def on(day: date) -> DiamondBeamtime:
    return visit(deadline=day, deadline_reason="said so")


@pytest.mark.parametrize(
    ("day", "moment"),
    [
        (date(2021, 6, 12), datetime(2021, 6, 11, 23, tzinfo=UTC)),
        (date(2021, 12, 12), datetime(2021, 12, 12, 0, tzinfo=UTC)),
        # The clocks change at 01:00 UTC of these days, after their midnight.
        (date(2022, 3, 27), datetime(2022, 3, 27, 0, tzinfo=UTC)),
        (date(2022, 3, 28), datetime(2022, 3, 27, 23, tzinfo=UTC)),
        (date(2021, 10, 31), datetime(2021, 10, 30, 23, tzinfo=UTC)),
        (date(2021, 11, 1), datetime(2021, 11, 1, 0, tzinfo=UTC)),
    ],
)
def test_the_deadline_is_midnight_at_the_site(day: date, moment: datetime) -> None:
    assert deadline(on(day), SITE) == moment
    assert deadline(on(day), SITE).utcoffset() == timedelta(0)


def test_the_deadline_follows_the_facilitys_rule_and_another_zone() -> None:
    berlin = Site(destination_root="/mnt/rds", time_zone="Europe/Berlin")
    assert deadline(visit(), SITE) == datetime(2021, 6, 11, 23, tzinfo=UTC)
    assert deadline(visit(), berlin) == datetime(2021, 6, 11, 22, tzinfo=UTC)


def test_the_plan_says_what_the_dry_run_found() -> None:
    made = plan()
    assert (made.files, made.bytes) == (1000, 10**12)
    assert (made.todo_files, made.todo_bytes) == (400, 4 * 10**11)
    assert (made.exclude, made.made_at, made.bytes_free) == (("tmp/",), NOW, 10**13)


def refused(code: str, found: Totals | None = None, **settings: Any) -> str:
    with pytest.raises(PermanentError) as caught:
        plan(found, **settings)
    assert caught.value.code == code
    return str(caught.value)


def test_an_empty_source_is_refused() -> None:
    said = refused("source-empty", totals(files=0, size=0, todo_files=0, todo=0))
    assert "/dls/i12/data/2021/mg25682-2" in said
    assert "tape" in said


def test_an_empty_source_is_refused_even_when_a_smaller_one_is_accepted() -> None:
    empty = totals(files=0, size=0, todo_files=0, todo=0)
    refused("source-empty", empty, previous=plan(), accept_smaller_source=True)


def test_too_few_bytes_are_refused_with_both_numbers() -> None:
    said = refused("rds-bytes", bytes_free=4 * 10**11 + SPARE_BYTES - 1)
    assert "400,000,000,000 bytes" in said
    assert "401,073,741,823 bytes" in said
    assert "/mnt/rds" in said


def test_exactly_enough_bytes_are_enough() -> None:
    assert plan(bytes_free=4 * 10**11 + SPARE_BYTES).todo_bytes == 4 * 10**11


def test_a_run_with_nothing_to_move_needs_no_room() -> None:
    made = plan(totals(todo_files=0, todo=0), bytes_free=0, inodes_free=0)
    assert made.seconds == 0
    assert sentence(made).startswith("Nothing to move: all 1,000 files (1.0 TB)")


def test_too_few_inodes_are_refused_with_both_numbers() -> None:
    said = refused("rds-inodes", inodes_free=399)
    assert "400 files" in said
    assert "399 more" in said
    assert plan(inodes_free=400).todo_files == 400


def test_unknown_room_is_not_taken_for_none() -> None:
    made = plan(bytes_free=None, inodes_free=None)
    assert made.bytes_free is None
    assert "| Free on RDS | unknown |" in table(made, SITE)


@pytest.mark.parametrize("smaller", [{"files": 999}, {"size": 10**12 - 1}])
def test_a_smaller_source_freezes_the_sync(smaller: dict[str, int]) -> None:
    said = refused("source-smaller", totals(**smaller), previous=plan())
    assert "became smaller" in said
    assert "1,000 files with 1,000,000,000,000 bytes" in said
    assert "Accept a source that became smaller" in said


def test_fewer_files_freeze_even_when_they_hold_more() -> None:
    refused("source-smaller", totals(files=999, size=10**13), previous=plan())


def test_a_smaller_source_is_accepted_on_request() -> None:
    made = plan(totals(files=999), previous=plan(), accept_smaller_source=True)
    assert made.files == 999


@pytest.mark.parametrize("found", [totals(), totals(files=1001, size=10**12 + 1)])
def test_a_source_that_stayed_or_grew_goes_on(found: Totals) -> None:
    assert plan(found, previous=plan()).files == found.regular_files


def test_a_changed_exclude_list_does_not_freeze() -> None:
    beamtime = visit(exclude=("tmp/", "raw/dark fields/"))
    made = plan(totals(files=10, size=10), previous=plan(), beamtime=beamtime)
    assert made.exclude == ("tmp/", "raw/dark fields/")


def test_without_a_measurement_the_rate_is_assumed_per_stream() -> None:
    made = plan()
    assert (made.rate, made.rate_measured) == (4 * ASSUMED_RATE, False)
    assert made.seconds == 4 * 10**11 // (4 * ASSUMED_RATE)
    assert "(assumed), 4 streams" in table(made, SITE)


def test_a_measured_rate_is_that_of_all_streams() -> None:
    made = plan(rate=10**8)
    assert (made.rate, made.rate_measured, made.seconds) == (10**8, True, 4000)
    assert "100.0 MB/s (measured), 4 streams" in table(made, SITE)


def test_a_rate_of_nothing_is_no_measurement() -> None:
    made = plan(rate=0)
    assert (made.rate, made.rate_measured) == (4 * ASSUMED_RATE, False)


@pytest.mark.parametrize("rate", [10**8, None])
def test_in_time_turns_at_the_deadline(rate: int | None) -> None:
    end = deadline(visit(), SITE)
    takes = timedelta(seconds=plan(rate=rate).seconds)
    assert plan(rate=rate, now=end - takes).in_time
    late = plan(rate=rate, now=end - takes + timedelta(seconds=1))
    assert not late.in_time
    assert "**no" in table(late, SITE)


def test_a_rate_that_takes_longer_than_the_calendar_is_late_and_no_error() -> None:
    made = plan(rate=1)
    assert (made.seconds, made.in_time) == (4 * 10**11, False)
    assert "measured" in table(made, SITE)


def test_after_the_deadline_even_nothing_is_late() -> None:
    after = deadline(visit(), SITE) + timedelta(days=1)
    assert not plan(totals(todo_files=0, todo=0), now=after).in_time


@pytest.mark.parametrize("settings", [{}, {"bytes_free": None, "rate": 10**8}])
def test_the_plan_comes_back_from_json(settings: dict[str, Any]) -> None:
    made = plan(**settings)
    stored = json.loads(json.dumps(made.model_dump(mode="json")))
    assert TransferPlan.model_validate(stored, strict=False) == made
    assert TransferPlan.model_validate_json(made.model_dump_json()) == made


def test_the_plan_fits_into_the_asset_state() -> None:
    many = visit(exclude=tuple(f"processing/user_{number:02}/scratch/" for number in range(30)))
    made = plan(totals(files=10**9, size=10**17, todo_files=10**9, todo=10**16), beamtime=many, bytes_free=None)
    assert len(json.dumps(made.model_dump(mode="json"))) < 2000


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        # Never "1000.0 kB".
        (999_950, "1.0 MB"),
        (999_999_999, "1.0 GB"),
        (87_000_000_000, "87.0 GB"),
        (10**12, "1.0 TB"),
        (10**15, "1.0 PB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_sizes_as_people_say_them(size: int, said: str) -> None:
    assert human(size) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (119, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (5640, "1 h 34 min"),
        (86_400, "1 d"),
        (86_460, "1 d 1 min"),
        (90_061, "1 d 1 h 1 min"),
    ],
)
def test_times_as_people_say_them(seconds: int, said: str) -> None:
    assert duration(seconds) == said


def test_the_sentence_holds_the_exact_numbers() -> None:
    assert sentence(plan(rate=10**8)) == (
        "To move: 400,000,000,000 bytes (400.0 GB) in 400 files, of 1.0 TB in 1,000 files; about 1 h 6 min."
    )


def test_the_table_is_markdown_with_two_columns() -> None:
    made = plan(beamtime=visit(exclude=("tmp/", "__cache__/dark fields")))
    lines = table(made, SITE).split("\n")
    assert lines[:2] == ["| | |", "|---|---|"]
    assert all(line.startswith("| ") and line.endswith(" |") and line.count("|") == 3 for line in lines[2:])
    rows = dict(line.strip("| ").split(" | ") for line in lines[2:])
    assert rows["To move"] == "400.0 GB (400,000,000,000 bytes) in 400 files"
    assert rows["Tape"] == "from Saturday 12 June 2021, 00:00 BST on"
    # Code, or Markdown would make bold letters of the underscores.
    assert rows["Stays behind"] == "`tmp/`, `__cache__/dark fields`"
    assert rows["In time"] == "yes"


def test_the_table_says_when_nothing_stays_behind() -> None:
    assert "| Stays behind | nothing |" in table(plan(beamtime=visit(exclude=())), SITE)
