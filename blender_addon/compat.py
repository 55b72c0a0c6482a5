"""Everything that differs between Blender 4.2 and 5.2, asked once and here only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bpy
import numpy as np
from numpy.typing import NDArray

# From 5.0 a path property must say that it takes paths relative to the file; before, it may not.
RELATIVE_PATH = {"PATH_SUPPORTS_BLEND_RELATIVE"} if bpy.app.version >= (5, 0, 0) else set()
# Evaluating another scene writes animated values back into the objects that it shares (measured on
# 4.2; 5.0 does not).
SHARED_VALUES_MOVE = bpy.app.version < (5, 0, 0)
SLOTTED_ACTIONS = bpy.app.version >= (4, 4, 0)
_INTERPOLATION_LINEAR = 1  # the enum's number: foreach_set takes numbers only


def new_action(name: str, id_block: Any) -> tuple[Any, Any]:
    """A fresh action for ``id_block``: (action, its collection of F-curves). Not assigned yet.

    Until 4.3 curves live in the action; from 4.4 in the channel bag of a slot, and from 5.0 only
    there.
    """
    action = bpy.data.actions.new(name)
    if not SLOTTED_ACTIONS:
        return action, action.fcurves
    slot = action.slots.new(id_type=id_block.id_type, name=id_block.name)
    strip = action.layers.new("Layer").strips.new(type="KEYFRAME")
    return action, strip.channelbag(slot, ensure=True).fcurves


def assign_action(id_block: Any, action: Any) -> None:
    """Make ``action`` the one that animates ``id_block``, its first slot included."""
    data = id_block.animation_data or id_block.animation_data_create()
    data.action = action
    if SLOTTED_ACTIONS and action.slots:
        # Assigning an action does not choose a slot: without this nothing moves.
        data.action_slot = action.slots[0]


def fcurves_of(id_block: Any) -> Sequence[Any]:
    """The F-curves that animate ``id_block`` now; empty when nothing does."""
    data = id_block.animation_data
    if data is None or data.action is None:
        return ()
    if not SLOTTED_ACTIONS:
        return data.action.fcurves
    if data.action_slot is None:
        return ()
    for layer in data.action.layers:
        for strip in layer.strips:
            bag = strip.channelbag(data.action_slot)
            if bag is not None:
                return bag.fcurves
    return ()


def fill_fcurve(fcurves: Any, path: str, frames: NDArray, values: NDArray) -> None:
    """One linear curve with keys at ``frames`` (R,), set in bulk."""
    curve = fcurves.new(path)
    points = curve.keyframe_points
    points.add(len(frames))
    points.foreach_set("co", np.column_stack([frames, values]).astype(np.float32).ravel())
    points.foreach_set("interpolation", np.full(len(frames), _INTERPOLATION_LINEAR, dtype=np.int32))
    curve.update()


def use_nodes(owner: Any) -> None:
    """Give a material or world its node tree; from 5.0 it always has one and the switch is gone."""
    if bpy.app.version < (5, 0, 0):
        owner.use_nodes = True


def still_png(settings: Any) -> None:
    """Make image settings write 8-bit RGBA PNG in the scene's own colours."""
    if hasattr(settings, "media_type"):  # from 5.0: it limits which formats may be chosen
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = "PNG", "RGBA", "8"
    settings.color_management = "FOLLOW_SCENE"


def set_node_input(modifier: Any, identifier: str, value: Any) -> None:
    """Set an input of a geometry-nodes modifier: RNA from 5.2 on, ID properties before."""
    inputs = getattr(getattr(modifier, "properties", None), "inputs", None)
    if inputs is not None and hasattr(inputs, identifier):
        getattr(inputs, identifier).value = value
    else:
        modifier[identifier] = value
