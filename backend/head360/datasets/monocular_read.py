"""Reading a monocular data set, with or without a manifest of this project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.arkit import NAMES
from head360.datasets import monocular
from head360.datasets.monocular import (
    TEST_SHARE,
    TRANSFORMS,
    MonocularManifest,
    Transforms,
    TransformsFrame,
)
from head360.datasets.records import MANIFEST, decode
from head360.errors import BadInput
from head360.rendering.cameras import Camera, camera_from_opengl

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        root: of the data set.
        img_id: number of the frame.
        width, height: pixels.
        expression: (E,) float32 as the file has them.
        names: what the numbers are; empty where nobody wrote it down.
        camera: head space (of the released sets: their own space), OpenCV axes.
        files: path by kind; "matte" and "parsing" may be absent.
    """

    root: Path
    img_id: int
    width: int
    height: int
    expression: Floats
    names: tuple[str, ...]
    camera: Camera
    files: dict[str, str]

    @property
    def blendshapes(self) -> Floats:
        """(52,) float32 in the order of ``arkit.NAMES``, whatever the order of the file's names.

        Without names, 52 numbers are taken to be in that order.

        Raises:
            BadInput: the numbers are not those of ARKit.
        """
        if self.names and set(self.names) != set(NAMES):
            raise BadInput(
                f"{self.root} names other expressions than the {len(NAMES)} of ARKit "
                f"({self.names[0]}, …): choose a data set with blendshapes."
            )
        if len(self.expression) != len(NAMES):
            raise BadInput(
                f"{self.root} has {len(self.expression)} numbers an expression, not the "
                f"{len(NAMES)} of ARKit: choose a data set with blendshapes."
            )
        if self.names:
            return self.expression[[self.names.index(name) for name in NAMES]]
        return self.expression

    def load_rgb(self) -> Pixels:
        """(height, width, 3) uint8 sRGB, head before its backdrop.

        Raises:
            BadInput: missing, damaged or of another size.
        """
        return self._load("image", "RGB")

    def load_matte(self) -> Pixels:
        """(height, width) uint8, 255 where all is head; all 255 where the data set has no mattes.

        Raises:
            BadInput: missing though it is named, damaged or of another size.
        """
        if "matte" not in self.files:
            return np.full((self.height, self.width), 255, dtype=np.uint8)
        return self._load("matte", "L")

    def load_parsing(self) -> Pixels:
        """(height, width, 3) uint8, colours see the manifest; raises as above."""
        if "parsing" not in self.files:
            raise BadInput(f"{self.root} has no parsing pictures: make the data set with them.")
        return self._load("parsing", "RGB")

    def _load(self, kind: str, mode: str) -> Pixels:
        from PIL import Image

        path = self.root / self.files[kind]
        try:
            with Image.open(path, formats=["PNG", "JPEG"]) as picture:
                pixels = np.asarray(picture.convert(mode))
        # Pillow reports a broken picture as any of these.
        except (OSError, ValueError, SyntaxError) as error:
            raise BadInput(
                f"Cannot read {path} ({error}): make the data set again; what is whole is kept."
            ) from error
        if pixels.shape[:2] != (self.height, self.width):
            raise BadInput(
                f"{path} measures {pixels.shape[1]}×{pixels.shape[0]} instead of "
                f"{self.width}×{self.height}: make the data set again."
            )
        return pixels


class MonocularDataset:
    """A data set that is read.

    Attributes:
        root: its folder.
        manifest: None for a folder of the released layout.
        width, height: pixels.
        expressions: names of the expression's numbers; empty where unknown.
        frames: in order of time.
        assumptions: sentences about what nobody wrote down and was therefore assumed.
    """

    def __init__(
        self,
        root: Path,
        manifest: MonocularManifest | None,
        transforms: Transforms,
        frames: Sequence[Frame],
        assumptions: Sequence[str] = (),
    ) -> None:
        self.root = root
        self.manifest = manifest
        self.width, self.height = transforms.w, transforms.h
        self.expressions = tuple(manifest.expressions) if manifest is not None else ()
        self.frames = list(frames)
        self.assumptions = list(assumptions)

    @classmethod
    def open(cls, folder: Path | str) -> MonocularDataset:
        """Read matrices and expressions; pictures are read when asked for.

        Raises:
            BadInput: no ``transforms.json``, damaged, or it disagrees with the manifest.
        """
        root = Path(folder)
        manifest = monocular.read_manifest(root) if (root / MANIFEST).is_file() else None
        transforms, assumptions = read_transforms(root)
        if manifest is None:
            assumptions.append(
                "There is no manifest: matrices are taken as OpenGL camera-to-world around a fixed "
                "head, in the data set's own unit, frames in the file's order, and the "
                f"{len(transforms.frames[0].exp_ori)} numbers an expression have no names "
                f"({len(NAMES)} count as ARKit's in Apple's order)."
            )
            named = {
                frame.img_id: _released_files(root, frame.img_id) for frame in transforms.frames
            }
            if not all("matte" in files for files in named.values()):
                assumptions.append("Frames without a matte count as head all over.")
        else:
            named = {frame.img_id: frame.files for frame in manifest.frames}
            if list(named) != [frame.img_id for frame in transforms.frames]:
                raise BadInput(
                    f"{root / TRANSFORMS} lists other frames than {MANIFEST}: make the data set "
                    "again; what is whole is kept."
                )
        names = tuple(manifest.expressions) if manifest is not None else ()
        count = len(transforms.frames[0].exp_ori)
        if names and len(names) != count:
            raise BadInput(
                f"{root / TRANSFORMS} has {count} numbers an expression, {MANIFEST} names "
                f"{len(names)}: make the data set again; what is whole is kept."
            )
        frames = [
            Frame(
                root, frame.img_id, transforms.w, transforms.h,
                np.array(frame.exp_ori, dtype=np.float32), names,
                _camera(root, transforms, frame), named[frame.img_id],
            )
            for frame in transforms.frames
        ]  # fmt: skip
        return cls(root, manifest, transforms, frames, assumptions)

    def split(self, test: int | float | None = None) -> tuple[list[Frame], list[Frame]]:
        """Frames to learn from, and the last ones to judge by.

        Args:
            test: how many, or which share when below 1; None takes the manifest's choice, and 5 %
                where there is none.

        Raises:
            ValueError: nothing would be left to learn from.
        """
        count = len(self.frames)
        if test is None and self.manifest is not None:
            first = self.manifest.test_from
        else:
            share = TEST_SHARE if test is None else test
            first = count - (round(share * count) if share < 1 else int(share))
        if not 0 < first <= count:
            raise ValueError(f"a split at {first} leaves nothing of {count} frames to learn from")
        return self.frames[:first], self.frames[first:]


def read_transforms(root: Path) -> tuple[Transforms, list[str]]:
    """``transforms.json`` in its full form, and sentences about what had to be filled in.

    Raises:
        BadInput: missing, damaged, without frames, or frames of differing kinds.
    """
    path = root / TRANSFORMS
    if not path.is_file():
        raise BadInput(f"{root} holds no {TRANSFORMS}: choose the folder of a monocular data set.")
    table = decode(path, dict[str, Any])
    assumptions: list[str] = []
    # Releases of this family leave some of these out or call the one focal length otherwise.
    focal = table.get("fx", table.get("focal_len", table.get("fl_x")))
    for name, value, why in (
        ("fx", focal, ""),
        ("fy", focal, "equal to fx"),
        ("h", table.get("w"), "equal to w"),
        ("w", table.get("h"), "equal to h"),
    ):
        if name not in table and value is not None:
            table[name] = value
            if why:
                assumptions.append(f"{TRANSFORMS} has no {name}: it is taken as {why}.")
    for name, side in (("cx", "w"), ("cy", "h")):
        if name not in table and isinstance(table.get(side), int | float):
            table[name] = table[side] / 2
            assumptions.append(f"{TRANSFORMS} has no {name}: the optical axis is centred.")
    try:
        transforms = msgspec.convert(table, Transforms, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"{path} is not the transforms.json of a monocular data set ({error}): choose another "
            "folder."
        ) from error
    _validate(path, transforms)
    return transforms, assumptions


def _validate(path: Path, transforms: Transforms) -> None:
    if not transforms.frames:
        raise BadInput(f"{path} has no frames: make the data set again.")
    if not (
        1 <= transforms.w <= 65536
        and 1 <= transforms.h <= 65536
        and min(transforms.fx, transforms.fy) > 0
    ):
        raise BadInput(f"{path} has an impossible size or focal length: make the data set again.")
    length = len(transforms.frames[0].exp_ori)
    seen: set[int] = set()
    for frame in transforms.frames:
        if len(frame.exp_ori) != length:
            raise BadInput(
                f"Frame {frame.img_id} of {path} has {len(frame.exp_ori)} numbers an expression, "
                f"the first frame {length}: make the data set again."
            )
        if not np.isfinite(frame.exp_ori).all():
            raise BadInput(f"Frame {frame.img_id} of {path} has an expression of no numbers.")
        if frame.img_id in seen:
            raise BadInput(f"Frame {frame.img_id} is twice in {path}: make the data set again.")
        seen.add(frame.img_id)


def _camera(root: Path, transforms: Transforms, frame: TransformsFrame) -> Camera:
    intrinsics = [
        [transforms.fx, 0.0, transforms.cx], [0.0, transforms.fy, transforms.cy], [0.0, 0.0, 1.0]
    ]  # fmt: skip
    try:
        return camera_from_opengl(frame.transform_matrix, intrinsics, transforms.w, transforms.h)
    except ValueError as error:
        raise BadInput(
            f"Frame {frame.img_id} of {root / TRANSFORMS} has an impossible camera ({error}): "
            "make the data set again."
        ) from error


def _released_files(root: Path, img_id: int) -> dict[str, str]:
    """Files of a frame where no manifest names them; the picture is named even if it is absent."""
    pictures = [monocular.frame_path("image", img_id, ending) for ending in ("jpg", "png")]
    files = {"image": next((p for p in pictures if (root / p).is_file()), pictures[0])}
    for kind in ("matte", "parsing"):
        if (root / monocular.frame_path(kind, img_id)).is_file():
            files[kind] = monocular.frame_path(kind, img_id)
    return files
