"""The early stages of a fit: detect, align, shape, parse; and how all stages report."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput, Cancelled, ModelInvalid
from head360.files import writable_folder, write_bytes
from head360.fitting import pictures
from head360.fitting.gaze import find_gaze, looking
from head360.fitting.package import safe_name
from head360.fitting.photograph import Photograph
from head360.fitting.shape import FittedShape, FittedView, View
from head360.fitting.sights import Sight, cut, head_window
from head360.fitting.stages import STAGES, FitSettings, Stage
from head360.fitting.tools import Tools
from head360.heads.hexplane import HexPlaneHead
from head360.heads.inputs import PoseInputs, pose_inputs
from head360.heads.package import png_bytes

if TYPE_CHECKING:
    from head360.fitting.faces import Face
    from head360.fitting.parsing import Parsing

OnStage = Callable[[Stage], None]
OnProgress = Callable[[float, str], None]
log = logging.getLogger(__name__)

MOST_PHOTOS = 8
# Share of the time that the stages take, for one progress from 0 to 1.
_SHARES = dict(zip(STAGES, (0.04, 0.01, 0.09, 0.01, 0.05, 0.15, 0.55, 0.10), strict=True))
_TURNED = 30.0  # degrees beyond which a first photograph is not from the front
_POOR = 0.045  # landmark residual as a share of the distance between the eyes
_CLOSE = 12.0  # sides of the photograph that the head may fill


@dataclass
class Shot:
    """One photograph on its way through the stages.

    Attributes:
        photo, faces, face: as it was read, who was found and who was chosen.
        parsing: of the shape stage; sight, pose: of the parse stage.
    """

    photo: Photograph
    faces: list[Face]
    face: Face
    parsing: Parsing | None = None
    sight: Sight | None = None
    pose: PoseInputs | None = None

    def ready(self) -> tuple[Parsing, Sight, PoseInputs]:
        """What the parse stage made of it."""
        if self.parsing is None or self.sight is None or self.pose is None:
            raise AssertionError("the parse stage comes first")
        return self.parsing, self.sight, self.pose


class Early:
    """One fit up to its hair: what the stages hand on to each other, and how they report."""

    def __init__(
        self,
        photos: Sequence[Path],
        base: HexPlaneHead,
        settings: FitSettings,
        out: Path,
        on_stage: OnStage,
        on_progress: OnProgress,
        cancelled: Callable[[], bool],
        tools: Tools | None,
    ) -> None:
        if not 1 <= len(photos) <= MOST_PHOTOS:
            raise BadInput(
                f"{len(photos)} photographs: name 1 to {MOST_PHOTOS} of one person, the first from "
                "the front."
            )
        self.settings = settings.checked()
        if base.net.config.views == "none":
            raise ModelInvalid(
                f"{base.name} has no neural texture to invert: choose a base with hex-planes."
            )
        if settings.style and settings.style not in base.styles:
            known = ", ".join(base.styles)
            raise BadInput(
                f"{base.name} has no hair style {settings.style!r}: choose one of {known}, or bald."
            )
        self.paths = [Path(path) for path in photos]
        self.base, self.out = base, Path(out)
        self.on_stage, self.on_progress, self.cancelled = on_stage, on_progress, cancelled
        self.given = tools
        self.name = safe_name(settings.name or self.paths[0].stem)
        self.rng = np.random.default_rng(settings.seed)
        self.size = 2 * base.net.config.raw_size
        self.notes: list[str] = []
        self.by_stage: dict[str, float] = {}
        self._stage, self._began = STAGES[0], time.monotonic()
        self.tools: Tools

    # -- how the stages report ---------------------------------------------------------------

    def _tick(self, share: float, phase: str) -> None:
        if self.cancelled():
            raise Cancelled("The fit was stopped; the pictures of its finished stages are kept.")
        index = STAGES.index(self._stage)
        done = sum(_SHARES[name] for name in STAGES[:index])
        self.on_progress(min(1.0, done + _SHARES[self._stage] * min(1.0, share)), phase)

    def _show(
        self, picture: NDArray[np.uint8], text: str, facts: dict[str, Any],
        brief: NDArray[np.uint8] | None = None,
    ) -> None:  # fmt: skip
        """Write the stage's picture and tell about it; ``brief`` is what listeners get of it."""
        name, number = self._stage, STAGES.index(self._stage) + 1
        folder = writable_folder(self.out / "stages")
        write_bytes(folder / f"{number:02d}_{name}.png", png_bytes(picture))
        log.info("%d/%d %s: %s", number, len(STAGES), name, text)
        told = picture if brief is None else brief
        self.on_stage(Stage(name, number, len(STAGES), told, text, facts))

    def _done(
        self, picture: NDArray[np.uint8], text: str, facts: dict[str, Any],
        brief: NDArray[np.uint8] | None = None,
    ) -> None:  # fmt: skip
        """Show the stage, go on to the next."""
        now = time.monotonic()
        self.by_stage[self._stage], self._began = now - self._began, now
        self._show(picture, text, facts, brief)
        following = STAGES.index(self._stage) + 1
        if following < len(STAGES):
            self._stage = STAGES[following]
            self._tick(0.0, text)

    # -- the stages --------------------------------------------------------------------------

    def _detect(self, photographs: list[Photograph]) -> None:
        self.shots: list[Shot] = []
        for number, photo in enumerate(photographs):
            self._tick(number / len(photographs), "looking for faces")
            faces = self.tools.find(photo.pixels)
            wanted = self.settings.face if number == 0 else None
            try:
                face = self.tools.choose(faces, photo.pixels.shape, wanted)
            except BadInput as error:
                text = str(error)
                if faces:
                    found = f"{len(faces)} face{'s' * (len(faces) != 1)}, none chosen"
                    self._show(
                        pictures.boxes(photo.pixels, faces, None), found, {"faces": len(faces)}
                    )
                if number and len(faces) > 1:
                    text = (
                        "it shows several people, and --face is about the first photograph only: "
                        "crop it to one."
                    )
                elif len(faces) > 1:
                    text += " The picture of the detect stage shows their numbers."
                raise BadInput(f"{photo.path.name}: {text}") from error
            self.shots.append(Shot(photo, faces, face))
            self.notes += [f"{photo.path.name}: {note}" for note in photo.notes]
            if len(faces) > 1 and wanted is None:
                self.notes.append(
                    f"{photo.path.name}: of {len(faces)} faces the largest was taken"
                    + ("; --face N takes another, counted from the left." if number == 0 else ".")
                )
        first = self.shots[0]
        text = f"{len(first.faces)} face{'s' * (len(first.faces) != 1)} ({self.tools.finder})"
        self._done(
            pictures.grid(
                [pictures.boxes(shot.photo.pixels, shot.faces, shot.face) for shot in self.shots]
            ),
            text,
            {
                "faces": len(first.faces), "finder": self.tools.finder,
                "confidence": round(float(first.face.confidence), 3),
                "box": [round(float(value), 1) for value in first.face.box],
            },
        )  # fmt: skip

    def _align(self) -> None:
        first = self.shots[0]
        picture, tilt = pictures.upright(first.photo.pixels, first.face)
        width = float(first.face.box[2] - first.face.box[0])
        self._done(
            picture, f"face {width:.0f} px wide, tilted by {tilt:+.0f}°",
            {"face_px": round(width, 1), "tilt_deg": round(tilt, 1)},
        )  # fmt: skip

    def _shape(self) -> None:
        views = []
        for number, shot in enumerate(self.shots):
            self._tick(0.4 * number / len(self.shots), "telling skin from hair")
            face, pixels = shot.face, shot.photo.pixels
            shot.parsing = self.tools.parse(pixels, face)
            height, width = pixels.shape[:2]
            views.append(
                View(
                    face.landmarks, face.deviation, face.dense, width, height,
                    labels=shot.parsing.labels,
                )
            )  # fmt: skip
        self._tick(0.4, "shape, expression and camera")
        self.fitted: FittedShape = self.tools.fit(views, self.base.model)
        self.identity, self.lattice = self.base.identity(self.fitted.shape)
        looking_views = []
        for shot, view in zip(self.shots, self.fitted.views, strict=True):
            gaze = find_gaze(shot.photo.pixels, shot.face.landmarks, view.camera, self.identity)
            weights = view.blendshapes if gaze is None else looking(view.blendshapes, *gaze)
            looking_views.append(dataclasses.replace(view, blendshapes=weights))
        self.fitted = dataclasses.replace(self.fitted, views=tuple(looking_views))
        first, view = self.shots[0], self.fitted.views[0]
        position = view.camera.position
        yaw = float(np.degrees(np.arctan2(position[0], position[2])))
        if abs(yaw) > _TURNED:
            self.notes.append(
                f"{first.photo.path.name}: the face is turned by {abs(yaw):.0f}°; a photograph "
                "from the front gives a better likeness: give this one second."
            )
        windows = [
            self._met(shot, seen) for shot, seen in zip(self.shots, self.fitted.views, strict=True)
        ]
        share = view.residual_share
        focal = float(view.camera.intrinsics[1, 1])
        fov = float(np.degrees(2 * np.arctan(0.5 / focal)))
        strips = [
            pictures.overlay(
                shot.photo.pixels, seen.camera, self.identity.pose(seen.blendshapes),
                self.base.model.topology.faces, shot.face.landmarks, window,
            )
            for shot, seen, window in zip(self.shots, self.fitted.views, windows, strict=True)
        ]  # fmt: skip
        self._done(
            pictures.grid(strips),
            f"landmarks met within {view.residual_px:.1f} px, yaw {yaw:+.0f}°, lens {fov:.0f}°",
            {
                "landmark_px": round(float(view.residual_px), 3),
                "landmark_share": round(float(share), 4),
                "yaw_deg": round(yaw, 1),
                "fov_deg": round(fov, 1),
                "shape": [round(float(value), 5) for value in self.fitted.shape],
            },
            pictures.brief(strips),
        )

    def _met(self, shot: Shot, view: FittedView) -> tuple[float, float, float]:
        """The window of the head in one photograph; a note where the mesh fits it badly.

        Raises:
            BadInput: it shows a small part of the head only.
        """
        name, pixels = shot.photo.path.name, shot.photo.pixels
        vertices = self.identity.pose(view.blendshapes)
        window = head_window(view.camera, vertices, pixels.shape[1], pixels.shape[0])
        if window[2] > _CLOSE * max(pixels.shape[:2]):
            raise BadInput(
                f"{name}: the face fills far more than the picture; choose a photograph that shows "
                "the whole head."
            )
        if view.residual_share > _POOR:
            self.notes.append(
                f"{name}: the mesh meets the landmarks only roughly; check the shape stage, or try "
                "--landmarks mediapipe."
            )
        return window

    def _parse(self) -> None:
        for number, (shot, view) in enumerate(zip(self.shots, self.fitted.views, strict=True)):
            self._tick(number / len(self.shots), "cutting out the head")
            pixels, parsing = shot.photo.pixels, shot.parsing
            assert parsing is not None  # of the shape stage
            vertices = self.identity.pose(view.blendshapes)
            shot.pose = pose_inputs(
                vertices, self.base.model.topology, self.base.net.config.plane_size,
                self.base.device,
            )  # fmt: skip
            shot.sight = cut(
                pixels, parsing.labels, parsing.matte, parsing.hair, view.camera,
                view.blendshapes, vertices, self.size,
            )  # fmt: skip
        windows = [
            head_window(
                view.camera, self.identity.pose(view.blendshapes), *shot.photo.pixels.shape[1::-1]
            )
            for shot, view in zip(self.shots, self.fitted.views, strict=True)
        ]
        self.window = windows[0]
        sight = self.shots[0].ready()[1]
        bare, hair = float(sight.bare().mean()), float((sight.hair > 0.5).mean())
        for shot in self.shots:
            if not shot.ready()[1].face().any():
                raise BadInput(
                    f"{shot.photo.path.name}: no bare skin was found in the face; choose a "
                    "photograph without veil or mask, or give --landmarks mediapipe."
                )
        strips = [
            pictures.parsed(shot.photo.pixels, shot.ready()[0].labels, window)
            for shot, window in zip(self.shots, windows, strict=True)
        ]
        self._done(
            pictures.grid(strips),
            f"skin {bare:.0%}, hair {hair:.0%} of the picture around the head",
            {"skin": round(bare, 4), "hair": round(hair, 4)},
            pictures.brief(strips),
        )
