"""Who is in the picture: the head, what belongs to it, and which of that is hair."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import bpy

from head360.arkit import NAMES

VISIBLE = (
    "MESH", "CURVE", "CURVES", "SURFACE", "META", "FONT", "POINTCLOUD", "VOLUME", "EMPTY",
    "GREASEPENCIL", "GPENCIL",
)  # fmt: skip
_HAIR = re.compile(
    r"hair|wig|pony|bangs|fringe|braid|dread|curls?\b|\bbun\b|strand|\bfur\b|haircap|scalp", re.I
)
_NO_HAIR = re.compile(r"brow|lash|beard|must?ache|stubble|fuzz|peach", re.I)


@dataclass(frozen=True)
class Hair:
    """One piece of hair, by name: pointers do not survive an undo.

    ``system`` is the particle system's name, or empty when the whole object is hair.
    """

    object: str
    system: str = ""

    @property
    def label(self) -> str:
        """For lists."""
        return f"{self.object}: {self.system}" if self.system else self.object


def arkit_keys(item: Any) -> list[str]:
    """Names of Apple's that an object has as shape keys."""
    if item is None or item.type != "MESH" or item.data.shape_keys is None:
        return []
    return [block.name for block in item.data.shape_keys.key_blocks if block.name in NAMES]


def is_candidate(item: Any) -> bool:
    """Whether an object can be a head at all: a mesh with shape keys."""
    return bool(item is not None and item.type == "MESH" and item.data.shape_keys is not None)


def chosen_head(context: Any) -> Any | None:
    """The head of the panel; else the active object; else the only mesh with ARKit keys."""
    picked = context.scene.head360_capture.head
    if is_candidate(picked) and picked.name in context.scene.objects:
        return picked
    if is_candidate(context.active_object):
        return context.active_object
    found = [item for item in context.scene.objects if arkit_keys(item)]
    return found[0] if len(found) == 1 else None


def rendered(layer: Any) -> set[Any]:
    """Objects of a view layer that a render shows: not hidden, nor in a hidden collection."""
    found: set[Any] = set()

    def walk(collection: Any) -> None:
        if collection.exclude or collection.collection.hide_render:
            return
        found.update(item for item in collection.collection.objects if not item.hide_render)
        for child in collection.children:
            walk(child)

    walk(layer.layer_collection)
    return found


def _armatures(head: Any) -> set[Any]:
    found = {mod.object for mod in head.modifiers if mod.type == "ARMATURE" and mod.object}
    parent = head.parent
    while parent is not None:
        if parent.type == "ARMATURE":
            found.add(parent)
        parent = parent.parent
    return found


def members(head: Any, layer: Any) -> list[Any]:
    """The head and what belongs to it, as far as a render shows it; sorted by name.

    That is: its children, its parent's other children (body, eyes, teeth), what the same armature
    moves, and hair that grows on it. Everything else in the scene stays out of the pictures.
    """
    shown = rendered(layer)
    found = {head, *head.children_recursive}
    if head.parent is not None and head.parent.type != "ARMATURE":
        found |= {head.parent, *head.parent.children_recursive}
    for armature in _armatures(head):
        found |= set(armature.children_recursive)
        found |= {
            item
            for item in shown
            if any(mod.type == "ARMATURE" and mod.object == armature for mod in item.modifiers)
        }
    found |= {item for item in shown if item.type == "CURVES" and item.data.surface in found}
    family = {item for item in found if item.type in VISIBLE and item in shown}
    return sorted(family | {head}, key=lambda item: item.name)


def _named_hair(item: Any) -> bool:
    materials = [slot.material.name for slot in item.material_slots if slot.material is not None]
    names = [item.name, item.data.name if item.data is not None else "", *materials]
    return any(_HAIR.search(name) and not _NO_HAIR.search(name) for name in names)


def find_hair(head: Any, layer: Any) -> list[tuple[Hair, bool]]:
    """Every piece that may be hair, and whether it looks like hair of the head.

    Brows, lashes and beards are listed, but belong to the face unless somebody says otherwise.
    """
    found: list[tuple[Hair, bool]] = []
    for item in members(head, layer):
        for mod in getattr(item, "modifiers", ()):
            if mod.type == "PARTICLE_SYSTEM" and mod.particle_system.settings.type == "HAIR":
                name = mod.particle_system.name
                found.append((Hair(item.name, name), not _NO_HAIR.search(name)))
        if item == head:
            continue
        if item.type == "CURVES":
            found.append((Hair(item.name), not _NO_HAIR.search(item.name)))
        elif item.type in ("MESH", "CURVE", "SURFACE") and _named_hair(item):
            found.append((Hair(item.name), True))
    return found


@dataclass(frozen=True)
class Cast:
    """Everything a picture needs to know of the scene, by name.

    Attributes:
        scene, layer, head: the artist's.
        members: objects in the picture, head and hair included.
        hair: the pieces that the bald twin goes without.
        others: objects that light the pictures, and the one that shows the head's frame.
        frame: that object, or empty when the frame is found from the shape keys.
    """

    scene: str
    layer: str
    head: str
    members: tuple[str, ...]
    hair: tuple[Hair, ...]
    others: tuple[str, ...]
    frame: str = ""

    @staticmethod
    def gather(
        scene: Any, layer: Any, head: Any, hair: Iterable[Hair], frame: Any | None = None
    ) -> Cast:
        """Look at the scene as it is now; hair that was deleted or is hidden is left out."""
        shown = rendered(layer)
        visible = {item.name for item in shown}
        pieces = tuple(
            piece
            for piece in hair
            if piece.object in visible
            and (
                not piece.system or piece.system in bpy.data.objects[piece.object].particle_systems
            )
        )
        names = {item.name for item in members(head, layer)} | {piece.object for piece in pieces}
        others = {item.name for item in shown if item.type in ("LIGHT", "LIGHT_PROBE")}
        if frame is not None:
            others.add(frame.name)
        return Cast(
            scene.name, layer.name, head.name, tuple(sorted(names)), pieces,
            tuple(sorted(others - names)), frame.name if frame is not None else "",
        )  # fmt: skip
