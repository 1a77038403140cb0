"""Closed eyes, open mouth and speech from action units over time."""

import math

import pytest

from fer_ros.ros.client.facial_actions import FacialActions

FPS = 15


def states(eyes_closed=(), jaw_drop=(), fps=FPS):
    """The state after each image."""
    count = max(len(eyes_closed), len(jaw_drop))
    eyes_closed, jaw_drop = eyes_closed or [0.0] * count, jaw_drop or [0.0] * count
    actions, seen = FacialActions(), []
    for number, intensities in enumerate(zip(eyes_closed, jaw_drop, strict=True)):
        actions.update(10 + number / fps, *intensities)
        seen.append((actions.eyes_closed, actions.mouth_open, actions.speaking))
    return seen


def wave(seconds, hertz, middle, amplitude):
    return [
        middle + amplitude * math.sin(2 * math.pi * hertz * number / FPS)
        for number in range(round(seconds * FPS))
    ]


def test_states_are_none_before_the_first_image():
    actions = FacialActions()
    assert (actions.eyes_closed, actions.mouth_open, actions.speaking) == (None, None, None)


@pytest.mark.parametrize(
    ("intensities", "closed"),
    [
        ([0.0], [False]),
        ([0.6, 0.5, 0.41, 0.4], [True, True, True, False]),
        ([0.59, 0.7, 0.59], [False, True, True]),
        ([0.3, 0.59, 0.3], [False, False, False]),  # between the limits nothing changes
    ],
)
def test_eyes_close_and_open_with_hysteresis(intensities, closed):
    assert [state[0] for state in states(eyes_closed=intensities)] == closed


@pytest.mark.parametrize(
    ("intensities", "is_open"),
    [([0.3], [False]), ([0.35, 0.25, 0.2], [True, True, False])],
)
def test_the_mouth_opens_and_closes_with_hysteresis(intensities, is_open):
    assert [state[1] for state in states(jaw_drop=intensities)] == is_open


def test_speech_is_movement_over_a_second_and_ends_a_second_after_it():
    jaw = [*[0.05] * FPS, *wave(2.0, 4.0, 0.2, 0.1), *[0.2] * 2 * FPS]
    speaking = [state[2] for state in states(jaw_drop=jaw)]
    assert not any(speaking[: FPS + 1])
    assert all(speaking[2 * FPS : 3 * FPS])
    assert not any(speaking[-FPS + 2 :])


@pytest.mark.parametrize(
    "jaw",
    [
        [0.0] * 40,
        [0.7] * 40,  # open, and still
        wave(3.0, 4.0, 0.2, 0.009),  # noise
        [min(1.0, abs(number - 20) / 20) for number in range(40)],  # a yawn
    ],
    ids=["closed", "open", "noise", "yawn"],
)
def test_other_movements_are_not_speech(jaw):
    assert not any(state[2] for state in states(jaw_drop=jaw))


def test_after_a_pause_the_movement_before_it_does_not_count():
    actions = FacialActions()
    for number, jaw in enumerate(wave(1.0, 4.0, 0.2, 0.1)):
        actions.update(10 + number / FPS, 0.0, jaw)
    assert actions.speaking
    actions.update(20.0, 0.0, 0.2)
    assert not actions.speaking
    actions.update(5.0, 0.0, 0.9)  # a recording that starts again
    assert not actions.speaking
