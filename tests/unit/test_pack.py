"""The pack: one file from which the studio draws the very pictures that the folder gives."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest

from head360.errors import BadInput
from head360.geometry.assets import VARIABLE, find_assets, find_wardrobe
from head360.geometry.bilinear import BilinearModel
from head360.geometry.lattice import ANCHOR_PARTS, Lattice
from head360.rendering.cameras import orbit
from head360.synthesis import pack
from head360.synthesis.looks import FIRST_LOOK
from head360.synthesis.pack import MAX_BYTES, PackWardrobe, write_pack
from head360.synthesis.studio import Studio
from head360.synthesis.styles import STYLES
from head360.synthesis.subjects import cast
from head360.synthesis.wardrobe import FolderWardrobe, open_wardrobe

GROWN = next(style for style in STYLES if style.growth is not None)
CARDS = next(style for style in STYLES if style.growth is None)
PEOPLE = cast(10)


@pytest.fixture(scope="module")
def folder() -> Path:
    try:
        return find_assets()
    except BadInput as reason:
        pytest.skip(f"raw assets are absent: {reason}")


@pytest.fixture(scope="module")
def packed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pack") / "studio.pack"
    facts = write_pack(path, PEOPLE, (CARDS, GROWN), folder)
    assert facts["size"] == path.stat().st_size
    return path


@pytest.mark.assets
def test_the_pack_is_small_and_says_whose_work_it_holds(packed: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        sizes = {entry.filename: entry.compress_size for entry in archive.infolist()}
        manifest = archive.read("manifest.json").decode()
    assert "MIT" in manifest
    assert "CC0" in manifest
    assert any(name.startswith("licences/ict_facekit") for name in sizes)
    # One card style takes this much; the ten there are fit beside the rest.
    cards = sum(size for name, size in sizes.items() if name.startswith("styles/"))
    assert packed.stat().st_size + 9 * cards < MAX_BYTES
    assert not any(name.endswith((".pkl", ".pt")) for name in sizes)


@pytest.mark.assets
def test_pictures_from_pack_and_folder_are_identical(packed: Path, folder: Path) -> None:
    pictures = []
    for wardrobe in (FolderWardrobe(folder), open_wardrobe(packed)):
        # Rendering is the studio's; the first look is drawn fastest.
        studio = Studio(
            BilinearModel.builtin(), wardrobe, PEOPLE, (CARDS,), samples=1, look=FIRST_LOOK
        )
        vertices = studio.pose(PEOPLE[9].name, np.zeros(52, dtype=np.float32))
        scene, cutout = studio.scene(PEOPLE[9].name, CARDS.name, vertices)
        pictures.append(studio.photograph(scene, cutout, orbit(30, 0), 64, 64).rgba)
    np.testing.assert_array_equal(pictures[0], pictures[1])


@pytest.mark.assets
def test_atlases_from_pack_and_folder_are_identical(packed: Path, folder: Path) -> None:
    topology = BilinearModel.builtin().topology
    first, second = FolderWardrobe(folder), open_wardrobe(packed)
    for person, detail in ((PEOPLE[0], False), (PEOPLE[9], True)):
        expected = first.atlas(topology, person, detail)
        np.testing.assert_array_equal(expected, second.atlas(topology, person, detail))


@pytest.mark.assets
def test_card_styles_can_be_dyed_from_the_pack(packed: Path, folder: Path) -> None:
    model = BilinearModel.builtin()
    source = FolderWardrobe(folder)
    skin = model.topology.part_vertices(*ANCHOR_PARTS)
    warp = Lattice.between(
        source.generic(model.topology)[skin], model.neutral(model.mean_shape)[skin]
    )
    for spec in (CARDS, CARDS.dyed("copper")):
        expected, found = source.style(spec, warp), PackWardrobe(packed).style(spec, warp)
        assert found.spec == spec
        for field in dataclasses.fields(expected):
            first, second = getattr(expected, field.name), getattr(found, field.name)
            if isinstance(first, np.ndarray):
                assert first.dtype == second.dtype
                np.testing.assert_array_equal(first, second, err_msg=field.name)


@pytest.mark.assets
def test_the_same_assets_give_the_same_bytes(packed: Path, folder: Path, tmp_path: Path) -> None:
    write_pack(tmp_path / "again.pack", PEOPLE, (CARDS, GROWN), folder)
    assert (tmp_path / "again.pack").read_bytes() == packed.read_bytes()


@pytest.mark.assets
def test_the_variable_may_name_a_pack(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(packed))
    assert find_wardrobe() == packed.resolve()
    assert isinstance(open_wardrobe(), PackWardrobe)


@pytest.mark.assets
def test_damage_is_reported(packed: Path, tmp_path: Path) -> None:
    data = packed.read_bytes()
    cut = tmp_path / "cut.pack"
    cut.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="damaged"):
        PackWardrobe(cut)
    # A flipped bit within a picture: the pack opens, the picture is refused.
    name = f"appearance/ict_uv/{PEOPLE[0].skin}_face.jpg"
    with zipfile.ZipFile(packed) as archive:
        at = archive.getinfo(name).header_offset + 2000
    flipped = tmp_path / "flipped.pack"
    flipped.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    wardrobe = PackWardrobe(flipped)
    with pytest.raises(BadInput, match=r"damaged at .*_face\.jpg"):
        wardrobe.atlas(BilinearModel.builtin().topology, PEOPLE[0])


def test_what_is_no_pack_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        PackWardrobe(tmp_path / "absent.pack")
    (tmp_path / "text.pack").write_text("hello")
    with pytest.raises(BadInput, match="no pack"):
        PackWardrobe(tmp_path / "text.pack")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "a zip of somebody else's")
    with pytest.raises(BadInput, match="no pack"):
        PackWardrobe(tmp_path / "other.zip")


@pytest.mark.assets
def test_a_pack_of_another_version_or_head_is_refused(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        manifest = archive.read("manifest.json").decode()
    for old, new, complaint in (
        ('"version": 1', '"version": 9', "another version"),
        ('"model": "', '"model": "0', "another head"),
    ):
        other = tmp_path / "other.pack"
        with zipfile.ZipFile(other, "w") as archive:
            archive.writestr("manifest.json", manifest.replace(old, new))
        with pytest.raises(BadInput, match=complaint):
            PackWardrobe(other)


@pytest.mark.assets
def test_what_was_not_packed_is_named(packed: Path) -> None:
    absent = next(s for s in STYLES if s.growth is None and s.name != CARDS.name)
    with pytest.raises(BadInput, match=absent.name):
        PackWardrobe(packed).style(absent, None)  # type: ignore[arg-type]


@pytest.mark.assets
def test_a_pack_that_would_be_too_large_is_not_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "MAX_BYTES", 1000)
    with pytest.raises(BadInput, match="fewer hair styles"):
        write_pack(tmp_path / "large.pack", PEOPLE, (), folder)
    with pytest.raises(BadInput, match="nobody_face"):
        write_pack(
            tmp_path / "x.pack", (dataclasses.replace(PEOPLE[0], skin="nobody"),), (), folder
        )
    assert not list(tmp_path.iterdir())
