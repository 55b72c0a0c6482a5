"""ICT-FaceKit's OBJ files, written from the assets' arrays, come back as the same arrays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from head360.cli import main
from head360.errors import BadInput
from head360.geometry.assets import VARIABLE, find_assets
from head360.geometry.ict import load_ict
from head360.geometry.ict_import import COPIED, NEUTRAL, import_ict, make_indices, read_indices

IDENTITIES = ("identity000", "identity037", "identity099")
EXPRESSIONS = ("browInnerUp_L", "browInnerUp_R", "eyeBlink_L", "jawOpen")
BUNDLED = Path(__file__).resolve().parents[2] / "backend/head360/data/ict_indices.npz"


@pytest.fixture(scope="module")
def assets() -> Path:
    try:
        return find_assets()
    except BadInput:
        pytest.skip("the raw assets are not here")


@pytest.fixture(scope="module")
def raw(assets: Path) -> dict[str, np.ndarray]:
    with np.load(assets / "ict_facekit" / "ict_facekit.npz", allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files}


@pytest.fixture(scope="module")
def objs(raw: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as upstream's, with few of its shapes and its six significant digits."""
    folder = tmp_path_factory.mktemp("FaceXModel")
    tail = [f"vt {u:.6g} {v:.6g}" for u, v in raw["uvs"].tolist()]
    material = -1
    for face, uv, own in zip(
        (raw["faces"] + 1).tolist(),
        (raw["face_uvs"] + 1).tolist(),
        raw["face_material"].tolist(),
        strict=True,
    ):
        if own != material:
            tail.append(f"usemtl {raw['material_names'][own]}")
            material = own
        tail.append("f " + " ".join(f"{a}/{t}" for a, t in zip(face, uv, strict=True) if a))
    shapes = {NEUTRAL: raw["vertices"]}
    for kind, chosen in (("identity", IDENTITIES), ("expression", EXPRESSIONS)):
        rows = raw[f"{kind}_names"].tolist()
        for name in chosen:
            shapes[name] = raw["vertices"] + raw[f"{kind}_deltas"][rows.index(name)]
    for name, positions in shapes.items():
        lines = ["# ICT FaceKit", "mtllib ICTFaceModelMaterial.mtl"]
        lines += [f"v {x:.6g} {y:.6g} {z:.6g}" for x, y, z in positions.tolist()]
        (folder / f"{name}.obj").write_text("\n".join(lines + tail) + "\n")
    document = {"idx_to_landmark_verts": raw["landmarks68"].tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(document))
    return folder


def run(source: Path, out: Path) -> dict:
    return import_ict(source, out, IDENTITIES, EXPRESSIONS)


@pytest.mark.assets
def test_same_arrays(raw: dict[str, np.ndarray], objs: Path, tmp_path: Path) -> None:
    figures = run(objs, tmp_path)
    assert (figures["vertices"], figures["faces"]) == (26_719, 26_384)
    written = tmp_path / "ict_facekit"
    assert sorted(path.name for path in written.iterdir()) == ["LICENSE", "ict_facekit.npz"]
    assert (written / "LICENSE").read_text() == "# ICT FaceKit\n"
    with np.load(written / "ict_facekit.npz", allow_pickle=False) as archive:
        got = {key: archive[key] for key in archive.files}
    rows = {
        kind: [raw[f"{kind}_names"].tolist().index(name) for name in chosen]
        for kind, chosen in (("identity", IDENTITIES), ("expression", EXPRESSIONS))
    }
    assert set(got) <= set(raw)
    for key, value in got.items():
        expected = raw[key]
        if key.startswith(("identity_", "expression_")):
            expected = expected[rows[key.split("_")[0]]]
        elif key == "arkit_to_ict":
            expected = expected[:, rows["expression"]]
        assert value.dtype.kind == expected.dtype.kind, key
        if value.dtype.kind == "f":
            assert value.dtype == expected.dtype, key
            np.testing.assert_allclose(value, expected, rtol=0, atol=1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(value, expected, err_msg=key)


@pytest.mark.assets
def test_the_folder_works_as_assets(
    assets: Path, objs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(objs, tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    ours, original = load_ict(find_assets()), load_ict(assets)
    np.testing.assert_array_equal(ours.triangles, original.triangles)
    np.testing.assert_array_equal(ours.triangle_hidden, original.triangle_hidden)
    np.testing.assert_array_equal(ours.landmarks68, original.landmarks68)
    np.testing.assert_allclose(ours.eye_centres, original.eye_centres, atol=1e-7)
    np.testing.assert_allclose(
        ours.identity_deltas, original.identity_deltas[[0, 37, 99]], rtol=0, atol=1e-7
    )


@pytest.mark.assets
def test_bundled_indices_are_those_of_the_assets(assets: Path, tmp_path: Path) -> None:
    made = make_indices(assets, tmp_path / "indices.npz")
    assert made.stat().st_size < 150_000
    bundled = read_indices()
    with np.load(made, allow_pickle=False) as archive:
        assert set(archive.files) == set(bundled)
        for key in archive.files:
            np.testing.assert_array_equal(archive[key], bundled[key], err_msg=key)


def _cut(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def _swap_vertex_for_text(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"v 0 ", b"v zero ", 1))


@pytest.mark.assets
@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        (f"{NEUTRAL}.obj", Path.unlink, "lacks"),
        ("jawOpen.obj", Path.unlink, "lacks"),
        ("jawOpen.obj", lambda path: _cut(path, 0.2), "vertices instead of"),
        ("jawOpen.obj", lambda path: _cut(path, 0.9), "faces"),
        ("jawOpen.obj", _swap_vertex_for_text, "not a usable OBJ"),
        ("identity037.obj", lambda path: path.write_bytes(b"\xff\x00PK"), "0 vertices instead of"),
        (f"{NEUTRAL}.obj", lambda path: _cut(path, 0.9), "OBJ file|faces"),
        (f"{NEUTRAL}.obj", lambda path: _cut(path, 0.2), "vertices instead of"),
        ("vertex_indices.json", Path.unlink, "lacks"),
        ("vertex_indices.json", lambda path: _cut(path, 0.5), "list of vertices"),
        ("vertex_indices.json", lambda path: path.write_text("[1]"), "list of vertices"),
    ],
)
def test_damage_is_named(objs: Path, tmp_path: Path, name: str, damage: object, says: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in objs.iterdir():
        if path.name == name:
            shutil.copy(path, source / name)
        else:
            (source / path.name).symlink_to(path)
    damage(source / name)
    with pytest.raises(BadInput, match=says) as error:
        run(source, tmp_path / "out")
    assert name in str(error.value)
    assert not list((tmp_path / "out").rglob("*.npz"))


def test_command_without_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["mesh", "import", str(tmp_path), "--out", str(tmp_path / "out"), "--json"]
    assert main(arguments) == 2
    message = json.loads(capsys.readouterr().out)["error"]["message"]
    assert f"{NEUTRAL}.obj and 154 other files" in message
    assert "ICT-VGL/ICT-FaceKit" in message


def test_bundled_indices() -> None:
    indices = read_indices()
    assert set(COPIED) < set(indices)
    assert BUNDLED.stat().st_size < 150_000
    assert len(indices["expression_names"]) == 53
