"""Gaussians in Blender: files become objects that show colours, and avatars are heads like any."""

from __future__ import annotations

import bpy
import numpy as np
import pytest

from head360.arkit import INDEX, NAMES
from head360.geometry.splatfile import SplatCloud, field_names, write_splats

C0 = 0.28209479177387814


def a_cloud(count: int = 30) -> SplatCloud:
    """A red half to the subject's left and a green one to the right; the last ones are faint."""
    rng = np.random.default_rng(0)
    side = np.where(np.arange(count) % 2, 0.08, -0.08)
    means = rng.uniform(-0.05, 0.05, (count, 3))
    means[:, 0] += side
    turns = rng.normal(size=(count, 4))
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    colours = np.where(np.arange(count)[:, None] % 2, [0.9, 0.1, 0.1], [0.1, 0.7, 0.1])
    logits = np.where(np.arange(count) < count - 4, 4.0, -4.0)
    scales, sh = rng.uniform(0.01, 0.03, (count, 3)), ((colours - 0.5) / C0)[:, None]
    arrays = means, turns, scales, logits, sh
    return SplatCloud(*(np.asarray(a, dtype=np.float32) for a in arrays))


def values(mesh, name: str, field: str, width: int) -> np.ndarray:
    found = np.zeros(len(mesh.vertices) * width, np.float32)
    mesh.attributes[name].data.foreach_get(field, found)
    return found.reshape(-1, width)


@pytest.fixture
def placed(bpy_scene, tmp_path):
    path = write_splats(tmp_path / "avatar.ply", a_cloud())
    assert bpy.ops.head360.import_splat(filepath=str(path)) == {"FINISHED"}
    return bpy.context.view_layer.objects.active


def test_a_splat_becomes_an_object_with_its_gaussians(placed) -> None:
    cloud = a_cloud()
    assert placed.name == "avatar"
    mesh = placed.data
    assert len(mesh.vertices) == 26  # faint ones are left out
    points = np.zeros(26 * 3, np.float32)
    mesh.vertices.foreach_get("co", points)
    x, y, z = cloud.means[:26].T
    np.testing.assert_allclose(points.reshape(-1, 3), np.stack([x, -z, y], 1), atol=1e-7)
    np.testing.assert_allclose(values(mesh, "size", "vector", 3), cloud.scales[:26], rtol=1e-5)
    opacity = values(mesh, "opacity", "value", 1)[:, 0]
    np.testing.assert_allclose(opacity, cloud.opacities[:26], rtol=1e-5)
    # Scene linear: sRGB 0.9 is 0.787.
    assert values(mesh, "Colour", "color", 4)[1] == pytest.approx([0.787, 0.01, 0.01, 1], abs=0.01)


def test_ellipsoids_lie_as_the_file_says(placed) -> None:
    """Their covariance, as Blender turns and stretches a ball, is the file's in Blender's axes."""
    from mathutils import Matrix

    cloud = a_cloud()
    places, bodies = [], []
    for item in bpy.context.evaluated_depsgraph_get().object_instances:
        if item.is_instance:
            matrix = np.array(item.matrix_world)
            places.append(matrix[:3, 3])
            bodies.append(matrix[:3, :3])
    assert len(bodies) == 26
    axes = np.array(Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0))))
    for k in range(26):
        w, x, y, z = cloud.quaternions[k].astype(float)
        turn = np.array([
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ])  # fmt: skip
        expected = axes @ turn @ np.diag(1.5 * cloud.scales[k].astype(float))
        away = np.linalg.norm(np.array(places) - axes @ cloud.means[k], axis=1)
        assert away.min() < 1e-6
        linear = bodies[int(away.argmin())]
        np.testing.assert_allclose(linear @ linear.T, expected @ expected.T, atol=1e-7)


@pytest.mark.parametrize("ellipsoids", [True, False])
def test_it_shows_its_colours(bpy_scene, tmp_path, ellipsoids) -> None:
    path = write_splats(tmp_path / "a.ply", a_cloud(120))
    bpy.ops.head360.import_splat(filepath=str(path), ellipsoids=ellipsoids)
    bpy_scene.render.engine = "CYCLES"
    bpy_scene.cycles.samples, bpy_scene.cycles.use_denoising = 1, False
    bpy_scene.render.film_transparent = True
    bpy_scene.view_settings.view_transform = "Standard"
    bpy_scene.render.resolution_x = bpy_scene.render.resolution_y = 40
    bpy_scene.render.filepath = str(tmp_path / "a.png")
    bpy.ops.render.render(write_still=True)
    image = bpy.data.images.load(str(tmp_path / "a.png"))
    pixels = np.zeros(40 * 40 * 4, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = pixels.reshape(40, 40, 4)
    solid = pixels[..., 3] > 0.99
    assert solid.sum() > 40
    # The subject's left is on the picture's right.
    left, right = pixels[:, :18][solid[:, :18]], pixels[:, 22:][solid[:, 22:]]
    assert np.median(left, 0)[:3] == pytest.approx([0.1, 0.7, 0.1], abs=0.05)
    assert np.median(right, 0)[:3] == pytest.approx([0.9, 0.1, 0.1], abs=0.05)


@pytest.mark.parametrize(
    ("up", "expected"), [("Y", (0, -3, 2)), ("-Y", (0, 3, -2)), ("Z", (0, 2, 3))]
)
def test_the_axis_that_points_up(bpy_scene, tmp_path, up, expected) -> None:
    one = SplatCloud(*(a[:1] for a in vars(a_cloud()).values()))
    one.means[:] = (0, 2, 3)
    path = write_splats(tmp_path / "a.ply", one)
    bpy.ops.head360.import_splat(filepath=str(path), up=up)
    mesh = bpy.context.view_layer.objects.active.data
    assert tuple(mesh.vertices[0].co) == pytest.approx(expected)


def test_several_files_at_once_as_when_they_are_dropped(bpy_scene, tmp_path) -> None:
    for name in ("0001.ply", "0002.ply"):
        write_splats(tmp_path / name, a_cloud())
    files = [{"name": "0001.ply"}, {"name": "0002.ply"}]
    result = bpy.ops.head360.import_splat(directory=str(tmp_path), files=files)
    assert result == {"FINISHED"}
    placed = [item for item in bpy_scene.objects if item.type == "MESH"]
    assert sorted(item.name for item in placed) == ["0001", "0002"]
    assert len({item.modifiers[0].node_group for item in placed}) == 1  # shared
    assert len(bpy.data.materials) == 1


def test_bad_files_are_named_and_leave_nothing(bpy_scene, tmp_path, snapshot) -> None:
    path = tmp_path / "bad.ply"
    whole = write_splats(path, a_cloud()).read_bytes()
    before = snapshot()
    head, body = whole.split(b"end_header\n", 1)
    swapped = np.frombuffer(body, "<f4").astype(">f4").tobytes()
    for data, words in (
        (whole.replace(b"float rot_2\n", b"float turn\n"), "lacks the field rot_2"),
        (whole[:-500], "truncated: it holds 27 of 30"),
        (head + b"end_header\n" + swapped, "numbers are big endian"),
        (b"solid stl", "no PLY"),
    ):
        path.write_bytes(data)
        with pytest.raises(RuntimeError, match=words):
            bpy.ops.head360.import_splat(filepath=str(path))
    write_splats(path, a_cloud())
    with pytest.raises(RuntimeError, match="Least Opacity"):
        bpy.ops.head360.import_splat(filepath=str(path), faint=1.0)
    assert snapshot() == before
    assert len(field_names()) == 62


def test_an_avatar_is_a_head_like_any(addon, bpy_scene, tmp_path, monkeypatch) -> None:
    """The starter avatar behind a real backend: made, posed by the shape keys, rendered."""
    from blender_addon.session import session
    from conftest import REPOSITORY

    python = REPOSITORY / ".venv" / "bin" / "python"
    if not python.is_file():
        pytest.skip("the backend's environment .venv is not there (run `make setup`)")
    session.stop(wait=True)
    monkeypatch.setenv("HEAD360_BACKEND_PYTHON", str(python))
    monkeypatch.setenv("HEAD360_BACKEND_ARGS", "--device cpu")
    monkeypatch.setenv("HEAD360_RUNTIME_DIR", str(tmp_path / "run"))
    try:
        assert bpy.ops.head360.start_backend() == {"FINISHED"}
        assert bpy.ops.head360.create_head(model="starter-gaussian") == {"FINISHED"}
        head = bpy.context.view_layer.objects.active
        blocks = head.data.shape_keys.key_blocks
        assert [block.name for block in blocks] == ["Basis", *NAMES]
        for frame, value in ((1, 0.0), (2, 0.9)):
            blocks["jawOpen"].value = value
            blocks["jawOpen"].keyframe_insert("value", frame=frame)
        bpy_scene.frame_start, bpy_scene.frame_end = 1, 2
        bpy_scene.render.resolution_x = bpy_scene.render.resolution_y = 96
        out = tmp_path / "frames"
        assert bpy.ops.head360.render_sequence(directory=str(out)) == {"FINISHED"}
        bpy_scene.head360.surface_resolution = 48
        bpy.context.view_layer.objects.active = head
        assert bpy.ops.head360.extract_surface() == {"FINISHED"}
    finally:
        session.stop(wait=True)
    frames = []
    for number in (1, 2):
        image = bpy.data.images.load(str(out / f"{number:04d}.png"))
        pixels = np.zeros(96 * 96 * 4, np.float32)
        image.pixels.foreach_get(pixels)
        frames.append(pixels.reshape(96, 96, 4))
    closed, open_ = frames
    shown = closed[..., 3] > 0.9
    assert 0.05 < shown.mean() < 0.7
    # The mouth and the chin changed, the crown (above, as rows go up) did not.
    rows = np.flatnonzero(shown.any(1))
    middle = (rows[0] + rows[-1]) // 2
    moved = np.abs(open_ - closed).mean(-1)
    assert moved[:middle].max() > 0.2
    assert moved[rows[-1] - 10 : rows[-1] + 1].max() < 0.1
    assert INDEX["jawOpen"] == NAMES.index("jawOpen")
