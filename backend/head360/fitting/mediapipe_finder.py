"""Faces and landmarks with MediaPipe's face mesh, where that package is installed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.datasets.face_points import DENSE, landmarks_from_dense
from head360.errors import BadInput
from head360.fitting.faces import Face, make_face

_MOST = 8  # faces
_EXPECTED = 0.012  # error of a landmark over the side of the face, as measured on studio heads


def usable() -> bool:
    """Whether the installed mediapipe has the face mesh that carries its weights in the wheel."""
    try:
        import mediapipe
    except (ImportError, OSError, RuntimeError, AttributeError):
        return False  # built for another numpy or protobuf
    return hasattr(getattr(mediapipe, "solutions", None), "face_mesh")


class MediapipeFinder:
    """MediaPipe 0.10's ``solutions.face_mesh``.

    Attributes:
        digest: the release, which carries its own weights.

    Raises:
        BadInput: it is not installed, or a release without it.
    """

    name = "mediapipe"

    def __init__(self) -> None:
        if not usable():
            raise BadInput(
                "mediapipe with its face mesh is not installed (0.10.21 is the last that has it, "
                "for Python up to 3.12): install it, or choose the landmark finder own."
            )
        import mediapipe

        self.digest = str(getattr(mediapipe, "__version__", ""))

    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """See ``LandmarkFinder``."""
        import mediapipe

        with mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=True, max_num_faces=_MOST, refine_landmarks=False,
            min_detection_confidence=0.5,
        ) as mesh:  # fmt: skip
            answer = mesh.process(np.ascontiguousarray(pixels))
        height, width = pixels.shape[:2]
        faces = [
            self._face(found.landmark, width, height) for found in answer.multi_face_landmarks or ()
        ]
        return sorted(faces, key=lambda face: -face.side)

    def _face(self, found: Any, width: int, height: int) -> Face:
        points = np.array([(p.x * width, p.y * height, p.z * width) for p in found], np.float64)
        dense = points[:DENSE]
        landmarks = landmarks_from_dense(dense[:, :2])
        side = float(np.ptp(landmarks, axis=0).max())
        # It tells no error: far sides of turned faces are guessed, so they count less there.
        across = dense[454] - dense[234]
        turned = math.atan2(abs(float(across[2])), abs(float(across[0])) + 1e-9)
        behind = landmarks_from_dense(dense)[:, 2]
        far = np.clip((behind - behind.mean()) / max(side, 1e-6), 0, 1) * turned
        deviation = side * _EXPECTED * (1 + 6 * far)
        return make_face(landmarks, dense[:, :2], deviation, 1.0, self.name)
