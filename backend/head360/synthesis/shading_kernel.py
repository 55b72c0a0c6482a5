"""The numba kernel of ``shading``: from fragments to finished pixels.

``shading_torch`` repeats these formulas for CUDA; whoever changes one changes the other.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from head360.datasets import labels as classes

# Numba cannot see names of another module as constants: materials of ``shading``, spelled again.
SKIN, EYE, TEETH, GUMS, LASH, HAIR = 0, 1, 2, 3, 4, 5
_CLASSES = len(classes.LABELS) + 1  # with lashes, see ``parsing``
_LABEL_SKIN, _LABEL_HAIR = classes.SKIN, classes.HAIR


@njit(cache=True, inline="always")
def _texture(texture, lut, u, v, channel):  # type: ignore[no-untyped-def]
    height, width = texture.shape[0], texture.shape[1]
    x = min(max(u * width - 0.5, 0.0), width - 1.001)
    y = min(max((1.0 - v) * height - 0.5, 0.0), height - 1.001)
    x0, y0 = int(x), int(y)
    fx, fy = x - x0, y - y0
    top = lut[texture[y0, x0, channel]] * (1 - fx) + lut[texture[y0, x0 + 1, channel]] * fx
    low = lut[texture[y0 + 1, x0, channel]] * (1 - fx) + lut[texture[y0 + 1, x0 + 1, channel]] * fx
    return top * (1 - fy) + low * fy


@njit(cache=True, inline="always")
def _encode(linear):  # type: ignore[no-untyped-def]
    linear = min(max(linear, 0.0), 1.0)
    if linear <= 0.0031308:
        return linear * 12.92
    return 1.055 * linear ** (1 / 2.4) - 0.055


@njit(cache=True, inline="always")
def _normalise(x):  # type: ignore[no-untyped-def]
    length = np.sqrt(x[0] * x[0] + x[1] * x[1] + x[2] * x[2]) + 1e-12
    for k in range(3):
        x[k] /= length


@njit(cache=True, inline="always")
def _label(f, labels, label_atlas, u, v):  # type: ignore[no-untyped-def]
    """Class of one sample: its triangle's, on the skin that of its texel."""
    own = labels[f]
    if own != _LABEL_SKIN:
        return own
    size = label_atlas.shape[0]
    column = min(max(int(u * size), 0), size - 1)
    row = min(max(int((1.0 - v) * size), 0), size - 1)
    return label_atlas[row, column]


@njit(cache=True, inline="always")
def _detail(skin_map, u, v, out):  # type: ignore[no-untyped-def]
    """Bilinear look-up of the skin map: slopes in [-1, 1], gloss and thinness."""
    size = skin_map.shape[0]
    x = min(max(u * size - 0.5, 0.0), size - 1.001)
    y = min(max((1.0 - v) * size - 0.5, 0.0), size - 1.001)
    x0, y0 = int(x), int(y)
    fx, fy = np.float32(x - x0), np.float32(y - y0)
    for k in range(4):
        top = skin_map[y0, x0, k] * (1 - fx) + skin_map[y0, x0 + 1, k] * fx
        low = skin_map[y0 + 1, x0, k] * (1 - fx) + skin_map[y0 + 1, x0 + 1, k] * fx
        out[k] = top * (1 - fy) + low * fy
    out[0] = (out[0] - 128) / 127
    out[1] = (out[1] - 128) / 127
    out[2] /= 128
    out[3] /= 255


@njit(cache=True, inline="always")
def _tilt(n, positions, a, b, c, uv, slope_u, slope_v, out):  # type: ignore[no-untyped-def]
    """Normal of a relief: ``n`` leaned against the slopes along u and v."""
    du1, dv1 = uv[1, 0] - uv[0, 0], uv[1, 1] - uv[0, 1]
    du2, dv2 = uv[2, 0] - uv[0, 0], uv[2, 1] - uv[0, 1]
    turn = 1.0 if du1 * dv2 - du2 * dv1 > 0 else -1.0
    along_u, along_v = 0.0, 0.0
    for k in range(3):
        e1 = positions[b, k] - positions[a, k]
        e2 = positions[c, k] - positions[a, k]
        along_u += ((e1 * dv2 - e2 * dv1) * turn) ** 2
        along_v += ((e2 * du1 - e1 * du2) * turn) ** 2
    scale_u = slope_u * turn / (np.sqrt(along_u) + 1e-12)
    scale_v = slope_v * turn / (np.sqrt(along_v) + 1e-12)
    for k in range(3):
        e1 = positions[b, k] - positions[a, k]
        e2 = positions[c, k] - positions[a, k]
        out[k] = n[k] - scale_u * (e1 * dv2 - e2 * dv1) - scale_v * (e2 * du1 - e1 * du2)
    _normalise(out)


@njit(parallel=True, cache=True, fastmath=True)
def shade_kernel(  # type: ignore[no-untyped-def]
    face, bary, faces, positions, normals, surface, tangents, occlusion, corner_uvs, materials,
    labels, head_texture, hair_texture, label_atlas, skin_map, lut, eye, forward, lamp_dirs,
    lamp_colours, lamp_columns, lamp_first, ambient, ambient_columns, samples, fine, relief,
    passes, lit, hair, albedo_out, depth_out, normals_out, labels_out,
):  # fmt: skip
    """See ``shading.shade``; the last six arrays are written to."""
    lights, height, width = lit.shape[0], lit.shape[1], lit.shape[2]
    square = samples * samples
    share = 1.0 / square
    centre = (samples // 2) * samples + samples // 2
    for row in prange(height):
        n = np.empty(3, dtype=np.float32)
        p = np.empty(3, dtype=np.float32)
        t = np.empty(3, dtype=np.float32)
        v = np.empty(3, dtype=np.float32)
        colour = np.empty(3, dtype=np.float32)
        wrap = np.empty(3, dtype=np.float32)
        sums = np.empty((lights, 3), dtype=np.float32)
        albedo_sum = np.empty(3, dtype=np.float32)
        votes = np.empty(_CLASSES, dtype=np.int32)
        # Samples of one triangle in one pixel are a group, lit together at their middle.
        group_face = np.empty(square, dtype=np.int32)
        group_count = np.empty(square, dtype=np.int32)
        group_a = np.empty(square, dtype=np.float32)
        group_b = np.empty(square, dtype=np.float32)
        group_u = np.empty(square, dtype=np.float32)
        group_v = np.empty(square, dtype=np.float32)
        group_albedo = np.empty((square, 3), dtype=np.float32)
        detail = np.empty(4, dtype=np.float32)
        bumped = np.empty(3, dtype=np.float32)
        for column in range(width):
            groups, covered, hairy = 0, 0, 0
            votes[:] = 0
            for sub in range(square):
                y = row * samples + sub // samples
                x = column * samples + sub % samples
                f = face[y, x]
                if f < 0:
                    continue
                wa, wb = bary[y, x, 0], bary[y, x, 1]
                wc = 1.0 - wa - wb
                tu = wa * corner_uvs[f, 0, 0] + wb * corner_uvs[f, 1, 0] + wc * corner_uvs[f, 2, 0]
                tv = wa * corner_uvs[f, 0, 1] + wb * corner_uvs[f, 1, 1] + wc * corner_uvs[f, 2, 1]
                g = -1
                if fine:
                    for other in range(groups):
                        if group_face[other] == f:
                            g = other
                if g < 0:
                    g = groups
                    groups += 1
                    group_face[g] = f
                    group_count[g] = 0
                    group_a[g], group_b[g] = 0.0, 0.0
                    group_u[g], group_v[g] = 0.0, 0.0
                    group_albedo[g, :] = 0.0
                covered += 1
                group_count[g] += 1
                group_a[g] += wa
                group_b[g] += wb
                group_u[g] += tu
                group_v[g] += tv
                is_hair = materials[f] == HAIR
                if is_hair:
                    hairy += 1
                for k in range(3):
                    if is_hair:
                        group_albedo[g, k] += _texture(hair_texture, lut, tu, tv, k)
                    else:
                        group_albedo[g, k] += _texture(head_texture, lut, tu, tv, k)
                if passes:
                    votes[_label(f, labels, label_atlas, tu, tv)] += 1
                    if sub == centre:
                        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                        z = forward[3]
                        for k in range(3):
                            z += forward[k] * (
                                wa * positions[a, k] + wb * positions[b, k] + wc * positions[c, k]
                            )
                            n[k] = wa * surface[a, k] + wb * surface[b, k] + wc * surface[c, k]
                        _normalise(n)
                        depth_out[row, column] = z
                        for k in range(3):
                            normals_out[row, column, k] = n[k]
            if covered == 0:
                continue
            sums[:, :] = 0.0
            albedo_sum[:] = 0.0
            for g in range(groups):
                f, count = group_face[g], group_count[g]
                wa, wb = group_a[g] / count, group_b[g] / count
                wc = 1.0 - wa - wb
                a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
                for k in range(3):
                    n[k] = wa * normals[a, k] + wb * normals[b, k] + wc * normals[c, k]
                    p[k] = wa * positions[a, k] + wb * positions[b, k] + wc * positions[c, k]
                    v[k] = eye[k] - p[k]
                    albedo_sum[k] += group_albedo[g, k]
                    group_albedo[g, k] /= count
                _normalise(n)
                _normalise(v)
                material = materials[f]
                is_hair = material == HAIR
                # Wrapped diffuse stands in for scattering: red travels furthest in skin.
                wrap[0], wrap[1], wrap[2] = 0.0, 0.0, 0.0
                gloss, strength = 1.0, 0.0
                if material == SKIN:
                    wrap[0], wrap[1], wrap[2] = 0.42, 0.22, 0.16
                    gloss, strength = 16.0, 0.10
                elif material == EYE:
                    wrap[0], wrap[1], wrap[2] = 0.5, 0.5, 0.5
                    gloss, strength = 140.0, 2.6
                elif material == TEETH:
                    wrap[0], wrap[1], wrap[2] = 0.4, 0.35, 0.3
                    gloss, strength = 60.0, 0.22
                elif material == GUMS:
                    wrap[0], wrap[1], wrap[2] = 0.4, 0.25, 0.25
                    gloss, strength = 50.0, 0.16
                elif is_hair:
                    wrap[0], wrap[1], wrap[2] = 0.35, 0.35, 0.35
                    for k in range(3):
                        t[k] = wa * tangents[a, k] + wb * tangents[b, k] + wc * tangents[c, k]
                    _normalise(t)
                up = 0.5 + 0.5 * n[1]
                thin = 0.0
                if fine and material == EYE:
                    gloss, strength = 460.0, 4.5  # a wet cornea glints in a point
                for k in range(3):
                    bumped[k] = n[k]
                if fine and material == SKIN:
                    _detail(skin_map, group_u[g] / count, group_v[g] / count, detail)
                    _tilt(
                        n, positions, a, b, c, corner_uvs[f], detail[0] * relief,
                        detail[1] * relief, bumped,
                    )  # fmt: skip
                    thin = detail[3]
                    strength = 0.075 * detail[2]
                    gloss = 8.0 + 8.0 * detail[2] * detail[2]
                    wrap[0], wrap[1], wrap[2] = 0.42, 0.26, 0.21
                for which in range(lights):
                    column_of = ambient_columns[which]
                    open_to = (
                        wa * occlusion[a, column_of]
                        + wb * occlusion[b, column_of]
                        + wc * occlusion[c, column_of]
                    )
                    # Light that creases pass on to each other is red: their darkness is warm.
                    bleed = open_to * (1.0 - open_to) if fine and material == SKIN else 0.0
                    if fine and material == EYE:
                        # A wet eye mirrors the sky.
                        grazing = 1.0 - max(0.0, n[0] * v[0] + n[1] * v[1] + n[2] * v[2])
                        mirror = open_to * (0.03 + 0.35 * grazing**4)
                    else:
                        mirror = 0.0
                    for k in range(3):
                        sky, ground = ambient[which, 0, k], ambient[which, 1, k]
                        around = ground + (sky - ground) * up
                        colour[k] = group_albedo[g, k] * open_to * around
                        if fine:
                            warm = (0.34 if k == 0 else 0.08) * bleed
                            colour[k] += around * (group_albedo[g, k] * warm + mirror)
                    for lamp in range(lamp_first[which], lamp_first[which + 1]):
                        lx, ly, lz = lamp_dirs[lamp, 0], lamp_dirs[lamp, 1], lamp_dirs[lamp, 2]
                        cosine = n[0] * lx + n[1] * ly + n[2] * lz
                        hx, hy, hz = lx + v[0], ly + v[1], lz + v[2]
                        h = np.sqrt(hx * hx + hy * hy + hz * hz) + 1e-12
                        shine = 0.0
                        if is_hair:
                            # Kajiya and Kay 1989: a strand reflects into a cone around its tangent.
                            along = (t[0] * hx + t[1] * hy + t[2] * hz) / h
                            across = np.sqrt(max(0.0, 1.0 - along * along))
                            facing = min(max(cosine * 2.0 + 0.6, 0.0), 1.0)
                            shine = 0.10 * across**48 * facing
                        elif fine and material == SKIN:
                            # Two lobes on the relief: an oily film over a rough ground.
                            tilted = bumped[0] * lx + bumped[1] * ly + bumped[2] * lz
                            if tilted > 0.0:
                                half = (bumped[0] * hx + bumped[1] * hy + bumped[2] * hz) / h
                                half = max(0.0, half)
                                grazing = v[0] * hx + v[1] * hy + v[2] * hz
                                grazing = 1.0 - max(0.0, grazing / h)
                                fresnel = 0.35 + 0.65 * grazing**3
                                broad = half**gloss
                                film = broad * broad * broad * broad
                                shine = strength * fresnel * (broad + 1.1 * film) * tilted
                            # Some of the relief's shading survives the scattering.
                            cosine += 0.35 * (tilted - cosine)
                        elif strength > 0.0 and cosine > 0.0:
                            half = max(0.0, (n[0] * hx + n[1] * hy + n[2] * hz) / h)
                            grazing = 1.0 - max(0.0, n[0] * v[0] + n[1] * v[1] + n[2] * v[2])
                            fresnel = 0.35 + 0.65 * grazing**3
                            shine = strength * fresnel * half**gloss * cosine
                        column_of = lamp_columns[lamp]
                        open_to = (
                            wa * occlusion[a, column_of]
                            + wb * occlusion[b, column_of]
                            + wc * occlusion[c, column_of]
                        )
                        for k in range(3):
                            diffuse = max(0.0, (cosine + wrap[k]) / (1.0 + wrap[k]))
                            arriving = lamp_colours[lamp, k] * open_to
                            colour[k] += arriving * (group_albedo[g, k] * diffuse + shine)
                        if thin > 0.0 and cosine < 0.0:
                            # Ears and the wings of the nose let red light through from behind.
                            through = -0.7 * thin * cosine * open_to
                            colour[0] += lamp_colours[lamp, 0] * group_albedo[g, 0] * through
                            colour[1] += lamp_colours[lamp, 1] * group_albedo[g, 1] * through * 0.3
                            colour[2] += lamp_colours[lamp, 2] * group_albedo[g, 2] * through * 0.2
                    for k in range(3):
                        sums[which, k] += min(colour[k], 1.0) * (share * count)
            alpha = min(covered * share, 1.0)
            hair[row, column] = min(hairy * share, 1.0)
            for which in range(lights):
                for k in range(3):
                    lit[which, row, column, k] = _encode(sums[which, k] / alpha)
                lit[which, row, column, 3] = alpha
            if passes:
                for k in range(3):
                    albedo_out[row, column, k] = _encode(albedo_sum[k] / covered)
                albedo_out[row, column, 3] = alpha
                # Background where most is empty, hair where most is hair, else the commonest rest.
                best = 0
                if 2 * hairy >= square:
                    best = _LABEL_HAIR
                elif 2 * covered >= square:
                    for label in range(1, _CLASSES):
                        if label != _LABEL_HAIR and (best == 0 or votes[label] > votes[best]):
                            best = label
                labels_out[row, column] = best
