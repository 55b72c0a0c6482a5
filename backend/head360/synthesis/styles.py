"""The table of hair styles: what each is called, of what class and colour, and how it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace

from head360.errors import BadInput
from head360.synthesis.growth import Gather, Growth, Lengths, Shell
from head360.synthesis.strand_texture import StrandLook

# Natural colours, sRGB 0–255 of the middle of a strand in even light.
COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (30, 26, 25),
    "soft black": (44, 37, 34),
    "dark brown": (62, 43, 32),
    "brown": (88, 61, 43),
    "chestnut": (104, 62, 40),
    "light brown": (130, 92, 62),
    "auburn": (116, 54, 34),
    "copper": (158, 82, 42),
    "strawberry blond": (188, 128, 82),
    "dark blond": (162, 120, 80),
    "blond": (210, 170, 116),
    "platinum": (214, 198, 168),
    "dark grey": (98, 96, 95),
    "grey": (146, 145, 144),
    "white": (206, 205, 202),
}


@dataclass(frozen=True)
class StyleSpec:
    """One hair style of the studio: card files or growth, and a colour.

    Attributes:
        name: of the style and, with cards, of its files.
        label: what an artist reads.
        gain: (3,) multiplies the sRGB texture of cards.
        dye: (3,) sRGB 0–255: the strands keep their differences but take this colour on average.
        curly: strands run every way, so there is no common highlight.
        category: class of cut, such as "bob" or "ponytail".
        growth: how it is grown; None for cards.
    """

    name: str
    label: str
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dye: tuple[int, int, int] | None = None
    curly: bool = False
    category: str = ""
    growth: Growth | None = None

    def dyed(self, colour: str | tuple[int, int, int]) -> StyleSpec:
        """The same cut in another colour: a name of ``COLOURS`` or sRGB 0–255.

        The name stays, since it finds the files; the label tells the colour.

        Raises:
            BadInput: no such colour, or a channel out of range.
        """
        cut = self.label.split(",")[0]
        if isinstance(colour, str):
            if colour not in COLOURS:
                known = ", ".join(COLOURS)
                raise BadInput(f"There is no hair colour {colour!r}: choose one of {known}.")
            return replace(self, label=f"{cut}, {colour}", dye=COLOURS[colour])
        if len(colour) != 3 or not all(0 <= channel <= 255 for channel in colour):
            raise BadInput(f"The hair colour {colour!r} is not three sRGB values from 0 to 255.")
        red, green, blue = (int(channel) for channel in colour)
        label = f"{cut}, #{red:02x}{green:02x}{blue:02x}"
        return replace(self, label=label, dye=(red, green, blue))


def _grown(
    name: str, label: str, category: str, colour: str, growth: Growth, curly: bool = False
) -> StyleSpec:
    return StyleSpec(name, label, (1.0, 1.0, 1.0), COLOURS[colour], curly, category, growth)


_CARDS: tuple[StyleSpec, ...] = (
    # A trained model knows the first of these by name: order and looks stay.
    StyleSpec("short02", "Crop, ash brown", (1.05, 1.0, 0.92), category="crop"),
    StyleSpec("short03", "Side sweep, auburn", (1.15, 0.95, 0.9), category="side part"),
    StyleSpec("short04", "Slicked back, black", category="slick back"),
    StyleSpec("bob01", "Asymmetric bob, black", (1.25, 1.2, 1.2), category="bob"),
    StyleSpec("bob02", "Bob, platinum", (0.98, 0.95, 0.88), category="bob"),
    StyleSpec("ponytail01", "Ponytail, chestnut", category="ponytail"),
    StyleSpec("afro01", "Afro, black", dye=(24, 20, 19), curly=True, category="afro"),
    StyleSpec("long01", "Long straight, brown", dye=(84, 54, 38), category="long straight"),
    StyleSpec("short01", "Neat short, black", category="short"),
    StyleSpec("braid01", "Side braid, dark brown", dye=(62, 43, 32), category="braid"),
)

_SMOOTH = StrandLook(wave=0.6, turns=1.0, rag=0.12, taper=0.15)
_LOOSE = StrandLook(wave=1.2, turns=1.5, rag=0.35, taper=0.45)
_CURLS = StrandLook(wave=3.0, turns=5.0, rag=0.3, taper=0.2, contrast=0.26)
_KINKS = StrandLook(wave=4.5, turns=9.0, rag=0.45, taper=0.1, contrast=0.30, frizz=True, stubble=3)
_FELT = StrandLook(wave=3.0, turns=9, frizz=True, contrast=0.3)
_SHORN = StrandLook(rag=0.4, taper=0.5, stubble=3, undercoat=1.25)

_CLIPPED: tuple[StyleSpec, ...] = (
    _grown(
        "buzz01", "Buzz cut, dark brown", "buzz", "dark brown",
        Growth(11, Lengths(0.006, 0.006, 0.005, 0.005), count=1700, points=3, width=0.006,
            comb="crown", lift=0.55, thickness=0.002, mess=0.25, clump=0.0, cap=0.95,
            strands=_SHORN),
    ),
    _grown(
        "buzz02", "Shaved head with stubble, black", "buzz", "black",
        Growth(12, Lengths(0.003, 0.003, 0.003, 0.003), count=0, cap=0.72, fade_cover=0.72,
            strands=_SHORN),
    ),
    _grown(
        "crew01", "Crew cut, light brown", "crew cut", "light brown",
        Growth(13, Lengths(0.022, 0.02, 0.007, 0.008), count=1500, points=4, width=0.007,
            comb="forward", lift=0.95, thickness=0.012, mess=0.3, clump=0.25, clumps=300,
            fade=(8, 34), fade_cover=0.75, strands=_LOOSE),
    ),
    _grown(
        "crop01", "Textured crop, dark blond", "crop", "dark blond",
        Growth(14, Lengths(0.042, 0.04, 0.014, 0.014), count=1050, points=6, width=0.009,
            comb="forward", lift=0.55, thickness=0.016, mess=0.4, clump=0.5, clumps=170, fade=(0,
            30),
            fade_cover=0.7, fringe=0.066, strands=_LOOSE),
    ),
    _grown(
        "fade01", "High fade, soft black", "fade", "soft black",
        Growth(15, Lengths(0.018, 0.018, 0.004, 0.004), count=1300, points=4, width=0.007,
            comb="crown", lift=0.8, thickness=0.009, mess=0.35, clump=0.2, fade=(22, 48),
            fade_cover=0.3, strands=_KINKS), True,
    ),
    _grown(
        "fade02", "Fade with quiff, brown", "fade", "brown",
        Growth(16, Lengths(0.065, 0.05, 0.008, 0.008), count=800, points=7, width=0.01,
            comb="back", lift=1.5, thickness=0.026, mess=0.15, clump=0.35, clumps=120, fade=(10,
            40),
            fade_cover=0.55, strands=_LOOSE, gravity=0.1),
    ),
    _grown(
        "receding01", "Receding, grey", "receding", "grey",
        Growth(17, Lengths(0.026, 0.024, 0.014, 0.016), count=1200, points=5, width=0.008,
            comb="back", lift=0.5, thickness=0.007, mess=0.2, recede=17, cap=0.8,
            strands=StrandLook(grey=0.35, contrast=0.25)),
    ),
    _grown(
        "crown01", "Bald crown, dark grey", "bald crown", "dark grey",
        Growth(18, Lengths(0.022, 0.022, 0.022, 0.024), count=900, points=5, width=0.008,
            comb="crown", lift=0.35, thickness=0.008, mess=0.2, bald=58, recede=6,
            strands=StrandLook(grey=0.4, contrast=0.25)),
    ),
)  # fmt: skip

_SHORT: tuple[StyleSpec, ...] = (
    _grown(
        "sidepart01", "Side part, dark brown", "side part", "dark brown",
        Growth(21, Lengths(0.095, 0.085, 0.024, 0.022), count=700, points=8, width=0.012,
            comb="part", part=0.034, lift=0.6, thickness=0.014, mess=0.06, clump=0.25,
            strands=_SMOOTH, fringe=0.068, gravity=0.2),
    ),
    _grown(
        "slick01", "Slicked back, chestnut", "slick back", "chestnut",
        Growth(22, Lengths(0.12, 0.1, 0.06, 0.05), count=700, points=9, width=0.012, comb="back",
            lift=0.35, thickness=0.01, mess=0.05, hug=0.9, clump=0.3, gravity=0.1, strands=_SMOOTH),
    ),
    _grown(
        "undercut01", "Undercut, blond", "undercut", "blond",
        Growth(23, Lengths(0.13, 0.11, 0.01, 0.01), count=640, points=9, width=0.012, comb="back",
            lift=0.9, thickness=0.018, mess=0.07, clump=0.3, fade=(34, 44), fade_cover=0.5,
            gravity=0.15, strands=_SMOOTH),
    ),
    _grown(
        "pixie01", "Pixie, copper", "pixie", "copper",
        Growth(24, Lengths(0.065, 0.06, 0.036, 0.03), count=850, points=7, width=0.01,
            comb="sweep", part=-0.03, lift=0.5, thickness=0.014, mess=0.22, clump=0.55, clumps=200,
            fringe=0.055, strands=_LOOSE),
    ),
    _grown(
        "bowl01", "Bowl cut, brown", "bowl cut", "brown",
        Growth(25, Lengths(0.095, 0.14, 0.11, 0.11), count=650, points=9, width=0.012,
            comb="crown", lift=0.4, thickness=0.013, mess=0.04, spread=0.04, clump=0.1,
            level=-0.012,
            tuck=0.15, fringe=0.05, strands=_SMOOTH),
    ),
    _grown(
        "shag01", "Messy short, light brown", "messy", "light brown",
        Growth(26, Lengths(0.07, 0.07, 0.055, 0.045), count=800, points=8, width=0.011,
            comb="crown", lift=0.9, thickness=0.022, mess=0.55, clump=0.6, clumps=140, spread=0.3,
            wave=0.004, wave_length=0.05, fringe=0.052, strands=_LOOSE),
    ),
    _grown(
        "mohawk01", "Mohawk, auburn", "mohawk", "auburn",
        Growth(27, Lengths(0.038, 0.027, 0.006, 0.036), count=600, points=7, width=0.012,
            comb="up", lift=1.0, thickness=0.0, mess=0.06, clump=0.35, clumps=60, strip=0.018,
            fade_cover=0.3, strands=_LOOSE, gravity=0.0),
    ),
    _grown(
        "fauxhawk01", "Faux hawk, soft black", "faux hawk", "soft black",
        Growth(28, Lengths(0.036, 0.024, 0.01, 0.014), count=900, points=6, width=0.009,
            comb="up", lift=1.0, thickness=0.0, mess=0.12, clump=0.35, clumps=150, strip=0.04,
            fade_cover=0.55, strands=_LOOSE, gravity=0.0),
    ),
)  # fmt: skip

_LONG: tuple[StyleSpec, ...] = (
    _grown(
        "bob03", "Chin bob with centre part, auburn", "bob", "auburn",
        Growth(31, Lengths(0.24, 0.26, 0.2, 0.18), count=520, points=11, width=0.014, comb="part",
            lift=0.35, thickness=0.016, mess=0.04, spread=0.05, tuck=0.5, level=-0.088,
            strands=_SMOOTH),
    ),
    _grown(
        "bob04", "Bob with a fringe, black", "fringe bob", "black",
        Growth(32, Lengths(0.082, 0.26, 0.2, 0.18), count=520, points=11, width=0.014,
            comb="crown", lift=0.35, thickness=0.016, mess=0.03, spread=0.04, tuck=0.4,
            level=-0.072,
            fringe=0.047, strands=_SMOOTH),
    ),
    _grown(
        "shoulder01", "Shoulder length, dark blond", "shoulder length", "dark blond",
        Growth(33, Lengths(0.26, 0.28, 0.21, 0.19), count=480, points=12, width=0.013,
            comb="part", part=0.02, lift=0.4, thickness=0.018, mess=0.08, tuck=0.3, wave=0.004,
            wave_length=0.12, strands=_LOOSE),
    ),
    _grown(
        "long02", "Long straight, black", "long straight", "black",
        Growth(34, Lengths(0.42, 0.42, 0.34, 0.32), count=420, points=14, width=0.013,
            comb="part", lift=0.3, thickness=0.015, mess=0.05, strands=_SMOOTH),
    ),
    _grown(
        "long03", "Long wavy, blond", "long wavy", "blond",
        Growth(35, Lengths(0.4, 0.42, 0.34, 0.32), count=365, points=16, width=0.013, comb="part",
            part=-0.022, lift=0.5, thickness=0.022, mess=0.08, wave=0.0065, wave_length=0.085,
            clump=0.35, tousle=0.6, strands=_LOOSE),
    ),
    _grown(
        "long04", "Long curls, chestnut", "long curly", "chestnut",
        Growth(36, Lengths(0.34, 0.36, 0.32, 0.3), count=285, points=20, width=0.013, comb="part",
            part=0.018, lift=0.7, thickness=0.026, mess=0.15, curl=0.009, pitch=0.075, clump=0.45,
            strands=_CURLS),
    ),
    _grown(
        "layered01", "Layered, light brown", "layered", "light brown",
        Growth(37, Lengths(0.2, 0.22, 0.2, 0.24), count=500, points=12, width=0.012, comb="part",
            part=0.012, lift=0.55, thickness=0.022, mess=0.14, spread=0.38, tuck=-0.35, clump=0.45,
            strands=StrandLook(wave=1.2, rag=0.45, taper=0.6, streaks=0.15)),
    ),
    _grown(
        "mullet01", "Mullet, dark blond", "mullet", "dark blond",
        Growth(38, Lengths(0.055, 0.07, 0.038, 0.22), count=560, points=10, width=0.011,
            comb="crown", lift=0.7, thickness=0.016, mess=0.25, clump=0.45, fringe=0.055,
            wave=0.004,
            strands=_LOOSE),
    ),
    _grown(
        "grey01", "Shoulder length, white", "shoulder length", "white",
        Growth(39, Lengths(0.19, 0.21, 0.16, 0.14), count=500, points=12, width=0.012,
            comb="part", part=-0.03, lift=0.5, thickness=0.02, mess=0.1, tuck=0.4, wave=0.006,
            wave_length=0.09, strands=_LOOSE),
    ),
)  # fmt: skip

_CURLY: tuple[StyleSpec, ...] = (
    _grown(
        "curly01", "Short curls, dark brown", "short curly", "dark brown",
        Growth(41, Lengths(0.05, 0.055, 0.03, 0.03), count=560, points=10, width=0.011,
            comb="crown", lift=1.0, thickness=0.022, mess=0.3, curl=0.007, pitch=0.024, clump=0.3,
            shells=(Shell(0.008, 0.9),), strands=_CURLS, fringe=0.056), True,
    ),
    _grown(
        "curly02", "Chin-length curls, copper", "medium curly", "copper",
        Growth(42, Lengths(0.08, 0.13, 0.14, 0.13), count=360, points=15, width=0.012,
            comb="crown", lift=1.0, thickness=0.034, mess=0.25, curl=0.009, pitch=0.044, clump=0.3,
            shells=(Shell(0.005, 1.0),), strands=_CURLS, fringe=0.07), True,
    ),
    _grown(
        "coils01", "Tight coils, black", "tight curls", "black",
        Growth(43, Lengths(0.03, 0.034, 0.02, 0.022), count=850, points=6, width=0.01, comb="up",
            lift=1.0, thickness=0.0, mess=0.5, roll=60, curl=0.004, pitch=0.015, gravity=0.0,
            shells=(Shell(0.009, 0.95),), strands=_KINKS), True,
    ),
    _grown(
        "afro02", "Big afro, soft black", "afro", "soft black",
        Growth(44, Lengths(0.027, 0.026, 0.042, 0.042), count=740, points=7, width=0.011,
            comb="up", lift=1.0, thickness=0.0, mess=0.16, roll=70, curl=0.005, pitch=0.017,
            tousle=3.0, clump=0.0, gravity=0.0, spread=0.1,
            shells=(Shell(0.014, 1.0), Shell(0.021, 1.0)), strands=_KINKS), True,
    ),
    _grown(
        "locks01", "Dreadlocks, dark brown", "dreadlocks", "dark brown",
        Growth(45, Lengths(0.22, 0.22, 0.19, 0.18), count=100, points=12, width=0.013,
            comb="part", part=0.015, lift=0.8, thickness=0.016, mess=0.12, gravity=0.6, locks=100,
            clump=0.0, fringe=0.062, strands=_FELT), True,
    ),
)  # fmt: skip

_TIED: tuple[StyleSpec, ...] = (
    _grown(
        "ponytail02", "Low ponytail, dark brown", "ponytail", "dark brown",
        Growth(51, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.007, mess=0.03, clump=0.05,
            gathers=(Gather(180, -12, "tail", 0.2, 0.026, 0.35),), strands=_SMOOTH),
    ),
    _grown(
        "ponytail03", "High ponytail, blond", "high ponytail", "blond",
        Growth(52, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.007, mess=0.03, clump=0.05,
            gathers=(Gather(180, 48, "tail", 0.26, 0.03, 0.9),), wave=0.006, strands=_SMOOTH),
    ),
    _grown(
        "topknot01", "Top knot, black", "top knot", "black",
        Growth(53, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.007, mess=0.04, clump=0.05,
            gathers=(Gather(180, 60, "bun", 0.0, 0.028),), strands=_SMOOTH),
    ),
    _grown(
        "bun01", "Low bun, grey", "bun", "grey",
        Growth(54, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.2, thickness=0.008, mess=0.03, clump=0.05,
            gathers=(Gather(180, -2, "bun", 0.0, 0.034),),
            strands=StrandLook(wave=0.6, rag=0.12, taper=0.15, grey=0.3)),
    ),
    _grown(
        "pigtails01", "Pigtails, strawberry blond", "pigtails", "strawberry blond",
        Growth(55, Lengths(0.2, 0.2, 0.2, 0.2), count=480, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.007, mess=0.03, clump=0.05, wave=0.004,
            gathers=(Gather(118, 6, "tail", 0.19, 0.026, 0.9),
            Gather(-118, 6, "tail", 0.19, 0.026, 0.9)), strands=_SMOOTH),
    ),
    _grown(
        "braid02", "Single braid, auburn", "braid", "auburn",
        Growth(56, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.008, mess=0.03, clump=0.05,
            gathers=(Gather(180, -10, "plait", 0.21, 0.02, 0.3),), strands=_SMOOTH),
    ),
    _grown(
        "braid03", "Two braids, brown", "two braids", "brown",
        Growth(57, Lengths(0.2, 0.2, 0.2, 0.2), count=460, points=9, width=0.012, comb="tie",
            lift=0.15, thickness=0.008, mess=0.03, clump=0.05,
            gathers=(Gather(122, -16, "plait", 0.2, 0.016, 0.4),
            Gather(-122, -16, "plait", 0.2, 0.016, 0.4)), strands=_SMOOTH),
    ),
)  # fmt: skip

STYLES: tuple[StyleSpec, ...] = (*_CARDS, *_CLIPPED, *_SHORT, *_LONG, *_CURLY, *_TIED)
