"""Where the openly licensed raw material lies (ICT-FaceKit, skins, hair, takes, portraits).

Only building needs it: what ships in the package is already built.
"""

from __future__ import annotations

import os
from pathlib import Path

from head360.errors import BadInput

VARIABLE = "HEAD360_ASSETS"
_BESIDE = Path("..") / "shared" / "assets"
# This file is backend/head360/geometry/assets.py in a checkout; in an installed wheel the path
# below simply does not exist and the current folder decides.
_REPOSITORY = Path(__file__).resolve().parents[3]


def find_assets() -> Path:
    """Folder that holds ``ict_facekit/``, ``appearance/``, ``hair/`` …

    ``HEAD360_ASSETS`` wins; otherwise ``../shared/assets`` beside the repository, then beside the
    current folder.

    Raises:
        BadInput: neither names an existing folder.
    """
    given = os.environ.get(VARIABLE)
    candidates = [Path(given)] if given else [_REPOSITORY / _BESIDE, Path.cwd() / _BESIDE]
    for candidate in candidates:
        if (candidate / "ict_facekit").is_dir():
            return candidate.resolve()
    raise BadInput(
        f"The raw assets were not found: set {VARIABLE} to the folder that contains ict_facekit/, "
        "which `head360 mesh import` can make, or put it at ../shared/assets beside the repository"
        + (f" ({VARIABLE} is {given})." if given else ".")
    )


def find_wardrobe() -> Path:
    """What the studio dresses heads from: a pack that ``HEAD360_ASSETS`` names, else the folder.

    A pack is one file, see ``synthesis.pack``; building other things needs the folder.

    Raises:
        BadInput: there is neither.
    """
    given = os.environ.get(VARIABLE)
    if given and Path(given).is_file():
        return Path(given).resolve()
    return find_assets()
