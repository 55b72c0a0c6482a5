"""Head360 Studio: neural 360-degree heads, driven by the 52 ARKit blendshapes.

Importing this package costs nothing: no torch, no numba, no network. Blender imports it too.
"""

__version__ = "0.1.0"
