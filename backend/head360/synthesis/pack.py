"""One compact file of all that the studio dresses heads with, for machines without the assets.

A zip: ``manifest.json`` names every entry with its SHA-256; pictures are the very JPEG files of the
assets, arrays are ``.npy``. Card styles are stored in canonical space, undyed, so that any colour
can be given to them later; grown styles need no entry, since they are grown from their recipe.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import head360
from head360.errors import BadInput
from head360.files import atomic_path, writable_folder
from head360.geometry.assets import find_assets
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.geometry.topology import Topology
from head360.synthesis import hair
from head360.synthesis.brows import BrowCards
from head360.synthesis.skins import BROWS, EYES, SKINS, Canvas, FolderMaterials, head_atlas
from head360.synthesis.subjects import SubjectSpec
from head360.synthesis.wardrobe import FolderWardrobe

FORMAT = "head360 pack"
VERSION = 1
MAX_BYTES = 30 << 20
NOTICES = (
    "Face geometry: ICT-FaceKit, MIT License, (c) 2020 USC Institute for Creative Technologies; "
    "the text is in licences/.",
    "Skins, eyes, hair and brows: MakeHuman and contributors, CC0 1.0.",
)
_MANIFEST = "manifest.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # in every entry, so that the same assets give the same bytes
_AGAIN = "make it again with `head360 synth --pack FILE`"


def write_pack(
    path: Path | str,
    subjects: tuple[SubjectSpec, ...],
    styles: tuple[hair.StyleSpec, ...],
    assets: Path | None = None,
) -> dict[str, Any]:
    """Pack every skin, eye and brow, and the cards of ``styles``, into one file.

    Args:
        path: of the pack; written atomically.
        subjects: who must be able to sit; they are named in the manifest.
        styles: which hair styles must be wearable.
        assets: folder of raw assets; None looks for it.

    Returns:
        ``path``, ``size`` in bytes, and the numbers of ``entries``, ``subjects`` and ``styles``.

    Raises:
        BadInput: the raw assets are missing or lack what a subject or a style needs, the pack
            would be larger than 30 MiB, or the file cannot be written.
    """
    path = Path(path)
    folder = assets if assets is not None else find_assets()
    entries = _materials(folder)
    for subject in subjects:
        for name in _needed(subject):
            if name not in entries:
                raise BadInput(f"{subject.name} needs {name}, which {folder} does not hold.")
    entries |= _head(folder) | _licences(folder)
    for style in styles:
        if style.growth is None:
            entries |= _cards(folder, style)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "generator": f"head360 {head360.__version__}",
        "model": _model_digest(),
        "notices": list(NOTICES),
        "subjects": [subject.name for subject in subjects],
        "styles": [style.name for style in styles],
        "entries": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
            for name, data in sorted(entries.items())
        },
    }
    data = _zipped({_MANIFEST: json.dumps(manifest, indent=1).encode(), **entries})
    if len(data) > MAX_BYTES:
        raise BadInput(
            f"The pack would take {len(data) / 2**20:.1f} MiB, more than {MAX_BYTES >> 20}: "
            "pack fewer hair styles."
        )
    writable_folder(path.parent)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return {
        "path": str(path),
        "size": len(data),
        "entries": len(entries),
        "subjects": len(subjects),
        "styles": len(styles),
    }


class PackWardrobe:
    """A wardrobe in a pack; see ``wardrobe.Wardrobe``.

    Args:
        path: of the pack.

    Raises:
        BadInput: it is missing, no pack, damaged, or made for another head.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            manifest = json.loads(_entry(self.path, _MANIFEST))
            entries = {name: facts["sha256"] for name, facts in manifest["entries"].items()}
            kind, version, model = manifest["format"], manifest["version"], manifest["model"]
        except OSError as error:
            raise BadInput(
                f"The pack {self.path} cannot be read ({error.strerror}): give another path."
            ) from error
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError) as error:
            raise BadInput(f"{self.path} is no pack of assets, or a damaged one: {_AGAIN}.") from (
                error
            )
        if kind != FORMAT or version != VERSION:
            raise BadInput(
                f"{self.path} is a pack of another version ({version}, not {VERSION}): {_AGAIN}."
            )
        if model != _model_digest():
            raise BadInput(f"{self.path} was packed for another head mesh: {_AGAIN}.")
        self._digests: dict[str, str] = entries
        self._canvas: Canvas | None = None

    def generic(self, topology: Topology) -> NDArray[np.float32]:
        """See ``wardrobe.Wardrobe``."""
        return self._array("head/generic")

    def tongue(self, topology: Topology) -> NDArray[np.bool_]:
        """See ``wardrobe.Wardrobe``."""
        return self._array("head/tongue")

    def atlas(
        self, topology: Topology, spec: SubjectSpec, detail: bool = False
    ) -> NDArray[np.uint8]:
        """See ``wardrobe.Wardrobe``."""
        return head_atlas(self._on(topology), self, spec, detail)

    def brow_strength(self, topology: Topology, spec: SubjectSpec) -> NDArray[np.float32]:
        """See ``wardrobe.Wardrobe``."""
        return self._on(topology).brow_strength(self, spec.brow)

    def style(self, spec: hair.StyleSpec, generic_to_canonical: Lattice) -> hair.Style:
        """See ``wardrobe.Wardrobe``."""
        if spec.growth is not None:
            return hair.grow_style(spec)
        prefix = f"styles/{spec.name}/"
        arrays = {
            name.removeprefix(prefix).removesuffix(".npy"): self._array(name.removesuffix(".npy"))
            for name in self._digests
            if name.startswith(prefix)
        }
        if not arrays:
            raise BadInput(f"The pack {self.path} lacks the hair style {spec.name}: {_AGAIN}.")
        plain = hair.Style(_undyed(spec), **arrays)
        texture = plain.texture.astype(np.float32) * np.array(spec.gain, dtype=np.float32)
        if spec.dye is not None:
            texture = hair._dyed(texture, plain.mask > 0, spec.dye)
        return replace(plain, spec=spec, texture=np.clip(texture, 0, 255).astype(np.uint8))

    def picture(self, name: str) -> Image.Image:
        """See ``skins.Materials``."""
        return Image.open(io.BytesIO(self._read(name))).convert("RGB")

    def brow(self, name: str) -> BrowCards:
        """See ``skins.Materials``."""
        return BrowCards(
            **{field.name: self._array(f"{BROWS}/{name}/{field.name}") for field in _BROW_FIELDS}
        )

    def _on(self, topology: Topology) -> Canvas:
        if self._canvas is None or self._canvas.topology is not topology:
            self._canvas = Canvas(topology, self.generic(topology), self.tongue(topology))
        return self._canvas

    def _read(self, name: str) -> bytes:
        if name not in self._digests:
            raise BadInput(f"The pack {self.path} lacks {name}: {_AGAIN}.")
        try:
            data = _entry(self.path, name)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise BadInput(f"The pack {self.path} is damaged at {name}: {_AGAIN}.") from error
        if hashlib.sha256(data).hexdigest() != self._digests[name]:
            raise BadInput(f"The pack {self.path} is damaged at {name}: {_AGAIN}.")
        return data

    def _array(self, name: str) -> NDArray[Any]:
        data: NDArray[Any] = np.load(io.BytesIO(self._read(f"{name}.npy")), allow_pickle=False)
        return data


_BROW_FIELDS = fields(BrowCards)


def _model_digest() -> str:
    return hashlib.sha256(BilinearModel.builtin_bytes()).hexdigest()


def _undyed(spec: hair.StyleSpec) -> hair.StyleSpec:
    return replace(spec, gain=(1.0, 1.0, 1.0), dye=None)


def _needed(subject: SubjectSpec) -> list[str]:
    """Entries without which a subject cannot sit."""
    skins = [subject.skin, subject.touch.other, subject.touch.lines]
    return [
        *(f"{SKINS}/{skin}_{part}.jpg" for skin in skins if skin for part in ("face", "backhead")),
        f"{EYES}/iris_{subject.iris}.jpg",
        f"{BROWS}/{subject.brow}/alpha.npy",
    ]


def _materials(folder: Path) -> dict[str, bytes]:
    """Skins and eyes as they are, brows as arrays."""
    entries = {}
    for place in (SKINS, EYES):
        for file in sorted((folder / place).glob("*.jpg")):
            entries[f"{place}/{file.name}"] = file.read_bytes()
    materials = FolderMaterials(folder)
    for file in sorted((folder / BROWS).glob("*.obj")):
        cards = materials.brow(file.stem)
        for field in _BROW_FIELDS:
            value = getattr(cards, field.name)
            entries[f"{BROWS}/{file.stem}/{field.name}.npy"] = _npy(value)
    return entries


def _licences(folder: Path) -> dict[str, bytes]:
    """The licence texts that lie beside the assets."""
    return {
        f"licences/{file.parent.name}_{file.name}": file.read_bytes()
        for file in sorted(folder.glob("*/LICENSE*"))
        if file.parent.name in ("ict_facekit", "appearance", "hair")
    }


def _head(folder: Path) -> dict[str, bytes]:
    wardrobe, topology = FolderWardrobe(folder), BilinearModel.builtin().topology
    return {
        "head/generic.npy": _npy(wardrobe.generic(topology)),
        "head/tongue.npy": _npy(wardrobe.tongue(topology)),
    }


def _cards(folder: Path, spec: hair.StyleSpec) -> dict[str, bytes]:
    """A card style's arrays in canonical space; its colour is given when it is worn."""
    model = BilinearModel.builtin()
    skin = model.topology.part_vertices(*ANCHOR_PARTS)
    generic = FolderWardrobe(folder).generic(model.topology)
    warp = Lattice.between(generic[skin], model.neutral(model.mean_shape)[skin])
    style = hair.load_style(_undyed(spec), folder, warp)
    return {
        f"styles/{spec.name}/{field.name}.npy": _npy(getattr(style, field.name))
        for field in fields(style)
        if isinstance(getattr(style, field.name), np.ndarray)
    }


def _npy(values: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            squeeze = not name.endswith(".jpg")
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
            archive.writestr(info, data, compresslevel=9 if squeeze else None)
    return buffer.getvalue()


def _entry(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)
