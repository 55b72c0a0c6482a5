"""The second look at a face: upright, framed by what the first one found, and larger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from head360.datasets.face_points import mirrors
from head360.errors import ModelInvalid
from head360.networks.closer_net import KIND, MARGIN, CloserConfig, CloserNet
from head360.networks.portrait import LANDMARKS, fold
from head360.networks.weights_file import read_config, read_network
from head360.rendering.crops import cut, lean, out_of_window, upright_box, window

Floats = NDArray[np.floating]

FILE = "closer.safetensors"  # beside the weights of the first look
# Crops whose mean is the answer: (zoom, degrees, mirrored).
_LOOKS = ((1.0, 0.0, False), (1.0, 0.0, True), (1.06, 3.0, False), (1.06, -3.0, True))
_AROUND = 0.95  # of the side of the box: half the side of what crops are cut from
_ROUNDS = 2  # the second round is framed by what the first one found


class CloserLook:
    """Finds the points of a face again, more exactly.

    Args:
        path: file that ``head360 train portrait closer`` wrote.
        device: torch device.

    Raises:
        ModelInvalid: it does not fit.
    """

    def __init__(self, path: Path, device: str = "cpu") -> None:
        try:
            values = read_config(path, KIND)
            widths = tuple(values.pop("widths"))
            config = CloserConfig(widths=widths, **values)
            net = fold(CloserNet(config))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelInvalid(
                f"The weights {path} are of another version ({error}): train them again with "
                "`head360 train portrait closer`."
            ) from error
        read_network(path, net)
        self.net = net.to(device).eval().requires_grad_(False)
        self.size, self.device = config.size, device

    @torch.no_grad()
    def look(self, picture: Image.Image, points: Floats) -> tuple[Floats, Floats]:
        """Find all points of one face again.

        Args:
            picture: RGB.
            points: (536, 2) pixels where the first look found them, the 68 first.

        Returns:
            (536, 2) pixels, and (68,) pixels the expected error of the landmarks.
        """
        order = np.concatenate([mirrors()[0], LANDMARKS + mirrors()[1]])
        deviation = np.zeros(LANDMARKS)
        for _ in range(_ROUNDS):
            degrees = lean(points)
            centre, side = upright_box(points, degrees)
            matrices = [
                window(centre, side * MARGIN * zoom, -(degrees + turn), self.size, flip)
                for zoom, turn, flip in _LOOKS
            ]
            # Only what crops of any angle can show is scaled, not the whole photograph.
            first = np.floor(centre - _AROUND * side).astype(int)
            last = np.ceil(centre + _AROUND * side).astype(int)
            part, shift = picture.crop((*first.tolist(), *last.tolist())), np.zeros((2, 3))
            shift[:, 2] = first
            crops = np.stack(
                [np.asarray(cut(part, (m - shift).astype(np.float32), self.size)) for m in matrices]
            )
            pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2).float() / 255
            marks = self.net(pixels)
            found = (marks.points.cpu().numpy() + 1) * (self.size / 2)
            spread = marks.log_deviation.exp().cpu().numpy()
            places, spreads = [], []
            for k, (zoom, _, flip) in enumerate(_LOOKS):
                chosen = order if flip else slice(None)
                places.append(out_of_window(found[k][chosen], matrices[k]))
                spreads.append(spread[k][chosen] * side * MARGIN * zoom / 2)
            points = np.mean(places, 0)
            scatter = np.linalg.norm(np.asarray(places) - points, axis=2).mean(0)
            deviation = np.maximum(np.mean(spreads, 0), scatter)[:LANDMARKS]
        return points.astype(np.float32), deviation.astype(np.float32)
