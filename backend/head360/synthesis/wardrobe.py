"""What the studio dresses heads with: skins, eyes, brows and hair.

A wardrobe is read from the folder of raw assets; the studio asks it for finished things only, so
that another source (see ``open_wardrobe``) can stand in for the folder.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Protocol
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.geometry.assets import find_wardrobe
from head360.geometry.ict import to_head_space
from head360.geometry.lattice import Lattice
from head360.geometry.topology import Topology
from head360.synthesis import hair
from head360.synthesis.skins import Canvas, FolderMaterials, head_atlas
from head360.synthesis.subjects import SubjectSpec

Floats = NDArray[np.float32]


class Wardrobe(Protocol):
    """Where skins and hair come from."""

    def generic(self, topology: Topology) -> Floats:
        """(N, 3) float32 the generic head in metres, on which brows and hair were fitted."""

    def tongue(self, topology: Topology) -> NDArray[np.bool_]:
        """(N,) which vertices belong to the tongue."""

    def atlas(
        self, topology: Topology, spec: SubjectSpec, detail: bool = False
    ) -> NDArray[np.uint8]:
        """(1024, 1024, 3) uint8 sRGB albedo of a subject, top row first.

        Args:
            topology: of the bilinear model.
            spec: whose.
            detail: False paints mouth, eyes and brows as in the first look; True as they are now.

        Raises:
            BadInput: a picture is missing.
        """

    def brow_strength(self, topology: Topology, spec: SubjectSpec) -> Floats:
        """(1024, 1024) float32 in [0, 1] how much of the skin the brows of a subject hide.

        Raises:
            BadInput: the brows are missing.
        """

    def style(self, spec: hair.StyleSpec, generic_to_canonical: Lattice) -> hair.Style:
        """A hair style in canonical space.

        Raises:
            BadInput: a file of the style is missing.
        """


class FolderWardrobe:
    """The folder of raw assets, see ``geometry.assets``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.materials = FolderMaterials(folder)
        self._generic: tuple[Floats, NDArray[np.int32]] | None = None
        self._canvas: Canvas | None = None

    def generic(self, topology: Topology) -> Floats:
        """See :class:`Wardrobe`."""
        return self._ict()[0][topology.ict_vertices]

    def tongue(self, topology: Topology) -> NDArray[np.bool_]:
        """See :class:`Wardrobe`."""
        return np.isin(topology.ict_vertices, self._ict()[1])

    def atlas(
        self, topology: Topology, spec: SubjectSpec, detail: bool = False
    ) -> NDArray[np.uint8]:
        """See :class:`Wardrobe`."""
        return head_atlas(self._on(topology), self.materials, spec, detail)

    def brow_strength(self, topology: Topology, spec: SubjectSpec) -> Floats:
        """See :class:`Wardrobe`."""
        return self._on(topology).brow_strength(self.materials, spec.brow)

    def style(self, spec: hair.StyleSpec, generic_to_canonical: Lattice) -> hair.Style:
        """See :class:`Wardrobe`."""
        return hair.make_style(spec, self.folder, generic_to_canonical)

    def _on(self, topology: Topology) -> Canvas:
        if self._canvas is None or self._canvas.topology is not topology:
            self._canvas = Canvas(topology, self.generic(topology), self.tongue(topology))
        return self._canvas

    def _ict(self) -> tuple[Floats, NDArray[np.int32]]:
        """Neutral vertices in metres and the ids of the tongue's, of the whole file."""
        if self._generic is None:
            path = self.folder / "ict_facekit" / "ict_facekit.npz"
            try:
                with np.load(path, allow_pickle=False) as archive:
                    neutral = to_head_space(archive["vertices"]).astype(np.float32)
                    self._generic = neutral, archive["derived_tongue_verts"].astype(np.int32)
            except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
                raise BadInput(
                    f"Cannot use {path} as ICT-FaceKit ({error}): restore the asset folder."
                ) from error
        return self._generic


def open_wardrobe(path: Path | None = None) -> Wardrobe:
    """The wardrobe at ``path``, a folder of raw assets or a pack, or where it is usually found.

    Raises:
        BadInput: there is none, or the pack is damaged.
    """
    from head360.synthesis.pack import PackWardrobe  # which needs FolderWardrobe

    place = path if path is not None else find_wardrobe()
    return PackWardrobe(place) if place.is_file() else FolderWardrobe(place)
