"""What Airflow finds in its plugins folder: the board."""

from beamferry.web.plugin import BeamferryPlugin

__all__ = ["BeamferryPlugin"]
