"""Compositing projected Gaussians in 16×16 tiles: numba kernels, forward and backward.

Front-to-back "over" of 3-D Gaussian Splatting (Kerbl et al. 2023) with gsplat's thresholds (Ye et
al. 2024): α = min(0.999, o·e^(−q)), contributions below 1/255 are skipped, and a pixel stops before
the splat that would bring its transmittance to 1e-4.

How it is arranged for CPUs:

* *Splat by splat, not pixel by pixel.* Inside a tile each splat of the depth-sorted list is laid
  over the rows it touches; a row is sixteen pixels, a loop without branches that compiles to vector
  instructions. A pixel that has stopped carries its transmittance with a minus sign, so that the
  test of the next splat fails by itself.
* *No atomics, same bytes on every run.* Tiles share nothing. In the backward pass every (tile,
  splat) pair has a slot of its own, written once by the tile's thread; a second pass adds each
  splat's slots in the order of its tiles. The result depends neither on the number of threads nor
  on their timing.
* Types follow the arrays: float32 in use, float64 where gradients are checked.

Columns of a packed splat are listed in the constants below; ``q`` is the exponent of the Gaussian.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

TILE = 16
MAX_ALPHA = 0.999
MIN_ALPHA = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4

# Columns of the packed splats: mean, conic, opacity, colour, depth, half extents in x and y.
PACKED = 12
SLOT = 10  # gradients of mean (2), conic (3), opacity, colour (3), depth

_MAX_Q = 6.0  # beyond ln 255 = 5.54 nothing is drawn; keeps the polynomial in its range
_SCAN = 16  # splats between two looks for rows that have gone opaque
CHUNKS = 16  # of the splats when they are sorted into tiles: fixed, whatever the thread count
_FAST = {"reassoc", "contract", "nsz", "arcp"}


def _exp_minus(q):  # type: ignore[no-untyped-def]
    """e^(−q) for 0 ≤ q ≤ 6."""
    return math.exp(-q)


@overload(_exp_minus, inline="always")
def _exp_minus_overload(q):  # type: ignore[no-untyped-def]
    if q == types.float32:
        # (e^(−q/8))^8: the polynomial needs to hold on [0, 0.75] only (error below 1e-8), has no
        # integer part and no branch, so LLVM vectorises it. Relative error of the power: 5e-7.
        c = np.polynomial.chebyshev.Chebyshev.interpolate(
            lambda t: np.exp(-t), 6, [0.0, _MAX_Q / 8]
        )
        k0, k1, k2, k3, k4, k5, k6 = (
            np.float32(v) for v in c.convert(kind=np.polynomial.Polynomial).coef
        )

        def fast(q):  # type: ignore[no-untyped-def]
            t = q * np.float32(0.125)
            p = k0 + t * (k1 + t * (k2 + t * (k3 + t * (k4 + t * (k5 + t * k6)))))
            p = p * p
            p = p * p
            return p * p

        return fast
    return lambda q: math.exp(-q)


@njit(parallel=True, cache=True, error_model="numpy")
def measure(means2d, conics, opacities, depths, width, height, extents):  # type: ignore[no-untyped-def]
    """Half extents (N, 2) in pixels of the ellipse where α ≥ 1/255; zero where nothing is drawn."""
    for n in prange(means2d.shape[0]):
        extents[n] = 0.0
        if depths[n] <= 0.0 or opacities[n] < MIN_ALPHA:
            continue
        a, b, c = conics[n, 0] * 1.0, conics[n, 1] * 1.0, conics[n, 2] * 1.0
        determinant = a * c - b * b
        if determinant <= 0.0:
            continue
        # A little more than the exact bound: the kernels apply the true test to every pixel.
        reach = 2.0 * (np.log(opacities[n] * 255.0) + 1e-4)
        ex = np.sqrt(reach * c / determinant) + 1e-3
        ey = np.sqrt(reach * a / determinant) + 1e-3
        x, y = means2d[n, 0], means2d[n, 1]
        if x + ex < 0.5 or x - ex > width - 0.5 or y + ey < 0.5 or y - ey > height - 0.5:
            continue
        extents[n, 0] = ex
        extents[n, 1] = ey


@njit(parallel=True, cache=True, error_model="numpy")
def pack(order, means2d, conics, opacities, colours, depths, extents, packed):  # type: ignore[no-untyped-def]
    """Gather the visible splats, nearest first, into (M, 12) rows."""
    for rank in prange(order.shape[0]):
        n = order[rank]
        row = packed[rank]
        row[0], row[1] = means2d[n, 0], means2d[n, 1]
        row[2], row[3], row[4] = conics[n, 0], conics[n, 1], conics[n, 2]
        row[5] = opacities[n]
        row[6], row[7], row[8] = colours[n, 0], colours[n, 1], colours[n, 2]
        row[9] = depths[n]
        row[10], row[11] = extents[n, 0], extents[n, 1]


@njit(cache=True, error_model="numpy")
def _tile_rows(splat, rows):  # type: ignore[no-untyped-def]
    """First and one past the last tile row that the splat's bounding box touches."""
    y, ey = splat[1] * 1.0, splat[11] * 1.0
    low = max(math.ceil(max(y - ey - 0.5, -1.0)), 0)
    high = math.floor(min(y + ey - 0.5, rows * TILE - 1.0))
    return low // TILE, high // TILE + 1


@njit(cache=True, error_model="numpy")
def _tile_columns(splat, tile_row, columns):  # type: ignore[no-untyped-def]
    """First and one past the last tile of a tile row that the splat's *ellipse* touches.

    The right edge of an ellipse within a band of rows lies at the row nearest to that of its
    rightmost point, (ex, −B/C·ex), for the edge is a concave function of y; the left edge alike.
    """
    x, y = splat[0] * 1.0, splat[1] * 1.0
    a, b, c = splat[2] * 1.0, splat[3] * 1.0, splat[4] * 1.0
    ex, ey = splat[10] * 1.0, splat[11] * 1.0
    top = max(tile_row * TILE + 0.5 - y, -ey)
    bottom = min(tile_row * TILE + TILE - 0.5 - y, ey)
    determinant = a * c - b * b
    level = determinant * ey * ey  # = A·(2·q at the edge), so that the root is real inside ±ey
    turn = -b / c * ex
    right_y = min(max(turn, top), bottom)
    left_y = min(max(-turn, top), bottom)
    right = (-b * right_y + math.sqrt(max(level - determinant * right_y * right_y, 0.0))) / a
    left = (-b * left_y - math.sqrt(max(level - determinant * left_y * left_y, 0.0))) / a
    slack = 2e-3 + 1e-5 * ex
    low = max(math.ceil(max(x + left - slack - 0.5, -1.0)), 0)
    high = math.floor(min(x + right + slack - 0.5, columns * TILE - 1.0))
    first = low // TILE
    return first, max(high // TILE + 1, first) if high >= 0 else first


@njit(parallel=True, cache=True, error_model="numpy")
def count_pairs(packed, rows, columns, first, histogram):  # type: ignore[no-untyped-def]
    """Tiles per splat into ``first[rank + 1]``, splats per tile into ``histogram`` (chunks, T)."""
    splats = packed.shape[0]
    for chunk in prange(CHUNKS):
        for rank in range(splats * chunk // CHUNKS, splats * (chunk + 1) // CHUNKS):
            low, high = _tile_rows(packed[rank], rows)
            total = 0
            for tile_row in range(low, high):
                left, right = _tile_columns(packed[rank], tile_row, columns)
                total += right - left
                for column in range(left, right):
                    histogram[chunk, tile_row * columns + column] += 1
            first[rank + 1] = total


@njit(parallel=True, cache=True, error_model="numpy")
def fill_pairs(packed, rows, columns, first, cursor, lists, places):  # type: ignore[no-untyped-def]
    """Write the tiles' lists of ranks, nearest first, and where each splat's pairs lie in them.

    ``cursor`` (chunks, T): where the chunk's entries of a tile begin; it is used up.
    """
    splats = packed.shape[0]
    for chunk in prange(CHUNKS):
        for rank in range(splats * chunk // CHUNKS, splats * (chunk + 1) // CHUNKS):
            pair = first[rank]
            low, high = _tile_rows(packed[rank], rows)
            for tile_row in range(low, high):
                left, right = _tile_columns(packed[rank], tile_row, columns)
                for column in range(left, right):
                    tile = tile_row * columns + column
                    place = cursor[chunk, tile]
                    cursor[chunk, tile] = place + 1
                    lists[place] = rank
                    places[pair] = place
                    pair += 1


@njit(cache=True, error_model="numpy")
def _pixel_rows(splat, top, rows):  # type: ignore[no-untyped-def]
    """Rows of a tile, relative to its first row ``top``, that the splat's box touches."""
    y, ey = splat[1] * 1.0, splat[11] * 1.0
    low = math.ceil(max(y - ey - 0.5 - top, 0.0))
    high = math.floor(min(y + ey - 0.5 - top, rows - 1.0)) + 1
    return low, high


@njit(parallel=True, cache=True, error_model="numpy")
def composite(packed, lists, starts, queue, columns, lanes, layers, last):  # type: ignore[no-untyped-def]
    """Fill ``layers`` (5, H, W): Σw·colour (3), Σw·depth, transmittance; and ``last`` (H, W).

    ``queue``: the tiles in the order of work. ``lanes`` must be ``TILE``: were it known when the
    loop over a row is compiled, LLVM would unroll that loop before it could vectorise it. ``last``
    receives the place in its tile's list of the last splat that a pixel took, −1 where none.
    """
    for job in prange(queue.shape[0]):
        tile = queue[job]
        _composite_tile(
            packed, lists, starts[tile], starts[tile + 1], tile, columns, lanes, layers, last
        )


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def _composite_tile(  # type: ignore[no-untyped-def]
    packed, lists, start, stop, tile, columns, lanes, layers, last
):
    """One tile of :func:`composite`. A function of its own: the compiler's search for parallel
    loops would take half a minute over it."""
    height, width = last.shape
    real = layers.dtype.type
    half, zero, one = real(0.5), real(0.0), real(1.0)
    max_q, max_alpha = real(_MAX_Q), real(MAX_ALPHA)
    min_alpha, stop_at = real(MIN_ALPHA), real(MIN_TRANSMITTANCE)
    top, left = tile // columns * TILE, tile % columns * TILE
    rows, width_here = min(TILE, height - top), min(TILE, width - left)
    # A row of the tile: its x, transmittance, red, green, blue, depth, place of the last splat,
    # sixteen numbers each. All in one array: for many arrays the compiler would have to prove at
    # run time that they do not overlap, and would rather not vectorise.
    state = np.zeros((TILE, 7 * TILE), layers.dtype)
    live = np.ones(TILE, np.bool_)
    for row in range(TILE):
        for k in range(TILE):
            state[row, k] = real(left + k) + half
            state[row, TILE + k] = one if k < width_here else -one  # outside the image: stopped
            state[row, 6 * TILE + k] = -one
    for place in range(start, stop):
        splat = packed[lists[place]]
        x, y, b = splat[0], splat[1], splat[3]
        half_a, half_c = half * splat[2], half * splat[4]
        opacity = splat[5]
        red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
        low, high = _pixel_rows(splat, top, rows)
        mark = real(place - start)
        for row in range(low, high):
            if not live[row]:
                continue
            dy = real(top + row) + half - y
            slope, base = b * dy, half_c * dy * dy
            r = state[row]
            for k in range(lanes):
                dx = r[k] - x
                q = min(max(base + dx * (slope + half_a * dx), zero), max_q)
                alpha = min(opacity * _exp_minus(q), max_alpha)
                t = r[TILE + k]
                after = t - t * alpha
                drawn = alpha >= min_alpha
                kept = drawn & (after > stop_at)
                weight = t * alpha if kept else zero
                stopped = -abs(t) if drawn else t
                r[TILE + k] = after if kept else stopped
                r[2 * TILE + k] += weight * red
                r[3 * TILE + k] += weight * green
                r[4 * TILE + k] += weight * blue
                r[5 * TILE + k] += weight * depth
                r[6 * TILE + k] = mark if kept else r[6 * TILE + k]
        if (place - start) % _SCAN == _SCAN - 1:
            any_live = False
            for row in range(rows):
                if live[row]:
                    live[row] = state[row, TILE : 2 * TILE].max() > zero
                    any_live |= live[row]
            if not any_live:
                break
    for row in range(rows):
        for k in range(width_here):
            for layer in range(4):
                layers[layer, top + row, left + k] = state[row, (2 + layer) * TILE + k]
            layers[4, top + row, left + k] = abs(state[row, TILE + k])
            last[top + row, left + k] = np.int32(state[row, 6 * TILE + k])


@njit(parallel=True, cache=True, error_model="numpy")
def composite_backward(  # type: ignore[no-untyped-def]
    packed, lists, starts, queue, columns, lanes, layers, last, grad_layers, slots
):
    """Gradients of every (tile, splat) pair into ``slots`` (P, 10), which must hold zeros."""
    for job in prange(queue.shape[0]):
        tile = queue[job]
        _composite_tile_backward(
            packed, lists, starts[tile], tile, columns, lanes, layers, last, grad_layers, slots
        )


@njit(cache=True, fastmath=_FAST, error_model="numpy")
def _composite_tile_backward(  # type: ignore[no-untyped-def]
    packed, lists, start, tile, columns, lanes, layers, last, grad_layers, slots
):
    """One tile of :func:`composite_backward`.

    With u = colour·g_colour + depth·g_depth the loss through one pixel is Σ wᵢuᵢ + g_T·T. Walking
    from back to front, ``behind`` = Σ_{j behind i} wⱼuⱼ + g_T·T, and dL/dαᵢ = Tᵢuᵢ −
    behind/(1 − αᵢ), where Tᵢ, the transmittance in front of i, comes back by dividing.
    """
    height, width = last.shape
    real = layers.dtype.type
    half, zero, one = real(0.5), real(0.0), real(1.0)
    max_q, max_alpha, min_alpha = real(_MAX_Q), real(MAX_ALPHA), real(MIN_ALPHA)
    top, left = tile // columns * TILE, tile % columns * TILE
    rows, width_here = min(TILE, height - top), min(TILE, width - left)
    # A row of the tile: x, transmittance, place of the last splat, what lies behind, and the
    # gradients of red, green, blue and depth.
    state = np.zeros((TILE, 8 * TILE), layers.dtype)
    row_last = np.full(TILE, -1, np.int64)
    for row in range(rows):
        for k in range(TILE):
            state[row, k] = real(left + k) + half
            state[row, TILE + k] = one
            state[row, 2 * TILE + k] = -one
        for k in range(width_here):
            t = layers[4, top + row, left + k]
            place = last[top + row, left + k]
            state[row, TILE + k] = t
            state[row, 2 * TILE + k] = real(place)
            state[row, 3 * TILE + k] = grad_layers[4, top + row, left + k] * t
            row_last[row] = max(row_last[row], np.int64(place))
            for layer in range(4):
                state[row, (4 + layer) * TILE + k] = grad_layers[layer, top + row, left + k]
    # Sums over the rows of a splat, sixteen columns each: v, v·dy, v·dy², and weight times each of
    # the four gradients; dx enters when they are added up, once a splat instead of once a row.
    sums = np.empty(7 * TILE, layers.dtype)
    for place in range(row_last.max(), -1, -1):
        splat = packed[lists[start + place]]
        x, y, a, b, c = splat[0], splat[1], splat[2], splat[3], splat[4]
        half_a, half_c = half * a, half * c
        opacity = splat[5]
        red, green, blue, depth = splat[6], splat[7], splat[8], splat[9]
        low, high = _pixel_rows(splat, top, rows)
        sums[:] = zero
        mark = real(place)
        for row in range(low, high):
            if row_last[row] < place:
                continue
            dy = real(top + row) + half - y
            slope, base = b * dy, half_c * dy * dy
            r = state[row]
            for k in range(lanes):
                dx = r[k] - x
                q = min(max(base + dx * (slope + half_a * dx), zero), max_q)
                raw = opacity * _exp_minus(q)
                alpha = min(raw, max_alpha)
                kept = (alpha >= min_alpha) & (mark <= r[2 * TILE + k])
                inverse = one / (one - alpha)
                t_after, behind = r[TILE + k], r[3 * TILE + k]
                t = t_after * inverse
                weight = t * alpha if kept else zero
                gr, gg, gb, gz = r[4 * TILE + k], r[5 * TILE + k], r[6 * TILE + k], r[7 * TILE + k]
                u = red * gr + green * gg + blue * gb + depth * gz
                d_alpha = t * u - behind * inverse
                # dL/dq; a clamped α does not move.
                v = -d_alpha * alpha if kept & (raw <= max_alpha) else zero
                r[TILE + k] = t if kept else t_after
                r[3 * TILE + k] = behind + weight * u
                sums[k] += v
                sums[TILE + k] += v * dy
                sums[2 * TILE + k] += v * dy * dy
                sums[3 * TILE + k] += weight * gr
                sums[4 * TILE + k] += weight * gg
                sums[5 * TILE + k] += weight * gb
                sums[6 * TILE + k] += weight * gz
        s, sx, sy, sxx, sxy, syy = zero, zero, zero, zero, zero, zero
        d_red, d_green, d_blue, d_depth = zero, zero, zero, zero
        for k in range(TILE):
            dx = state[0, k] - x
            v, vy = sums[k], sums[TILE + k]
            s += v
            sx += v * dx
            sy += vy
            sxx += v * dx * dx
            sxy += vy * dx
            syy += sums[2 * TILE + k]
            d_red += sums[3 * TILE + k]
            d_green += sums[4 * TILE + k]
            d_blue += sums[5 * TILE + k]
            d_depth += sums[6 * TILE + k]
        slot = slots[start + place]
        slot[0] = -(a * sx + b * sy)
        slot[1] = -(b * sx + c * sy)
        slot[2], slot[3], slot[4] = half * sxx, sxy, half * syy
        slot[5] = -s / opacity
        slot[6], slot[7], slot[8], slot[9] = d_red, d_green, d_blue, d_depth


@njit(parallel=True, cache=True, error_model="numpy")
def gather(order, first, places, slots, out):  # type: ignore[no-untyped-def]
    """Add up each splat's slots, in the order of its tiles, into its row of ``out`` (N, 10)."""
    for rank in prange(order.shape[0]):
        row = out[order[rank]]
        for pair in range(first[rank], first[rank + 1]):
            slot = slots[places[pair]]
            for k in range(SLOT):
                row[k] += slot[k]
