"""Portraits without a studio: discs with faces, for tests of what learns from portraits."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from head360.datasets.labels import EYES, HAIR, LIPS, NECK, SKIN
from head360.synthesis.hair import STYLES
from head360.training.portraits import VERSION, PortraitSet, PortraitSpec

SIZE = 64
COLOURS = {SKIN: (220, 170, 140), HAIR: (60, 40, 30), NECK: (205, 150, 120), EYES: (240, 240, 240),
           LIPS: (190, 70, 80)}  # fmt: skip


def landmarks(x: float, y: float, unit: float, lean: float = 0.0) -> NDArray[np.float32]:
    """(68, 2) a frontal face with its middle at (x, y), ``unit`` from eyes to mouth, leaning."""
    points = np.zeros((68, 2))
    turn = np.linspace(0, np.pi, 17)
    points[:17] = np.stack([-np.cos(turn), np.sin(turn) * 1.5 - 0.4], 1)
    for first, middle in ((17, -0.45), (22, 0.45)):
        points[first : first + 5] = [(middle + 0.1 * (k - 2), -0.85) for k in range(5)]
    points[27:31] = [(0, -0.4 + 0.2 * k) for k in range(4)]
    points[31:36] = [(0.1 * (k - 2), 0.25) for k in range(5)]
    for first, middle in ((36, -0.45), (42, 0.45)):
        around = np.linspace(np.pi, -np.pi, 6, endpoint=False)
        points[first : first + 6] = np.stack(
            [middle + 0.2 * np.cos(around), -0.5 + 0.08 * np.sin(around)], 1
        )
    around = np.linspace(np.pi, 3 * np.pi, 20, endpoint=False)
    points[48:] = np.stack([0.35 * np.cos(around), 0.5 + 0.15 * np.sin(around)], 1)
    cos, sin = np.cos(lean) * unit, np.sin(lean) * unit
    return (points @ [[cos, sin], [-sin, cos]] + (x, y)).astype(np.float32)


def picture(style: int, rng: np.random.Generator) -> dict[str, NDArray]:
    """One head of 64²; style 0 is a cap of hair, 1 falls to the shoulders, −1 is bald."""
    unit = rng.uniform(8, 10)
    x, y = rng.uniform(29, 35, 2)
    across, down = np.meshgrid(np.arange(SIZE) + 0.5 - x, np.arange(SIZE) + 0.5 - y)
    across, down = across / unit, down / unit
    labels = np.zeros((SIZE, SIZE), dtype=np.uint8)
    labels[(np.abs(across) < 0.7) & (down > 0.8) & (down < 2.6)] = NECK
    if style == 1:
        labels[(np.abs(across) < 1.6) & (down > -1.2) & (down < 2.3)] = HAIR
    labels[(across / 1.1) ** 2 + ((down + 0.1) / 1.5) ** 2 < 1] = SKIN
    if style >= 0:
        cap = ((across / 1.5) ** 2 + ((down + 0.4) / 1.7) ** 2 < 1) & (down < -0.9)
        labels[cap] = HAIR
    for side in (-0.45, 0.45):
        labels[((across - side) / 0.25) ** 2 + ((down + 0.5) / 0.15) ** 2 < 1] = EYES
    labels[(across / 0.4) ** 2 + ((down - 0.5) / 0.2) ** 2 < 1] = LIPS
    rgba = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    for label, colour in COLOURS.items():
        rgba[labels == label] = (*np.array(colour) + rng.integers(-9, 10, 3), 255)
    points = np.zeros((536, 2), dtype=np.float32)
    points[:68] = landmarks(x, y, unit)
    return {
        "rgba": rgba, "labels": labels, "hair": np.where(labels == HAIR, 255, 0).astype(np.uint8),
        "points": points, "visible": np.ones(536, dtype=np.bool_), "style": np.int16(style),
    }  # fmt: skip


def write_set(folder: Path, people: int = 8, seed: int = 0) -> PortraitSet:
    """A set of three pictures per person: cap, long hair, bald."""
    spec = PortraitSpec(people=people, styles=2, moments=1, views=1, bald=1, size=SIZE, seed=seed)
    rng = np.random.default_rng(seed)
    drawn = [picture(style, rng) for _ in range(people) for style in (0, 1, -1)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, (shape, kind) in spec.arrays().items():
        array = np.zeros(shape, dtype=kind)
        if name in drawn[0]:
            array[:] = np.stack([values[name] for values in drawn])
        if name == "done":
            array[:] = True
        if name == "camera":
            array[:] = np.concatenate([np.diag([1.0, -1, -1, 1]).ravel(), np.zeros(9)])
            array[:, 11] = 2.0  # two metres before the face
        np.save(folder / f"{name}.npy", array)
    facts = {"version": VERSION, "spec": asdict(spec), "styles": [s.name for s in STYLES]}
    (folder / "spec.json").write_text(json.dumps(facts))
    return PortraitSet.load(folder)
