"""What other families of rigs call Apple's blendshapes, where a name of theirs means one of ours.

Only names that differ by more than spelling stand here; ``mapping`` deals with cases, separators,
sides and prefixes itself. Shapes that a family cuts into two halves stand in :data:`HALVES`.
"""

from __future__ import annotations

# (their stem, Apple's stem) of shapes that both have on the left and on the right.
_SIDED = (
    # Reallusion Character Creator and iClone
    ("Brow_Raise_Outer", "browOuterUp"),
    ("Brow_Drop", "browDown"),
    ("Cheek_Raise", "cheekSquint"),
    ("Mouth_Up_Upper", "mouthUpperUp"),
    ("Mouth_Down_Lower", "mouthLowerDown"),
    # MetaHuman's facial controls
    ("eyeWiden", "eyeWide"),
    ("eyeSquintInner", "eyeSquint"),
    ("eyeCheekRaise", "cheekSquint"),
    ("browRaiseOuter", "browOuterUp"),
    ("noseWrinkle", "noseSneer"),
    ("mouthCornerPull", "mouthSmile"),
    ("mouthCornerDepress", "mouthFrown"),
    ("mouthLowerLipDepress", "mouthLowerDown"),
    ("mouthUpperLipRaise", "mouthUpperUp"),
)

FAMILIES: dict[str, str] = {
    # Both name the direction of a look by the head's sides, in different places.
    "Eye_L_Look_L": "eyeLookOutLeft",
    "Eye_L_Look_R": "eyeLookInLeft",
    "Eye_R_Look_L": "eyeLookInRight",
    "Eye_R_Look_R": "eyeLookOutRight",
    "eyeLookLeftL": "eyeLookOutLeft",
    "eyeLookRightL": "eyeLookInLeft",
    "eyeLookLeftR": "eyeLookInRight",
    "eyeLookRightR": "eyeLookOutRight",
    "Mouth_Roll_In_Upper": "mouthRollUpper",
    "Mouth_Roll_In_Lower": "mouthRollLower",
    "jawFwd": "jawForward",
    "Jaw_Fwd": "jawForward",
    "Mouth_Kiss": "mouthPucker",
    **{f"{theirs}_L": f"{ours}Left" for theirs, ours in _SIDED},
    **{f"{theirs}_R": f"{ours}Right" for theirs, ours in _SIDED},
}

# Their half → (Apple's whole, side).
HALVES: dict[str, tuple[str, str]] = {
    f"{stem}_{letter}": (name, side)
    for stem, name in (
        ("browInnerUp", "browInnerUp"),
        ("cheekPuff", "cheekPuff"),
        ("Brow_Raise_Inner", "browInnerUp"),
        ("browRaiseIn", "browInnerUp"),
        ("browInnerRaise", "browInnerUp"),
        ("mouthCheekBlow", "cheekPuff"),
        ("mouthFunnel", "mouthFunnel"),
        ("mouthPucker", "mouthPucker"),
        ("mouthRollUpper", "mouthRollUpper"),
        ("mouthRollLower", "mouthRollLower"),
        ("mouthShrugUpper", "mouthShrugUpper"),
        ("mouthShrugLower", "mouthShrugLower"),
        ("mouthClose", "mouthClose"),
    )
    for letter, side in (("L", "left"), ("R", "right"))
}
