"""What the documentation promises is what the code has."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import typer

from beamferry.beamtime import Site
from beamferry.cli import app
from beamferry.facilities import FACILITIES
from beamferry.reasons import CODES, REASONS, End, Kind

REPOSITORY = Path(__file__).parents[2]
REFERENCE = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
PAGES = (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
# Errors of these are for developers, who see them beside the code.
INTERNAL = ("demo-", "lab-")


def section(title: str) -> str:
    """The text below a heading, down to the next one of its rank or above."""
    rank = len(title) - len(title.lstrip("#"))
    text = REFERENCE.split(f"\n{title}\n")[1]
    return re.split(rf"^#{{1,{rank}}} ", text, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of all tables in a text, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@cache
def raised() -> dict[str, set[str]]:
    """Codes of all errors in the package with the kinds that carry them; ``*`` stands for any word."""
    found: dict[str, set[str]] = {}
    for file in sorted((REPOSITORY / "include" / "beamferry").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
                continue
            if node.func.id in {"PermanentError", "TransientError", "BeamferryError"}:
                code = node.args[0]
                parts = code.values if isinstance(code, ast.JoinedStr) else [code]
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
                found.setdefault(text, set()).add(node.func.id)
    return {code: kinds for code, kinds in found.items() if not code.startswith(INTERNAL)}


def kinds_of(code: str) -> set[str]:
    fits = (kinds for known, kinds in raised().items() if re.fullmatch(known.replace("*", "[a-z0-9]+"), code))
    return set().union(*fits)


ERRORS = {code: cells for cells in rows(section("## Errors")) for code in names(cells[0])}


def test_every_error_is_in_the_reference() -> None:
    fixed = {code for code in raised() if "*" not in code}
    assert len(fixed) > 30
    assert fixed - set(ERRORS) == set()


@pytest.mark.parametrize("code", ERRORS)
def test_an_error_in_the_reference_exists_and_is_tried_again_as_it_says(code: str) -> None:
    kinds = kinds_of(code)
    assert kinds
    if len(ERRORS[code]) == 4:
        again = {word for word in ("yes", "no") if re.search(rf"\b{word}\b", ERRORS[code][2])}
        assert again == {"yes" if kind == "TransientError" else "no" for kind in kinds}


def test_the_table_of_reasons_is_the_one_in_the_code() -> None:
    cells = rows(section("## Reasons that file systems give"))
    assert cells == [
        [
            f"`{reason.name}`",
            reason.words,
            *(f"`{CODES[end][reason.kind]}`" if reason.kind in CODES[end] else "–" for end in End),
        ]
        for reason in REASONS
    ]
    for reason in REASONS:
        for end in End:
            if reason.kind in CODES[end]:
                again = reason.kind is Kind.PASSING
                assert kinds_of(CODES[end][reason.kind]) == {"TransientError" if again else "PermanentError"}


@pytest.mark.parametrize("title", ["### `site`, once", "### `beamtimes`, one entry each"])
def test_the_fields_of_the_registry_are_those_of_the_reference(title: str) -> None:
    models = [Site] if "site" in title else list(FACILITIES)
    fields = {name: field for model in models for name, field in model.model_fields.items()}
    table = {names(cells[0])[0]: cells for cells in rows(section(title))}
    assert set(table) == set(fields)
    must = {name for name, cells in table.items() if cells[2] == "must be given"}
    assert must == {name for name, field in fields.items() if field.is_required()}


def test_every_command_and_its_options_are_in_the_reference() -> None:
    table = {cells[0].strip("`").split()[0]: cells[0] for cells in rows(section("## Command line"))}
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    assert set(table) == set(commands)
    for name, command in commands.items():
        options = {option for one in command.params for option in one.opts if option.startswith("--")}
        assert {option for option in options - {"--help"} if option not in table[name]} == set(), name


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
