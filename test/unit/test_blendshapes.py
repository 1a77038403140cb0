"""Names, mirror images and action units of the blendshapes."""

import numpy as np
import pytest

from fer_ros.blendshapes import (
    ACTION_UNITS,
    BLENDSHAPES,
    MIRRORED_BLENDSHAPES,
    NUM_BLENDSHAPES,
    action_units,
)

# Face Landmarker (float16, version 1) returns 0 for these on every face.
INACTIVE = {"_neutral", "cheekPuff", "noseSneerLeft", "noseSneerRight"}
INACTIVE |= {"cheekSquintLeft", "cheekSquintRight"}


def test_there_is_one_name_for_each_value() -> None:
    assert len(BLENDSHAPES) == len(set(BLENDSHAPES)) == NUM_BLENDSHAPES == 52


def test_mirroring_twice_gives_the_same_face_and_swaps_the_sides() -> None:
    mirror = np.array(MIRRORED_BLENDSHAPES)
    assert mirror[mirror].tolist() == list(range(NUM_BLENDSHAPES))
    assert BLENDSHAPES[mirror[BLENDSHAPES.index("eyeBlinkLeft")]] == "eyeBlinkRight"
    assert BLENDSHAPES[mirror[BLENDSHAPES.index("mouthRight")]] == "mouthLeft"
    assert BLENDSHAPES[mirror[BLENDSHAPES.index("jawOpen")]] == "jawOpen"


def test_no_action_unit_uses_an_inactive_blendshape() -> None:
    used = [name for names in ACTION_UNITS.values() for name in names]
    assert len(used) == len(set(used))
    assert set(used) <= set(BLENDSHAPES) - INACTIVE


@pytest.mark.parametrize("shape", [(0, 52), (52,), (3, 52), (2, 3, 52)])
def test_action_units_keep_the_leading_axes(shape: tuple[int, ...]) -> None:
    assert action_units(np.zeros(shape, np.float32)).shape == (*shape[:-1], len(ACTION_UNITS))


@pytest.mark.parametrize(
    ("values", "unit", "intensity"),
    [
        ({"jawOpen": 0.7}, 26, 0.7),
        ({"mouthSmileLeft": 0.9, "mouthSmileRight": 0.5}, 12, 0.7),
        ({"eyeBlinkLeft": 1.0}, 43, 0.5),
        ({"eyeLookOutLeft": 0.6, "eyeLookInRight": 0.6}, 61, 0.6),
        ({"noseSneerLeft": 1.0}, 4, 0.0),
    ],
)
def test_intensity_is_the_mean_of_both_sides(
    values: dict[str, float], unit: int, intensity: float
) -> None:
    face = np.zeros(NUM_BLENDSHAPES, np.float32)
    for name, value in values.items():
        face[BLENDSHAPES.index(name)] = value
    intensities = dict(zip(ACTION_UNITS, action_units(face), strict=True))
    assert intensities[unit] == pytest.approx(intensity)
    assert sum(intensities.values()) == pytest.approx(intensity)
