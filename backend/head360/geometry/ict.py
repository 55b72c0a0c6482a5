"""ICT-FaceKit (MIT, USC ICT; Li et al., CVPR 2020) in head space, with Apple's 52 expressions.

Head space is metres with the origin between the ears: ``(ict_cm - (0, 2, 0)) * 0.01``. The axes
are ICT's own: +X the subject's left, +Y up, +Z out of the face.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360 import arkit
from head360.errors import BadInput

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]

ORIGIN_CM = np.array([0.0, 2.0, 0.0])
METRES_PER_CM = 0.01
# Shader helpers without a picture of their own; the cornea faces would hide the iris.
HELPER_PARTS = ("lacrimal_fluid", "eye_blend", "eye_occlusion")
SKIN_PARTS = ("face", "head_neck", "mouth_socket", "eye_socket_left", "eye_socket_right")
LICENCE = (
    "ICT-FaceKit, MIT License, Copyright (c) 2020 USC Institute for Creative Technologies; "
    "Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020. "
    "tongueOut, topology reduction and decomposition: Head360 Studio."
)


def to_head_space(points_cm: ArrayLike) -> NDArray[np.float64]:
    """ICT centimetres → head-space metres; any (…, 3)."""
    return (np.asarray(points_cm, dtype=np.float64) - ORIGIN_CM) * METRES_PER_CM


@dataclass(frozen=True)
class IctModel:
    """The raw model, triangulated. Positions and deltas in metres, head space.

    Attributes:
        neutral: (N, 3) float32, N = 26,719.
        identity_deltas: (100, N, 3) float32, one standard deviation each.
        expression_deltas: (52, N, 3) float32 in the order of ``arkit.NAMES``.
        triangles, triangle_uvs: (F, 3) int32 corners and uv corners, counter-clockwise outside.
        uvs: (U, 2) float32 in ICT's UDIM-like tiles, origin bottom-left.
        triangle_part, triangle_material: (F,) uint8 into ``part_names`` / ``material_names``.
        triangle_hidden: (F,) bool, shader helpers and cornea: left out of everything shipped.
        vertex_part: (N,) uint8.
        landmarks68: (68,) int32 Multi-PIE vertex ids.
        eye_centres: (2, 3) float32, left then right; ``gaze_axes``: (2, 3) unit rest gaze.
        sclera_ranges: half-open vertex ranges of the two scleras.
        tongue: (451,) int32 vertex ids of the tongue.
    """

    neutral: Floats
    identity_deltas: Floats
    expression_deltas: Floats
    triangles: Ints
    triangle_uvs: Ints
    uvs: Floats
    triangle_part: NDArray[np.uint8]
    triangle_material: NDArray[np.uint8]
    triangle_hidden: NDArray[np.bool_]
    vertex_part: NDArray[np.uint8]
    part_names: tuple[str, ...]
    material_names: tuple[str, ...]
    landmarks68: Ints
    eye_centres: Floats
    gaze_axes: Floats
    sclera_ranges: tuple[tuple[int, int], tuple[int, int]]
    tongue: Ints

    def part_vertices(self, *names: str) -> NDArray[np.int64]:
        """Sorted vertex ids of the named parts (a name may be a prefix, such as ``eyeball``)."""
        wanted = [i for i, part in enumerate(self.part_names) if part.startswith(names)]
        return np.flatnonzero(np.isin(self.vertex_part, wanted))

    def identities(self, coefficients: ArrayLike) -> Floats:
        """(I, 100) coefficients → (I, N, 3) float32 neutral heads."""
        c = np.asarray(coefficients, dtype=np.float32)
        modes = self.identity_deltas.reshape(len(self.identity_deltas), -1)
        heads = c @ modes + self.neutral.reshape(-1)
        return heads.reshape(len(c), -1, 3).astype(np.float32)

    def centres_of(self, heads: Floats) -> NDArray[np.float64]:
        """(I, N, 3) neutral heads → (I, 2, 3) eyeball centres: they follow the sclera's mean."""
        moved = [
            heads[:, a:b].mean(axis=1, dtype=np.float64)
            - self.neutral[a:b].mean(axis=0, dtype=np.float64)
            for a, b in self.sclera_ranges
        ]
        return np.stack(moved, axis=1) + self.eye_centres


def _triangulate(
    faces: Ints, face_uvs: Ints, positions: Floats
) -> tuple[Ints, Ints, NDArray[np.int64]]:
    """Split quads along the shorter diagonal: (F, 3) corners, (F, 3) uv corners, source face."""
    quad = faces[:, 3] >= 0
    safe = np.where(faces < 0, 0, faces)
    p = positions[safe]
    short02 = np.linalg.norm(p[:, 0] - p[:, 2], axis=1) <= np.linalg.norm(p[:, 1] - p[:, 3], axis=1)
    first = np.where(short02 | ~quad, 0, 3)
    orders = {0: ((0, 1, 2), (0, 2, 3)), 3: ((0, 1, 3), (1, 2, 3))}
    tri, uv, source = [], [], []
    for kind, (one, two) in orders.items():
        rows = np.flatnonzero(first == kind)
        quads = rows[quad[rows]]
        for pattern, chosen in ((one, rows), (two, quads)):
            tri.append(faces[chosen][:, pattern])
            uv.append(face_uvs[chosen][:, pattern])
            source.append(chosen)
    order = np.argsort(np.concatenate(source), kind="stable")
    return (
        np.concatenate(tri)[order].astype(np.int32),
        np.concatenate(uv)[order].astype(np.int32),
        np.concatenate(source)[order],
    )


def load_ict(assets: Path) -> IctModel:
    """Read ``assets/ict_facekit/ict_facekit.npz``.

    The right-hand brow, eye and nose shapes carry a stray 0.2–0.3 mm offset on the gums and the
    tongue (assets README); that part is zeroed for all brow, eye and nose shapes.

    Raises:
        BadInput: the file is missing, damaged or lists other expressions than Apple's 52.
    """
    path = Path(assets) / "ict_facekit" / "ict_facekit.npz"
    try:
        with np.load(path, allow_pickle=False) as archive:
            raw = {key: archive[key] for key in archive.files}
        return _assemble(raw)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise BadInput(f"Cannot use {path} as ICT-FaceKit: {error}.") from error


def _assemble(raw: dict[str, NDArray]) -> IctModel:
    part_names = tuple(str(name) for name in raw["part_names"])
    if tuple(str(name) for name in raw["arkit_names"]) != arkit.NAMES:
        raise ValueError("its expressions are not Apple's 52 in Apple's order")
    gums_first, gums_last = raw["part_vertex_range"][part_names.index("gums_tongue")]
    shapes = raw["expression_deltas"].copy()
    for row, name in enumerate(raw["expression_names"]):
        if str(name).startswith(("brow", "eye", "nose")):
            shapes[row, gums_first:gums_last] = 0.0
    apple = np.einsum("as,svc->avc", raw["arkit_to_ict"], shapes, optimize=True)
    apple[arkit.INDEX["tongueOut"], gums_first:gums_last] = raw["proposed_tongueOut_delta"]

    neutral = to_head_space(raw["vertices"]).astype(np.float32)
    triangles, triangle_uvs, source = _triangulate(raw["faces"], raw["face_uvs"], raw["vertices"])
    hidden = np.zeros(len(raw["faces"]), dtype=bool)
    hidden[raw["derived_cornea_faces"].reshape(-1)] = True
    helpers = [i for i, name in enumerate(part_names) if name.startswith(HELPER_PARTS)]
    hidden |= np.isin(raw["face_part"], helpers)
    details = [str(name) for name in raw["detail_names"]]
    scleras = [
        raw["detail_vertex_range"][details.index(f"sclera_{side}")] for side in ("left", "right")
    ]
    return IctModel(
        neutral=neutral,
        identity_deltas=raw["identity_deltas"] * np.float32(METRES_PER_CM),
        expression_deltas=apple.astype(np.float32) * np.float32(METRES_PER_CM),
        triangles=triangles,
        triangle_uvs=triangle_uvs,
        uvs=raw["uvs"],
        triangle_part=raw["face_part"][source],
        triangle_material=raw["face_material"][source],
        triangle_hidden=hidden[source],
        vertex_part=raw["vertex_part"],
        part_names=part_names,
        material_names=tuple(str(name) for name in raw["material_names"]),
        landmarks68=raw["landmarks68"].astype(np.int32),
        eye_centres=to_head_space(raw["derived_eye_center"]).astype(np.float32),
        gaze_axes=raw["derived_gaze_axis"].astype(np.float32),
        sclera_ranges=(
            (int(scleras[0][0]), int(scleras[0][1])),
            (int(scleras[1][0]), int(scleras[1][1])),
        ),
        tongue=raw["derived_tongue_verts"].astype(np.int32),
    )
