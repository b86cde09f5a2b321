"""``python -m beamferry.lab up|down|status``."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - typer reads the annotations
from pathlib import Path
from typing import Annotated

import typer

from beamferry.errors import BeamferryError
from beamferry.lab.lab import Lab
from beamferry.lab.settings import ENDED
from beamferry.lab.visit import DEFAULT_SEED

app = typer.Typer(
    help="The lab: RDS-SSH, Diamond, DESY and a mail server on this machine's loopback.",
    no_args_is_help=True,
    add_completion=False,
)

Folder = Annotated[
    Path,
    typer.Option("--dir", envvar="BEAMFERRY_LAB", help="Where the lab keeps everything.", file_okay=False),
]
_FOLDER = Path(".lab")


@app.command()
def up(
    folder: Folder = _FOLDER,
    size: Annotated[
        str | None, typer.Option(help="small, demo or bytes; keeps the visit that is there when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="What the visit's content is drawn from.")] = DEFAULT_SEED,
    ended: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day of the visit, for the registry.")
    ] = None,
    namespaces: Annotated[
        bool | None,
        typer.Option(help="Whether the hosts get file systems of their own; default: if allowed."),
    ] = None,
    desy: Annotated[bool, typer.Option("--desy", help="Start DESY's servers too.")] = False,
) -> None:
    """Start the lab, or what of it does not run."""
    try:
        lab = Lab(folder, namespaces=namespaces)
        lab.up(size, seed, ended.date() if ended else ENDED, desy=desy)
    except BeamferryError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo("\n".join(lab.status()))


@app.command()
def down(folder: Folder = _FOLDER) -> None:
    """Stop the lab; its files stay."""
    if not folder.is_dir():
        typer.echo(f"No lab in {folder}.")
        return
    try:
        Lab(folder).down()
    except BeamferryError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(f"The lab in {folder} is stopped; its files stay.")


@app.command()
def status(folder: Folder = _FOLDER) -> None:
    """Say what runs where; exit 1 unless all of it runs."""
    if not folder.is_dir():
        typer.echo(f"No lab in {folder}.")
        raise typer.Exit(1)
    lab = Lab(folder)
    typer.echo("\n".join(lab.status()))
    if not lab.running:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
