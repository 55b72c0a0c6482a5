"""What a fit uses of the stages before it, behind one name each; tests and figures replace them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from head360.fitting.shape import FittedShape, View, fit_shape
from head360.fitting.stages import FitSettings
from head360.geometry.bilinear import BilinearModel

if TYPE_CHECKING:
    from head360.fitting.faces import Face
    from head360.fitting.parsing import Parsing

Pixels = NDArray[np.uint8]
Ranking = list[tuple[str, float]]


@dataclass(frozen=True)
class Tools:
    """The early stages.

    Attributes:
        finder: name of the landmark finder, for people.
        find: (H, W, 3) uint8 → faces, the clearest first.
        choose: faces, shape of the photograph, number asked for → the one to fit.
        parse: photograph and face → labels, matte and hair.
        rank: photograph, parsing and face → all studio styles and "bald" with probabilities.
        colour: photograph and parsing → (3,) sRGB of the hair, None where there is too little.
        fit: views and mesh → shape, cameras, expressions.
    """

    finder: str
    find: Callable[[Pixels], list[Face]]
    choose: Callable[[list[Face], tuple[int, ...], int | None], Face]
    parse: Callable[[Pixels, Face], Parsing]
    rank: Callable[[Pixels, Parsing, Face], Ranking]
    colour: Callable[[Pixels, Parsing], NDArray[np.floating] | None]
    fit: Callable[[Sequence[View], BilinearModel], FittedShape] = fit_shape


def open_tools(settings: FitSettings) -> Tools:
    """The networks that come along, or those whose weights the settings name.

    Raises:
        BadInput: there is no such finder, or a file of weights does not fit.
    """
    from head360.fitting.faces import choose_face, landmark_finder
    from head360.fitting.hairstyle import hair_colour, style_ranker
    from head360.fitting.parsing import parser

    device = settings.device
    finder = landmark_finder(settings.landmarks, settings.landmarks_weights, device)
    parsing = parser(settings.parsing_weights, device)
    ranker = style_ranker(settings.style_weights, device)
    return Tools(
        finder.name, finder.find, choose_face, parsing.parse, ranker.rank, hair_colour, fit_shape
    )
