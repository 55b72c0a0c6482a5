"""Any picture file as an upright sRGB photograph, or a sentence that says why not."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from head360.errors import BadInput

MAX_SIDE = 2048  # pixels: larger pictures are reduced to it
MIN_SIDE = 64  # pixels: no face in a smaller one is large enough
_MAX_PIXELS = 200_000_000  # more than any camera takes; a small file may claim any size
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")


@dataclass(frozen=True)
class Photograph:
    """A picture as it is looked at.

    Attributes:
        pixels: (H, W, 3) uint8 sRGB, upright; what is transparent lies over white.
        alpha: (H, W) uint8, or None where everything is opaque.
        path: of the file.
        notes: sentences about what was done to it.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    path: Path
    notes: tuple[str, ...] = ()


def read_photograph(path: Path | str) -> Photograph:
    """Read a picture file of any kind that Pillow knows.

    Turned as its EXIF data says, grey and CMYK as RGB, 16 bits as 8, the colour profile applied,
    the first frame of an animation, and no side longer than 2048 pixels.

    Raises:
        BadInput: there is no such file, it is no picture, damaged, or too large or small.
    """
    path = Path(path)
    if path.is_dir():
        raise BadInput(f"{path} is a folder: give one picture file in it.")
    if not path.is_file():
        raise BadInput(f"There is no picture {path}: check the path.")
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty: choose another picture.")
    try:
        with warnings.catch_warnings():
            # The size is looked at below, before a pixel is decoded.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                return _upright(file, path)
    except Image.DecompressionBombError as error:
        raise _too_large(path, None) from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{path} is no picture that can be read: save it as JPEG or PNG and try again."
        ) from error
    except PermissionError as error:
        raise BadInput(f"{path} may not be read: allow it, or choose another file.") from error
    except MemoryError as error:
        raise _too_large(path, None) from error
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, KeyError, IndexError) as error:
        # Pillow's decoders raise all of these for damaged files.
        raise BadInput(
            f"{path} is damaged and cannot be read to its end ({_short(error)}): open it in an "
            "image editor and save it anew, or choose another picture."
        ) from error


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _too_large(path: Path, size: tuple[int, int] | None) -> BadInput:
    which = f" ({size[0]} × {size[1]} pixels)" if size else ""
    return BadInput(f"{path} is too large{which}: reduce it to at most 8000 pixels a side.")


def _upright(file: Image.Image, path: Path) -> Photograph:
    notes: list[str] = []
    if file.width * file.height > _MAX_PIXELS:
        raise _too_large(path, file.size)
    if min(file.size) < MIN_SIDE:
        raise BadInput(
            f"{path} is too small ({file.width} × {file.height} pixels): choose a picture in which "
            f"the face alone is at least {MIN_SIDE} pixels wide."
        )
    frames = int(getattr(file, "n_frames", 1))
    if frames > 1:
        file.seek(0)
        notes.append(f"{path.name} has {frames} frames: the first one is used.")
    if file.format == "JPEG" and max(file.size) > 2 * MAX_SIDE:
        file.draft("RGB", (MAX_SIDE, MAX_SIDE))  # decodes at half, a quarter … of its size
    full = file.size
    file.load()
    turned = file.getexif().get(0x0112, 1)
    picture = _standard(file, notes)
    if turned not in (0, 1):
        picture = ImageOps.exif_transpose(_tagged(picture, int(turned)))
        notes.append(f"{path.name} was turned upright, as its EXIF data says.")
    if max(picture.size) > MAX_SIDE:
        before = max(full)
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        notes.append(f"{path.name} was reduced from {before} to {max(picture.size)} pixels.")
    return _split(picture, path, notes)


def _tagged(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture with nothing but an orientation in its EXIF data."""
    out = picture.copy()
    out.info.pop("exif", None)
    out.getexif().clear()
    out.getexif()[0x0112] = orientation
    return out


def _standard(file: Image.Image, notes: list[str]) -> Image.Image:
    """RGB or RGBA with 8 bits, sRGB."""
    seen_through = "A" in file.getbands() or "a" in file.getbands() or "transparency" in file.info
    if file.mode in _DEEP:
        return _eight_bits(file).convert("RGB")
    if file.mode in ("P", "PA", "LA", "La", "RGBa", "1") or seen_through:
        return file.convert("RGBA" if seen_through else "RGB")
    profile = file.info.get("icc_profile")
    if profile and file.mode in ("RGB", "CMYK", "L"):
        converted = _profiled(file, profile)
        if converted is not None:
            return converted
        notes.append("Its colour profile cannot be read: the colours are taken as sRGB.")
    return file.convert("RGB")


def _profiled(file: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB; None where the profile is of no use."""
    import io

    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        out = ImageCms.profileToProfile(file, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return out


def _eight_bits(file: Image.Image) -> Image.Image:
    """Deep grey as 8 bits: whole numbers by their own range, others by what they hold."""
    values = np.asarray(file, dtype=np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    if file.mode == "F":
        top = 1.0 if values.max() <= 1.0 else 255.0 if values.max() <= 255.0 else values.max()
    else:
        top = 255.0 if values.max() <= 255 else 65535.0
    scaled = np.clip(values / top, 0, 1) * 255 + 0.5
    return Image.fromarray(scaled.astype(np.uint8), "L")


def _split(picture: Image.Image, path: Path, notes: list[str]) -> Photograph:
    if picture.mode != "RGBA":
        return Photograph(np.array(picture.convert("RGB")), None, path, tuple(notes))
    rgba = np.array(picture)
    alpha = rgba[..., 3]
    if (alpha == 255).all():
        return Photograph(np.ascontiguousarray(rgba[..., :3]), None, path, tuple(notes))
    if not alpha.any():
        raise BadInput(f"{path} is transparent everywhere: choose another picture.")
    share = alpha[..., None].astype(np.float32) / 255
    pixels = (rgba[..., :3] * share + 255 * (1 - share) + 0.5).astype(np.uint8)
    notes.append(f"{path.name} is transparent in part: white was put behind it.")
    return Photograph(pixels, alpha.copy(), path, tuple(notes))
