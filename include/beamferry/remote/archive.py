"""The agent as one archive that Python runs, the same byte for byte from the same sources."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib.resources import files

_PACKAGE = "beamferry_agent"
# An archive keeps times; the sources' own would differ from one checkout to the next.
_TIME = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100600


@cache
def agent_archive() -> bytes:
    """Return the archive that ``agent.sh`` runs."""
    sources = {
        f"{_PACKAGE}/{item.name}": item.read_bytes()
        for item in files(_PACKAGE).iterdir()
        if item.name.endswith(".py")
    }
    # Python runs this file of an archive; the package's own would have no package to import from.
    sources["__main__.py"] = f"import {_PACKAGE}.__main__\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, _MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()
