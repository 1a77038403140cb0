"""Names of the 52 blendshapes, their mirror images, and the FACS action units that they measure.

The names are those of Apple's ARKit (``ARFaceAnchor.BlendShapeLocation``) in the order of
MediaPipe's Face Landmarker, which puts ``_neutral`` first and has no ``tongueOut``. Left and right
are those of the person. A value is 0 for a relaxed face and 1 for the strongest movement.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

BLENDSHAPES = (
    "_neutral",
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    *("cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight"),
    *("eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight"),
    *("eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight"),
    *("eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight"),
    *("jawForward", "jawLeft", "jawOpen", "jawRight"),
    *("mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight"),
    *("mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *("mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight"),
)
NUM_BLENDSHAPES = len(BLENDSHAPES)


def _mirrored(name: str) -> str:
    if name.endswith("Left"):
        return name.removesuffix("Left") + "Right"
    return name.removesuffix("Right") + "Left" if name.endswith("Right") else name


MIRRORED_BLENDSHAPES = tuple(BLENDSHAPES.index(_mirrored(name)) for name in BLENDSHAPES)
"""Value i of a mirrored face is value ``MIRRORED_BLENDSHAPES[i]`` of the face."""

ACTION_UNITS: Mapping[int, tuple[str, ...]] = MappingProxyType(
    {
        1: ("browInnerUp",),
        2: ("browOuterUpLeft", "browOuterUpRight"),
        4: ("browDownLeft", "browDownRight"),
        5: ("eyeWideLeft", "eyeWideRight"),
        7: ("eyeSquintLeft", "eyeSquintRight"),
        8: ("mouthClose",),
        10: ("mouthUpperUpLeft", "mouthUpperUpRight"),
        12: ("mouthSmileLeft", "mouthSmileRight"),
        14: ("mouthDimpleLeft", "mouthDimpleRight"),
        15: ("mouthFrownLeft", "mouthFrownRight"),
        16: ("mouthLowerDownLeft", "mouthLowerDownRight"),
        17: ("mouthShrugLower",),
        18: ("mouthPucker",),
        20: ("mouthStretchLeft", "mouthStretchRight"),
        22: ("mouthFunnel",),
        24: ("mouthPressLeft", "mouthPressRight"),
        26: ("jawOpen",),
        28: ("mouthRollLower", "mouthRollUpper"),
        29: ("jawForward",),
        43: ("eyeBlinkLeft", "eyeBlinkRight"),
        61: ("eyeLookOutLeft", "eyeLookInRight"),
        62: ("eyeLookInLeft", "eyeLookOutRight"),
        63: ("eyeLookUpLeft", "eyeLookUpRight"),
        64: ("eyeLookDownLeft", "eyeLookDownRight"),
    }
)
"""FACS action unit (Ekman, Friesen and Hager, 2002) to the blendshapes whose mean is its intensity.

Units without a blendshape, or with an inactive one only (6, 9, 34), are left out.
"""

_WEIGHTS = np.array(
    [[(name in names) / len(names) for names in ACTION_UNITS.values()] for name in BLENDSHAPES],
    np.float32,
)


def action_units(blendshapes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return intensities (..., 24) in 0..1, in the order of ACTION_UNITS.

    ``blendshapes``: (..., 52) in 0..1, in the order of BLENDSHAPES.
    """
    return blendshapes @ _WEIGHTS
