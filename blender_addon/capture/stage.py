"""The stage of one picture: a scene of its own with the head, its hair and the artist's lights.

The stage is a copy of the artist's scene (settings only; objects are shared), so render settings,
camera, frame, compositor and view settings of the artist are never touched. What is shared, the
values of shape keys and the visibility of hair, is changed through :class:`Changes`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

from head360.arkit import INDEX, NAMES
from head360.errors import BadInput

from .. import compat
from .cast import Cast
from .changes import Changes

_PATHS = {f'key_blocks["{name}"].value': name for name in NAMES}


class HairShown(Enum):
    """How hair appears in a picture."""

    WORN = "worn"
    HIDDEN = "hidden"
    HOLDOUT = "cut out"  # transparent, but still in front of what it hides


@dataclass(frozen=True)
class Moment:
    """What the head does in a picture.

    Attributes:
        weights: (52,) to set, or None to leave the shape keys to the artist's animation.
        frame: of the scene, None for the current one.
    """

    weights: NDArray[np.float32] | None = None
    frame: float | None = None


def find(cast: Cast) -> tuple[Any, Any, Any]:
    """(scene, view layer, head) as they are now.

    Raises:
        BadInput: one of them was deleted or renamed meanwhile.
    """
    scene = bpy.data.scenes.get(cast.scene)
    layer = scene.view_layers.get(cast.layer) if scene is not None else None
    head = scene.objects.get(cast.head) if scene is not None else None
    if layer is None or head is None or head.type != "MESH" or head.data.shape_keys is None:
        raise BadInput("The head or the scene changed meanwhile: start again.")
    return scene, layer, head


@contextmanager
def staged(cast: Cast, moment: Moment, hair: HairShown = HairShown.WORN) -> Iterator[Any]:
    """Yield the stage as a scene, posed; afterwards nothing is left of it.

    Raises:
        BadInput: the artist's scene changed meanwhile.
    """
    source, layer, head = find(cast)
    with Changes() as changes:
        if moment.weights is not None:
            _pose(changes, cast, head, moment.weights)
        if compat.SHARED_VALUES_MOVE and moment.frame is not None:
            now, part = source.frame_current, source.frame_subframe
            changes.later(lambda: source.frame_set(now, subframe=part))
        scene = source.copy()
        changes.later(lambda: bpy.data.scenes.remove(scene))
        _empty(scene, layer.name)
        for name in (*cast.members, *cast.others):
            item = bpy.data.objects.get(name)
            if item is None:
                raise BadInput(f"The object {name} was deleted meanwhile: start again.")
            scene.collection.objects.link(item)
        if hair is HairShown.HIDDEN:
            _hide_hair(changes, cast)
        elif hair is HairShown.HOLDOUT:
            _cut_hair_out(changes, cast, scene)
        if moment.frame is not None:
            scene.frame_current = int(np.floor(moment.frame))
            scene.frame_subframe = float(moment.frame - np.floor(moment.frame))
        yield scene


def _empty(scene: Any, layer: str) -> None:
    """Take everything out of a scene but its settings; one view layer stays."""
    scene.camera = None
    scene.timeline_markers.clear()  # a marker may bind a camera and would change ours
    for other in [one for one in scene.view_layers if one.name != layer]:
        scene.view_layers.remove(other)
    scene.view_layers[layer].use = True
    for child in list(scene.collection.children):
        scene.collection.children.unlink(child)
    for item in list(scene.collection.objects):
        scene.collection.objects.unlink(item)


# --- the face -------------------------------------------------------------------------------------


def _pose(changes: Changes, cast: Cast, head: Any, weights: NDArray) -> None:
    """Set the keys of the head, and keys of the same names on eyes, teeth and the like."""
    seen = set()
    others = [bpy.data.objects.get(name) for name in cast.members]
    for item in (head, *others):
        keys = item.data.shape_keys if item is not None and item.type == "MESH" else None
        if keys is None or keys in seen or not keys.use_relative:
            continue
        seen.add(keys)
        changes.set(item, "show_only_shape_key", False)
        driven = _silence(changes, keys, drivers=item == head)
        for block in keys.key_blocks:
            # What a driver of another object copies from the head keeps following it.
            if block.name not in INDEX or (item != head and block.name in driven):
                continue
            value = float(weights[INDEX[block.name]])
            changes.set(block, "slider_min", min(block.slider_min, 0.0))
            changes.set(block, "slider_max", max(block.slider_max, 1.0))
            changes.set(block, "mute", False)
            changes.set(block, "value", value)


def _silence(changes: Changes, keys: Any, *, drivers: bool) -> set[str]:
    """Mute what animates the 52 values of ``keys``; returns the blendshapes that have drivers."""
    data = keys.animation_data
    if data is None:
        return set()
    driven = set()
    for curve in data.drivers:
        if curve.data_path in _PATHS:
            driven.add(_PATHS[curve.data_path])
            if drivers:
                changes.set(curve, "mute", True)
    for curve in compat.fcurves_of(keys):
        if curve.data_path in _PATHS:
            changes.set(curve, "mute", True)
    if data.nla_tracks:
        changes.set(data, "use_nla", False)
    return driven


# --- the hair -------------------------------------------------------------------------------------


def _systems(cast: Cast) -> Iterator[tuple[Any, Any]]:
    """(object, modifier) of every particle system that is hair."""
    for piece in cast.hair:
        item = bpy.data.objects.get(piece.object)
        for mod in item.modifiers if item is not None and piece.system else ():
            if mod.type == "PARTICLE_SYSTEM" and mod.particle_system.name == piece.system:
                yield item, mod


def _hide_hair(changes: Changes, cast: Cast) -> None:
    for piece in cast.hair:
        if not piece.system and piece.object in bpy.data.objects:
            changes.set(bpy.data.objects[piece.object], "hide_render", True)
    for _item, mod in _systems(cast):
        changes.set(mod, "show_render", False)


def _cut_hair_out(changes: Changes, cast: Cast, scene: Any) -> None:
    """Make hair a holdout. Particles are part of their emitter, so they move to a copy of it."""
    for piece in cast.hair:
        if not piece.system and piece.object in bpy.data.objects:
            changes.set(bpy.data.objects[piece.object], "is_holdout", True)
    emitters: dict[str, set[str]] = {}
    for item, mod in list(_systems(cast)):
        emitters.setdefault(item.name, set()).add(mod.particle_system.name)
    for name, systems in emitters.items():
        item = bpy.data.objects[name]
        copy = item.copy()  # shares mesh, keys and particle settings
        changes.later(lambda copy=copy: bpy.data.objects.remove(copy))
        scene.collection.objects.link(copy)
        copy.is_holdout = True
        copy.show_instancer_for_render = False
        for mod in copy.modifiers:
            if mod.type == "PARTICLE_SYSTEM" and mod.particle_system.name not in systems:
                mod.show_render = False
        for mod in item.modifiers:
            if mod.type == "PARTICLE_SYSTEM" and mod.particle_system.name in systems:
                changes.set(mod, "show_render", False)
