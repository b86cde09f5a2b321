"""The command line: what a person does to the registry from a terminal.

A further group of commands is a module with a ``typer.Typer`` of its own, and a line at the end of this one.
What a command needs is imported inside it, so that ``beamferry check`` starts at once.
"""

from __future__ import annotations

import os
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from beamferry.errors import BeamferryError

if TYPE_CHECKING:
    from beamferry.beamtime import Beamtime, Site


class _Group(TyperGroup):
    """Commands whose errors are sentences on stderr, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except BeamferryError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Brings beamtimes home: the registry, its checks, and everything around a transfer.",
)

RegistryFile = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The registry; the one in force when left out.")
]


@app.command()
def check(file: RegistryFile = None) -> None:
    """Say what is wrong in the registry.

    One line a problem, and exit code 1 if there is any.
    """
    from beamferry.registry import load, registry_path  # noqa: PLC0415

    registry = load(file or registry_path())
    for problem in registry.problems:
        typer.echo(problem)
    if registry.problems:
        raise typer.Exit(1)
    count = len(registry.beamtimes)
    typer.echo(f"{count} {'beamtime' if count == 1 else 'beamtimes'}, no problems")


@app.command(name="list")
def list_beamtimes(file: RegistryFile = None) -> None:
    """Show the beamtimes, the most urgent first.

    Entries with problems are left out; they are counted on stderr, and the exit code is 1.
    """
    from beamferry.registry import load, registry_path  # noqa: PLC0415

    registry = load(file or registry_path())
    if registry.site is not None:
        for line in table(registry.beamtimes, registry.site, datetime.now(UTC).date()):
            typer.echo(line)
    if registry.problems:
        count = len(registry.problems)
        typer.echo(f"{count} {'problem' if count == 1 else 'problems'}: see beamferry check", err=True)
        raise typer.Exit(1)


def table(beamtimes: tuple[Beamtime, ...], site: Site, today: date) -> list[str]:
    """Return the lines of the list; days to tape are below zero when that day has passed."""
    rows = [("id", "facility", "instrument", "ended", "days to tape", "destination")]
    for beamtime in sorted(beamtimes, key=lambda one: (one.archived, one.tape_day, one.key)):
        days = "archived" if beamtime.archived else str((beamtime.tape_day - today).days)
        where = beamtime.destination_path(site)
        rows.append((beamtime.id, beamtime.facility, beamtime.instrument, str(beamtime.ended), days, where))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


@app.command()
def schema() -> None:
    """Print the JSON schema of the registry.

    Editors complete and check entries by it.
    """
    from beamferry.registry.schema import schema as text  # noqa: PLC0415

    typer.echo(text(), nl=False)


@app.command()
def add(
    *,
    name: Annotated[str, typer.Option("--id", help="The facility's name of the beamtime, e.g. mg25682-2.")],
    facility: Annotated[str, typer.Option(help="Where the data is, e.g. diamond.")],
    instrument: Annotated[str, typer.Option(help="Beamline, as in the facility's paths, e.g. i12.")],
    account: Annotated[str, typer.Option(help="Log-in name at the facility.")],
    ended: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="Last day of the beamtime.")],
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other field, as in YAML: --set streams=8."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="The registry; the one in force when left out.")] = None,
) -> None:
    """Append a beamtime to the registry.

    Only if it is valid; everything else in the file stays as it is.
    """
    from beamferry.registry import registry_path  # noqa: PLC0415
    from beamferry.registry.adding import add as append  # noqa: PLC0415

    entry: dict[str, object] = {
        "id": name,
        "facility": facility,
        "instrument": instrument,
        "account": account,
        "ended": ended.date(),
    }
    entry.update(_fields(fields or [], known=entry))
    file = file or registry_path()
    beamtime = append(file, entry)
    typer.echo(f"{beamtime.id} added to {file}: its data goes to tape on {beamtime.tape_day}")


def _fields(texts: list[str], known: dict[str, object]) -> dict[str, object]:
    from beamferry.registry.document import read_document  # noqa: PLC0415

    found: dict[str, object] = {}
    for text in texts:
        field, equals, value = text.partition("=")
        if not field or not equals or field in known or field in found:
            raise typer.BadParameter(
                f"{text!r} is not FIELD=VALUE, or names a field twice", param_hint="--set"
            )
        document = read_document(Path("--set"), value.encode())
        if document.problems:
            raise typer.BadParameter(f"{text!r}: {document.problems[0].message}", param_hint="--set")
        found[field] = document.value
    return found


@app.command()
def show(name: Annotated[str, typer.Argument(metavar="ID")], file: RegistryFile = None) -> None:
    """Show what would run for a beamtime, command by command.

    A destination that keeps permissions and links is assumed; no secret is part of any command.
    """
    from beamferry.show import commands  # noqa: PLC0415

    beamtime, site = _known(name, file)
    for title, command in commands(beamtime, site):
        typer.echo(f"# {title}")
        typer.echo(command)


@app.command()
def doctor(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[ID]", help="One beamtime; all that are not archived when left out."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="The registry; the one in force when left out.")] = None,
    home: Annotated[
        Path, typer.Option(help="Airflow's folder of ./run up; elsewhere the environment's Airflow is asked.")
    ] = Path(".airflow"),
) -> None:
    """Check the installation, RDS-SSH, and whether a transfer could begin.

    Exit code 1 if anything stands in the way.
    """
    from beamferry.airflow.doctor import examine  # noqa: PLC0415
    from beamferry.demo import own_stack  # noqa: PLC0415
    from beamferry.registry import registry_path  # noqa: PLC0415

    airflow = own_stack(home.absolute(), 0).environment() if home.is_dir() else os.environ
    well = True
    for check_ in examine(file or registry_path(), name, airflow):
        typer.echo(f"{'ok ' if check_.ok else 'NO '} {check_.sentence}")
        well = well and check_.ok
    if not well:
        raise typer.Exit(1)


def _known(name: str, file: Path | None) -> tuple[Beamtime, Site]:
    from beamferry.registry import load, registry_path  # noqa: PLC0415

    registry = load(file or registry_path())
    found = [beamtime for beamtime in registry.beamtimes if beamtime.id == name]
    if registry.site is None or not found:
        raise BeamferryError(
            "no-such-beamtime",
            f"{registry.path} has no valid beamtime {name}",
            "see beamferry list and check",
        )
    return found[0], registry.site


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
)
def lab(arguments: typer.Context) -> None:
    """Start, stop and look at the lab: up, down or status."""
    from beamferry.lab.__main__ import app as lab_app  # noqa: PLC0415

    lab_app(arguments.args, prog_name="beamferry lab")


LabFolder = Annotated[
    Path, typer.Option("--dir", envvar="BEAMFERRY_LAB", help="Folder of the lab; it holds everything.")
]


@app.command()
def demo(
    folder: LabFolder = Path(".lab"),
    size: Annotated[str | None, typer.Option(help="Of the visit: small, demo, or bytes.")] = "demo",
    once: Annotated[
        bool, typer.Option("--once", help="Stop everything at the end; exit 0 only if verified.")
    ] = False,
) -> None:
    """Bring the lab's beamtime home through Airflow, before your eyes."""
    from beamferry.demo import demonstrate, lab_stack, today  # noqa: PLC0415
    from beamferry.lab import Lab  # noqa: PLC0415

    if not demonstrate(Lab(folder), lab_stack, size=size, once=once, today=today()):
        raise typer.Exit(1)


@app.command()
def up(
    home: Annotated[Path, typer.Option(help="Airflow's folder: database, logs, passwords.")] = Path(
        ".airflow"
    ),
    port: Annotated[int, typer.Option(help="Of the web interface; the next free one from 8080 when 0.")] = 0,
) -> None:
    """Run Airflow on this machine for the group's own registry, until Ctrl-C."""
    from beamferry.demo import run_until_interrupted  # noqa: PLC0415

    run_until_interrupted(home.absolute(), port)


# Last, so that the commands stand in the order in which they are needed.
from beamferry import cli_alerts, cli_backup  # noqa: E402

app.add_typer(cli_alerts.app)
app.add_typer(cli_backup.app)
