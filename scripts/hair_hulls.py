"""Make ``backend/head360/data/hair_hulls.npz`` from the studio's hair styles; needs the raw assets.

python scripts/hair_hulls.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from head360.files import atomic_path
from head360.geometry.assets import find_wardrobe
from head360.geometry.bilinear import BilinearModel
from head360.synthesis.hair import STYLES
from head360.synthesis.hulls import hull_of
from head360.synthesis.people import person
from head360.synthesis.studio import Studio
from head360.synthesis.wardrobe import open_wardrobe

TARGET = Path(__file__).resolve().parents[1] / "backend" / "head360" / "data" / "hair_hulls.npz"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=TARGET)
    chosen = parser.parse_args()
    studio = Studio(BilinearModel.builtin(), open_wardrobe(find_wardrobe()), (person(8),))
    hulls = [np.packbits(hull_of(studio.style(style.name))) for style in STYLES]
    with atomic_path(chosen.out) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, names=np.array([style.name for style in STYLES]), cells=np.stack(hulls)
        )


if __name__ == "__main__":
    main()
