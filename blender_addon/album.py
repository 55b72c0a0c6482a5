"""Small pictures for the sidebar: stages of a fit, a head before and after an edit.

Blender frees previews with their collection, so it is kept here; nothing of it is saved or undone.
"""

from __future__ import annotations

import itertools
from typing import Any

import bpy.utils.previews
import numpy as np
from numpy.typing import NDArray

_MOST = 64  # pictures; the oldest goes first
_collection: Any = None
_names: dict[str, str] = {}  # our key → the collection's; insertion order is age
_numbers = itertools.count()


def put(key: str, pixels: NDArray[np.uint8]) -> None:
    """Keep a picture, in place of an older one of the same key.

    Args:
        key: a name of the caller's choice.
        pixels: (H, W, 3|4) uint8 sRGB, top row first; straight alpha.
    """
    global _collection
    if _collection is None:
        _collection = bpy.utils.previews.new()
    _drop(key)
    while len(_names) >= _MOST:
        _drop(next(iter(_names)))
    # A new name each time: the interface may still draw the old preview from its cache.
    name = f"{next(_numbers)}"
    preview = _collection.new(name)
    height, width = pixels.shape[:2]
    rgba = np.ones((height, width, 4), dtype=np.float32)
    rgba[..., :3] = pixels[..., :3].astype(np.float32) / 255.0
    if pixels.shape[2] == 4:
        rgba[..., 3] = pixels[..., 3].astype(np.float32) / 255.0
        rgba[..., :3] *= rgba[..., 3:]  # Blender draws previews as premultiplied
    preview.image_size = (width, height)
    preview.image_pixels_float.foreach_set(np.ascontiguousarray(rgba[::-1]).ravel())
    _names[key] = name


def icon(key: str) -> int:
    """The icon to draw, 0 when there is no such picture."""
    name = _names.get(key)
    return _collection[name].icon_id if name is not None else 0


def forget(prefix: str) -> None:
    """Drop all pictures whose key begins so."""
    for key in [key for key in _names if key.startswith(prefix)]:
        _drop(key)


def _drop(key: str) -> None:
    if key in _names:
        del _collection[_names.pop(key)]


def close() -> None:
    """Forget everything; called when the extension is switched off."""
    global _collection
    _names.clear()
    if _collection is not None:
        bpy.utils.previews.remove(_collection)
        _collection = None
