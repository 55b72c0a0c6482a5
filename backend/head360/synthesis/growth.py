"""The parameters of grown hair: what a hairdresser would write on a card."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from head360.synthesis.strand_texture import StrandLook

Comb = Literal["crown", "back", "forward", "part", "sweep", "up", "tie"]


@dataclass(frozen=True)
class Lengths:
    """Length of hair by zone, metres: above the forehead, on top, at the sides, behind."""

    front: float
    top: float
    side: float
    back: float


@dataclass(frozen=True)
class Gather:
    """Where hair is tied and what becomes of it.

    Attributes:
        azimuth, elevation: of the tie on the skull, degrees (see ``scalp``).
        kind: a tail that hangs, a bun of wound hair, a plait of three.
        length: of a tail or plait, metres.
        radius: of its thickest part, metres.
        out: how far it stands off before it falls, 0…1.
        forward: a tail or plait that falls over the shoulder in front instead of behind it.
    """

    azimuth: float
    elevation: float
    kind: Literal["tail", "bun", "plait"]
    length: float = 0.2
    radius: float = 0.02
    out: float = 0.6
    forward: bool = False


@dataclass(frozen=True)
class Shell:
    """A copy of the scalp's cover, raised: the inside of a dense mass of hair.

    Attributes:
        height: metres above the skin.
        density: share of it that is not holes, 0…1.
    """

    height: float
    density: float


@dataclass(frozen=True)
class Growth:
    """How a style is grown. Lengths in metres, angles in degrees.

    Attributes:
        seed: of everything random.
        lengths: by zone.
        count: of ribbons asked for; ``points`` along each; ``width`` of each.
        comb: where hair is combed: out of a whorl, back, forward, from a parting, to one side,
            upright, or to the gathers.
        part: x of the parting (positive: the subject's left), or the side hair is swept to.
        spread: unequal lengths, relative.
        lift: how steeply hair leaves the scalp.
        thickness: of the mass of hair over the skull; ``hug``: how firmly hair keeps to it, 0…1.
        gravity: how soon hair falls, 0…1.
        mess: wandering of the direction; ``roll``: of the ribbons' orientation, degrees.
        close: how much hair below the ears closes towards the neck.
        tuck: tips turn in (positive) or out.
        wave, wave_length: amplitude and period of waves.
        tousle: radians by which neighbouring locks wave and curl out of step.
        curl, pitch: radius and rise of helices.
        clump: how much locks close towards their tips, 0…1; ``clumps``: how many locks.
        recede, peak: of the hairline, degrees.
        bald: degrees around the crown without hair.
        strip: half width of the only strip of hair, or None.
        fade: elevations between which cut-down sides grow to full length, or None.
        fade_cover: opacity of the stubble below the fade, 0…1.
        cap: opacity of the undercoat where hair is full, 0…1.
        level: y at which all hair is cut off straight (the lowest possible by default).
        fringe: y that hair above the face must not fall below.
        shells: raised copies of the undercoat.
        gathers: ties, with comb "tie".
        locks: dreadlocks: how many tubes instead of ribbons, 0 for none.
        strands: how the texture looks (its colour is the style's).
    """

    seed: int
    lengths: Lengths
    count: int = 650
    points: int = 8
    width: float = 0.010
    comb: Comb = "crown"
    part: float = 0.0
    spread: float = 0.15
    lift: float = 0.35
    thickness: float = 0.010
    hug: float = 0.6
    gravity: float = 0.4
    mess: float = 0.12
    roll: float = 8.0
    close: float = 0.22
    tuck: float = 0.0
    wave: float = 0.0
    wave_length: float = 0.07
    tousle: float = 1.0
    curl: float = 0.0
    pitch: float = 0.03
    clump: float = 0.15
    clumps: int = 160
    recede: float = 0.0
    peak: float = 0.0
    bald: float = 0.0
    strip: float | None = None
    fade: tuple[float, float] | None = None
    fade_cover: float = 0.5
    cap: float = 1.0
    level: float = -1.0
    fringe: float = 0.043
    shells: tuple[Shell, ...] = ()
    gathers: tuple[Gather, ...] = ()
    locks: int = 0
    strands: StrandLook = field(default_factory=StrandLook)
