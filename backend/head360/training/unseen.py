"""Gaussians that no frame of the video shows: they get the colour of what is seen nearest.

The tri-plane says nothing sensible there, and the back of a head is what a frontal video leaves
out. Hair takes the colour of hair, the rest that of skin. It is a guess, and called one.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from head360.heads.gaussian import GaussianHead
from head360.heads.gaussian_facts import Filling
from head360.rendering.splats import render_splats
from head360.training.footage import Footage
from head360.training.gaussian_start import hair_faces

_SEEN, _CLEAR = 1.0, 2.0  # pixels in the best frame: less is unseen, more may lend its colour
_NEIGHBOURS = 60
_NAPE = -0.065  # metres; hair ends here
_FLAT = 0.008  # metres off the skin from which a Gaussian is hair where hair grows
_SCALE, _REACH = 0.007, 0.02  # metres: what nobody saw stays small and close


def seen(head: GaussianHead, footage: Footage) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the video shows of N Gaussians.

    Returns:
        (N,) pixels that each fills in the frame that shows it best, and (N, 3) its sRGB on average.
    """
    best = torch.zeros(head.net.count, device=head.device)
    total, painted = torch.zeros_like(best), torch.zeros(head.net.count, 3, device=head.device)
    for frame in footage.looked_at():
        shot = footage.shot(frame)
        pose = head.pose_expression(shot.expression.numpy())
        with torch.no_grad():
            out, shown = head.coloured(pose.state["posed"], shot.camera.position)
        colours = shown.clone().requires_grad_(True)
        height, width = shot.matte.shape
        picture = render_splats(
            out.means, out.quaternions, out.scales, out.opacities, colours, shot.camera, width,
            height,
        ).rgb  # fmt: skip
        picture.sum().backward()  # type: ignore[no-untyped-call]
        assert colours.grad is not None
        pixels = colours.grad[:, 0]
        best = torch.maximum(best, pixels)
        total += pixels
        painted += pixels[:, None] * shown
    mean = (painted / total.clamp(min=1e-6)[:, None]).clamp(0, 1)
    return np.asarray(best.cpu().numpy()), np.asarray(mean.cpu().numpy())


def fill(head: GaussianHead, footage: Footage) -> None:
    """Colour, shrink and pull in what no frame shows; mesh-bound heads only."""
    assert footage.identity is not None
    net, half = head.net, float(head.net.half_size)
    pixels, plain = seen(head, footage)
    hidden = pixels < _SEEN
    face = net.face.cpu().numpy()
    with torch.no_grad():
        index = torch.from_numpy(np.flatnonzero(hidden & (face >= 0))).to(net.means.device)
        net.log_scales[index] = net.log_scales[index].clamp(max=math.log(_SCALE / half))
        length = net.means[index].norm(dim=1, keepdim=True).clamp(min=1e-12)
        net.means[index] *= (_REACH / half / length).clamp(max=1.0)
        places = net.to_metres(net.canonical()).cpu().numpy()
        offset = (net.means.norm(dim=1) * half).cpu().numpy()
    topology = footage.model.topology
    grows = hair_faces(footage.identity.neutral, topology)[face.clip(min=0)] & (face >= 0)
    grows &= places[:, 1] > _NAPE
    above = places[:, 1] > 0.0  # below the ears, skin shines through
    skin = np.zeros(len(topology.faces), dtype=bool)
    skin[topology.part_faces("face", "head_neck")] = True
    kinds = {
        "hair": (hidden & grows, (pixels > _CLEAR) & grows & (offset > _FLAT) & above),
        "skin": (
            hidden & ~grows & skin[face.clip(min=0)],
            ~hidden & ~grows & skin[face.clip(min=0)],
        ),
    }
    found, colours = [np.zeros(0, np.int64)], [np.zeros((0, 3), np.float32)]
    for wanted, known in kinds.values():
        if not wanted.any() or known.sum() < _NEIGHBOURS:
            continue
        tree = cKDTree(places[known])
        _, nearest = tree.query(places[wanted], k=_NEIGHBOURS)
        found.append(np.flatnonzero(wanted))
        colours.append(np.median(plain[known][nearest], axis=1).astype(np.float32))
    head.filling = Filling(
        torch.from_numpy(np.concatenate(found)).to(head.device),
        torch.from_numpy(np.concatenate(colours)).to(head.device),
    )
    head.refresh()
