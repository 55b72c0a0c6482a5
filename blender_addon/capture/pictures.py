"""One picture of the stage with the artist's own engine, as 8-bit pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput, Cancelled
from head360.rendering.cameras import Camera

from .. import compat
from ..scene import srgb_to_linear
from .camera import place
from .cast import Cast
from .changes import Changes
from .frame import HeadFrame
from .stage import HairShown, Moment, staged

Pixels = NDArray[np.uint8]
WORKBENCH = "BLENDER_WORKBENCH"
_HEAD_COLOUR, _HAIR_COLOUR = (1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 1.0)


def configure(scene: Any, size: int, *, keep_view: bool) -> None:
    """Set what every picture needs on a stage: a square, a transparent film, straight sRGB.

    With ``keep_view`` the artist's view transform, look and exposure stay.
    """
    render = scene.render
    render.resolution_x = render.resolution_y = size
    render.resolution_percentage = 100
    render.pixel_aspect_x = render.pixel_aspect_y = 1.0
    for name in (
        "use_border", "use_crop_to_border", "use_multiview", "use_compositing", "use_sequencer",
        "use_motion_blur", "use_stamp", "use_placeholder", "use_persistent_data",
    ):  # fmt: skip
        setattr(render, name, False)
    render.film_transparent = True
    render.use_overwrite = render.use_file_extension = True
    render.dither_intensity = 0.0
    compat.still_png(render.image_settings)
    if not keep_view:
        scene.display_settings.display_device = "sRGB"
        view = scene.view_settings
        view.view_transform, view.look = "Standard", "None"
        view.exposure, view.gamma, view.use_curve_mapping = 0.0, 1.0, False
        if hasattr(view, "use_white_balance"):  # from 4.3
            view.use_white_balance = False


def _alpha_only(scene: Any) -> None:
    """Spare what does not change coverage; the samples stay, so that edges agree to the bit."""
    cycles = getattr(scene, "cycles", None)
    if cycles is not None and scene.render.engine == "CYCLES":
        cycles.use_denoising = False
        cycles.max_bounces = 0


def _flat_colours(changes: Changes, cast: Cast, scene: Any) -> None:
    """Workbench knows no holdout: paint the head red and hair green, without light."""
    shading = scene.display.shading
    shading.light, shading.color_type = "FLAT", "OBJECT"
    shading.show_shadows = shading.show_cavity = shading.show_object_outline = False
    shading.show_xray = shading.show_specular_highlight = False
    hair = {piece.object for piece in cast.hair if not piece.system}
    for item in scene.collection.objects:
        # Holdouts are particles of an emitter as well, see stage.
        is_hair = item.is_holdout or item.name in hair
        changes.set(item, "color", _HAIR_COLOUR if is_hair else _HEAD_COLOUR)


class Photographer:
    """Takes the pictures of one capture; a context manager, for its folder of scratch files.

    Attributes:
        size: pixels per side.
    """

    def __init__(self, cast: Cast, size: int, *, keep_view: bool = False) -> None:
        self.cast = cast
        self.size = size
        self._keep_view = keep_view
        self._folder = tempfile.TemporaryDirectory(prefix="head360-capture-")

    def __enter__(self) -> Photographer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._folder.cleanup()

    def take(
        self, moment: Moment, camera: Camera, frame: HeadFrame, hair: HairShown = HairShown.WORN
    ) -> Pixels:
        """(size, size, 4) uint8 sRGB, straight alpha; transparent pixels are black.

        Raises:
            BadInput: the engine cannot render, in its own words.
            Cancelled: Escape stopped the render.
        """
        with staged(self.cast, moment, hair) as scene, Changes() as changes:
            configure(scene, self.size, keep_view=self._keep_view)
            place(changes, scene, camera, frame)
            if hair is HairShown.HOLDOUT:
                _alpha_only(scene)
            return self._render(scene)

    def take_mask(
        self, moment: Moment, camera: Camera, frame: HeadFrame, image: Pixels
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coverage (size, size) float32 in [0, 1]: by anything, and by visible hair.

        The first is the alpha of ``image``, the picture with hair.
        """
        alpha = image[..., 3].astype(np.float32) / 255.0
        if not self.cast.hair:
            return alpha, np.zeros_like(alpha)
        if self._engine() == WORKBENCH:
            return alpha, alpha - np.minimum(self._flat_mask(moment, camera, frame), alpha)
        head = self.take(moment, camera, frame, HairShown.HOLDOUT)
        return alpha, np.clip(alpha - head[..., 3].astype(np.float32) / 255.0, 0.0, 1.0)

    def _engine(self) -> str:
        scene = bpy.data.scenes.get(self.cast.scene)
        return scene.render.engine if scene is not None else ""

    def _flat_mask(self, moment: Moment, camera: Camera, frame: HeadFrame) -> NDArray[np.float32]:
        """(size, size) coverage by the visible head, from a picture in two flat colours."""
        with staged(self.cast, moment, HairShown.HOLDOUT) as scene, Changes() as changes:
            configure(scene, self.size, keep_view=False)
            place(changes, scene, camera, frame)
            _flat_colours(changes, self.cast, scene)
            pixels = self._render(scene).astype(np.float32) / 255.0
        red, green = srgb_to_linear(pixels[..., 0]), srgb_to_linear(pixels[..., 1])
        share = red / np.maximum(red + green, 1e-6)
        return share * pixels[..., 3]

    def _render(self, scene: Any) -> Pixels:
        path = Path(self._folder.name) / "picture.png"
        path.unlink(missing_ok=True)
        scene.render.filepath = str(path)
        images = {image.name for image in bpy.data.images}
        stopped: list[bool] = []
        told = bpy.app.handlers.render_cancel
        note = lambda *_arguments: stopped.append(True)  # noqa: E731 - needs an identity to remove
        told.append(note)
        try:
            # The operator gives the scene that it renders the frame of the context's scene.
            with bpy.context.temp_override(scene=scene):
                bpy.ops.render.render(write_still=True, scene=scene.name)
        except RuntimeError as error:
            words = str(error).removeprefix("Error: ").strip().splitlines()[0]
            raise BadInput(
                f"{scene.render.engine} cannot render the picture ({words}): "
                "press F12 to see whether it renders your scene."
            ) from error
        finally:
            told.remove(note)
            for image in [one for one in bpy.data.images if one.name not in images]:
                bpy.data.images.remove(image)
        if stopped:
            raise Cancelled("Stopped; the pictures so far are kept.")
        if not path.is_file():
            raise BadInput(f"{scene.render.engine} made no picture: press F12 to see what it says.")
        return read_pixels(path)


def read_pixels(path: Path) -> Pixels:
    """(H, W, 4) uint8 of an RGBA file exactly as stored; what is fully transparent is black.

    Raises:
        BadInput: the file is no picture.
    """
    try:
        image = bpy.data.images.load(str(path), check_existing=False)
    except RuntimeError as error:
        raise BadInput(f"{path} is not a picture: render it again.") from error
    try:
        image.colorspace_settings.name = "Non-Color"
        image.alpha_mode = "STRAIGHT"
        width, height = image.size
        flat = np.empty(width * height * 4, dtype=np.float32)
        image.pixels.foreach_get(flat)
    finally:
        bpy.data.images.remove(image)
    pixels = np.rint(flat.reshape(height, width, 4)[::-1] * 255.0).astype(np.uint8)
    pixels[pixels[..., 3] == 0] = 0
    return np.ascontiguousarray(pixels)
