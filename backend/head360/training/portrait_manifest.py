"""``manifest.json`` beside the weights that come with the program: recipe, licence, checksum."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from head360.errors import ModelInvalid
from head360.files import write_text

LICENCE = (
    "Trained by Head360 Studio on pictures of its own studio alone (ICT-FaceKit, MIT License; "
    "MakeHuman skins, hair and brows, CC0 1.0), before drawn backgrounds and free pictures of "
    "scikit-image that show nobody. GPL-3.0-or-later like the program."
)


def write_manifest(folder: Path) -> Path:
    """Write ``manifest.json`` for all weights files of ``folder``; returns its path.

    Raises:
        ModelInvalid: a file is damaged or no weights file of this program.
    """
    files = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(str(path), "pt") as archive:
                header = json.loads((archive.metadata() or {})["head360"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ModelInvalid(f"{path} holds no weights of this program ({error}).") from error
        data = path.read_bytes()
        files[path.name] = {
            **header, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()
        }  # fmt: skip
    return write_text(
        folder / "manifest.json", json.dumps({"licence": LICENCE, "files": files}, indent=1) + "\n"
    )
