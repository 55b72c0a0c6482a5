"""Which key of somebody's rig is which of the 52 blendshapes: names matched, nothing else needed.

Rigs spell Apple's names in many ways (``eyeBlink_L``, ``Eye_Blink_Left``, ``A14_EyeBlinkLeft``,
``blendShape1.eyeBlink_L``), some families of characters have names of their own, and some cut one
shape into a left and a right half. :func:`match` sorts all of that into one table in which every
blendshape has at most one source and every key serves at most once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from head360.arkit.names import NAMES
from head360.arkit.spellings import FAMILIES, HALVES

LEAST_LIKENESS = 0.86  # of difflib; below this two names are different words, not a slip
_SIDES = {"l": "left", "lt": "left", "left": "left", "r": "right", "rt": "right", "right": "right"}
_LONGEST_SLIP = 1  # letters in a row; "eyeLookLeft" lacks a word of "eyeLookInLeft", not a letter
# A prefix that holds one of these says something about the shape: it is no prefix.
_FACE_WORDS = frozenset(
    (
        "eye", "eyes", "brow", "brows", "jaw", "mouth", "cheek", "cheeks", "nose", "tongue", "lip",
        "lips", "lid", "lids", "blink", "look", "squint", "wide", "open", "close", "forward",
        "funnel", "pucker", "smile", "frown", "dimple", "stretch", "roll", "shrug", "press",
        "lower", "upper", "inner", "outer", "puff", "sneer", "up", "down", "in", "out", "left",
        "right", "corner", "not", "no", "half",
    )
)  # fmt: skip
_MOST_PREFIXES = 4


class How(Enum):
    """How a blendshape was found in the rig."""

    EXACT = "present"
    SPELLING = "spelt differently"
    FAMILY = "named as another family of rigs does"
    PREFIX = "has a prefix"
    SLIP = "looks like a slip"
    SPLIT = "cut into two halves"
    MISSING = "missing"


@dataclass(frozen=True)
class Match:
    """What became of one blendshape.

    Attributes:
        name: Apple's.
        how: it was found.
        sources: keys of the rig: one, or the left and the right half of a split shape, or none.
    """

    name: str
    how: How
    sources: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """The one key that is this blendshape, or an empty text."""
        return self.sources[0] if len(self.sources) == 1 else ""


@dataclass(frozen=True)
class Mapping:
    """The 52 matches in the order of ``arkit.NAMES``, and the keys that serve none of them.

    ``duplicates`` are those of the extra keys that spell a blendshape which another key already is:
    key → blendshape.
    """

    matches: tuple[Match, ...]
    extra: tuple[str, ...]
    duplicates: dict[str, str] = field(default_factory=dict)

    def of(self, *how: How) -> list[Match]:
        """The matches of these kinds."""
        return [match for match in self.matches if match.how in how]

    def renames(self) -> dict[str, str]:
        """Key → blendshape for every key that has to be renamed and can be."""
        return {m.source: m.name for m in self.matches if m.source and m.how is not How.EXACT}


def words(key: str) -> list[str]:
    """Lower-case words of a key: cut at separators, capitals and digits.

    ``blendShape1.eyeBlink_L`` → ``['blend', 'shape', '1', 'eye', 'blink', 'l']``.
    """
    pieces = re.split(r"[^A-Za-z0-9]+", key)
    found: list[str] = []
    for piece in pieces:
        found += re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", piece)
    return [word.lower() for word in found]


def squash(parts: Sequence[str]) -> str:
    """The words in one, sides spelt out; a single side goes to the end.

    Two sides stay where they are: ``Eye_L_Look_R`` and ``eyeLookRightL`` mean the left eye both.
    """
    spelt = [_SIDES.get(word, word) for word in parts]
    sides = [word for word in spelt if word in ("left", "right")]
    if len(sides) == 1:
        spelt.remove(sides[0])
        spelt += sides
    return "".join(spelt)


_BY_SPELLING = {squash(words(name)): name for name in NAMES}
_BY_FAMILY = {squash(words(theirs)): name for theirs, name in FAMILIES.items()}
_BY_HALF = {squash(words(half)): (name, side) for half, (name, side) in HALVES.items()}


def _readings(parts: Sequence[str]) -> Iterator[str]:
    """The ways to read a list of words: as it is, and with an l or r at its very end as a side."""
    text = squash(parts)
    yield text
    if text[-1:] in "lr" and text[:-1]:
        yield text[:-1] + _SIDES[text[-1]]


def _bare(parts: list[str]) -> list[str]:
    """Without the number that Blender adds to a second key of the same name."""
    return parts[:-1] if len(parts) > 1 and parts[-1].isdigit() else parts


def _find(parts: list[str], table: dict[str, str]) -> str:
    for text in _readings(parts):
        if text in table:
            return table[text]
    return ""


def _without_prefix(parts: list[str]) -> Iterator[list[str]]:
    """Shorter and shorter endings, as long as what is cut off says nothing about a face."""
    for count in range(1, min(_MOST_PREFIXES, len(parts) - 1) + 1):
        if parts[count - 1] in _FACE_WORDS:
            return
        yield parts[count:]


def recognise(key: str) -> tuple[str, How] | None:
    """The blendshape that a single key spells, or None; slips and halves are not recognised."""
    if key in NAMES:
        return key, How.EXACT
    parts = _bare(words(key))
    if not parts:
        return None
    for table, how in ((_BY_SPELLING, How.SPELLING), (_BY_FAMILY, How.FAMILY)):
        name = _find(parts, table)
        if name:
            return name, how
    for ending in _without_prefix(parts):
        for table in (_BY_SPELLING, _BY_FAMILY):
            name = _find(ending, table)
            if name:
                return name, How.PREFIX
    return None


def _half(key: str) -> tuple[str, str] | None:
    """(blendshape, side) when the key is one half of a shape that has no sides, else None."""
    parts = _bare(words(key))
    for ending in (parts, *_without_prefix(parts)):
        for text in _readings(ending):
            if text in _BY_HALF:
                return _BY_HALF[text]
    return None


def _likeness(key: str, name: str) -> float:
    """How much a key looks like a misspelt name, in [0, 1]; 0 where whole syllables differ."""
    one, other = squash(_bare(words(key))), squash(words(name))
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal" and max(i2 - i1, j2 - j1) > _LONGEST_SLIP:
            return 0.0
    return matcher.ratio()


def match(keys: Sequence[str]) -> Mapping:
    """Sort the keys of a rig (without its basis) into the 52 blendshapes.

    A better kind of match goes first, whatever the order of the keys, and a key without a number
    before its copies: one that has exactly the right name is never displaced, and no key is
    proposed twice.
    """
    found: dict[str, Match] = {}
    duplicates: dict[str, str] = {}
    free = list(dict.fromkeys(keys))
    read = {key: recognise(key) for key in free}
    for how in (How.EXACT, How.SPELLING, How.FAMILY, How.PREFIX):
        # A number at the end tells a copy or an in-between: the plain key goes first.
        for key in sorted(free, key=lambda key: key[-1:].isdigit()):
            known = read[key]
            if known is None or known[1] is not how:
                continue
            if known[0] in found:
                duplicates[key] = known[0]
            else:
                found[known[0]] = Match(known[0], how, (key,))
            free.remove(key)
    _match_halves(free, found)
    _match_slips(free, found)
    matches = tuple(found.get(name, Match(name, How.MISSING)) for name in NAMES)
    used = {source for one in matches for source in one.sources}
    extra = tuple(key for key in dict.fromkeys(keys) if key not in used)
    return Mapping(matches, extra, duplicates)


def _match_halves(free: list[str], found: dict[str, Match]) -> None:
    """Take pairs of halves out of ``free``; a lone half stays there."""
    halves: dict[tuple[str, str], str] = {}
    for key in free:
        half = _half(key)
        if half is not None:
            halves.setdefault(half, key)
    for name, side in list(halves):
        pair = (halves.get((name, "left"), ""), halves.get((name, "right"), ""))
        if side == "left" and all(pair) and name not in found:
            found[name] = Match(name, How.SPLIT, pair)
            free[:] = [key for key in free if key not in pair]


def _match_slips(free: list[str], found: dict[str, Match]) -> None:
    """Pair what is left by likeness, the most alike first."""
    missing = [name for name in NAMES if name not in found]
    pairs = [(_likeness(key, name), name, key) for key in free for name in missing]
    for likeness, name, key in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
        if likeness < LEAST_LIKENESS:
            break
        if name not in found and key in free:
            found[name] = Match(name, How.SLIP, (key,))
            free.remove(key)
