"""The parametric mesh: V = core ×₂ s ×₃ [1, b], small enough to ship.

The core (3N × S × 53, metres) is never stored whole. Expressions are carried to an identity by
local frames (``geometry.transfer``): delta_e(v) = J_v · D_e(v). Projecting J on the identity mode
therefore gives the core of the expressions *exactly* as J_core(v, s) · D_e(v), so what is kept is

    neutral core  (S, N, 3)      the neutral slice of the Tucker core,
    frame core    (N, K)·(K, S·9) J of every vertex, factored on the vertex mode as well,
    jaw core      (S, 3, 3)      the one J of the jaw shapes, the same at every vertex,
    generic deltas (52, N, 3)    ICT-FaceKit's shapes, sparse,

and V(s, b) = neutral(s) + J(s) · (D ×₃ b) is linear in s and linear in b. After the linear model
come two things a linear model cannot do:

* tongueOut is limited by jawOpen: its effective weight is tongueOut · min(1, jawOpen / 0.35),
  because the tongue would otherwise pierce closed lips;
* the eyeballs turn rigidly about their centres (33° per unit LookOut, 36° LookIn, 26° LookUp,
  35° LookDown); the linear eyeLook shapes move lids and sockets only.

The reduced topology leaves out lacrimal_fluid, eye_blend and eye_occlusion (shader helpers), the
cornea faces and the hidden back of the inner eye mesh (see ``geometry.reduce``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from head360.arkit import INDEX, NAMES
from head360.errors import ModelInvalid
from head360.geometry.gaze import EYE_LOOKS, eye_rotations, rotation
from head360.geometry.topology import Topology
from head360.geometry.transfer import JAW_ROWS

Floats = NDArray[np.float32]

TONGUE_NEEDS_JAW = 0.35
_BUILTIN_FILE = resources.files("head360") / "data" / "models" / "starter" / "geometry.safetensors"
# Random identities stay inside this many standard deviations on every whitened axis.
SAMPLE_LIMIT = 2.0


def effective_blendshapes(blendshapes: ArrayLike) -> Floats:
    """(52,) weights → (52,) float32 with tongueOut limited by jawOpen."""
    b = np.array(blendshapes, dtype=np.float32)
    if b.shape != (len(NAMES),):
        raise ValueError(f"expected {len(NAMES)} blendshape weights, got an array of {b.shape}")
    b[INDEX["tongueOut"]] *= min(1.0, max(0.0, float(b[INDEX["jawOpen"]]) / TONGUE_NEEDS_JAW))
    return b


@dataclass(frozen=True)
class IdentityMesh:
    """One identity with everything an animation needs. Metres, head space.

    Attributes:
        neutral: (N, 3) float32.
        deltas: (52, N, 3) float32, lids and skin only (eyeballs are turned by :meth:`pose`).
        eye_centres: (2, 3) float32, left then right.
        eyeballs: vertex ids of the left and the right eyeball.
    """

    neutral: Floats
    deltas: Floats
    eye_centres: Floats
    eyeballs: tuple[NDArray[np.int64], NDArray[np.int64]]

    def pose(self, blendshapes: ArrayLike) -> Floats:
        """(52,) weights in [0, 1] → (N, 3) float32 posed vertices."""
        b = effective_blendshapes(blendshapes)
        active = np.flatnonzero(b)
        moved = self.neutral.copy()
        if len(active) > len(b) // 2:
            moved += (b @ self.deltas.reshape(len(b), -1)).reshape(-1, 3)
        else:
            for e in active:
                moved += b[e] * self.deltas[e]
        return turn_eyes(moved, b, self.eye_centres, self.eyeballs)

    def rig_deltas(self) -> Floats:
        """(52, N, 3) deltas for shape keys: eyeLook shapes carry the eyeball's full rotation."""
        deltas = self.deltas.copy()
        for side, name, yaw, pitch in EYE_LOOKS:
            ids = self.eyeballs[side]
            offset = self.neutral[ids].astype(np.float64) - self.eye_centres[side]
            deltas[INDEX[name], ids] = offset @ (rotation(yaw, pitch) - np.eye(3)).T
        return deltas


def turn_eyes(
    vertices: Floats,
    blendshapes: ArrayLike,
    centres: Floats,
    eyeballs: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Floats:
    """Rotate both eyeballs of ``vertices`` (N, 3) in place about ``centres`` (2, 3); returns it."""
    for side, turn in enumerate(eye_rotations(blendshapes)):
        ids = eyeballs[side]
        vertices[ids] = (vertices[ids] - centres[side]) @ turn.T.astype(np.float32) + centres[side]
    return vertices


@dataclass
class BilinearModel:
    """Identities × expressions on one topology. All geometry in metres, head space.

    Attributes:
        topology: triangles, UVs, parts, landmarks.
        neutral_core: (S, N, 3) float32.
        frame_basis: (N, K) float32; ``frame_core``: (K, S, 9) float32, row-major J.
        jaw_core: (S, 3, 3) float32, J of ``transfer.JAW_ROWS``' shapes.
        generic_deltas: (52, N, 3) float32 in the order of ``arkit.NAMES``.
        eye_core: (S, 2, 3) float32 eyeball centres, linear in s like the neutral.
        shape_factors: (I, S) float32, the coefficients of the identities it was built from.
        identity_coefficients: (I, 100) float32 the ICT coefficients of the same identities.
        metadata: figures, licence and version as stored in the file.
    """

    topology: Topology
    neutral_core: Floats
    frame_basis: Floats
    frame_core: Floats
    jaw_core: Floats
    generic_deltas: Floats
    eye_core: Floats
    shape_factors: Floats
    identity_coefficients: Floats
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mean_shape: Floats = self.shape_factors.mean(axis=0)
        self.eyeballs = (
            self.topology.part_vertices("eyeball_left"),
            self.topology.part_vertices("eyeball_right"),
        )
        centred = (self.shape_factors - self.mean_shape).astype(np.float64)
        _, sigma, axes = np.linalg.svd(centred, full_matrices=False)
        self._spread = sigma[:, None] * axes / np.sqrt(max(1, len(centred) - 1))

    @property
    def vertex_count(self) -> int:
        """N."""
        return self.neutral_core.shape[1]

    @property
    def shape_size(self) -> int:
        """S, the number of identity coefficients."""
        return self.neutral_core.shape[0]

    # --- evaluation -----------------------------------------------------------------------------

    def _shape(self, s: ArrayLike) -> Floats:
        shape = np.asarray(s, dtype=np.float32)
        if shape.shape != (self.shape_size,):
            raise ValueError(f"expected {self.shape_size} shape coefficients, got {shape.shape}")
        return shape

    def neutral(self, s: ArrayLike) -> Floats:
        """(S,) → (N, 3) float32 neutral head."""
        flat = self._shape(s) @ self.neutral_core.reshape(self.shape_size, -1)
        return flat.reshape(-1, 3)

    def frames(self, s: ArrayLike) -> Floats:
        """(S,) → (N, 3, 3) float32 J: generic deltas → deltas of this identity."""
        small = np.einsum("s,ksj->kj", self._shape(s), self.frame_core)
        return (self.frame_basis @ small).reshape(-1, 3, 3)

    def deltas(self, s: ArrayLike) -> Floats:
        """(S,) → (52, N, 3) float32 expression deltas of this identity."""
        frames = self.frames(s)
        d = self.generic_deltas
        out = d[:, :, :1] * frames[:, :, 0]
        for k in (1, 2):
            out += d[:, :, k : k + 1] * frames[:, :, k]
        out[JAW_ROWS] = d[JAW_ROWS] @ self.jaw_map(s).T
        return out

    def jaw_map(self, s: ArrayLike) -> Floats:
        """(S,) → (3, 3) float32 J of the jaw shapes."""
        return np.tensordot(self._shape(s), self.jaw_core, axes=1)

    def eye_centres(self, s: ArrayLike) -> Floats:
        """(S,) → (2, 3) float32 centres of the left and the right eyeball."""
        return np.einsum("s,sec->ec", self._shape(s), self.eye_core).astype(np.float32)

    def vertices(self, s: ArrayLike, blendshapes: ArrayLike) -> Floats:
        """(S,), (52,) in [0, 1] → (N, 3) float32 posed vertices, eyeballs turned.

        For many poses of one identity use ``identity(s).pose(b)``.
        """
        b = effective_blendshapes(blendshapes)
        flat = self.generic_deltas.reshape(len(b), -1)
        local = b.copy()
        local[JAW_ROWS] = 0.0
        moved = self.neutral(s)
        moved += np.matmul(self.frames(s), (local @ flat).reshape(-1, 3, 1))[:, :, 0]
        if b[JAW_ROWS].any():
            jaw = (b[JAW_ROWS] @ flat[JAW_ROWS]).reshape(-1, 3)
            moved += jaw @ self.jaw_map(s).T
        return turn_eyes(moved, b, self.eye_centres(s), self.eyeballs)

    def identity(self, s: ArrayLike) -> IdentityMesh:
        """Everything of one identity, for posing it many times."""
        return IdentityMesh(self.neutral(s), self.deltas(s), self.eye_centres(s), self.eyeballs)

    def rig_deltas(self, s: ArrayLike) -> Floats:
        """(S,) → (52, N, 3) deltas for shape keys, eyeball rotation included at full weight."""
        return self.identity(s).rig_deltas()

    def core(self) -> Floats:
        """(3N, S, 53) float32: the whole core, slice 0 neutral. Hundreds of megabytes."""
        result = np.empty((self.vertex_count * 3, self.shape_size, 53), dtype=np.float32)
        for k, unit in enumerate(np.eye(self.shape_size, dtype=np.float32)):
            result[:, k, 0] = self.neutral_core[k].reshape(-1)
            result[:, k, 1:] = self.deltas(unit).reshape(52, -1).T
        return result

    # --- identities -----------------------------------------------------------------------------

    def sample_shape(self, rng: np.random.Generator) -> Floats:
        """(S,) a plausible new identity: Gaussian with the covariance of ``shape_factors``."""
        weights = rng.standard_normal(len(self._spread))
        weights = np.clip(weights, -SAMPLE_LIMIT, SAMPLE_LIMIT)
        return (self.mean_shape + weights @ self._spread).astype(np.float32)

    # --- files ----------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: Path | str) -> BilinearModel:
        """Read a ``geometry.safetensors``.

        Raises:
            ModelInvalid: missing, damaged, or of another schema version.
        """
        from head360.geometry.storage import read_model

        return read_model(Path(path))

    @classmethod
    def builtin(cls) -> BilinearModel:
        """The model that comes with the package; read once per process.

        Raises:
            ModelInvalid: the file is missing from the installation or damaged.
        """
        global _builtin
        if _builtin is None:
            with resources.as_file(_BUILTIN_FILE) as path:
                if not path.is_file():
                    raise ModelInvalid(
                        "The built-in head geometry is missing from this installation: reinstall "
                        "head360, or build it with `head360 mesh build`."
                    )
                _builtin = cls.load(path)
        return _builtin

    @staticmethod
    def builtin_bytes() -> bytes:
        """The file of :meth:`builtin`, so that packages made from it carry the same bytes."""
        return _BUILTIN_FILE.read_bytes()

    def save(self, path: Path | str, figures: Mapping[str, Any] | None = None) -> Path:
        """Write a quantised safetensors file atomically; returns its path.

        ``figures`` replace those in ``metadata``.
        """
        from head360.geometry.storage import write_model

        if figures is not None:
            self.metadata = {**self.metadata, "figures": dict(figures)}
        return write_model(self, Path(path))


_builtin: BilinearModel | None = None
