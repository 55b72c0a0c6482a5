"""Any picture file becomes an upright sRGB photograph, or a sentence that says why not."""

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from head360.errors import BadInput
from head360.fitting.photograph import MAX_SIDE, read_photograph


@pytest.fixture
def picture() -> Image.Image:
    """A picture without symmetry: 96 × 80, red grows to the right, green downwards."""
    y, x = np.mgrid[0:80, 0:96]
    pixels = np.stack([40 + 2 * x, 30 + 2 * y, np.full_like(x, 90)], 2)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(tmp_path, picture, orientation):
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = picture.transpose(turns[orientation]) if orientation in turns else picture
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    stored.save(path, exif=exif)
    photograph = read_photograph(path)
    assert np.array_equal(photograph.pixels, np.asarray(picture))
    assert bool(photograph.notes) == (orientation != 1)


def _coarse(values: np.ndarray) -> np.ndarray:
    return values.reshape(5, 16, 6, 16).mean((1, 3))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "I;16", "I", "F"])
def test_every_mode_becomes_rgb_of_the_same_brightness(tmp_path, picture, mode):
    grey = np.asarray(picture.convert("L"))
    if mode == "I;16":
        stored = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "I":
        stored = Image.fromarray(grey.astype(np.int32) * 257)
    elif mode == "F":
        stored = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        stored = picture.convert(mode)
    path = tmp_path / f"picture.{'tif' if mode in ('CMYK', 'F', 'I', '1') else 'png'}"
    stored.save(path)
    photograph = read_photograph(path)
    assert photograph.pixels.shape == (80, 96, 3)
    assert photograph.pixels.dtype == np.uint8
    assert photograph.alpha is None
    brightness = np.asarray(Image.fromarray(photograph.pixels).convert("L"), dtype=float)
    if mode in ("1", "P"):  # dithered: keeps the brightness of places, not of pixels
        brightness, grey = (_coarse(values) for values in (brightness, grey.astype(float)))
    assert np.abs(brightness - grey).mean() < {"1": 8.0}.get(mode, 2.5)


def test_sixteen_bits_of_colour_are_read(tmp_path):
    """Pillow reads such PNG files with the upper eight bits."""
    values = np.zeros((70, 70, 3), dtype=">u2")
    values[..., 0], values[..., 1] = 200 * 257, 100 * 257
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    header = struct.pack(">IIBBBBB", 70, 70, 16, 2, 0, 0, 0)
    path = tmp_path / "deep.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip
    assert read_photograph(path).pixels[35, 35].tolist() == [200, 100, 0]


def test_transparent_pictures_lie_over_white_and_keep_their_alpha(tmp_path, picture):
    rgba = picture.convert("RGBA")
    alpha = np.full((80, 96), 255, dtype=np.uint8)
    alpha[:, :30], alpha[:, 30:40] = 0, 128
    rgba.putalpha(Image.fromarray(alpha))
    path = tmp_path / "cut.png"
    rgba.save(path)
    photograph = read_photograph(path)
    assert np.array_equal(photograph.alpha, alpha)
    assert (photograph.pixels[:, :30] == 255).all()
    assert np.array_equal(photograph.pixels[:, 40:], np.asarray(picture)[:, 40:])
    half = np.asarray(picture)[:, 30:40] * (128 / 255) + 255 * (127 / 255)
    assert np.abs(photograph.pixels[:, 30:40] - half).max() <= 1
    assert "white" in photograph.notes[0]


def test_colour_profiles_are_applied(tmp_path, picture):
    linear = Image.fromarray(np.full((80, 80, 3), 128, dtype=np.uint8))
    path = tmp_path / "strange.jpg"
    linear.save(path, icc_profile=b"no profile at all", quality=95)
    photograph = read_photograph(path)
    assert np.abs(photograph.pixels.astype(int) - 128).max() <= 2
    assert "profile" in photograph.notes[0]
    plain = tmp_path / "srgb.png"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(plain, icc_profile=srgb)
    assert np.abs(read_photograph(plain).pixels.astype(int) - np.asarray(picture)).max() <= 1


def test_of_an_animation_the_first_frame_is_used(tmp_path, picture):
    path = tmp_path / "moving.gif"
    others = [Image.new("RGB", picture.size, colour) for colour in ("red", "blue")]
    picture.save(path, save_all=True, append_images=others, duration=100)
    photograph = read_photograph(path)
    assert np.abs(photograph.pixels.astype(int) - np.asarray(picture)).mean() < 12
    assert "3 frames" in photograph.notes[0]


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_large_pictures_are_reduced_and_it_is_said(tmp_path, kind):
    path = tmp_path / f"large.{kind}"
    ramp = np.linspace(0, 255, 5000).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp[None, :, None], (1000, 5000, 3)).copy()).save(path)
    photograph = read_photograph(path)
    assert photograph.pixels.shape[1] == MAX_SIDE
    assert abs(photograph.pixels.shape[0] / MAX_SIDE - 0.2) < 0.002
    assert abs(float(photograph.pixels[100, MAX_SIDE // 2, 0]) - 127.5) < 3
    assert "reduced from 5000 to 2048" in photograph.notes[0]


def _bomb() -> bytes:
    """A PNG that claims 60 000² pixels in a few bytes."""
    body = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    head = struct.pack(">I", len(body)) + b"IHDR" + body
    end = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + head + struct.pack(">I", zlib.crc32(b"IHDR" + body)) + end


def _truncated() -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()[:9000]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("notes.txt", b"once upon a time", "no picture"),
        ("lying.jpg", b"once upon a time" * 100, "no picture"),
        ("empty.png", b"", "empty"),
        ("bomb.png", _bomb(), "too large"),
        ("half.jpg", _truncated(), "damaged"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        read_photograph(path)
    text = str(caught.value)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text


def test_paths_that_are_no_file_and_pictures_too_small(tmp_path):
    with pytest.raises(BadInput, match=r"no picture .*check the path"):
        read_photograph(tmp_path / "missing.png")
    with pytest.raises(BadInput, match="is a folder"):
        read_photograph(tmp_path)
    Image.new("RGB", (300, 40)).save(tmp_path / "small.png")
    with pytest.raises(BadInput, match="too small"):
        read_photograph(tmp_path / "small.png")
    Image.new("RGBA", (100, 100)).save(tmp_path / "nothing.png")
    with pytest.raises(BadInput, match="transparent everywhere"):
        read_photograph(tmp_path / "nothing.png")


def test_no_prefix_of_a_picture_escapes_as_another_error(tmp_path, picture):
    """However a download breaks off: a photograph or the sentence."""
    for kind in ("png", "jpeg", "gif", "tiff", "webp"):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        whole = buffer.getvalue()
        path = Path(tmp_path / f"part.{kind}")
        for length in np.linspace(1, len(whole) - 1, 12).astype(int):
            path.write_bytes(whole[:length])
            with contextlib.suppress(BadInput):
                assert read_photograph(path).pixels.shape == (80, 96, 3)
