"""The board as a plugin of Airflow: its API, and the places in the web interface where the page stands."""

from __future__ import annotations

import logging
import sys
from functools import cached_property
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_LOG = logging.getLogger(__name__)
PREFIX = "/beamferry"
_BUNDLE = Path(__file__).parent / "static" / "board.js"
# Under these names the bundle leaves its components to Airflow, which also labels menu and tabs with them.
_ALL, _ONE, _EVERYWHERE = "Beamtimes", "Beamtime", "Beamferry"


class BeamferryPlugin(AirflowPlugin):
    """What Airflow loads; each of its processes does, and only the API server asks for what is in it."""

    name = "beamferry"

    @classmethod
    def on_load(cls, *_: Any, **__: Any) -> None:
        """Import what each task of a beamtime needs, in the processes that tasks are forked from.

        It takes half a second of a processor, and a run has seven tasks.
        """
        if sys.argv[1:2] not in (["scheduler"], ["celery"]):
            return
        try:
            import_module("beamferry.airflow.dag")
        except ImportError:
            # Each task then says so itself; here an error would take the board away.
            _LOG.exception("The tasks of beamtimes cannot be loaded. Install what is named below")

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The API; imported here, as tasks and schedulers load plugins too and have no use for it."""
        try:
            from beamferry.web.api import app  # noqa: PLC0415
        except ImportError:
            # Here an error would end the API server, and with it every run.
            _LOG.exception("The board is missing: its API cannot be loaded. Install what is named below")
            return []
        return [{"app": app(), "url_prefix": PREFIX, "name": "Beamferry"}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The places of the page; none without its code, as Airflow would show an error at each of them."""
        if not _BUNDLE.exists():
            _LOG.error("The board is missing: there is no %s", _BUNDLE)
            return []
        bundle = _bundle()
        return [
            {
                "name": _ALL,
                "bundle_url": bundle,
                "destination": "nav",
                "url_route": "beamtimes",
                "nav_top_level": True,
            },
            {
                "name": _ALL,
                "bundle_url": bundle,
                "destination": "dashboard",
                "url_route": "beamtimes-home",
            },
            {"name": _ONE, "bundle_url": bundle, "destination": "dag", "url_route": "beamtime"},
            {"name": _ONE, "bundle_url": bundle, "destination": "dag_run", "url_route": "beamtime-run"},
            # On every page: hides the tabs on DAGs that are no beamtime's.
            {"name": _EVERYWHERE, "bundle_url": bundle, "destination": "base", "url_route": "beamferry"},
        ]


def _bundle() -> str:
    """Return the address of the page's code below Airflow's own, another one for each version of it."""
    version = sha256(_BUNDLE.read_bytes()).hexdigest()[:12]
    return f"{PREFIX.removeprefix('/')}/static/{_BUNDLE.name}?v={version}"
