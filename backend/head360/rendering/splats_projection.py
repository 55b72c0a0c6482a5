"""Gaussians seen through a pinhole: means, 2-D conics and depths, with the analytic backward pass.

The local affine approximation of EWA splatting (Zwicker et al. 2001, "EWA volume splatting") as
3-D Gaussian Splatting uses it (Kerbl et al. 2023) and with the choices of gsplat (Ye et al. 2024):
the Jacobian is taken at a point clamped to 1.3 times the field of view, and a low-pass filter of
0.3 px² is added to the projected covariance.

With ``p = W·m + t`` in camera space, ``J`` the 2×3 Jacobian of the projection at p, ``R`` the
rotation and ``s`` the scales of a Gaussian, the projected covariance is ``U Uᵀ + 0.3·I`` with
``U = J W R diag(s)``; its inverse is the conic (A, B, C): q = ½(A·dx² + C·dy²) + B·dx·dy.

All arithmetic is float64 whatever the arrays hold: it costs little beside the compositing, and the
determinants of very thin or very large splats survive.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

LOW_PASS = 0.3  # px², added to both variances
FRUSTUM_MARGIN = 0.3  # of the half field of view, beyond which the Jacobian's point is clamped


@njit(cache=True, error_model="numpy")
def _rotation(q, out):  # type: ignore[no-untyped-def]
    """Rotation matrix of a quaternion (w, x, y, z) of any length; returns that length."""
    length = np.sqrt(q[0] * 1.0 * q[0] + q[1] * 1.0 * q[1] + q[2] * 1.0 * q[2] + q[3] * 1.0 * q[3])
    w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
    out[0, 0] = 1.0 - 2.0 * (y * y + z * z)
    out[0, 1] = 2.0 * (x * y - w * z)
    out[0, 2] = 2.0 * (x * z + w * y)
    out[1, 0] = 2.0 * (x * y + w * z)
    out[1, 1] = 1.0 - 2.0 * (x * x + z * z)
    out[1, 2] = 2.0 * (y * z - w * x)
    out[2, 0] = 2.0 * (x * z - w * y)
    out[2, 1] = 2.0 * (y * z + w * x)
    out[2, 2] = 1.0 - 2.0 * (x * x + y * y)
    return length


@njit(cache=True, error_model="numpy")
def _jacobian(px, py, pz, pinhole, jacobian):  # type: ignore[no-untyped-def]
    """Fill (2, 3) ``jacobian`` at the clamped point; returns (x is clamped, y is clamped).

    ``pinhole`` = (fx, fy, cx, cy, width, height) in pixels.
    """
    fx, fy, cx, cy, width, height = pinhole
    margin_x = FRUSTUM_MARGIN * 0.5 * width / fx
    margin_y = FRUSTUM_MARGIN * 0.5 * height / fy
    x, y = px / pz, py / pz
    tx = min(max(x, -cx / fx - margin_x), (width - cx) / fx + margin_x)
    ty = min(max(y, -cy / fy - margin_y), (height - cy) / fy + margin_y)
    jacobian[0, 0] = fx / pz
    jacobian[0, 1] = 0.0
    jacobian[0, 2] = -fx * tx / pz
    jacobian[1, 0] = 0.0
    jacobian[1, 1] = fy / pz
    jacobian[1, 2] = -fy * ty / pz
    return tx != x, ty != y


@njit(parallel=True, cache=True, error_model="numpy")
def project(  # type: ignore[no-untyped-def]
    means, quaternions, scales, world2cam, pinhole, near, means2d, conics, depths, compensations
):
    """Fill the projections of N Gaussians; those nearer than ``near`` get depth 0 and no conic.

    ``compensations`` (N,) receives √(det Σ / det(Σ + 0.3·I)), the opacity factor of anti-aliasing.
    """
    for n in prange(means.shape[0]):
        _project_one(
            n,
            means,
            quaternions,
            scales,
            world2cam,
            pinhole,
            near,
            means2d,
            conics,
            depths,
            compensations,
        )


@njit(cache=True, error_model="numpy")
def _project_one(  # type: ignore[no-untyped-def]
    n, means, quaternions, scales, world2cam, pinhole, near, means2d, conics, depths, compensations
):
    """Gaussian n of :func:`project`; apart, because parallel functions compile slowly."""
    m = means[n]
    px = world2cam[0, 3] + m[0] * world2cam[0, 0] + m[1] * world2cam[0, 1]
    px += m[2] * world2cam[0, 2]
    py = world2cam[1, 3] + m[0] * world2cam[1, 0] + m[1] * world2cam[1, 1]
    py += m[2] * world2cam[1, 2]
    pz = world2cam[2, 3] + m[0] * world2cam[2, 0] + m[1] * world2cam[2, 1]
    pz += m[2] * world2cam[2, 2]
    if pz < near:
        depths[n] = 0.0
        means2d[n] = 0.0
        conics[n] = 0.0
        compensations[n] = 0.0
        return
    rotation = np.empty((3, 3))
    jacobian = np.empty((2, 3))
    u = np.empty((2, 3))
    _rotation(quaternions[n], rotation)
    _jacobian(px, py, pz, pinhole, jacobian)
    for i in range(2):
        for k in range(3):
            total = 0.0
            for c in range(3):
                v = 0.0
                for r in range(3):
                    v += jacobian[i, r] * world2cam[r, c]
                total += v * rotation[c, k]
            u[i, k] = total * scales[n, k]
    xx = u[0, 0] * u[0, 0] + u[0, 1] * u[0, 1] + u[0, 2] * u[0, 2]
    xy = u[0, 0] * u[1, 0] + u[0, 1] * u[1, 1] + u[0, 2] * u[1, 2]
    yy = u[1, 0] * u[1, 0] + u[1, 1] * u[1, 1] + u[1, 2] * u[1, 2]
    sharp = max(xx * yy - xy * xy, 0.0)
    # det(Σ + εI) = det Σ + ε·trace + ε²: no cancellation, however thin the splat.
    soft = sharp + LOW_PASS * (xx + yy) + LOW_PASS * LOW_PASS
    means2d[n, 0] = pinhole[0] * px / pz + pinhole[2]
    means2d[n, 1] = pinhole[1] * py / pz + pinhole[3]
    conics[n, 0] = (yy + LOW_PASS) / soft
    conics[n, 1] = -xy / soft
    conics[n, 2] = (xx + LOW_PASS) / soft
    depths[n] = pz
    compensations[n] = np.sqrt(sharp / soft)


@njit(parallel=True, cache=True, error_model="numpy")
def project_backward(  # type: ignore[no-untyped-def]
    means,
    quaternions,
    scales,
    world2cam,
    pinhole,
    near,
    grad_means2d,
    grad_conics,
    grad_depths,
    grad_compensations,
    grad_means,
    grad_quaternions,
    grad_scales,
):
    """Chain the gradients of :func:`project`'s results to its inputs. All outputs are written."""
    for n in prange(means.shape[0]):
        _project_one_backward(
            n,
            means,
            quaternions,
            scales,
            world2cam,
            pinhole,
            near,
            grad_means2d,
            grad_conics,
            grad_depths,
            grad_compensations,
            grad_means,
            grad_quaternions,
            grad_scales,
        )


@njit(cache=True, error_model="numpy")
def _project_one_backward(  # type: ignore[no-untyped-def]
    n,
    means,
    quaternions,
    scales,
    world2cam,
    pinhole,
    near,
    grad_means2d,
    grad_conics,
    grad_depths,
    grad_compensations,
    grad_means,
    grad_quaternions,
    grad_scales,
):
    """Gaussian n of :func:`project_backward`."""
    grad_means[n] = 0.0
    grad_quaternions[n] = 0.0
    grad_scales[n] = 0.0
    m = means[n]
    px = world2cam[0, 3] + m[0] * world2cam[0, 0] + m[1] * world2cam[0, 1]
    px += m[2] * world2cam[0, 2]
    py = world2cam[1, 3] + m[0] * world2cam[1, 0] + m[1] * world2cam[1, 1]
    py += m[2] * world2cam[1, 2]
    pz = world2cam[2, 3] + m[0] * world2cam[2, 0] + m[1] * world2cam[2, 1]
    pz += m[2] * world2cam[2, 2]
    if pz < near:
        return
    fx, fy = pinhole[0], pinhole[1]
    rotation = np.empty((3, 3))
    jacobian = np.empty((2, 3))
    v = np.empty((2, 3))  # J·W
    u = np.empty((2, 3))  # J·W·R·diag(s)
    length = _rotation(quaternions[n], rotation)
    clamped_x, clamped_y = _jacobian(px, py, pz, pinhole, jacobian)
    for i in range(2):
        for c in range(3):
            total = 0.0
            for r in range(3):
                total += jacobian[i, r] * world2cam[r, c]
            v[i, c] = total
        for k in range(3):
            total = 0.0
            for c in range(3):
                total += v[i, c] * rotation[c, k]
            u[i, k] = total * scales[n, k]
    xx = u[0, 0] * u[0, 0] + u[0, 1] * u[0, 1] + u[0, 2] * u[0, 2]
    xy = u[0, 0] * u[1, 0] + u[0, 1] * u[1, 1] + u[0, 2] * u[1, 2]
    yy = u[1, 0] * u[1, 0] + u[1, 1] * u[1, 1] + u[1, 2] * u[1, 2]
    sharp = max(xx * yy - xy * xy, 0.0)
    soft = sharp + LOW_PASS * (xx + yy) + LOW_PASS * LOW_PASS
    a, b, c2 = (yy + LOW_PASS) / soft, -xy / soft, (xx + LOW_PASS) / soft

    # dΣ = −Q·G·Q with Q the conic matrix and G its gradient (B stands in two places).
    ga, gb, gc = grad_conics[n, 0] * 1.0, grad_conics[n, 1] * 0.5, grad_conics[n, 2] * 1.0
    la, lb = ga * a + gb * b, ga * b + gb * c2
    lc, ld = gb * a + gc * b, gb * b + gc * c2
    hxx = -(a * la + b * lc)
    hxy = -(a * lb + b * ld)
    hyy = -(b * lb + c2 * ld)
    compensation = np.sqrt(sharp / soft)
    if compensation > 1e-6:  # the derivative of √ has no bound at zero
        gk = grad_compensations[n] * 0.5 / compensation
        g_sharp, g_soft = gk / soft, -gk * sharp / (soft * soft)
        hxx += g_sharp * yy + g_soft * (yy + LOW_PASS)
        hyy += g_sharp * xx + g_soft * (xx + LOW_PASS)
        hxy -= (g_sharp + g_soft) * xy

    # Σ = U·Uᵀ: dU = 2·H·U, then back through U = V·R·diag(s) and V = J·W.
    g_rotation = np.zeros((3, 3))
    g_jacobian = np.zeros((2, 3))
    for k in range(3):
        du0 = 2.0 * (hxx * u[0, k] + hxy * u[1, k])
        du1 = 2.0 * (hxy * u[0, k] + hyy * u[1, k])
        s = scales[n, k]
        gs = 0.0
        for c in range(3):
            gn = v[0, c] * du0 + v[1, c] * du1
            gs += gn * rotation[c, k]
            g_rotation[c, k] = gn * s
            gv0 = du0 * rotation[c, k] * s
            gv1 = du1 * rotation[c, k] * s
            for r in range(3):
                g_jacobian[0, r] += gv0 * world2cam[r, c]
                g_jacobian[1, r] += gv1 * world2cam[r, c]
        grad_scales[n, k] = gs

    g2x, g2y = grad_means2d[n, 0] * 1.0, grad_means2d[n, 1] * 1.0
    gx = g2x * fx / pz
    gy = g2y * fy / pz
    gz = grad_depths[n] - (g2x * fx * px + g2y * fy * py) / (pz * pz)
    # J's entries are −f·t/z with t = x/z, or constant where t is clamped.
    gz -= (g_jacobian[0, 0] * fx + g_jacobian[1, 1] * fy) / (pz * pz)
    gz -= (g_jacobian[0, 2] * jacobian[0, 2] + g_jacobian[1, 2] * jacobian[1, 2]) / pz
    if not clamped_x:
        gx -= g_jacobian[0, 2] * fx / (pz * pz)
        gz += g_jacobian[0, 2] * fx * px / (pz * pz * pz)
    if not clamped_y:
        gy -= g_jacobian[1, 2] * fy / (pz * pz)
        gz += g_jacobian[1, 2] * fy * py / (pz * pz * pz)
    for c in range(3):
        grad_means[n, c] = gx * world2cam[0, c] + gy * world2cam[1, c] + gz * world2cam[2, c]

    q = quaternions[n]
    w, x, y, z = q[0] / length, q[1] / length, q[2] / length, q[3] / length
    g = g_rotation
    gw = 2.0 * (x * (g[2, 1] - g[1, 2]) + y * (g[0, 2] - g[2, 0]) + z * (g[1, 0] - g[0, 1]))
    gqx = 2.0 * (y * (g[0, 1] + g[1, 0]) + z * (g[0, 2] + g[2, 0]) + w * (g[2, 1] - g[1, 2]))
    gqx -= 4.0 * x * (g[1, 1] + g[2, 2])
    gqy = 2.0 * (x * (g[0, 1] + g[1, 0]) + z * (g[1, 2] + g[2, 1]) + w * (g[0, 2] - g[2, 0]))
    gqy -= 4.0 * y * (g[0, 0] + g[2, 2])
    gqz = 2.0 * (x * (g[0, 2] + g[2, 0]) + y * (g[1, 2] + g[2, 1]) + w * (g[1, 0] - g[0, 1]))
    gqz -= 4.0 * z * (g[0, 0] + g[1, 1])
    radial = gw * w + gqx * x + gqy * y + gqz * z  # no length, no gradient along it
    grad_quaternions[n, 0] = (gw - radial * w) / length
    grad_quaternions[n, 1] = (gqx - radial * x) / length
    grad_quaternions[n, 2] = (gqy - radial * y) / length
    grad_quaternions[n, 3] = (gqz - radial * z) / length
