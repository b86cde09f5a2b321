"""What pip is to install beside what an image has: ``python missing.py FOLDER EXTRA...``, run while it is built.

Reads ``pyproject.toml`` and ``constraints.txt`` beside this file; writes ``requirements.txt`` (what the package and
the named extras want) and ``constraints.txt`` into FOLDER. A version that is installed stays, Airflow's before all,
unless the package asks for another one; what is not installed comes in the version that this project is tested with.
"""

from __future__ import annotations

import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

# A bare Python has no packaging but the one inside pip.
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def constraints(wanted: Iterable[str], pinned: Iterable[str], installed: Mapping[str, str]) -> list[str]:
    """Return pip's constraints.

    Args:
        wanted: requirements, as pyproject.toml has them.
        pinned: lines of constraints.txt.
        installed: versions by distribution.
    """
    kept = {canonicalize_name(name): version for name, version in installed.items()}
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name in kept and not requirement.specifier.contains(kept[name], prereleases=True):
            del kept[name]
    ours = [line for line in pinned if canonicalize_name(Requirement(line).name) not in kept]
    return [*(f"{name}=={version}" for name, version in sorted(kept.items())), *ours]


def main(folder: Path, *extras: str) -> None:
    """Write both files."""
    here = Path(__file__).parent
    project = tomllib.loads((here / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    pinned = (here / "constraints.txt").read_text().split("\n")
    installed = {found.name: found.version for found in distributions()}
    folder.mkdir()
    (folder / "requirements.txt").write_text("\n".join(wanted) + "\n")
    lines = constraints(wanted, filter(None, pinned), installed)
    (folder / "constraints.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
