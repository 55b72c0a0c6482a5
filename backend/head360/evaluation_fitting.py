"""How well a head is fitted from one photograph: studio people that the base never saw.

The truth is known: shape, camera, landmarks and how the head looks from where the photograph does
not show it. People come from far down the studio's list, where no data set of ours looks; each
wears a style of the base in a colour of their own. ``truth`` tells which early stages are replaced
by the truth, so that their errors can be told apart.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from head360.arkit import COUNT, INDEX
from head360.errors import BadInput
from head360.evaluation import as_photographed, look_of
from head360.files import atomic_path, writable_folder, write_bytes, write_text
from head360.fitting.fingerprint import network_digests, of_base
from head360.fitting.pipeline import fit
from head360.fitting.shape import FittedShape, FittedView, fit_shape
from head360.fitting.stages import FitResult, FitSettings
from head360.fitting.tools import Tools, open_tools
from head360.geometry.alignment import Similarity, aligned
from head360.geometry.bilinear import BilinearModel
from head360.heads.hexplane import HexPlaneHead
from head360.heads.package import png_bytes
from head360.rendering.cameras import BOX_CENTRE, Camera, orbit
from head360.sheets import over, table
from head360.training.metrics import on_white, psnr

Floats = NDArray[np.float32]

FIRST_PERSON = 1000  # people that no data set of ours reaches
PHOTO_SIZE = 512
# Yaw in degrees of the views that the photograph does not show.
UNSEEN: dict[str, tuple[float, ...]] = {
    "side": (-90.0, -60.0, 60.0, 90.0), "back": (135.0, 180.0, -135.0),
}  # fmt: skip
# What is taken from the truth instead of being estimated; each level has the former ones too.
TRUTHS = ("nothing", "landmarks", "parsing", "style", "shape")
PAPER = {"psnr": 17.41, "ssim": 0.873}  # Head360, Table 2: other people, other pictures
_SHOWN = 192
_FIGURES = 2  # raised whenever the same fit gives other figures


@dataclass(frozen=True)
class Sitting:
    """One person in the studio.

    Attributes:
        name: of the person; style: worn, of the base; colour: of the hair, None is the style's own.
        shape: (S,) float32; blendshapes: (52,) float32 of the photograph.
        camera: of the photograph; picture: (H, W, 4) float32 sRGB, straight alpha.
        labels: (H, W) uint8; hair: (H, W) float32; landmarks: (68, 2), dense: (468, 2) pixels.
        unseen: view → camera and (S, S, 4) float32 picture.
    """

    name: str
    style: str
    colour: tuple[float, float, float] | None
    shape: Floats
    blendshapes: Floats
    camera: Camera
    picture: Floats
    labels: NDArray[np.uint8]
    hair: Floats
    landmarks: Floats
    dense: Floats
    unseen: dict[str, tuple[Camera, Floats]]


def sit(number: int, base: HexPlaneHead, seed: int = 0, size: int = 256) -> Sitting:
    """Photograph person ``FIRST_PERSON + number`` in a style of ``base``; seeded.

    Raises:
        BadInput: the raw assets are missing, or the base's styles are not the studio's.
    """
    from head360.synthesis.people import person
    from head360.synthesis.studio import Studio
    from head360.synthesis.styles import COLOURS, STYLES
    from head360.synthesis.wardrobe import open_wardrobe
    from head360.training.shoot import LOOKS

    rng = np.random.default_rng([seed, number])
    spec = person(FIRST_PERSON + number)
    model = BilinearModel.builtin()
    style = base.styles[int(rng.integers(len(base.styles)))]
    styles = STYLES
    dye = spec.hair_colour if rng.random() < 0.5 else None
    if dye is not None:
        styles = tuple(s.dyed(dye) if s.name == style else s for s in STYLES)
    studio = Studio(model, open_wardrobe(), (spec,), styles, look=LOOKS[look_of(base)])
    weights = mild_expression(rng)
    scene, cutout = studio.scene(spec.name, style, studio.pose(spec.name, weights))
    camera = photo_camera(rng)
    photo = studio.photograph(scene, cutout, camera, PHOTO_SIZE, PHOTO_SIZE, passes=True)
    unseen = {}
    for yaws in UNSEEN.values():
        for yaw in yaws:
            view = orbit(yaw, 0.0)
            unseen[f"{yaw:+.0f}"] = view, studio.photograph(scene, cutout, view, size, size).rgba
    assert photo.labels is not None
    assert photo.dense is not None
    colour = None
    if dye is not None:
        red, green, blue = COLOURS[dye]
        colour = red / 255, green / 255, blue / 255
    return Sitting(
        spec.name, style, colour, spec.shape(model), weights, camera, photo.rgba, photo.labels,
        photo.hair, photo.landmarks, photo.dense, unseen,
    )  # fmt: skip


def mild_expression(rng: np.random.Generator) -> Floats:
    """(52,) what people do in front of a camera: nothing, or a smile with lips closed or parted."""
    weights = np.zeros(COUNT, dtype=np.float32)
    if rng.random() < 0.5:
        smile = rng.uniform(0.2, 0.6)
        for side in ("Left", "Right"):
            weights[INDEX[f"mouthSmile{side}"]] = smile
            weights[INDEX[f"cheekSquint{side}"]] = smile / 2
        weights[INDEX["jawOpen"]] = rng.uniform(0.0, 0.1)
        weights[INDEX["browInnerUp"]] = rng.uniform(0.0, 0.3)
    return weights


def photo_camera(rng: np.random.Generator) -> Camera:
    """A portrait: nearly from the front, head and hair in the picture, lens as it comes."""
    return orbit(
        float(rng.uniform(-10, 10)), float(rng.uniform(-6, 6)), fov_deg=float(rng.uniform(16, 34)),
        target=BOX_CENTRE + rng.normal(0, 0.006, 3),
    )  # fmt: skip


# --- fitting and comparing ------------------------------------------------------------------------


def true_tools(sitting: Sitting, truth: str, settings: FitSettings) -> Tools:
    """Early stages of which some are replaced by the truth, up to level ``truth``."""
    from head360.fitting.faces import make_face
    from head360.fitting.parsing import Parsing

    level = TRUTHS.index(truth)
    # The networks are opened only where they are used.
    tools = open_tools(settings) if level < TRUTHS.index("style") else _no_tools()
    changes: dict[str, Any] = {}
    if level >= TRUTHS.index("landmarks"):
        face = make_face(sitting.landmarks, sitting.dense, np.ones(68), 1.0, "truth")
        changes |= {"finder": "truth", "find": lambda _: [face]}
        changes["choose"] = lambda faces, shape, wanted: faces[0]
    if level >= TRUTHS.index("parsing"):
        parsing = Parsing(sitting.labels, sitting.picture[..., 3], sitting.hair)
        changes["parse"] = lambda pixels, face: parsing
    if level >= TRUTHS.index("style"):
        colour = None if sitting.colour is None else np.array(sitting.colour)
        changes["rank"] = lambda pixels, parsing, face: [(sitting.style, 1.0)]
        changes["colour"] = lambda pixels, parsing: colour
    if level >= TRUTHS.index("shape"):
        view = FittedView(sitting.camera, sitting.blendshapes, 0.0, 1.0)
        changes["fit"] = lambda views, model: FittedShape(sitting.shape, (view,))
    return dataclasses.replace(tools, **changes)


def _no_tools() -> Tools:
    def never(*_: Any) -> Any:
        raise AssertionError("this stage has the truth")

    return Tools("truth", never, never, never, never, never, fit_shape)


def carried(camera: Camera, laid: Similarity) -> Camera:
    """A camera around the truth as seen from a head laid over it: both give the same picture."""
    move = camera.cam2world.copy()
    move[:3, :3] = laid.turn.T @ camera.cam2world[:3, :3]
    move[:3, 3] = laid.turn.T @ (camera.cam2world[:3, 3] - laid.shift) / laid.scale
    return Camera(move, camera.intrinsics)


def face_vertices(model: BilinearModel) -> NDArray[np.int64]:
    """Vertices of the face from chin to hairline and from ear to ear, without the ears."""
    mean = model.neutral(model.mean_shape)
    marks = mean[model.topology.landmarks68]
    skin = model.topology.part_vertices("face")
    low, high = marks.min(0), marks.max(0)
    place = mean[skin]
    inside = (place[:, 1] > low[1] - 0.005) & (place[:, 1] < high[1] + 0.03)
    inside &= (np.abs(place[:, 0]) < high[0]) & (place[:, 2] > np.percentile(marks[:, 2], 2))
    return np.asarray(skin[inside])


def shape_error(
    model: BilinearModel, found: Floats, truth: Floats, scaled: bool = True
) -> dict[str, float]:
    """Millimetres between two neutral faces after alignment, of their sizes too if ``scaled``."""
    chosen = face_vertices(model)
    one, other = model.neutral(found)[chosen], model.neutral(truth)[chosen]
    off = np.linalg.norm(aligned(one, other, scaled).of(one) - other, axis=1) * 1000
    return {"mean": float(off.mean()), "median": float(np.median(off))}


def compare(
    sitting: Sitting, head: HexPlaneHead, result: FitResult
) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    """Figures of one fitted head and the pictures of its row: truth and fit of some views."""
    model = head.model
    shape = head.codes().shape
    # Where a head stands and how large it is are no errors of its pictures, and a photograph tells
    # neither: the whole skin is laid over. "metric" figures give no size away.
    skin = model.topology.part_vertices("face", "head_neck")
    one, other = model.neutral(shape)[skin], model.neutral(sitting.shape)[skin]
    laid, metric = aligned(one, other), aligned(one, other, scaled=False)
    error = shape_error(model, shape, sitting.shape)
    average = shape_error(model, model.mean_shape, sitting.shape)
    facts: dict[str, Any] = {
        "shape_mm": round(error["mean"], 3),
        "shape_mm_median": round(error["median"], 3),
        "average_shape_mm": round(average["mean"], 3),
    }
    for key, tried in (("shape_mm_metric", shape), ("average_shape_mm_metric", model.mean_shape)):
        facts[key] = round(shape_error(model, tried, sitting.shape, scaled=False)["mean"], 3)
    facts["size"] = round(1 / laid.scale, 4)
    pictures: list[NDArray[np.uint8]] = []
    camera = Camera.from_flat25(result.cameras[0])
    posed = head.pose(head.codes(), np.array(result.blendshapes[0], dtype=np.float32))
    views = {"front": (camera, sitting.picture, posed)}
    true_pose = head.pose(head.codes(), sitting.blendshapes)
    for name, (view, picture) in sitting.unseen.items():
        views[name] = carried(view, laid), picture, true_pose
        views[f"{name} metric"] = carried(view, metric), picture, true_pose
    scores: dict[str, tuple[float, float]] = {}
    for name, (view, truth, pose) in views.items():
        with as_photographed(head):
            frame = head.render(pose, view, truth.shape[1], truth.shape[0]).rgba
        one, other = on_white(frame), on_white(truth)
        alike = structural_similarity(other, one, channel_axis=-1, data_range=1.0)
        scores[name] = psnr(one, other), float(alike)
        if name in ("front", "-60", "+90", "+180"):
            pictures += [_small(over(truth)), _small(over(frame))]
    bands = {"front": ["front"]} | {
        band: [f"{yaw:+.0f}" for yaw in yaws] for band, yaws in UNSEEN.items()
    }
    bands["unseen"] = bands["side"] + bands["back"]
    bands["unseen_metric"] = [f"{name} metric" for name in bands["unseen"]]
    for column, key, places in ((0, "psnr", 2), (1, "ssim", 4)):
        for band, names in bands.items():
            mean = float(np.mean([scores[name][column] for name in names]))
            facts[f"{key}_{band}"] = round(mean, places)
    return facts, pictures


def _small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(picture)
    return np.asarray(image.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS))


def measure(
    number: int, base: HexPlaneHead, settings: FitSettings, truth: str, seed: int, out: Path
) -> dict[str, Any]:
    """Photograph, fit and compare one person in the folder ``out``; returns the figures."""
    sitting = sit(number, base, seed)
    folder = writable_folder(out)
    rng = np.random.default_rng([seed, number, 1])
    wall = rng.uniform(0.35, 0.85, 3).astype(np.float32)
    alpha = sitting.picture[..., 3:]
    photo = sitting.picture[..., :3] * alpha + wall * (1 - alpha)
    path = write_bytes(folder / "photo.png", png_bytes((photo * 255 + 0.5).astype(np.uint8)))
    tools = true_tools(sitting, truth, settings)
    result = fit([path], base, settings, folder / "fit", tools=tools)
    head = HexPlaneHead.load(result.head_path, base.device)
    figures, pictures = compare(sitting, head, result)
    write_bytes(folder / "row.png", png_bytes(np.concatenate(pictures, 1)))
    top = [name for name, _ in result.style_top3]
    return {
        "person": sitting.name,
        "style": sitting.style,
        "worn": result.style,
        "style_right": result.style == sitting.style,
        "style_in_top3": sitting.style in top,
        **figures,
        "landmark_px": round(result.landmark_px, 3),
        "psnr_skin": round(result.psnr_front, 2),
        "seconds": round(result.seconds, 1),
    }


def evaluate_fitting(
    base: HexPlaneHead,
    settings: FitSettings,
    out: Path | None,
    subjects: int = 6,
    truth: str = "nothing",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    sheet: Path | None = None,
) -> dict[str, Any]:
    """Fit ``subjects`` people and average; those whose figures lie in ``out`` are not fitted again.

    Args:
        base: to start from.
        settings: of every fit.
        out: folder for one JSON a person, their pictures and ``sheet.png``; None keeps nothing
            but ``sheet``.
        subjects: how many.
        truth: of ``TRUTHS``.
        seed: of what is worn and how it is photographed.
        progress: called with (people done, people in all).
        sheet: the contact sheet goes here instead.

    Raises:
        BadInput: a number out of range, or ``out`` holds figures made in another way.
    """
    if not 1 <= subjects <= 500:
        raise BadInput(f"--subjects {subjects} is out of range: choose 1 to 500.")
    if out is None:
        with tempfile.TemporaryDirectory(prefix="head360-fitting-") as folder:
            found = evaluate_fitting(
                base, settings, Path(folder), subjects, truth, seed, progress, sheet
            )
        return found | {"sheet": None if sheet is None else str(sheet)}
    writable_folder(out)
    made = {
        "base": base.name, "subjects": list(base.subjects), "styles": list(base.styles),
        "base_digest": of_base(base), "networks": _networks(settings, truth),
        "settings": settings.facts(), "truth": truth, "seed": seed, "figures": _FIGURES,
    }  # fmt: skip
    rows: list[dict[str, Any]] = []
    for number in range(subjects):
        path = out / f"{number:03d}.json"
        known = _read(path)
        if known is not None and known.get("made") != made:
            raise BadInput(
                f"{path} was measured with another base, other networks or other settings: choose "
                "another --out."
            )
        if known is None:
            figures = measure(number, base, settings, truth, seed, out / f"{number:03d}")
            known = {"made": made, **figures}
            write_text(path, json.dumps(known, indent=1, ensure_ascii=False))
        rows.append(known)
        if progress is not None:
            progress(number + 1, subjects)
    sheet = out / "sheet.png" if sheet is None else sheet
    _sheet(out, rows, sheet)
    return summary(rows) | {"truth": truth, "seed": seed, "sheet": str(sheet)}


def _networks(settings: FitSettings, truth: str) -> dict[str, list[str]]:
    """Name and digest of those that are used, see ``true_tools``."""
    level = TRUTHS.index(truth)
    kinds = ("landmarks", "parsing", "style")
    return network_digests(settings, [kind for kind in kinds if level < TRUTHS.index(kind)])


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the people, and what they stand against."""
    numbers = [key for key, value in rows[0].items() if isinstance(value, (int, float))]
    means = {key: round(float(np.mean([float(row[key]) for row in rows])), 4) for key in numbers}
    return {"people": len(rows), **means, "paper": PAPER}


def _sheet(out: Path, rows: Sequence[dict[str, Any]], target: Path) -> None:
    """Truth and fit of every person, one row each."""
    lines = []
    for number, row in enumerate(rows):
        with Image.open(out / f"{number:03d}" / "row.png") as picture:
            whole = np.asarray(picture.convert("RGB"))
        tiles = [whole[:, k : k + _SHOWN] for k in range(0, whole.shape[1], _SHOWN)]
        lines.append((f"{row['person']} {row['psnr_unseen']:.1f} dB", tiles))
    views = ("front", "-60°", "+90°", "180°")
    columns = [f"{what} {view}" for view in views for what in ("truth", "fit")]
    with atomic_path(target) as temporary:
        table(lines, columns).save(temporary, "PNG")
