"""People beyond the named cast: complexion, age, hair, eyes and marks drawn by number.

Person ``n`` is a pure function of ``n``, so a larger cast begins with the smaller one. Complexion
and age step evenly through their ranges (additive sequences with irrational steps), so that any
cast holds all of them. Of the 22 licensed skins 20 serve: one has drawn brows and one a painted
rim around the lips, which no blend hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from head360.geometry.bilinear import BilinearModel
from head360.synthesis.styles import COLOURS, STYLES, StyleSpec
from head360.synthesis.subjects import CAST, SkinTouch, SubjectSpec

_WOMEN = (
    "ada", "aiko", "alma", "amina", "anya", "asha", "ayla", "bea", "carmen", "chloe", "dalia",
    "devi", "elif", "ema", "esra", "fatou", "freya", "gia", "hana", "ida", "ines", "iris", "ivy",
    "jade", "jun", "kaja", "keiko", "lan", "leila", "lina", "lucia", "mai", "malin", "maya",
    "mei", "mira", "nadia", "naomi", "nia", "noor", "olga", "paz", "petra", "pia", "priya",
    "rania", "rosa", "ruth", "sade", "salma", "sana", "sofia", "suki", "tala", "tove", "uma",
    "vera", "wanda", "xena", "yara", "yuki", "zadie", "zara", "zoe",
)  # fmt: skip
_MEN = (
    "abel", "akira", "ali", "amir", "anders", "arjun", "axel", "bao", "ben", "bruno", "carlos",
    "chen", "dario", "david", "diego", "emil", "enzo", "ewan", "fela", "femi", "goran", "hamid",
    "hugo", "ian", "idris", "igor", "ivan", "jamal", "jens", "jomo", "juan", "kai", "karim",
    "kenji", "kiran", "lars", "liam", "luca", "mateo", "max", "milo", "musa", "nils", "noah",
    "omar", "oskar", "otto", "paolo", "pavel", "quang", "rafi", "ravi", "remy", "samir", "sven",
    "tariq", "theo", "tomas", "umar", "viktor", "wei", "yann", "yusuf", "zane",
)  # fmt: skip

# Cheeks from the fairest to the deepest, sRGB 0–255, in even steps of tone 0…1.
_COMPLEXIONS = np.array(
    [(242, 203, 180), (237, 191, 164), (226, 174, 144), (207, 152, 119), (182, 129, 98),
     (155, 105, 78), (129, 84, 60), (106, 66, 47), (84, 53, 39)], dtype=np.float64,
)  # fmt: skip


@dataclass(frozen=True)
class _Skin:
    name: str
    tone: float
    woman: bool
    age: int  # 0 young, 1 middle, 2 old


_SKINS = (
    _Skin("makehuman_young_lightskinned_female2", 0.07, True, 0),
    _Skin("makehuman_young_lightskinned_female3", 0.06, True, 0),
    _Skin("onlytheghosts_young_eurasian_female", 0.08, True, 0),
    _Skin("toigo_light_skin_female_bronze", 0.27, True, 0),
    _Skin("makehuman_middleage_lightskinned_female2", 0.15, True, 1),
    _Skin("onlytheghosts_middleage_eurasian_female", 0.18, True, 1),
    _Skin("onlytheghosts_old_eurasian_female", 0.25, True, 2),
    _Skin("makehuman_middleage_darkskinned_female", 0.87, True, 0),
    _Skin("makehuman_old_darkskinned_female", 0.93, True, 2),
    _Skin("makehuman_young_lightskinned_male", 0.14, False, 0),
    _Skin("makehuman_young_lightskinned_male2", 0.30, False, 0),
    _Skin("makehuman_young_lightskinned_male3", 0.30, False, 0),
    _Skin("makehuman_middleage_lightskinned_male", 0.27, False, 1),
    _Skin("makehuman_middleage_lightskinned_male2", 0.26, False, 1),
    _Skin("onlytheghosts_old_eurasian_male", 0.40, False, 2),
    _Skin("makehuman_old_lightskinned_male2", 0.46, False, 2),
    _Skin("makehuman_young_darkskinned_male", 0.92, False, 0),
    _Skin("mindfront_african_middleage_male", 0.78, False, 0),
    _Skin("makehuman_middleage_darkskinned_male", 0.87, False, 1),
    _Skin("makehuman_old_darkskinned_male", 0.88, False, 2),
)
# Its mouth is drawn open and black: as colour beneath another skin's detail it would smear.
_ALONE = "mindfront_african_middleage_male"

# How often each natural hair colour is met on (fair, deep) skin.
_HAIR: dict[str, tuple[float, float]] = {
    "black": (0.07, 0.55), "soft black": (0.11, 0.27), "dark brown": (0.22, 0.16),
    "brown": (0.18, 0.02), "chestnut": (0.09, 0.0), "light brown": (0.11, 0.0),
    "auburn": (0.06, 0.0), "copper": (0.04, 0.0), "strawberry blond": (0.02, 0.0),
    "dark blond": (0.06, 0.0), "blond": (0.04, 0.0),
}  # fmt: skip
# Card styles take their colour from a picture.
_OF_CARDS = {
    "short02": "brown", "short03": "auburn", "short04": "black", "bob01": "black",
    "bob02": "platinum", "ponytail01": "chestnut", "short01": "brown", "braid01": "brown",
}  # fmt: skip
# Classes of cut that are rarer on women, on men, and those that come with age alone.
_SHORN = ("buzz", "crew cut", "crop", "fade", "side part", "slick back", "undercut", "faux hawk")
_LONG = (
    "bob", "fringe bob", "long straight", "long wavy", "long curly", "layered", "ponytail",
    "high ponytail", "bun", "pigtails", "braid", "two braids", "pixie", "shoulder length",
    "medium curly",
)  # fmt: skip
_AGED = ("receding", "bald crown")
_RARE = 0.12

# The pictures of the irises differ in brightness: what makes each look natural.
_IRISES = {
    "blue": 0.9, "bluegreen": 0.65, "brown": 0.48, "brownlight": 0.75, "deepblue": 0.85,
    "green": 0.95, "grey": 0.65, "ice": 0.65, "lightblue": 0.7,
}  # fmt: skip
_BROWS = tuple(f"eyebrow{number:03d}" for number in range(1, 13))


def person(number: int) -> SubjectSpec:
    """Person ``number`` of the cast; the named cast comes before, so it starts at ``len(CAST)``."""
    rng = np.random.default_rng([10_000, number])
    order = number - len(CAST)
    woman = order % 2 == 0
    # A third step, independent of the parity that decides woman or man.
    tone = (0.13 + (order // 2) * 0.6180339887 + (0.0 if woman else 0.31)) % 1.0
    age = float((0.35 + order * 0.7548776662) % 1.0)
    generation = 0 if age < 0.5 else 1 if age < 0.8 else 2
    skin = _choose_skin(rng, tone, woman, generation)
    colour, brow_colour = _hair(rng, tone, age)
    touch = _touch(rng, skin, tone, woman, age, colour)
    iris = _iris(rng, tone, colour)
    return SubjectSpec(
        name=_name(order, woman),
        seed=_shape_seed(number, woman),
        skin=skin.name,
        iris=iris,
        brow=str(rng.choice(_BROWS)),
        brow_colour=brow_colour,
        style=_style(rng, order, woman, generation, colour).name,
        iris_gain=round(_IRISES[iris] * rng.uniform(0.88, 1.14), 3),
        touch=touch,
        hair_colour=colour,
    )


def _name(order: int, woman: bool) -> str:
    names = _WOMEN if woman else _MEN
    # 37 and 64 share no divisor: every name is met once before the first is met again.
    turn, place = divmod(order // 2, len(names))
    name = names[(place * 37 + 11) % len(names)]
    return name if turn == 0 else f"{name}{turn + 1}"


def _choose_skin(rng: np.random.Generator, tone: float, woman: bool, generation: int) -> _Skin:
    """One of the skins whose age and tone are nearest, by chance."""
    candidates = [skin for skin in _SKINS if skin.woman == woman]
    distance = np.array(
        [2.2 * abs(s.tone - tone) + 0.35 * abs(s.age - generation) for s in candidates]
    )
    weight = np.exp(-(((distance - distance.min()) / 0.22) ** 2))
    return candidates[int(rng.choice(len(candidates), p=weight / weight.sum()))]


def _hair(rng: np.random.Generator, tone: float, age: float) -> tuple[str, tuple[int, int, int]]:
    """Name of the natural hair colour and the colour of the brows."""
    deep = float(np.clip((tone - 0.22) / 0.3, 0, 1))
    weight = np.array([(1 - deep) * fair + deep * dark for fair, dark in _HAIR.values()])
    name = str(rng.choice(list(_HAIR), p=weight / weight.sum()))
    colour = np.array(COLOURS[name], dtype=np.float64) * rng.uniform(0.70, 0.88)
    grey = float(np.clip((age - 0.72) / 0.25, 0, 1)) * rng.uniform(0.3, 1.0)
    colour += (np.array(COLOURS["dark grey"]) - colour) * 0.8 * grey
    if grey > 0.4:
        name = "white" if grey > 0.85 else "grey" if grey > 0.55 else "dark grey"
    red, green, blue = (int(value) for value in np.clip(colour, 0, 255))
    return name, (red, green, blue)


def _iris(rng: np.random.Generator, tone: float, hair: str) -> str:
    names = list(_IRISES)
    brown = np.array([name.startswith("brown") for name in names])
    deep = float(np.clip((tone - 0.12) / 0.25, 0, 1))
    share = 0.25 + 0.75 * deep + (0.15 if "black" in hair else 0.0)
    weight = np.where(brown, min(share, 1.0) / brown.sum(), max(1 - share, 0.0) / (~brown).sum())
    return str(rng.choice(names, p=weight / weight.sum()))


def _touch(
    rng: np.random.Generator, skin: _Skin, tone: float, woman: bool, age: float, hair: str
) -> SkinTouch:
    others = [
        s for s in _SKINS
        if s is not skin and s.name != _ALONE and abs(s.tone - skin.tone) < 0.3
    ]  # fmt: skip
    other = others[int(rng.integers(len(others)))] if others else None
    position = tone * (len(_COMPLEXIONS) - 1)
    steps = np.arange(len(_COMPLEXIONS))
    complexion = [float(np.interp(position, steps, _COMPLEXIONS[:, k])) for k in range(3)]
    complexion = list(np.array(complexion) * (1 + rng.normal(0, [0.010, 0.014, 0.024])))
    old = [s for s in _SKINS if s.age == 2 and s is not skin and abs(s.tone - skin.tone) < 0.45]
    lines = old[int(rng.integers(len(old)))] if old and age > 0.42 else None
    strength = float(np.interp(age, (0.42, 0.75, 1.0), (0.1, 0.6, 0.85)))
    fair = float(np.clip(1 - tone / 0.5, 0, 1))
    freckled = hair in ("copper", "strawberry blond") or rng.random() < 0.42
    bearded = not woman and rng.random() < 0.62
    red, green, blue = (int(np.clip(value, 0, 255)) for value in complexion)
    return SkinTouch(
        other=other.name if other is not None else None,
        blend=round(float(rng.uniform(0.2, 0.6)), 3),
        complexion=(red, green, blue),
        redness=round(float(rng.uniform(-0.4, 0.8)) * (0.35 + 0.65 * fair), 3),
        age=round(strength, 3) if lines is not None else 0.0,
        lines=lines.name if lines is not None else None,
        freckles=round(float(rng.uniform(0.25, 0.9)), 3) if freckled and fair > 0.25 else 0.0,
        moles=int(min(rng.poisson(1.3), 5)),
        stubble=round(float(rng.uniform(0.2, 0.85)), 3) if bearded else 0.0,
    )


def _style(
    rng: np.random.Generator, order: int, woman: bool, generation: int, hair: str
) -> StyleSpec:
    """A default style, likelier if its colour and cut suit; one in four takes its turn."""
    turn = STYLES[order // 4 % len(STYLES)]
    if order % 4 == 3 - order // 4 % 2 and turn.category not in (
        *_AGED, *(_SHORN if woman else _LONG),
    ):  # fmt: skip
        return turn
    weight = np.empty(len(STYLES))
    wanted = np.array(COLOURS[hair], dtype=np.float64)
    for index, style in enumerate(STYLES):
        colour = style.dye or COLOURS[_OF_CARDS.get(style.name, "brown")]
        distance = float(np.linalg.norm(np.array(colour) - wanted))
        weight[index] = np.exp(-((distance / 45) ** 2)) + 0.06
        if style.category in (_SHORN if woman else _LONG):
            weight[index] *= _RARE
        if style.category in _AGED:
            weight[index] *= 0.0 if woman or generation == 0 else 3.0
    return STYLES[int(rng.choice(len(STYLES), p=weight / weight.sum()))]


# Distances between landmarks whose ratios tell most men's faces from most women's: jaw to
# cheekbones, chin to face, nose to face, mouth to nose.
_RATIOS = (((5, 11), (1, 15)), ((8, 57), (8, 27)), ((31, 35), (1, 15)), ((4, 12), (8, 27)))


@cache
def _proportions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Landmarks' share of the bilinear core, and mean and spread of the ratios over many faces."""
    model = BilinearModel.builtin()
    core = np.asarray(model.neutral_core).reshape(model.shape_size, -1, 3)
    core = core[:, model.topology.landmarks68].astype(np.float64)
    ratios = np.array([_ratios(core, _shape(seed)) for seed in range(200)])
    return core, ratios.mean(0), ratios.std(0)


def _shape(seed: int) -> np.ndarray:
    return BilinearModel.builtin().sample_shape(np.random.default_rng(seed))


def _ratios(core: np.ndarray, shape: np.ndarray) -> np.ndarray:
    points = np.einsum("s,snd->nd", shape.astype(np.float64), core)

    def length(pair: tuple[int, int]) -> float:
        return float(np.linalg.norm(points[pair[0]] - points[pair[1]]))

    return np.array([length(first) / length(second) for first, second in _RATIOS])


def _shape_seed(number: int, woman: bool) -> int:
    """The most womanly, or manly, of three faces: the model's samples know no sexes."""
    core, mean, spread = _proportions()
    seeds = [10_000 + 3 * number + k for k in range(3)]
    scores = [float(((_ratios(core, _shape(seed)) - mean) / spread).sum()) for seed in seeds]
    return seeds[int(np.argmin(scores) if woman else np.argmax(scores))]
