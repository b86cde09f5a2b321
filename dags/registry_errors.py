"""Shows what is wrong in the registry as one import error; the valid beamtimes are not touched by it."""

from beamferry.airflow.dag import registry
from beamferry.registry import RegistryError

if problems := registry().problems:
    raise RegistryError(problems)
