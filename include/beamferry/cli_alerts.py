"""The command line's part for alerts: previews of the mails, the calendar, the watchdog."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
mail_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The mails that people get.")
app.add_typer(mail_app, name="mail")


@mail_app.command()
def preview(
    folder: Annotated[Path, typer.Argument(help="Gets a .html and a .txt file for each kind of mail.")],
) -> None:
    """Write every kind of mail, with sample figures, into a folder."""
    from beamferry.mail.samples import messages  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    for name, message in messages().items():
        (folder / f"{name}.html").write_text(message.html, encoding="utf-8")
        (folder / f"{name}.txt").write_text(f"Subject: {message.subject}\n\n{message.text}", encoding="utf-8")
        typer.echo(f"{folder / name}.html  {message.subject}")


@app.command()
def calendar(
    output: Annotated[Path | None, typer.Option(help="File to write; the terminal when left out.")] = None,
) -> None:
    """Write all deadlines as a calendar file (.ics)."""
    from beamferry.calendar_file import calendar as render  # noqa: PLC0415
    from beamferry.registry import RegistryError, load, registry_path  # noqa: PLC0415

    registry = load(registry_path())
    if registry.site is None:
        raise RegistryError(registry.problems)
    text = render(registry.beamtimes, registry.site, datetime.now(UTC))
    if output is None:
        typer.echo(text, nl=False)
    else:
        # The format's own ends of lines must stay.
        output.write_bytes(text.encode())


@app.command()
def watchdog(
    mail_settings: Annotated[
        Path | None,
        typer.Option(
            help="JSON like an Airflow connection of a mail server; AIRFLOW_CONN_SMTP_DEFAULT when left out."
        ),
    ] = None,
    airflow: Annotated[str, typer.Option(help="Address of Airflow's web server.")] = "",
    home: Annotated[Path | None, typer.Option(help="Airflow's folder; AIRFLOW_HOME when left out.")] = None,
) -> None:
    """Look, from outside Airflow, whether the alerts are alive.

    For cron: prints and mails what is wrong, and ends with 1 if anything is.
    """
    from beamferry.registry import load, registry_path  # noqa: PLC0415
    from beamferry.watchdog import watch  # noqa: PLC0415
    from beamferry.watchdog_mail import settings_from  # noqa: PLC0415

    environment = dict(os.environ)
    if home is not None:
        environment["AIRFLOW_HOME"] = str(home.absolute())
    address = airflow or os.environ.get("AIRFLOW__API__BASE_URL", "http://localhost:8080")
    found = watch(
        load(registry_path()),
        airflow_url=address,
        settings=settings_from(os.environ, mail_settings),
        environment=environment,
        now=datetime.now(UTC),
    )
    for trouble in found:
        typer.echo(str(trouble))
    if found:
        raise typer.Exit(1)
    typer.echo("The alerts are alive")
