"""What a fit shows of itself: its stages while it runs, and how it went."""

from __future__ import annotations

from dataclasses import dataclass, field

import bpy

from .. import album, properties


@dataclass
class Outcome:
    """How the last fit went, for the panel: reports are gone after a few seconds."""

    text: str = ""
    icon: str = "NONE"
    notes: list[str] = field(default_factory=list)


outcome = Outcome()


def summary(made) -> str:
    """The result in one line."""
    told = [f"{made.model}: {made.seconds:.0f} s"]
    if "landmark_px" in made.facts:
        told.append(f"landmarks within {made.facts['landmark_px']:.1f} px")
    if "psnr_front" in made.facts:
        told.append(f"likeness {made.facts['psnr_front']:.1f} dB")
    return ", ".join(told)


def hair_note(styles, known) -> list[str]:
    """What the hair of the photograph looks like, and whether the model has that at all.

    Args:
        styles: (name, probability) of the likeliest, of all styles of the studio.
        known: names of those that the model has.
    """
    if not styles:
        return []
    likely = ", ".join(f"{name} {probability:.0%}" for name, probability in styles)
    note = f"The hair looks like {likely}."
    if not any(name in ("bald", *known) for name, _ in styles):
        note += " The model has none of these; the nearest that it has was taken."
    return [note]


def begin_stages() -> None:
    """Forget the stages of the fit before."""
    properties.stages.clear()
    album.forget("stage:")


def add_stage(event) -> None:
    """Show a finished stage; one without a picture is not worth a place."""
    if event.picture is None:
        return
    album.put(f"stage:{event.name}", event.picture)
    stage = properties.Stage(event.name, event.text, event.number, event.count)
    names = [known.name for known in properties.stages]
    if event.name not in names:
        properties.stages.append(stage)
    # The newest is shown; pictures of earlier ones are a click away.
    bpy.context.window_manager.head360_making.stage = event.name
