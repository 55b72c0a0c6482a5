"""The 52 ARKit blendshapes: names, order, takes."""

from head360.arkit.names import COUNT, INDEX, NAMES

__all__ = ["COUNT", "INDEX", "NAMES"]
