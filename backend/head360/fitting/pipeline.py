"""``fit``: from photographs to a head package, stage by stage, every stage shown.

After Head360 (single-image fitting): landmarks → shape with the Tucker prior → hair parsed away and
ranked → Poisson-blended reference → inversion of the neural texture, networks frozen.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from head360.datasets import labels as classes
from head360.errors import BadInput
from head360.files import atomic_path, writable_folder, write_text
from head360.fitting import inversion, pictures, strands, targets
from head360.fitting.early import Early, OnProgress, OnStage
from head360.fitting.hair import Hair, above_brows, choose_hair, head_mask
from head360.fitting.inversion import Inverted, Target, Wearing
from head360.fitting.light import shading, two_faced
from head360.fitting.package import check_out, save_head, single_head
from head360.fitting.photograph import read_photograph
from head360.fitting.provenance import KEY, provenance
from head360.fitting.reference import complete, wanted_colour
from head360.fitting.sheet import contact_row, contact_sheet
from head360.fitting.sights import cut_out, seen
from head360.fitting.stages import RANKED, STAGES, FitResult, FitSettings, Stage
from head360.fitting.start import Look, Start, exposures, find_start
from head360.fitting.surface import SkinGraph, skin_graph
from head360.fitting.tools import Tools, open_tools
from head360.geometry.lashes import solid_faces
from head360.heads.hexplane import HexPlaneHead
from head360.heads.windows import warp_occupancy
from head360.training.metrics import psnr

__all__ = ["STAGES", "FitResult", "FitSettings", "Stage", "fit"]

Floats = NDArray[np.float32]
Pair = tuple[torch.Tensor, torch.Tensor]  # picture or share of hair, and the trust in it

_REFERENCE = 128  # pixels a side of a reference picture
_MOUTH = 0.3  # trust from which on a texel inside the mouth counts as seen


def fit(
    photos: Sequence[Path],
    base: HexPlaneHead,
    settings: FitSettings,
    out: Path,
    on_stage: OnStage = lambda stage: None,
    on_progress: OnProgress = lambda share, phase: None,
    cancelled: Callable[[], bool] = lambda: False,
    tools: Tools | None = None,
) -> FitResult:
    """Fit a head to photographs of one person.

    Args:
        photos: image files, the first from the front.
        base: a trained hex-plane head, whose networks stay as they are.
        settings: see ``FitSettings``.
        out: folder for ``stages/``, ``head/``, ``sheet.png`` and ``fit.json``.
        on_stage: called after each stage, its picture already written.
        on_progress: called with (share of the whole, phase).
        cancelled: asked often; True stops the work.
        tools: early stages instead of those of the settings.

    Raises:
        BadInput: a photograph, a setting or the folder cannot be used; the sentence says why.
        ModelInvalid: the base cannot be fitted.
        Cancelled: ``cancelled()`` said so; pictures of finished stages are all that is left.
    """
    return _Run(photos, base, settings, out, on_stage, on_progress, cancelled, tools).run()


class _Run(Early):
    """One fit."""

    def run(self) -> FitResult:
        """All stages."""
        check_out(self.out)
        began = self._began = time.monotonic()
        self._tick(0.0, "reading the photographs")
        photographs = [read_photograph(path) for path in self.paths]
        writable_folder(self.out)
        self.tools = self.given or open_tools(self.settings)
        frozen = [p for p in self.base.net.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            self._detect(photographs)
            self._align()
            self._shape()
            self._parse()
            self._hair()
            self._reference()
            self._inversion()
            return self._head(began)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)

    def _hair(self) -> None:
        first = self.shots[0]
        parsing, sight, pose = first.ready()
        ranking = self.tools.rank(first.photo.pixels, parsing, first.face)
        colour = self.tools.colour(first.photo.pixels, parsing)
        self.hair: Hair = choose_hair(
            self.base, self.fitted.shape, sight, pose, ranking,
            None if colour is None else np.asarray(colour, dtype=np.float32),
            self.settings.style, lambda share: self._tick(share, "trying on hair styles"),
        )  # fmt: skip
        if self.hair.hat and self.settings.style == RANKED:
            self.notes.append(
                f"{first.photo.path.name}: something covers the top of the head, so its hair is "
                "guessed from the rest; choose it with --style if you know better."
            )
        seen_best = ", ".join(f"{name} {p:.0%}" for name, p in self.hair.top3)
        chosen = self.hair.codes.style or "bald"
        self._done(
            self.hair.picture, f"looks like {seen_best}; wears {chosen}",
            {
                "top3": [[name, round(p, 4)] for name, p in self.hair.top3],
                "style": self.hair.codes.style,
                "chosen_by": "user" if self.settings.style != "" else "likeness",
                "candidates": [[name or "bald", round(p, 4)] for name, p in self.hair.candidates],
                "hair_colour": None if self.hair.codes.hair_colour is None
                else [round(c, 4) for c in self.hair.codes.hair_colour],
            },
            self.hair.brief,
        )  # fmt: skip

    def _reference(self) -> None:
        base = self.base
        self.graph: SkinGraph = skin_graph(base.model, base.net.config.texture_size)
        self.looks = []
        mouth_seen = np.zeros(self.graph.count, dtype=np.bool_)
        for shot in self.shots:
            _, sight, pose = shot.ready()
            found = seen(sight, self.graph, pose.vertices)
            normals = self.graph.placed(pose.vertices)[1]
            neck = found.label == classes.NECK
            self.looks.append(Look(found.colour, found.weight, normals, neck))
            mouth_seen |= found.weight > _MOUTH
        self.free = targets.freedom(self.graph, mouth_seen, base.device)
        first_pose = self.shots[0].ready()[2]
        self.start: Start = find_start(
            base, self.graph, first_pose, self.looks,
            lambda share, phase: self._tick(0.4 * share, phase),
        )  # fmt: skip
        self._tick(0.4, "blending the photograph with the base")
        ratio = complete(self.graph, self.start, self.looks, self.settings.delight)
        wanted = wanted_colour(self.start, ratio)
        both = np.concatenate([ratio, wanted], 1)
        ratios = targets.ratio_texture(self.graph, both, base.device)
        self.first_texture = targets.started(self.graph, self.start, wanted)
        look = base.look(self.hair.codes)
        self.wearing = Wearing(
            base.net, base.model.topology, look.hair, look.dye,
            base.hair_box(self.hair.codes, self.lattice), self.lattice, base.device,
        )  # fmt: skip
        self.hull: NDArray[np.uint8] | None = None
        outlines: list[strands.Outline] = []
        if self.settings.invert_planes and look.hair is not None:
            outlines, self.hull = self._outlines()
            self.wearing = dataclasses.replace(
                self.wearing, box=warp_occupancy(self.hull, self.lattice)
            )
        shares = targets.shares(self.graph, self.looks, base.device)
        exposed = exposures(
            self.start.colour, self.looks, self.start.light, self.settings.delight
        )  # fmt: skip
        self.targets: list[Target] = []
        shown: list[Floats] = []
        told: list[strands.Shown] = []
        laid: list[tuple[Pair, Pair | None]] = []
        for number, (shot, light) in enumerate(zip(self.shots, self.start.light, strict=True)):
            self._tick(0.5 + 0.1 * number / len(self.shots), "laying in the photographs")
            _, sight, pose = shot.ready()
            outline = outlines[number] if outlines else None
            composite = targets.photo_composite(
                self.wearing, self.start.texture, ratios, pose, sight, light,
                self.settings.delight, None if outline is None else outline.none, shares[number],
                exposed[number],
            )  # fmt: skip
            cover: Pair | None = None
            if outline is not None:
                composite, cover, one = strands.photo_hair(
                    self.wearing, self.start.texture, pose, sight, light, self.settings.delight,
                    outline, composite, exposed[number],
                )  # fmt: skip
                told.append(one)
            laid.append((composite, cover))
            shown.append(_picture(composite[0]))
        for number, (shot, (composite, cover)) in enumerate(zip(self.shots, laid, strict=True)):
            _, sight, pose = shot.ready()
            picture, trust = composite
            if told:
                trust = strands.divided(trust, told, number)
            windows = targets.photo_targets(
                self.wearing, pose, sight, picture, trust, self.size // 2, cover
            )
            self.targets += windows
            if not windows:
                self.notes.append(
                    f"{shot.photo.path.name}: the texture takes no detail from it: the others show "
                    "the same places better, or hair covers them."
                )
        if not self.targets:
            raise BadInput(
                "No photograph shows bare skin where this head has some: choose another --style, "
                "or a photograph from the front without veil or mask."
            )
        yaws = targets.REFERENCE_YAWS
        for number, yaw in enumerate(yaws):
            self._tick(0.6 + 0.4 * number / len(yaws), "drawing the references")
            if outlines:
                reference = strands.reference_hair(
                    self.wearing, self.start.texture, ratios, first_pose, yaw, _REFERENCE, told
                )
            else:
                reference = targets.reference_target(
                    self.wearing, self.start.texture, ratios, first_pose, yaw, _REFERENCE
                )
            self.targets.append(reference)
            shown.append(_picture(reference.picture))
        sidelight = two_faced(self.start.light[0])
        top = sorted(zip(base.subjects, self.start.weights, strict=True), key=lambda e: -e[1])[:3]
        people = ", ".join(f"{name} {weight:.0%}" for name, weight in top if weight > 0.01)
        blend = zip(base.subjects, self.start.weights.tolist(), strict=True)
        self._done(
            pictures.rows(shown),
            f"begins as {people}; one side {sidelight - 1:.0%} brighter",
            {
                "nearest": self.start.nearest,
                "blend": {name: round(weight, 4) for name, weight in blend if weight > 0.005},
                "sidelight": round(sidelight, 4),
            },
        )  # fmt: skip

    def _outlines(self) -> tuple[list[strands.Outline], NDArray[np.uint8]]:
        """What each photograph tells about hair, and the style's hull without what none shows."""
        topology = self.base.model.topology
        hull = self.base._hulls(self.hair.codes)
        solid = topology.faces[solid_faces(topology)]
        outlines = []
        for shot in self.shots:
            _, sight, pose = shot.ready()
            # Skin beside the mesh says that the mesh is too small, not that hair is missing.
            told = head_mask(sight, pose, topology) | (sight.labels == classes.BACKGROUND)
            if self.hair.hat:
                told &= ~above_brows(sight, pose, topology)
            view = self.wearing.window(pose, sight.camera, self.size)
            with torch.no_grad():
                out, share = self.wearing.render(self.start.texture, pose, [view])
            worn = (share * out[:, 3:].clamp(0, 1))[0, 0].cpu().numpy()
            seen_here = strands.outline(sight, told)
            outlines.append(strands.believed(seen_here, worn))
            if seen_here.none.any() and not outlines[-1].none.any():
                self.notes.append(
                    f"{shot.photo.path.name}: its hair has another outline than "
                    f"{self.hair.codes.style}, so only the colour was inverted; choose a nearer "
                    "one with --style."
                )
            hull = strands.carved(hull, self.lattice, pose, solid, sight, outlines[-1])
        return outlines, hull

    def _inversion(self) -> None:
        _, sight, pose = self.shots[0].ready()
        self.inverted: Inverted = inversion.invert(
            self.wearing, self.first_texture, self.targets, self.settings.steps, self.rng,
            self._tick, invert_planes=self.settings.invert_planes, free=self.free,
        )  # fmt: skip
        view = self.wearing.window(pose, sight.camera, self.size)
        with torch.no_grad():
            out, worn = self.wearing.render(
                self.inverted.texture, pose, [view], hair=self.inverted.hair
            )
        fitted = _picture(targets.on_white(out))
        light = np.exp(shading(self.start.light[0], view.normals, self.settings.delight))
        # Hair that covers the face here and not there is no matter of the texture.
        bare = sight.face() & (view.coverage > 0.99) & (worn[0, 0].cpu().numpy() < 0.05)
        if not bare.any():
            raise BadInput("Hair covers the whole face of this fit: choose another --style.")
        plain = np.clip(sight.pixels / light, 0, 1)
        self.psnr_front = psnr(np.clip(fitted * light, 0, 1)[bare], sight.pixels[bare])
        self.psnr_plain = psnr(fitted[bare], plain[bare])
        shown = np.where(bare[..., None], plain, 1.0).astype(np.float32)
        lines = [pictures.row([sight.pixels, shown, fitted])]
        for shot in self.shots[1:]:
            _, other, pose = shot.ready()
            view = self.wearing.window(pose, other.camera, self.size)
            with torch.no_grad():
                out, _ = self.wearing.render(
                    self.inverted.texture, pose, [view], hair=self.inverted.hair
                )
            blank = np.where(other.face()[..., None], other.pixels, 1.0).astype(np.float32)
            lines.append(pictures.row([other.pixels, blank, _picture(targets.on_white(out))]))
        self._done(
            pictures.grid(lines),
            f"{self.psnr_front:.1f} dB on the skin after {self.settings.steps} steps",
            {
                "psnr_front": round(self.psnr_front, 3),
                "psnr_front_plain": round(self.psnr_plain, 3),
                "loss": [round(self.inverted.first, 5), round(self.inverted.loss, 5)],
            },
            pictures.brief(lines),
        )

    def _head(self, began: float) -> FitResult:
        self._tick(0.1, "writing the head")
        view = self.fitted.views[0]
        settings = self.settings.facts() | {"landmarks": self.tools.finder}
        how = provenance("head360 fit", self.paths, self.base.name, settings)
        if KEY in self.base.manifest:  # a base that was fitted or edited itself
            how["before"] = self.base.manifest[KEY]
        head = single_head(
            self.base, self.name, self.inverted.texture, self.hair.codes, view.blendshapes,
            {KEY: how}, self.inverted.hair, self.hull,
        )  # fmt: skip
        target = save_head(head, self.out / "head")
        self._tick(0.5, "drawing the sheet")
        # What is shown is what was written.
        head = HexPlaneHead.load(target, self.base.device)
        first = self.shots[0]
        sight = first.ready()[1]
        photo = cut_out(first.photo.pixels, self.window, 2 * self.size, ground=255)
        row = contact_row(head, photo, sight.camera, view.blendshapes)
        sheet = contact_sheet([(self.name, row)])
        with atomic_path(self.out / "sheet.png") as temporary:
            sheet.save(temporary, "PNG")
        self._done(pictures.grid(row[1:5]), f"{target} with {len(head.styles)} hair styles", {})
        result = FitResult(
            target, self.out / "sheet.png", self.name, self.hair.codes.style,
            self.hair.codes.hair_colour, time.monotonic() - began, self.by_stage,
            float(view.residual_px), float(view.residual_share), self.psnr_front, self.psnr_plain,
            tuple(self.hair.top3), two_faced(self.start.light[0]), tuple(self.notes),
            tuple(tuple(view.camera.flat25().tolist()) for view in self.fitted.views),
            tuple(tuple(map(float, view.blendshapes)) for view in self.fitted.views),
        )  # fmt: skip
        document = result.facts() | {
            "cameras": result.cameras, "blendshapes": result.blendshapes,
        }  # fmt: skip
        write_text(self.out / "fit.json", json.dumps(document, ensure_ascii=False, indent=1))
        self.on_progress(1.0, "done")
        return result


def _picture(picture: torch.Tensor) -> Floats:
    """(1, 3, H, W) → (H, W, 3) float32."""
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).cpu().numpy())
