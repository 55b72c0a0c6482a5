"""Faces and landmarks with the network that comes along: works offline on every Python."""

from __future__ import annotations

import hashlib
import importlib.resources
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from head360.datasets.face_points import mirrors
from head360.datasets.integrity import digest_file
from head360.errors import BadInput, ModelInvalid
from head360.fitting.cascade import frontal_faces
from head360.fitting.closer import FILE, CloserLook
from head360.fitting.faces import Face, make_face
from head360.networks.portrait import KIND, MARGIN, STRIDE, LandmarkConfig, PortraitNet, fold
from head360.networks.weights_file import read_config, read_network
from head360.rendering.crops import cut, lean, out_of_window, upright_box, window, with_rim

Floats = NDArray[np.floating]

_LARGEST = 640  # pixels: the longer side of the largest copy that is searched
_SMALLEST = 36  # of the smallest one
_STEP = 1.5  # between the copies
_PEAK = 0.3  # the finder's certainty from which a place is looked at closely
_CASCADE = 0.9  # how far a face that the cascade sees is trusted
_LOOKED_AT = 16  # places
_CERTAIN = 0.7  # of both networks together, from which it is a face
_SCATTER = 0.06  # of the looks at one face over its side: more of it speaks against it
_OVERLAP = 0.3  # of two boxes: from then on they are one face
# Crops whose mean is the answer: (zoom, degrees, mirrored).
_GLANCES = (
    (1.0, 0.0, False), (1.0, 0.0, True), (0.93, -5.0, False), (1.07, 5.0, True),
    (1.07, -4.0, False), (0.93, 4.0, True),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Guess:
    """Where a face may be: centre (2,) and side in pixels, degrees it is tilted, and how certain
    who saw it first was."""

    centre: Floats
    side: float
    degrees: float
    certainty: float


def builtin_weights() -> AbstractContextManager[Path]:
    """The weights that come with the program, as a file."""
    root = importlib.resources.files("head360")
    return importlib.resources.as_file(root / "data" / "portrait" / "landmarks.safetensors")


class OwnFinder:
    """Finds faces with a small network, then looks closer at each.

    Args:
        weights: the user's; None takes those that come with the program. Where
            ``closer.safetensors`` lies beside them, faces are looked at a second time with it.
        device: torch device.

    Attributes:
        digest: of all weights that are used, 16 hex digits.

    Raises:
        BadInput: there is no such file. ModelInvalid: it does not fit.
    """

    name = "own"

    def __init__(self, weights: Path | None = None, device: str = "cpu") -> None:
        with builtin_weights() if weights is None else nullcontext(weights) as path:
            if not path.is_file():
                raise BadInput(
                    f"There are no landmark weights at {path}: give the file that "
                    "`head360 train portrait landmarks` wrote."
                )
            try:
                config = LandmarkConfig(**read_config(path, KIND))
                net = fold(PortraitNet(config))
            except (TypeError, ValueError, RuntimeError) as error:
                raise ModelInvalid(
                    f"The landmark weights {path} are of another version ({error}): train them "
                    "again with `head360 train portrait landmarks`."
                ) from error
            read_network(path, net)
            self.digest = digest_file(path)[:16]
            beside = path.with_name(FILE)
            self.closer = CloserLook(beside, device) if beside.is_file() else None
            if self.closer is not None:
                both = digest_file(path) + digest_file(beside)
                self.digest = hashlib.sha256(both.encode()).hexdigest()[:16]
        self.net = net.to(device).eval().requires_grad_(False)
        self.size = config.size
        self.device = device

    @torch.no_grad()
    def find(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """See ``LandmarkFinder``."""
        places = self.places(pixels)
        if not places:
            return []
        padded, rim = with_rim(pixels)
        picture = Image.fromarray(padded)
        guesses = [
            Guess(place.centre + rim, place.side, place.degrees, place.certainty)
            for place in places
        ]
        guesses = self._closer(picture, guesses, 0.1)
        guesses = distinct(self._closer(picture, guesses, _CERTAIN))
        faces = [self._measured(picture, guess, rim) for guess in guesses]
        kept: list[Face] = []
        for face in sorted(faces, key=lambda face: -face.confidence):
            if face.confidence >= _CERTAIN and not any(_within(face, other) for other in kept):
                kept.append(face)
        return sorted(kept, key=lambda face: -face.confidence * face.side)

    # -- where -----------------------------------------------------------------------------------

    def places(self, pixels: NDArray[np.uint8]) -> list[Guess]:
        """Where faces may be in a (H, W, 3) picture, the most certain first."""
        height, width = pixels.shape[:2]
        picture = Image.fromarray(pixels)
        scale = min(_LARGEST / max(height, width), 2.0)
        found: list[Guess] = []
        while max(height, width) * scale >= _SMALLEST:
            size = max(8, round(width * scale)), max(8, round(height * scale))
            small = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
            found += self._peaks(np.asarray(small), width / size[0])
            scale /= _STEP
        found += [
            Guess(centre, side, degrees, _CASCADE)
            for centre, side, degrees in frontal_faces(pixels)
        ]
        return distinct(found)[:_LOOKED_AT]

    def _peaks(self, pixels: NDArray[np.uint8], zoom: float) -> list[Guess]:
        """Peaks of the finder in one copy that is ``zoom`` times smaller than the picture."""
        rim = 3 * STRIDE
        height, width = pixels.shape[:2]
        right, bottom = rim + -width % STRIDE, rim + -height % STRIDE
        padded = np.pad(pixels, ((rim, bottom), (rim, right), (0, 0)), mode="edge")
        out = self.net.finder(self._tensor([padded]))[0]
        chance = out[0].sigmoid()
        highest = F.max_pool2d(chance[None, None], 3, 1, 1)[0, 0]
        rows, columns = torch.nonzero((chance == highest) & (chance > _PEAK), as_tuple=True)
        values = out[1:, rows, columns].cpu().numpy()
        guesses = []
        for k, (row, column) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
            side = 32 * float(np.exp(np.clip(values[0, k], -1.5, 1.5)))
            place = np.array([column + values[1, k], row + values[2, k]]) * STRIDE - rim
            centre = (place * zoom).astype(np.float32)
            guesses.append(Guess(centre, side * zoom, 0.0, float(chance[row, column])))
        return guesses

    # -- closer ----------------------------------------------------------------------------------

    def _closer(self, picture: Image.Image, guesses: list[Guess], least: float) -> list[Guess]:
        """Each guess corrected by its landmarks; those less certain than ``least`` left out."""
        if not guesses:
            return []
        points, _, chance, matrices = self._marks(picture, guesses)
        better = []
        for places, certainty, matrix, guess in zip(points, chance, matrices, guesses, strict=True):
            if np.sqrt(certainty * guess.certainty) < least:  # two networks must agree
                continue
            closer = framed(out_of_window(places[:68], matrix), guess.certainty)
            if 0.3 < closer.side / guess.side < 3.0:
                better.append(closer)
        return better

    def _measured(self, picture: Image.Image, guess: Guess, rim: int) -> Face:
        """The face at a guess, the mean of several looks."""
        looks = [
            Guess(guess.centre, guess.side * zoom, guess.degrees + degrees, guess.certainty)
            for zoom, degrees, _ in _GLANCES
        ]
        flips = [flip for _, _, flip in _GLANCES]
        points, deviation, chance, matrices = self._marks(picture, looks, flips)
        order = np.concatenate([mirrors()[0], 68 + mirrors()[1]])
        places, spreads = [], []
        for k, (flip, matrix) in enumerate(zip(flips, matrices, strict=True)):
            chosen = order if flip else slice(None)
            places.append(out_of_window(points[k][chosen], matrix))
            spreads.append(deviation[k][chosen] * looks[k].side * MARGIN / 2)
        mean = np.mean(places, 0)
        scatter = np.linalg.norm(np.asarray(places) - mean, axis=2).mean(0)
        expected = np.maximum(np.mean(spreads, 0), scatter)[:68]
        # In what is no face the looks disagree about where its parts are.
        steady = np.exp(-((scatter[:68].mean() / guess.side / _SCATTER) ** 2))
        joint = float(np.sqrt(np.mean(chance) * guess.certainty) * steady)
        if self.closer is not None and joint >= _CERTAIN:
            mean, expected = self.closer.look(picture, mean)
        mean = mean - rim
        return make_face(mean[:68], mean[68:], expected, joint, self.name)

    def _marks(
        self, picture: Image.Image, guesses: list[Guess], flips: list[bool] | None = None
    ) -> tuple[Floats, Floats, Floats, list[Floats]]:
        """Points in pixels of each crop, deviations in half crops, certainties, the crops."""
        size = self.size
        flips = flips or [False] * len(guesses)
        matrices = [
            window(guess.centre, guess.side * MARGIN, -guess.degrees, size, flip)
            for guess, flip in zip(guesses, flips, strict=True)
        ]
        crops = [np.asarray(cut(picture, matrix, size)) for matrix in matrices]
        marks = self.net.marks(self._tensor(crops))
        points = (marks.points.cpu().numpy() + 1) * (size / 2)
        deviation = marks.log_deviation.exp().cpu().numpy()
        return points, deviation, marks.face.sigmoid().cpu().numpy(), matrices

    def _tensor(self, pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        stack = torch.from_numpy(np.stack(pictures)).to(self.device)
        return stack.permute(0, 3, 1, 2).float() / 255


def framed(landmarks: Floats, certainty: float) -> Guess:
    """The guess that (68, 2) landmarks make: their box along the face's own axis."""
    degrees = lean(landmarks)
    centre, side = upright_box(landmarks, degrees)
    return Guess(centre.astype(np.float32), side, degrees, certainty)


def distinct(guesses: list[Guess]) -> list[Guess]:
    """One guess for each face: of those that overlap the most certain."""
    kept: list[Guess] = []
    for guess in sorted(guesses, key=lambda guess: -guess.certainty):
        if all(_overlap(guess, other) < _OVERLAP for other in kept):
            kept.append(guess)
    return kept


def _within(face: Face, other: Face) -> bool:
    """Whether the middle of a face lies in another's box: it is a part of that one."""
    middle = (face.box[:2] + face.box[2:]) / 2
    return bool((middle > other.box[:2]).all() and (middle < other.box[2:]).all())


def _overlap(first: Guess, second: Guess) -> float:
    """Intersection over union of two upright boxes; one inside the other counts as whole."""
    gap = np.abs(first.centre - second.centre)
    reach = (first.side + second.side) / 2
    small, large = sorted((first.side, second.side))
    shared = float(np.prod(np.clip(np.minimum(reach - gap, small), 0, None)))
    inside = shared / max(small**2, 1e-6)
    return max(shared / max(small**2 + large**2 - shared, 1e-6), inside if inside > 0.7 else 0.0)
