"""Head360: neural 360-degree heads in Blender, driven by the 52 ARKit shapes.

Blender 4.2 to 5.2. The rendering happens in a backend process of its own; see ``session``.
"""

from __future__ import annotations

import bpy

from . import operators, panels, portrait_panels, preferences, properties, session

_CLASSES = (
    *preferences.CLASSES,
    *properties.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
    *portrait_panels.CLASSES,
)
_registered: list[type] = []


def register() -> None:
    """Register everything, or nothing: a failure takes back what was done and is raised."""
    try:
        for cls in _CLASSES:
            bpy.utils.register_class(cls)
            _registered.append(cls)
        properties.attach()
        session.start()
    except BaseException:
        unregister()
        raise


def unregister() -> None:
    """Take everything back, also after half a registration."""
    session.shut_down()
    properties.detach()
    while _registered:
        bpy.utils.unregister_class(_registered.pop())
