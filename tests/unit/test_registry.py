"""The registry: all problems in words and with lines; a bad entry costs only itself; nothing is raised."""

from __future__ import annotations

import copy
import os
import pickle
import re
from datetime import date
from pathlib import Path
from typing import Any, get_args

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import beamferry
from beamferry.beamtime import Beamtime, Level
from beamferry.facilities import FACILITIES
from beamferry.registry import Registry, RegistryError, load, read, registry_path
from beamferry.registry.document import read_document
from beamferry.registry.schema import schema

DATA = Path(__file__).parents[1] / "data" / "registries"
INCLUDE = Path(__file__).parents[2] / "include"
SITE = "site:\n  destination_root: /mnt/rds\n"
ENTRY = (
    "  - id: {}\n    facility: diamond\n    instrument: i12\n    account: mbcx9cd4\n    ended: 2021-05-03\n"
)
TWO = f"{SITE}beamtimes:\n{ENTRY.format('mg1-1')}{ENTRY.format('mg1-2')}"


def of(text: str) -> Registry:
    return read(Path("beamtimes.yaml"), text.encode())


def ids(registry: Registry) -> list[str]:
    return [beamtime.id for beamtime in registry.beamtimes]


def test_a_good_registry() -> None:
    registry = load(DATA / "good.yaml")
    assert registry.problems == ()
    assert registry.site is not None
    assert registry.site.notify == ("group-data@example.ac.uk",)
    assert ids(registry) == ["mg25682-2", "nt33730-1", "lb18145-153"]
    _, full, archived = registry.beamtimes
    assert full.exclude == ("tmp/", "spool/", "raw/calibration.h5")
    assert full.verification is Level.FULL
    assert archived.archived


def test_every_problem_of_a_bad_registry_in_one_go() -> None:
    registry = load(DATA / "bad.yaml")
    assert ids(registry) == ["mg25682-1", "mg25682-10", "mg25682-12"]
    said = "".join(f"{problem}\n" for problem in registry.problems)
    assert said == (DATA / "bad.txt").read_text(encoding="utf-8")


def test_an_unknown_field_may_be_a_password() -> None:
    assert not any("horse" in str(problem) for problem in load(DATA / "bad.yaml").problems)


NO_FIELDS = "write 'site:' and 'beamtimes:' as the documentation shows"
DEEP = ":1: lists or fields are nested too deeply here: correct the indentation"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", f":1: the file is empty: {NO_FIELDS}"),
        ("# nothing\n", f":1: the file is empty: {NO_FIELDS}"),
        ("- a\n", f":1: the file has no fields: {NO_FIELDS}"),
        (SITE, ":1 beamtimes: is missing: write 'beamtimes: []' where there are none yet"),
        ("beamtimes: []", ":1 site: is missing: write 'site:' with the group's destination_root on RDS"),
        (SITE + "beamtimes: 3\n", ":3 beamtimes: must be a list: begin each entry with '- '"),
        ("site:\nbeamtimes:", ":1 site: must hold fields: write one 'name: value' in each line"),
        (SITE + "beamtime: []\nbeamtimes:\n", ":3 beamtime: is no known field: did you mean 'beamtimes'?"),
        (SITE + "x:\nbeamtimes:", ":3 x: is no known field: the file has two fields, site and beamtimes"),
        (SITE + SITE + "beamtimes:", ":3 site: is written twice, first in line 1: keep one of the two"),
        ("a: b: c\n", ":1: the file is no valid YAML here (mapping values are not allowed in this context)"),
        ("a: [\n\n", ":3: the file is no valid YAML here (while parsing a flow node"),
        ("é: 1\nb: \x07\n", ":2: the file holds a control character here (number 7): remove it"),
        pytest.param("a: " + "[" * 100_000, DEEP, id="brackets"),
        pytest.param("- " * 200_000, DEEP, id="dashes"),
    ],
)
def test_a_file_that_is_no_registry(text: str, said: str) -> None:
    registry = of(text)
    assert registry.beamtimes == ()
    (problem,) = map(str, registry.problems)
    assert problem.startswith(f"beamtimes.yaml{said}")


def test_a_file_in_another_encoding() -> None:
    registry = read(Path("beamtimes.yaml"), TWO.encode() + b"# \xe9\n")
    assert [str(problem) for problem in registry.problems] == [
        "beamtimes.yaml:14: the file is not UTF-8 text here: save it as UTF-8 in your editor"
    ]


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    registry = read(Path("beamtimes.yaml"), b"\xef\xbb\xbf" + TWO.replace("\n", "\r\n").encode())
    assert (ids(registry), registry.problems) == (["mg1-1", "mg1-2"], ())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * (3 * 1024**2))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("none", "pipe", "large", "loop", "", "none\0"):
        registry = load(tmp_path / name)
        assert (registry.site, registry.beamtimes, len(registry.problems)) == (None, (), 1)


def test_without_a_valid_site_nothing_runs_but_all_problems_show() -> None:
    registry = of(TWO.replace("/mnt/rds", "mnt").replace("mg1-2", "mg0-2"))
    assert (registry.site, registry.beamtimes) == (None, ())
    assert [problem.field for problem in registry.problems] == ["site.destination_root", "beamtimes[1].id"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("instrument: i12", 'instrument: "i12', 6),
        ("instrument: i12", "instrument: [i12", 6),
        ("instrument: i12", "instrument: @i12", 6),
        ("instrument: i12", "instrument: i12: i13", 6),
        ("instrument: i12", "instrument: [[[[[[[[[[i12]]]]]]]]]]", 6),
        ("instrument: i12", "instrument: \x07", 6),
        ("instrument: i12", "instrument: &x i12\n    <<: *x", 7),
        ("instrument: i12", "instrument: !!python/name:os.system", 6),
        ("    account", "\taccount", 7),
        ("    account", "   account", 7),
        ("account: ", "account", 8),
    ],
)
def test_a_slip_in_one_entry_costs_only_that_entry(old: str, new: str, line: int) -> None:
    registry = of(TWO.replace(old, new, 1))
    assert ids(registry) == ["mg1-2"]
    assert line in [problem.line for problem in registry.problems]
    assert all(problem.field.startswith("beamtimes[0]") for problem in registry.problems)


def test_a_slip_below_a_dash_alone_costs_only_that_entry() -> None:
    registry = of(TWO.replace("- id", "-\n    id").replace("i12", "[i12", 1))
    assert ids(registry) == ["mg1-2"]
    assert [(problem.line, problem.field) for problem in registry.problems] == [(7, "beamtimes[0]")]


def test_an_id_is_never_used_again_even_by_one_that_is_not_valid() -> None:
    archived = ENTRY.format("mg1-1") + "    archived: true\n"
    registry = of(f"{SITE}beamtimes:\n{archived}{ENTRY.format('mg1-1')}{ENTRY.format('MG1-1')}")
    assert [beamtime.archived for beamtime in registry.beamtimes] == [True]
    assert [problem.field for problem in registry.problems] == [
        "beamtimes[1].id",
        "beamtimes[2].id",
        "beamtimes[2].id",
    ]


@pytest.mark.parametrize(
    "destination",
    [
        "/mnt",
        "/mnt/rds",
        "/mnt/rds2/a",
        "/mnt/rds/diamond",
        "/mnt/rds/diamond/i12/2021/mg1-1",
        "/mnt/rds/diamond/i12/2021/mg1-1/x",
        "/mnt/rds/DIAMOND/i12/2021/mg1-1",
        "/mnt/rds/diamond/i12/2021/mg1-1.certificate",
        "/mnt/rds/diamond/i12/2021/mg1-1.Certificate",
        "/mnt/rds/diamond/i12/2021/mg1-1.certificate/x",
    ],
)
def test_no_two_beamtimes_share_a_folder(destination: str) -> None:
    registry = of(TWO + f"    destination: {destination}\n")
    assert ids(registry) == ["mg1-1"]
    assert [problem.field for problem in registry.problems] == ["beamtimes[1].destination"]


@pytest.mark.parametrize("below", ["", "/x/y"])
def test_no_beamtimes_certificate_lands_in_the_data_of_another(below: str) -> None:
    first = ENTRY.format("mg1-1") + f"    destination: /mnt/rds/diamond/i12/2021/mg1-2.certificate{below}\n"
    registry = of(f"{SITE}beamtimes:\n{first}{ENTRY.format('mg1-2')}")
    assert ids(registry) == ["mg1-1"]
    (problem,) = map(str, registry.problems)
    assert problem.startswith(
        "beamtimes.yaml:10 beamtimes[1]: would put its certificate at "
        "'/mnt/rds/diamond/i12/2021/mg1-2.certificate' among the data at"
    )


def test_a_folder_with_the_same_beginning_is_another_one() -> None:
    for name in ("mg1-12", "mg1-1.certificates", "mg1-1.certificate2"):
        registry = of(TWO + f"    destination: /mnt/rds/diamond/i12/2021/{name}\n")
        assert (ids(registry), registry.problems) == (["mg1-1", "mg1-2"], ())


def test_a_repeated_field_inside_a_repeated_field_is_told() -> None:
    registry = of(SITE + "beamtimes: []\nbeamtimes:\n  - {a: 1, a: 2}\n")
    assert [problem.line for problem in registry.problems] == [4, 5]


def test_nothing_of_an_alias_is_expanded() -> None:
    levels = [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 9)]
    registry = of("x0: &x0 [lol]\n" + "\n".join(levels) + "\n" + TWO)
    assert ids(registry) == ["mg1-1", "mg1-2"]
    assert any("*x0" in str(problem) for problem in registry.problems)


KEYS = st.sampled_from(["site", "beamtimes", "destination_root", *FACILITIES[0].model_fields, "<<", "x"])
NEARLY = st.sampled_from(["mg1-1", "diamond", "i12", "mbcx9cd4", "/mnt/rds/a"])
TIMES = st.dates() | st.datetimes()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TIMES | st.text() | NEARLY
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6)
)
ENTRY_LISTS = st.lists(st.dictionaries(KEYS, VALUES, max_size=8), max_size=4)
REGISTRIES = st.fixed_dictionaries({"site": VALUES, "beamtimes": ENTRY_LISTS | VALUES})
MARKS = ["\t", "\n", ":", ": ", "- ", "  ", "[", "{", '"', "'", "|", "#", "---\n", "\x07", "\u2028"]
SLIPS = st.sampled_from([*MARKS, "&x ", "*x", "!!int ", "0x_", "1:60.5", "2021-02-30"])


def check_form(registry: Registry) -> None:
    assert registry.site is not None or registry.beamtimes == ()
    for problem in registry.problems:
        assert "\n" not in str(problem)
        # Words that are pydantic's own, and no scientist's.
        assert not re.search(r"\b[Ii]nput should|Field required|type=|ctx|validation error", str(problem))


@given(st.binary())
def test_whatever_bytes_a_file_holds_nothing_is_raised(data: bytes) -> None:
    registry = read(Path("beamtimes.yaml"), data)
    assert registry.problems
    check_form(registry)


@given(REGISTRIES | VALUES)
def test_whatever_yaml_a_file_holds_nothing_is_raised(value: Any) -> None:
    check_form(of(yaml.safe_dump(value, allow_unicode=True)))


@given(st.data())
def test_whatever_slips_are_made_nothing_is_raised(data: st.DataObject) -> None:
    text = TWO
    for slip in data.draw(st.lists(SLIPS, max_size=4)):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + slip + text[place + data.draw(st.integers(0, 3)) :]
    check_form(of(text))


@pytest.mark.parametrize(
    "number", ["0x" + "F" * 6000, "9" * 6000, "1:" * 400 + "1.5", "0b_", "-.inf", ".nan", "1e400"]
)
def test_numbers_beyond_all_measure(number: str) -> None:
    registry = of(TWO.replace("mg1-1", number).replace("mg1-2", number) + f"    streams: {number}\n")
    assert registry.beamtimes == ()
    check_form(registry)


SAMPLES: tuple[object, ...] = (
    None,
    True,
    7,
    0,
    10**9,
    1.5,
    date(2021, 5, 3),
    date(1999, 1, 1),
    "a",
    "x" * 2000,
    [],
    ["a", 3],
    {"a": 1},
)


@pytest.mark.parametrize("model", FACILITIES)
def test_each_field_has_words_for_each_kind_of_value(model: type[Any]) -> None:
    (facility,) = get_args(model.model_fields["facility"].annotation)
    for name in model.model_fields:
        for sample in SAMPLES:
            text = yaml.safe_dump(
                {"site": {"destination_root": "/mnt"}, "beamtimes": [{"facility": facility, name: sample}]}
            )
            registry = of(text)
            check_form(registry)
            assert not any("is not valid here" in str(problem) for problem in registry.problems)


def test_a_thousand_entries_and_the_last_line() -> None:
    text = f"{SITE}beamtimes:\n" + "".join(ENTRY.format(f"mg{number}-1") for number in range(1, 1001))
    registry = of(text + "    streams: 99\n")
    assert len(registry.beamtimes) == 999
    assert [problem.line for problem in registry.problems] == [text.count("\n") + 1]


def test_registry_error_lists_all_and_survives_copying() -> None:
    error = RegistryError(load(DATA / "bad.yaml").problems)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert twin.problems == error.problems
    assert str(error).count("\nbad.yaml:") == len(error.problems)


def test_the_registry_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BEAMFERRY_REGISTRY", str(tmp_path / "mine.yaml"))
    assert registry_path() == tmp_path / "mine.yaml"
    monkeypatch.delenv("BEAMFERRY_REGISTRY")
    assert registry_path() == INCLUDE / "beamtimes.yaml"


def test_the_registry_in_force_where_the_package_is_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("BEAMFERRY_REGISTRY", raising=False)
    monkeypatch.setattr("beamferry.registry.__file__", "/lib/site-packages/beamferry/registry/__init__.py")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    assert registry_path() == tmp_path / "include" / "beamtimes.yaml"
    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry_path() == tmp_path / "airflow" / "include" / "beamtimes.yaml"


def test_the_group_may_read_where_nothing_is_said_and_an_entry_decides_for_itself() -> None:
    entries = ENTRY.format("mg1-1") + ENTRY.format("mg1-2") + "    group_access: keep\n"
    for said, expected in (("", "read"), ("  group_access: write\n", "write")):
        registry = of(f"{SITE}{said}beamtimes:\n{entries}")
        assert (registry.problems, registry.site is None) == ((), False)
        assert [one.access_of_group(registry.site) for one in registry.beamtimes if registry.site] == [
            expected,
            "keep",
        ]
    (problem,) = of(f"{SITE}  group_access: all\nbeamtimes:\n{entries}").problems
    assert str(problem).startswith(
        "beamtimes.yaml:3 site.group_access: must be read, write or keep, got 'all'"
    )


def test_the_starter_registry_is_valid_and_empty() -> None:
    registry = load(INCLUDE / "beamtimes.yaml")
    assert (registry.beamtimes, registry.problems) == ((), ())


def test_the_starters_example_is_valid_and_shows_what_is_derived() -> None:
    text = (INCLUDE / "beamtimes.yaml").read_text(encoding="utf-8").replace("beamtimes: []", "beamtimes:")
    registry = of(re.sub(r"(?m)^#(?=  )", "", text))
    assert registry.problems == ()
    example, desy = registry.beamtimes
    assert registry.site is not None
    assert example.source == example.derived_source
    derived = example.model_copy(update={"destination": None})
    assert example.destination == derived.destination_path(registry.site)
    fields = type(example).model_fields
    for name in ("exclude", "streams", "verification", "samples", "manifest", "archived", "auth"):
        assert getattr(example, name) == fields[name].default
    assert set(fields) == example.model_fields_set
    fields = type(desy).model_fields
    for name in ("streams", "tokens"):
        assert getattr(desy, name) == fields[name].default
    # What DESY alone has is all there.
    assert set(fields) - set(Beamtime.model_fields) <= desy.model_fields_set


def test_the_committed_schema_is_that_of_the_models() -> None:
    committed = (INCLUDE / "beamtimes.schema.json").read_text(encoding="utf-8")
    assert committed == schema(), "run: beamferry schema > include/beamtimes.schema.json"


@pytest.mark.parametrize("file", [DATA / "good.yaml", INCLUDE / "beamtimes.yaml"])
def test_the_schema_agrees_with_good_registries(file: Path) -> None:
    content = yaml.load(file.read_bytes(), Loader=yaml.BaseLoader)
    for one in content["beamtimes"]:
        for name in ("streams", "bandwidth_limit", "samples", "manifest", "archived"):
            if name in one:
                one[name] = yaml.safe_load(one[name])
    validator = jsonschema.Draft202012Validator(yaml.safe_load(schema()))
    assert list(validator.iter_errors(content)) == []
    content["beamtimes"].append({"id": "mg1-1\n", "facility": "diamond"})
    assert not validator.is_valid(content)


def test_numbers_and_days_are_read_as_yaml_has_them() -> None:
    document = read_document(Path("x"), b'[1, 1.5, yes, null, 2021-05-03, "1", !!str x]')
    assert document.value == [1, 1.5, True, None, date(2021, 5, 3), "1", "x"]
    assert [problem.field for problem in document.problems] == ["[6]"]


def test_the_package_does_not_hold_a_registry_of_its_own() -> None:
    assert not list(Path(beamferry.__file__).parent.rglob("*.yaml"))
