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
# Python runs this file of an archive; the package's own would have no package to import from. Any Python 3 can read it:
# to ask for the version in a process of its own would cost more than most answers.
_MAIN = f"""\
import os
import sys

OTHER = "/usr/libexec/platform-python"
if sys.version_info < (3, 6):
    if sys.executable != OTHER and os.access(OTHER, os.X_OK):
        os.execv(OTHER, [OTHER, "-I", "-B"] + sys.argv)
    sys.stderr.write("python3: older than 3.6 on this host (%d.%d)\\n" % sys.version_info[:2])
    sys.exit(77)
import {_PACKAGE}.__main__
"""


@cache
def agent_archive() -> bytes:
    """Return the archive that ``agent.sh`` runs."""
    sources = {
        f"{_PACKAGE}/{item.name}": item.read_bytes()
        for item in files(_PACKAGE).iterdir()
        if item.name.endswith(".py")
    }
    sources["__main__.py"] = _MAIN.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, _MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return packed.getvalue()
