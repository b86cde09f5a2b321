"""The facilities that data can come from: one module each, and one line here."""

from __future__ import annotations

from beamferry.facilities.desy import DesyBeamtime
from beamferry.facilities.diamond import DiamondBeamtime

# A new facility is a model like these in a module of its own, and its line here.
FACILITIES = (DiamondBeamtime, DesyBeamtime)
