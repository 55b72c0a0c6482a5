"""Extracted surfaces: bricks without seams, clean components, charts, baked colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from head360 import heads
from head360.arkit import COUNT
from head360.errors import BadInput, Cancelled
from head360.geometry.attach import vertex_normals
from head360.geometry.bake import bake, fill_gutter, texels
from head360.geometry.bricks import SIZE, BrickGrid
from head360.geometry.carving import Carving, close_rim, cut_above, longest_rim
from head360.geometry.isosurface import open_edges, signed_volume, solid_components
from head360.geometry.lashes import solid_faces
from head360.geometry.meshfile import read_obj, write_textured_obj
from head360.geometry.unwrap import unwrap
from head360.heads.albedo import Shot, bake_albedo, fill_holes
from head360.heads.base import Head, Pose
from head360.heads.surfaces import extract_surface, hair_surface, opaque_mesh
from head360.rendering.cameras import to_normalised

STARTER = Path(heads.__file__).parents[1] / "data/models/starter"


def ball(radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)):
    def field(points: np.ndarray) -> np.ndarray:
        distance = radius - np.linalg.norm(points - np.float32(centre), axis=1)
        return np.clip(distance * 10, -1, 1).astype(np.float32)

    return field


def sphere(cells: int, radius: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    grid = BrickGrid(ball(radius), cells)
    grid.sample(grid.bricks_at(np.float32([[radius, 0, 0]])))
    return grid.extract()


@pytest.mark.parametrize("cells", [40, 63, 64, 100])
def test_bricks_meet_without_seams(cells: int) -> None:
    # From a single spot the sampling follows the surface through all bricks it crosses.
    vertices, faces = sphere(cells)
    assert open_edges(faces) == 0
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.6).max() < 1.5 / cells
    assert signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.02)
    assert len(np.unique(vertices, axis=0)) == len(vertices)


def test_bricks_far_from_the_surface_are_never_sampled() -> None:
    grid = BrickGrid(ball(0.2), 8 * SIZE, blur=0.8)
    grid.sample(grid.bricks_at(np.float32([[0.2, 0, 0]])))
    assert grid.sampled <= 64 < grid.count**3 / 8
    assert open_edges(grid.extract()[1]) == 0


def test_the_surface_is_closed_at_the_cube() -> None:
    grid = BrickGrid(ball(1.3), 48)
    grid.sample(set())
    vertices, faces = grid.extract()
    assert open_edges(faces) == 0
    np.testing.assert_allclose(vertices.max(0), 1.0, atol=1e-6)
    np.testing.assert_allclose(vertices.min(0), -1.0, atol=1e-6)


def test_floaters_and_cavities_are_dropped() -> None:
    def field(points: np.ndarray) -> np.ndarray:
        shell = np.minimum(ball(0.6)(points), -ball(0.4)(points))
        return np.maximum(shell, ball(0.06, (0.8, 0.8, 0.8))(points))

    grid = BrickGrid(field, 64)
    grid.sample(grid.bricks_at(np.float32([[0.6, 0, 0], [0.4, 0, 0], [0.8, 0.8, 0.8]])))
    vertices, faces, removed = solid_components(*grid.extract(), 0.02)
    assert removed == 2
    assert np.linalg.norm(vertices, axis=1).min() > 0.55
    assert np.linalg.norm(vertices, axis=1).max() < 0.65
    assert open_edges(faces) == 0


def test_carving_is_a_signed_depth_and_fills_what_cannot_be_seen() -> None:
    vertices, faces = sphere(48)
    inner = vertices * 0.5
    both = np.concatenate([vertices, inner])
    carving = Carving(both, np.concatenate([faces, faces[:, ::-1] + len(vertices)]), 256)
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(400, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    for depth in (-0.03, -0.01, 0.01, 0.03):
        found = carving.inside(np.float32(direction * (0.6 - depth)), 0.1)
        np.testing.assert_allclose(found, depth, atol=abs(depth) * 0.15 + 0.004)
    assert (carving.inside(np.float32(direction * 0.1), 0.1) > 0.09).all()


def test_an_open_rim_is_found_capped_and_cut() -> None:
    vertices, faces = sphere(40)
    kept = faces[(vertices[faces][..., 1] > -0.3).all(1)]
    rim = longest_rim(vertices, kept)
    assert np.abs(vertices[rim][:, 1] + 0.3).max() < 0.06
    closed, capped = close_rim(vertices, kept, rim)
    assert open_edges(capped) == 0
    assert signed_volume(closed, capped) > 0
    normal, offset = cut_above(vertices[rim], np.zeros(3, np.float32), 0.01)
    assert normal[1] > 0.99
    assert (vertices[rim] @ normal < offset).all()


def test_charts_cover_every_triangle_once(tmp_path: Path) -> None:
    pytest.importorskip("xatlas")
    vertices, faces = sphere(32)
    uvs, face_uvs = unwrap(vertices, faces, 256)
    assert uvs.min() >= 0
    assert uvs.max() <= 1
    corner = uvs[face_uvs] * 256
    a, b = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / 2
    covered = texels(uvs, face_uvs, 256)
    assert len(covered.index) == pytest.approx(area, rel=0.02)  # overlaps would cover less
    assert len(covered.index) > 0.35 * 256**2

    place = covered.blend(vertices, faces)
    assert np.abs(np.linalg.norm(place, axis=1) - 0.6).max() < 0.03
    normals = vertex_normals(vertices, faces)
    picture = bake(vertices, faces, uvs, face_uvs, normals, 256, lambda p, n: (n + 1) / 2)
    shown = picture.reshape(-1, 3)[covered.index] / 255 * 2 - 1
    np.testing.assert_allclose(shown, place / 0.6, atol=0.2)

    written = write_textured_obj(tmp_path / "a.obj", vertices, faces, uvs, face_uvs, b"png")
    assert [path.name for path in written] == ["a.obj", "a.mtl", "a.png"]
    assert "map_Kd a.png" in written[1].read_text()
    assert "mtllib a.mtl" in written[0].read_text()[:100]
    assert np.array_equal(read_obj(written[0]).triangles()[1], face_uvs)


def test_gutters_and_holes_take_colours_from_around() -> None:
    picture = np.zeros((64, 64, 3), np.float32)
    known = np.zeros((64, 64), np.bool_)
    picture[20:30, 20:30], known[20:30, 20:30] = (0.8, 0.2, 0.1), True
    filled = fill_gutter(picture, known, reach=4)
    np.testing.assert_allclose(filled[18, 25], (0.8, 0.2, 0.1), atol=1e-6)
    picture[:, 40:], known[:, 40:] = (0.0, 0.0, 1.0), True
    smooth = fill_holes(picture, known.astype(np.float32))
    np.testing.assert_array_equal(smooth[known], picture[known])
    assert smooth[32, 10, 0] > smooth[32, 38, 0]
    assert smooth.min() >= 0


@pytest.fixture(scope="module")
def starter() -> Head:
    return heads.load(STARTER)


@pytest.fixture(scope="module")
def pose(starter: Head) -> Pose:
    return starter.pose(starter.codes("felix"), np.zeros(COUNT, np.float32))


def test_a_trained_head_is_one_watertight_solid(starter: Head, pose: Pose) -> None:
    seen: list[tuple[float, str]] = []
    surface = extract_surface(starter, pose, 64, 0, lambda f, phase: seen.append((f, phase)))
    assert open_edges(surface.faces) == 0
    _, _, more = solid_components(surface.vertices, surface.faces, 0.0)
    assert more == 0
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"measuring", "sampling", "colouring"} <= {phase for _, phase in seen}
    # The bust ends in a flat cut above its ragged rim.
    topology = starter.model.topology
    mesh = opaque_mesh(starter, pose)
    rim = mesh[longest_rim(mesh, topology.faces[solid_faces(topology)])]
    normal, offset = cut_above(rim, mesh.mean(0), 2 / 64)
    height = to_normalised(surface.vertices) @ normal - offset
    assert height.min() > -0.5 * 2 / 64
    assert (np.abs(height) < 0.25 * 2 / 64).sum() > 200
    # Skin lies on the mesh, hair above it.
    top = surface.vertices[:, 1].max()
    assert 0 < top - pose.vertices[:, 1].max() < 0.04
    assert surface.colours.min() >= 0
    assert (surface.colours.sum(1) > 0.05).all()  # no black rims


def test_cancelling_stops_an_extraction(starter: Head, pose: Pose) -> None:
    def stop(fraction: float, phase: str) -> None:
        if phase == "sampling":
            raise Cancelled("enough")

    with pytest.raises(Cancelled, match="enough"):
        extract_surface(starter, pose, 64, 0, stop)


@pytest.mark.parametrize(("resolution", "texture"), [(31, 0), (513, 0), (64, 300)])
def test_sizes_that_are_not_offered_are_refused(
    starter: Head, pose: Pose, resolution: int, texture: int
) -> None:
    with pytest.raises(BadInput):
        extract_surface(starter, pose, resolution, texture)


def test_hair_alone_is_a_solid_above_the_skull(starter: Head, pose: Pose) -> None:
    hair = hair_surface(starter, pose, 64)
    assert hair is not None
    assert open_edges(hair.faces) == 0
    assert hair.vertices[:, 1].min() > -0.1
    bald = starter.pose(starter.codes("felix", None), np.zeros(COUNT, np.float32))
    assert hair_surface(starter, bald, 64) is None


def test_baked_albedo_has_skin_and_cut_lashes(starter: Head) -> None:
    plan = [Shot({}, 0.0, 0.0, 1.0)]
    texture = bake_albedo(starter, starter.codes("felix"), 256, plan=plan, picture=128)
    assert texture.shape == (256, 256, 4)
    nose = texture[80:96, 72:88, :3].reshape(-1, 3).mean(0)
    assert nose[0] > nose[1] > nose[2] > 40
    lashes = texture[192:224, 160:256, 3]
    assert 0.02 < (lashes > 128).mean() < 0.8
    assert (texture[:160, :160, 3] == 255).all()
