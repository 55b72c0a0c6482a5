"""Is this rig one of ARKit's 52 shapes? Names, geometry and settings, judged in words."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from head360.arkit import NAMES
from head360.arkit.mapping import How, match
from head360.arkit.mapping import Mapping as NameMapping
from head360.errors import BadInput, Head360Error

from .capture.cast import Cast
from .capture.frame import Finder, HeadFrame, coordinates, key_deltas, other_side, own_points
from .capture.stage import Moment

_NOTHING = 1e-5  # of the head's size: a key that moves less moves nothing
_ASIDE = 0.002  # metres by which a left shape must lie on the wrong side to be called exchanged
_MOST_NAMES = 4
# Modifiers after which a posed head has other vertices than the one at rest.
_BREAKING = {
    "DECIMATE": "changes the number of vertices with the pose",
    "BOOLEAN": "changes the number of vertices with the pose",
    "REMESH": "changes the number of vertices with the pose",
    "WELD": "may join lips and lids when they touch",
    "MIRROR": "repeats a one-sided expression on the other side",
}
# (shape, axis, sign): which way a shape mostly moves, in head space.
_DIRECTIONS = (
    ("jawOpen", 1, -1), ("browInnerUp", 1, 1), ("eyeBlinkLeft", 1, -1), ("eyeBlinkRight", 1, -1),
    ("jawLeft", 0, 1), ("jawRight", 0, -1), ("mouthLeft", 0, 1), ("mouthRight", 0, -1),
)  # fmt: skip
_WORDS = {(0, 1): "left", (0, -1): "right", (1, 1): "up", (1, -1): "down"}


@dataclass(frozen=True)
class Report:
    """What was found: how the names match, and sentences about everything that looks wrong."""

    names: NameMapping
    warnings: tuple[str, ...]

    @property
    def summary(self) -> str:
        """In one line."""
        present = len(self.names.of(How.EXACT))
        parts = [f"{present} of {len(NAMES)} present"]
        for count, word in (
            (len(self.names.renames()), "to rename"),
            (len(self.names.of(How.SPLIT)), "split"),
            (len(self.names.of(How.MISSING)), "missing"),
            (len(self.names.extra), "extra"),
        ):
            if count:
                parts.append(f"{count} {word}")
        return ", ".join(parts)


def examine(cast: Cast, head: Any) -> Report:
    """Judge the rig of ``head``; changes nothing."""
    keys = head.data.shape_keys
    names = match([block.name for block in keys.key_blocks if block != keys.reference_key])
    warnings = [*_settings(head), *_duplicates(names)]
    sources = {m.name: m.source for m in names.matches if m.source}
    if keys.use_relative and sources:
        warnings += _geometry(cast, head, sources)
    return Report(names, tuple(warnings))


def _listed(found: list[str]) -> str:
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return ", ".join(found[:_MOST_NAMES]) + more


def _settings(head: Any) -> Iterator[str]:
    keys = head.data.shape_keys
    if not keys.use_relative:
        yield "The shape keys are absolute: switch on Relative."
    blocks = [block for block in keys.key_blocks if block != keys.reference_key]
    muted = [block.name for block in blocks if block.mute]
    if muted:
        yield f"Muted, so they do nothing: {_listed(muted)}."
    narrow = [block.name for block in blocks if block.slider_max < 1 or block.slider_min > 0]
    if narrow:
        yield f"Sliders that do not reach from 0 to 1: {_listed(narrow)}."
    other = [block.name for block in blocks if block.relative_key != keys.reference_key]
    if other:
        yield f"Relative to another key than {keys.reference_key.name}: {_listed(other)}."
    if head.show_only_shape_key:
        yield "Only the active shape key is shown: switch off the pin."
    for mod in head.modifiers:
        if mod.type in _BREAKING and mod.show_render:
            yield f"The modifier {mod.name} {_BREAKING[mod.type]}: apply it or switch it off."


def _duplicates(names: NameMapping) -> Iterator[str]:
    for key, name in names.duplicates.items():
        yield f"{key} spells {name}, which another key already is."


def _geometry(cast: Cast, head: Any, sources: Mapping[str, str]) -> Iterator[str]:
    deltas = key_deltas(head, sources)
    size = float(np.ptp(coordinates(head.data.vertices), axis=0).max())
    idle = [name for name, delta in deltas.items() if np.abs(delta).max() < _NOTHING * size]
    if idle:
        yield f"Without any effect: {_listed([sources[name] for name in idle])}."
    moving = {name: delta for name, delta in deltas.items() if name not in idle}
    try:
        finder = Finder(cast, {name: sources[name] for name in moving})
        frame = finder.at()
    except Head360Error as error:
        yield str(error)
        return
    if not frame.believable:
        yield (
            f"The shapes do not lie where a face has them ({frame.error * 1000:.0f} mm off): "
            "are the names given to the right keys?"
        )
        return
    if frame.swapped:
        yield "Left and right are exchanged throughout: ARKit's left is the character's own left."
        return
    points, linear = own_points(cast, Moment(np.zeros(len(NAMES), np.float32)))
    yield from _sides(frame, points, moving, sources)
    yield from _directions(frame, linear, moving, sources)


def _centre(points: NDArray, delta: NDArray) -> NDArray:
    weights = np.einsum("ni,ni->n", delta, delta).astype(np.float64)
    return weights @ points / weights.sum()


def _sides(
    frame: HeadFrame, points: NDArray, deltas: Mapping[str, NDArray], sources: Mapping[str, str]
) -> Iterator[str]:
    """Pairs whose left half lies on the right. The jaw's and the mouth's sides are directions."""
    at = frame.to_head(points)
    for name, delta in deltas.items():
        partner = other_side(name)
        if not name.endswith("Left") or partner not in deltas or name in ("jawLeft", "mouthLeft"):
            continue
        left, right = _centre(at, delta)[0], _centre(at, deltas[partner])[0]
        if left < right - _ASIDE:
            yield f"{sources[name]} and {sources[partner]} are exchanged: left moves what is right."


def _directions(
    frame: HeadFrame, linear: NDArray, deltas: Mapping[str, NDArray], sources: Mapping[str, str]
) -> Iterator[str]:
    into = np.linalg.inv(frame.world)[:3, :3] @ linear
    for name, axis, sign in _DIRECTIONS:
        if name not in deltas:
            continue
        delta = deltas[name].astype(np.float64) @ into.T
        length = np.linalg.norm(delta, axis=1)
        drift = float(length @ delta[:, axis]) / float(length @ length)
        if drift * sign < -0.3:  # mostly the other way; a shape may well move to all sides
            yield f"{sources[name]} moves {_WORDS[axis, -sign]} instead of {_WORDS[axis, sign]}."


# --- mending --------------------------------------------------------------------------------------


def rename(head: Any, names: Mapping[str, str]) -> int:
    """Rename shape keys, old → new; what animates or drives them follows. Returns how many.

    Raises:
        BadInput: a new name is taken by a key that keeps it, or wanted twice; nothing is done.
    """
    keys = head.data.shape_keys
    blocks = {block.name: block for block in keys.key_blocks}
    wanted = {old: new for old, new in names.items() if old in blocks and old != new}
    _demand_free(head, wanted, list(wanted.values()))
    # By way of names that nothing has, so that two keys can exchange theirs.
    # Blender itself corrects the F-curves and drivers that point at a key it renames.
    for number, old in enumerate(wanted):
        blocks[old].name = f"~head360 {number}"
    for old, new in wanted.items():
        blocks[old].name = new
    return len(wanted)


def _demand_free(head: Any, renamed: Collection[str], new_names: Sequence[str]) -> None:
    """Raise BadInput unless each new name is wanted once and no key that keeps its own has it."""
    kept = {block.name for block in head.data.shape_keys.key_blocks} - set(renamed)
    for new in new_names:
        if new in kept:
            raise BadInput(f"{head.name} has a shape key {new} already: give that another name.")
        if new_names.count(new) > 1:
            raise BadInput(f"Two shape keys shall become {new}: switch one of them off.")


def mend(head: Any, names: Mapping[str, str], halves: Sequence[tuple[str, tuple[str, str]]]) -> int:
    """Rename keys as :func:`rename` does and join halves (new name, both); all or nothing.

    Returns how many were renamed.

    Raises:
        BadInput: a half is gone or shall be renamed, or a name is taken; nothing is done.
    """
    present = {block.name for block in head.data.shape_keys.key_blocks}
    wanted = {old: new for old, new in names.items() if old in present and old != new}
    for name, pair in halves:
        if any(half not in present or half in wanted for half in pair):
            raise BadInput(f"A half of {name} is no longer there: press Check Rig again.")
    _demand_free(head, wanted, [*wanted.values(), *(name for name, _ in halves)])
    renamed = rename(head, wanted)
    for name, pair in halves:
        join(head, name, pair)
    return renamed


def join(head: Any, name: str, halves: tuple[str, str]) -> Any:
    """A new key ``name`` that moves what both halves move; the halves stay. Returns it.

    Raises:
        BadInput: a half is gone, or the name is taken.
    """
    blocks = head.data.shape_keys.key_blocks
    if any(half not in blocks for half in halves):
        raise BadInput(f"A half of {name} is no longer there: press Check Rig again.")
    if name in blocks:
        raise BadInput(f"{head.name} has a shape key {name} already: press Check Rig again.")
    rest = coordinates(head.data.shape_keys.reference_key.data)
    moved = rest.copy()
    for half in halves:
        moved += coordinates(blocks[half].data) - coordinates(blocks[half].relative_key.data)
    key = head.shape_key_add(name=name, from_mix=False)
    key.data.foreach_set("co", moved.ravel())
    key.slider_min, key.slider_max, key.value = 0.0, 1.0, 0.0
    return key
