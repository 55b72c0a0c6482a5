"""The numba z-buffer: both cores, pixel-exact, no allocation per triangle."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from head360.rendering.raster import NEAR, Cutout, Floats, Fragments, Ints

_BANDS = 4  # row bands per view: enough to share one view between two to four cores

_NO_UV = np.zeros((1, 3, 2), dtype=np.float32)
_NO_LAYER = np.full(1, -1, dtype=np.int32)
_NO_MASK = np.full((1, 1, 1), 255, dtype=np.uint8)


def rasterize_cpu(
    screens: Floats, faces: Ints, width: int, height: int, cutout: Cutout | None
) -> Fragments:
    """See :func:`head360.rendering.raster.rasterize`."""
    views = len(screens)
    face = np.full((views, height, width), -1, dtype=np.int32)
    bary = np.zeros((views, height, width, 2), dtype=np.float32)
    depth = np.full((views, height, width), np.inf, dtype=np.float32)
    if cutout is None:
        _rasterize(screens, faces, face, bary, depth, _NO_UV, _NO_LAYER, _NO_MASK, NEAR)
    else:
        _rasterize(
            screens,
            faces,
            face,
            bary,
            depth,
            np.ascontiguousarray(cutout.corner_uvs, dtype=np.float32),
            np.ascontiguousarray(cutout.layers, dtype=np.int32),
            np.ascontiguousarray(cutout.masks),
            NEAR,
        )
    return Fragments(face, bary, depth)


@njit(parallel=True, cache=True, fastmath=False)
def _rasterize(screens, faces, face, bary, depth, uvs, layers, masks, near):  # type: ignore[no-untyped-def]
    views, height, width = face.shape
    cut = layers.shape[0] == faces.shape[0]
    for job in prange(views * _BANDS):
        view = job // _BANDS
        band = job % _BANDS
        row_start = height * band // _BANDS
        row_stop = height * (band + 1) // _BANDS
        screen = screens[view]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            za, zb, zc = screen[a, 2], screen[b, 2], screen[c, 2]
            if za < near or zb < near or zc < near:
                continue
            ya, yb, yc = (
                np.float64(screen[a, 1]),
                np.float64(screen[b, 1]),
                np.float64(screen[c, 1]),
            )
            low = max(int(np.ceil(min(ya, yb, yc) - 0.5)), row_start)
            high = min(int(np.floor(max(ya, yb, yc) - 0.5)) + 1, row_stop)
            if low >= high:
                continue
            xa, xb, xc = (
                np.float64(screen[a, 0]),
                np.float64(screen[b, 0]),
                np.float64(screen[c, 0]),
            )
            left = max(int(np.ceil(min(xa, xb, xc) - 0.5)), 0)
            right = min(int(np.floor(max(xa, xb, xc) - 0.5)) + 1, width)
            if left >= right:
                continue
            area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
            if area == 0.0:
                continue
            inverse_area = 1.0 / area
            wa, wb, wc = screen[a, 3], screen[b, 3], screen[c, 3]
            layer = layers[f] if cut else -1
            for row in range(low, high):
                py = row + 0.5
                for column in range(left, right):
                    px = column + 0.5
                    la = ((xb - px) * (yc - py) - (xc - px) * (yb - py)) * inverse_area
                    if la < 0.0:
                        continue
                    lb = ((xc - px) * (ya - py) - (xa - px) * (yc - py)) * inverse_area
                    if lb < 0.0:
                        continue
                    lc = ((xa - px) * (yb - py) - (xb - px) * (ya - py)) * inverse_area
                    if lc < 0.0:
                        continue
                    inverse_w = la * wa + lb * wb + lc * wc
                    z = np.float32((la * wa * za + lb * wb * zb + lc * wc * zc) / inverse_w)
                    if z >= depth[view, row, column]:
                        continue
                    ba = la * wa / inverse_w
                    bb = lb * wb / inverse_w
                    if layer >= 0:
                        bc = 1.0 - ba - bb
                        u = ba * uvs[f, 0, 0] + bb * uvs[f, 1, 0] + bc * uvs[f, 2, 0]
                        v = ba * uvs[f, 0, 1] + bb * uvs[f, 1, 1] + bc * uvs[f, 2, 1]
                        mask_h, mask_w = masks.shape[1], masks.shape[2]
                        mx = min(max(int(u * mask_w), 0), mask_w - 1)
                        my = min(max(int((1.0 - v) * mask_h), 0), mask_h - 1)
                        if masks[layer, my, mx] < 128:
                            continue
                    depth[view, row, column] = z
                    face[view, row, column] = f
                    bary[view, row, column, 0] = ba
                    bary[view, row, column, 1] = bb


@njit(parallel=True, cache=True)
def interpolate_cpu(face, bary, faces, values):  # type: ignore[no-untyped-def]
    """See :func:`head360.rendering.raster.interpolate`."""
    height, width = face.shape
    channels = values.shape[1]
    out = np.zeros((height, width, channels), dtype=np.float32)
    for row in prange(height):
        for column in range(width):
            f = face[row, column]
            if f >= 0:
                wa, wb = bary[row, column, 0], bary[row, column, 1]
                wc = np.float32(1.0) - wa - wb
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                for k in range(channels):
                    out[row, column, k] = wa * values[a, k] + wb * values[b, k] + wc * values[c, k]
    return out
