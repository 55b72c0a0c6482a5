"""The monocular layout of talking heads: one camera, one subject, an expression a frame.

The reader is ``monocular_read``.

What GaussianHead's release reads::

    transforms.json        h, w, fx, fy, cx, cy in pixels; frames: img_id, exp_ori (52 numbers),
                           transform_matrix (4×4 camera-to-world, OpenGL axes, metres)
    ori_imgs/<id>.jpg      the picture, head before a backdrop
    mask/<id + 1>.png      8-bit grey matte: how much of a pixel is the head; note the + 1
    parsing/<id>.png       RGB: head pure blue, neck and shoulders green, backdrop white

and what this project adds beside it, which that release does not look at::

    truth.json             per frame: row and second of the take, head angles, landmarks
    manifest.json          everything, in words a program can trust

The head is the fixed frame: where the performer turns the head, the camera moves the other way. A
folder of the released layout without a manifest is read as well; then nothing is known of the
expression's numbers but how many there are.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from head360.datasets.labels import BACKGROUND, LABELS, NECK
from head360.datasets.records import (
    MANIFEST,
    Head,
    Notice,
    StyleRecord,
    SubjectRecord,
    decode,
    inside,
    safe_name,
)
from head360.errors import BadInput

SCHEMA = 1
KIND = "monocular"
TRANSFORMS, TRUTH = "transforms.json", "truth.json"
TEST_SHARE = 0.05  # of the frames, at the end
# RGB of the parsing pictures.
HEAD_COLOUR, BODY_COLOUR, BACK_COLOUR = (0, 0, 255), (0, 255, 0), (255, 255, 255)

Pixels = NDArray[np.uint8]


class TransformsFrame(msgspec.Struct):
    """One frame as the release reads it."""

    img_id: int
    exp_ori: list[float]
    transform_matrix: list[list[float]]


class Transforms(msgspec.Struct):
    """Content of ``transforms.json``; lengths in pixels."""

    h: int
    w: int
    fx: float
    fy: float
    cx: float
    cy: float
    frames: list[TransformsFrame]


class TakeRecord(msgspec.Struct):
    """The performance: name of the take, SHA-256 of its file, what was filmed of it, licence.

    ``rows`` is like ``1-240,300``, or says in words how the take was sampled.
    """

    name: str
    sha256: str
    rows: str
    notice: Notice


class FrameRecord(msgspec.Struct):
    """The files of one frame by kind ("image", "matte", "parsing"), SHA-256 of their bytes."""

    img_id: int
    files: dict[str, str]
    sha256: dict[str, str]


class FrameTruth(msgspec.Struct):
    """What is true of one frame and not in ``transforms.json``.

    Attributes:
        img_id: of the frame.
        row: of the take, from 1; where the take was sampled anew, or there is none, the frame's
            number from 1.
        second: of the take, or since the first frame.
        head: yaw, pitch, roll in radians as the take has them; zeros where it has none.
        landmarks: (68, 2) pixels. dense: (468, 2). visible: "1" or "0" for each of both.
    """

    img_id: int
    row: int
    second: float
    head: tuple[float, float, float]
    landmarks: list[tuple[float, float]] = []
    dense: list[tuple[float, float]] = []
    visible: str = ""


class TruthFile(msgspec.Struct):
    """Content of ``truth.json``."""

    frames: list[FrameTruth]


class MonocularManifest(msgspec.Struct):
    """Content of ``manifest.json``.

    Attributes:
        schema, kind: :data:`SCHEMA` and :data:`KIND`.
        generator, seed, consent: what made it, and whose likeness it is.
        key: a digest of everything the pictures depend on.
        width, height: pixels.
        fps: frames a second.
        units, axes, conventions: in words.
        expressions: names of the numbers in ``exp_ori``, in their order.
        subject, style, light, take, camera_motion: who, wearing what, lit how, doing what, filmed
            how.
        parsing: RGB by what it stands for.
        test_from: position of the first test frame in ``frames``.
        notices: licences.
        sha256: of ``transforms.json`` and ``truth.json``.
        frames: in order of time.
    """

    schema: int
    kind: str
    generator: str
    seed: int | None
    consent: str
    key: str
    width: int
    height: int
    fps: float
    units: str
    axes: str
    conventions: str
    expressions: list[str]
    subject: SubjectRecord
    style: StyleRecord
    light: str
    take: TakeRecord | None
    camera_motion: str
    parsing: dict[str, tuple[int, int, int]]
    test_from: int
    notices: list[Notice]
    sha256: dict[str, str]
    frames: list[FrameRecord]


def frame_path(kind: str, img_id: int, image_format: str = "jpg") -> str:
    """Path of one file of a frame from the root; mattes count from 1, see the layout."""
    return {
        "image": f"ori_imgs/{img_id}.{image_format}",
        "matte": f"mask/{img_id + 1}.png",
        "parsing": f"parsing/{img_id}.png",
    }[kind]


def read_manifest(root: Path) -> MonocularManifest:
    """The manifest of a data set.

    Raises:
        BadInput: missing, damaged, of another kind or schema, or a path leaves the data set.
    """
    path = root / MANIFEST
    head = decode(path, Head)
    if head.kind != KIND or head.schema != SCHEMA:
        raise BadInput(
            f"{path} describes {head.kind!r}, schema {head.schema!r}; this version reads "
            f"{KIND!r}, schema {SCHEMA}: make the data set again."
        )
    manifest = decode(path, MonocularManifest)
    ids = [frame.img_id for frame in manifest.frames]
    problem = ""
    if len(set(ids)) != len(ids) or any(number < 0 for number in ids):
        problem = "a frame is there twice"
    if not all(inside(place) for frame in manifest.frames for place in frame.files.values()):
        problem = "a path leaves the data set"
    if not all("image" in frame.files for frame in manifest.frames):
        problem = "a frame has no picture"
    if not 0 < manifest.test_from <= len(manifest.frames):
        problem = f"test frames that begin at {manifest.test_from}"
    if not all(safe_name(one) for one in manifest.expressions) or (
        len(set(manifest.expressions)) != len(manifest.expressions)
    ):
        problem = "an expression without a name of its own"
    if problem:
        raise BadInput(f"{path} is damaged ({problem}): make the data set again.")
    return manifest


def parsing_picture(labels: Pixels) -> Pixels:
    """(H, W) classes of ``datasets.labels`` → (H, W, 3) uint8 parsing picture."""
    colours = np.empty((len(LABELS), 3), dtype=np.uint8)
    colours[:] = HEAD_COLOUR
    colours[BACKGROUND], colours[NECK] = BACK_COLOUR, BODY_COLOUR
    return colours[labels]
