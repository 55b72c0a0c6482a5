"""PNG bytes back to pixels, with Pillow, after a look at what the header promises."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from head360.datasets import png
from head360.errors import BadInput


def decode(data: bytes, path: Path, form: png.Form, size: tuple[int, int] | None = None) -> NDArray:
    """Pixels of a PNG: (H, W[, 3 or 4]) uint8, uint16 for 16-bit grey, indices for a palette.

    Args:
        data: the file's bytes.
        path: what the sentences name.
        form: what it must be.
        size: (width, height) it must have.

    Raises:
        BadInput: damaged, of another form or of another size.
    """
    problem = png.misfit(data, form, size)
    if problem:
        raise BadInput(f"{path} {problem}: make the data set again; what is whole is kept.")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
            pixels = np.asarray(picture)
    # Pillow reports a broken PNG as any of these, and as SyntaxError for a broken chunk.
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(
            f"{path} is truncated or damaged ({error}): make the data set again; what is whole is "
            "kept."
        ) from error
    return pixels.astype(np.uint16) if form.depth == 16 else pixels
