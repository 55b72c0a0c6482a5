"""Training pictures, in memory: groups of views that share subject, hair and expression.

Two sources fill the same container: the studio (``synth:SPEC``, see ``training.shoot``) and a
SYNHEAD folder.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.errors import BadInput
from head360.files import atomic_path, writable_folder, write_text
from head360.rendering.cameras import Camera
from head360.synthesis.looks import FIRST_LOOK, LATEST_LOOK

Floats = NDArray[np.float32]
MAX_SUBJECTS, MAX_GROUPS = 1000, 1_000_000


@dataclass(frozen=True)
class SynthSpec:
    """What ``synth:SPEC`` asks for; written ``synth:subjects=8,styles=8,groups=3000``.

    Attributes:
        subjects, styles: how many of the studio's cast and styles.
        groups: number of (subject, hair, expression) moments; each is seen from ``views`` cameras.
        views: pictures per group.
        size: pixels per side.
        seed: of everything.
        bald: share of groups without hair.
        samples: supersampling per axis.
        look: 1 are the pictures that the first heads were trained on, 2 the studio's latest.
        live: 1 draws every training group while training; nothing but what the hull of the hair
            and the previews need is kept, and ``groups`` is not used.
        wear: names of the styles, joined by "+", instead of the studio's first ``styles``.
        held_out: True draws the held-out cameras of the evaluation instead.
    """

    subjects: int = 8
    styles: int = 8
    groups: int = 2400
    views: int = 4
    size: int = 256
    seed: int = 0
    bald: float = 0.25
    samples: int = 3
    look: int = LATEST_LOOK.version
    live: int = 0
    wear: str = ""
    held_out: bool = False

    @staticmethod
    def parse(text: str) -> SynthSpec:
        """Parse ``synth:key=value,…``.

        Raises:
            BadInput: an unknown key, or a value that is no number or out of range.
        """
        values: dict[str, int | float | str] = {}
        body = text.removeprefix("synth:").removeprefix("synth")
        known = {name: kind for name, kind in SynthSpec.__annotations__.items() if kind != "bool"}
        for item in filter(None, body.split(",")):
            key, _, value = item.partition("=")
            if key not in known:
                raise BadInput(f"synth: has no {key!r}: use {', '.join(known)}.")
            try:
                if known[key] == "str":
                    values[key] = value
                else:
                    values[key] = float(value) if known[key] == "float" else int(value)
            except ValueError as error:
                raise BadInput(f"synth: {key} must be a number, not {value!r}.") from error
        if values.get("wear"):
            values["styles"] = str(values["wear"]).count("+") + 1
        return SynthSpec(**values).checked()  # type: ignore[arg-type]

    def checked(self) -> SynthSpec:
        """The same, if it can be photographed.

        Raises:
            BadInput: a number out of range.
        """
        for name, value, low, high in (
            ("subjects", self.subjects, 1, MAX_SUBJECTS),
            ("styles", self.styles, 0, MAX_SUBJECTS),
            ("groups", self.groups, 1, MAX_GROUPS),
            ("views", self.views, 1, 64),
            ("size", self.size, 32, 2048),
            ("seed", self.seed, 0, 2**32),
            ("bald", self.bald, 0, 1),
            ("samples", self.samples, 1, 8),
            ("look", self.look, FIRST_LOOK.version, LATEST_LOOK.version),
            ("live", self.live, 0, 1),
        ):
            if not low <= value <= high:  # also catches NaN
                raise BadInput(f"synth: {name}={value} is out of range: choose {low} to {high}.")
        if self.size % 2:
            raise BadInput(f"synth: size={self.size} is odd: choose an even number of pixels.")
        return self


@dataclass(frozen=True)
class Moment:
    """One group: V views of a subject, hair and expression.

    Attributes:
        subject, style: indices; style −1 is bald.
        blendshapes: (52,) float32.
        cameras: (V, 25) float64, see ``Camera.flat25``.
        rgba: (V, S, S, 4) uint8 sRGB, straight alpha.
        hair: (V, S/2, S/2) uint8 coverage by hair.
    """

    subject: int
    style: int
    blendshapes: Floats
    cameras: NDArray[np.float64]
    rgba: NDArray[np.uint8]
    hair: NDArray[np.uint8]

    def camera(self, view: int) -> Camera:
        """The camera of one picture."""
        return Camera.from_flat25(self.cameras[view])


@dataclass
class Shots:
    """G groups of V views at S² pixels.

    Attributes:
        subjects, styles: names; indices below refer to them.
        shapes: (subjects, S') float32 identity coefficients.
        default_style: per subject, or None.
        subject, style: (G,) int32; style −1 is bald.
        blendshapes: (G, 52) float32.
        cameras: (G, V, 25) float64, see ``Camera.flat25``.
        rgba: (G, V, S, S, 4) uint8 sRGB, straight alpha.
        hair: (G, V, S/2, S/2) uint8 coverage by hair.
        atlases: (subjects, 1024, 1024, 3) uint8 albedo to start the textures from, or None.
        notices: licences of what the pictures were made from.
    """

    subjects: tuple[str, ...]
    styles: tuple[str, ...]
    shapes: Floats
    default_style: tuple[str | None, ...]
    subject: NDArray[np.int32]
    style: NDArray[np.int32]
    blendshapes: Floats
    cameras: NDArray[np.float64]
    rgba: NDArray[np.uint8]
    hair: NDArray[np.uint8]
    atlases: NDArray[np.uint8] | None = None
    notices: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.subject)

    def moment(self, group: int) -> Moment:
        """One group, without a copy of its pictures."""
        return Moment(
            int(self.subject[group]), int(self.style[group]), self.blendshapes[group],
            self.cameras[group], self.rgba[group], self.hair[group],
        )  # fmt: skip

    def camera(self, group: int, view: int) -> Camera:
        """The camera of one picture."""
        return Camera.from_flat25(self.cameras[group, view])

    def save(self, folder: Path, spec: SynthSpec) -> None:
        """Keep the pictures beside a run, so that resuming it does not take them again.

        Arrays that already live in ``folder`` (see ``training.shoot``) are only written through.
        """
        folder = writable_folder(folder)
        (folder / "spec.json").unlink(missing_ok=True)
        for name in _ARRAYS:
            value, path = getattr(self, name), folder / f"{name}.npy"
            if isinstance(value, np.memmap) and Path(str(value.filename)) == path.resolve():
                value.flush()
            elif value is not None:
                with atomic_path(path) as temporary, open(temporary, "wb") as file:
                    np.save(file, value, allow_pickle=False)
        facts = {
            "pictures": PICTURES_VERSION,
            "spec": asdict(spec),
            "subjects": self.subjects,
            "styles": self.styles,
            "default_style": self.default_style,
            "notices": self.notices,
        }
        write_text(folder / "spec.json", json.dumps(facts))

    @staticmethod
    def load(folder: Path, spec: SynthSpec) -> Shots | None:
        """What :meth:`save` kept for the same ``spec``, memory-mapped; None if there is nothing."""
        try:
            facts = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
            if facts["spec"] != asdict(spec) or facts["pictures"] != PICTURES_VERSION:
                return None
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Shots(
            subjects=tuple(facts["subjects"]),
            styles=tuple(facts["styles"]),
            default_style=tuple(facts["default_style"]),
            notices=facts["notices"],
            **arrays,
        )


# Raised whenever the same spec gives other pictures: kept ones are then taken again.
PICTURES_VERSION = 3
_ARRAYS = ("shapes", "subject", "style", "blendshapes", "cameras", "rgba", "hair", "atlases")


def load_folder(folder: Path, size: int = 256, views: int = 4) -> Shots:
    """Read a SYNHEAD folder written by ``head360 synth`` into groups.

    Held-out views are left out. A data set without bald twins or masks (an artist's may have none)
    gives no bald groups and no coverage by hair.

    Raises:
        BadInput: no manifest, missing files, pictures of another size than their manifest says, or
            subjects without coefficients of the bilinear model, on which a head is built.
    """
    from PIL import Image

    from head360.datasets.synhead_read import SynheadDataset

    data = SynheadDataset.open(folder)
    styles = tuple(data.styles)
    # The same person may sit several times, with other hair: learned as one identity.
    people = {record.person: record for record in reversed(data.manifest.subjects)}
    records = [people[name] for name in dict.fromkeys(r.person for r in data.manifest.subjects)]
    subjects = tuple(record.person for record in records)
    strangers = [record.name for record in records if not record.shape]
    if strangers:
        raise BadInput(
            f"{folder} gives no identity coefficients for {strangers[0]}: a head is trained on "
            "shapes of the bilinear model; fit the mesh to it first, or use head360 synth."
        )
    kinds = set(data.manifest.kinds)
    groups = [group for group in data.groups(views) if len(group) == views]
    if not groups:
        raise BadInput(
            f"{folder} has no expression with at least {views} views: render more views."
        )
    # Every third moment is learned a second time from its bald twins.
    plan = [(group, False) for group in groups] + [
        (group, True) for group in groups[::3] if "bald" in kinds
    ]
    rgba = np.empty((len(plan), views, size, size, 4), dtype=np.uint8)
    hair = np.zeros((len(plan), views, size // 2, size // 2), dtype=np.uint8)
    for g, (group, bald) in enumerate(plan):
        for v, shot in enumerate(group):
            picture = Image.fromarray(shot.load_bald() if bald else shot.load_rgba())
            rgba[g, v] = np.asarray(picture.resize((size, size), Image.Resampling.BOX))
            if not bald and "mask" in kinds:
                mask = Image.fromarray(shot.load_mask()[..., 1])
                hair[g, v] = np.asarray(mask.resize((size // 2,) * 2, Image.Resampling.BOX))
    return Shots(
        subjects,
        styles,
        np.stack([np.asarray(record.shape, dtype=np.float32) for record in records]),
        tuple(record.style for record in records),
        np.array([subjects.index(group[0].person) for group, _ in plan], dtype=np.int32),
        np.array(
            [-1 if bald else styles.index(group[0].style) for group, bald in plan], dtype=np.int32
        ),
        np.stack([group[0].weights for group, _ in plan]).astype(np.float32),
        np.stack([[shot.camera.flat25() for shot in group] for group, _ in plan]),
        rgba,
        hair,
        notices=[
            f"{notice.what}: {notice.licence}, {notice.holder}." for notice in data.manifest.notices
        ],
    )
