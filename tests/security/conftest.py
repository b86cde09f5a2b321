"""The facilities of the lab's tests, for those here."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_LAB = Path(__file__).parents[1] / "lab"
sys.path.insert(0, str(_LAB))
_spec = spec_from_file_location("lab_fixtures", _LAB / "conftest.py")
if _spec is None or _spec.loader is None:
    raise ImportError(_LAB)
_fixtures = module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

far, engine = _fixtures.far, _fixtures.engine
desy, desy_key, at_desy = _fixtures.desy, _fixtures.desy_key, _fixtures.at_desy
