"""A label without flicker from noisy probabilities."""

import numpy as np
import pytest

from fer_ros.config import SmootherConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.smoother import Smoother

SLOW = SmootherConfig(
    time_constant_s=0.5, switch_margin=0.1, min_label_duration_s=0.0, reset_after_s=5.0
)
INSTANT = SmootherConfig(
    time_constant_s=0.0, switch_margin=0.0, min_label_duration_s=0.0, reset_after_s=5.0
)


def sure(emotion, share=0.86):
    probabilities = np.full(len(EMOTIONS), (1 - share) / (len(EMOTIONS) - 1), np.float32)
    probabilities[EMOTIONS.index(emotion)] = share
    return probabilities


def share_of(emotion, probabilities):
    return float(probabilities[EMOTIONS.index(emotion)])


def labels(smoother, frames):
    """The label after each (stamp_s, emotion, share)."""
    return [smoother.update("f1", stamp_s, sure(*seen))[1] for stamp_s, *seen in frames]


def test_no_face():
    smoother = Smoother(SLOW)
    smoother.forget_older(10.0)
    smoother.reset()
    assert len(smoother) == 0


@pytest.mark.parametrize("emotion", EMOTIONS)
@pytest.mark.parametrize("config", [SLOW, INSTANT, SmootherConfig()])
def test_the_first_frame_is_not_smoothed(config, emotion):
    probabilities, label = Smoother(config).update("f1", 12.3, sure(emotion))
    np.testing.assert_allclose(probabilities, sure(emotion), rtol=1e-5)
    assert (label, probabilities.dtype) == (emotion, np.float32)


@pytest.mark.parametrize("frames", [1, 3, 15, 60])
def test_the_frame_rate_does_not_matter(frames):
    """After one time constant the logarithms have gone 63% of the way."""
    smoother = Smoother(SLOW)
    smoother.update("f1", 0.0, sure("neutral"))
    for stamp_s in np.linspace(0.0, 0.5, frames + 1)[1:]:
        smoothed, _ = smoother.update("f1", stamp_s, sure("anger"))
    way = np.log(share_of("anger", smoothed) / share_of("neutral", smoothed))
    full_change = np.log(share_of("anger", sure("anger")) / share_of("neutral", sure("anger")))
    assert (way + full_change) / (2 * full_change) == pytest.approx(1 - np.exp(-1), abs=1e-4)


@pytest.mark.parametrize(
    "probabilities",
    [
        pytest.param(np.zeros(8), id="nothing"),
        pytest.param(np.eye(8)[3], id="one is certain"),
        pytest.param(np.full(8, np.nan), id="not numbers"),
        pytest.param(np.array([np.inf, -np.inf, -1, 0, 1, 2, 3, np.nan]), id="mixed"),
        pytest.param(np.array([np.inf, 0, 1, 0, 0, 0, 0, 0]), id="infinite"),
        pytest.param(np.arange(8) * 1e30, id="huge"),
        pytest.param(np.arange(8) * 1e-30, id="tiny"),
    ],
)
def test_any_numbers_give_probabilities(probabilities):
    smoother = Smoother(SLOW)
    for i in range(3):
        smoothed, label = smoother.update("f1", i / 10, probabilities.astype(np.float32))
        assert np.isfinite(smoothed).all()
        assert smoothed.min() > 0
        assert smoothed.sum() == pytest.approx(1, abs=1e-5)
        assert label in EMOTIONS


def test_all_zero_probabilities_become_uniform():
    smoothed, _ = Smoother(SLOW).update("f1", 0.0, np.zeros(8, np.float32))
    np.testing.assert_allclose(smoothed, 1 / 8)


def test_non_finite_probabilities_count_as_zero():
    probabilities = np.array([np.inf, -3, 1, np.nan, 1, 0, 0, 0], np.float32)
    smoothed, _ = Smoother(SLOW).update("f1", 0.0, probabilities)
    np.testing.assert_allclose(smoothed, np.eye(8)[[2, 4]].sum(axis=0) / 2, atol=1e-3)


def test_a_single_zero_does_not_veto_an_emotion():
    """The average of logarithms must not stay at minus infinity."""
    smoother = Smoother(SLOW)
    smoother.update("f1", 0.0, np.eye(8, dtype=np.float32)[0])
    smoothed, label = smoother.update("f1", 2.0, np.eye(8, dtype=np.float32)[1])
    assert label == EMOTIONS[1]
    assert smoothed[1] > 0.9


def test_a_single_zero_does_not_outweigh_later_frames():
    smoother = Smoother(SLOW)
    for i in range(15):
        smoother.update("f1", i / 15, sure("anger"))
    certain = np.eye(8, dtype=np.float32)[EMOTIONS.index("fear")]
    smoothed, label = smoother.update("f1", 1.0, certain)
    assert label == "anger"
    assert share_of("anger", smoothed) > 0.5


def test_flicker_does_not_change_the_label():
    """One frame in three says something else."""
    smoother = Smoother(SmootherConfig())
    seen = ("happiness", "happiness", "surprise")
    frames = [(i / 15, seen[i % 3], 0.6) for i in range(60)]
    assert set(labels(smoother, frames)) == {"happiness"}


def test_a_lasting_change_changes_the_label():
    """Within a second; before that the old label stands, and it changes once."""
    smoother = Smoother(SmootherConfig())
    before = labels(smoother, [(i / 15, "neutral", 0.8) for i in range(30)])
    after = labels(smoother, [(2 + i / 15, "anger", 0.8) for i in range(15)])
    assert set(before) == {"neutral"}
    assert (after[0], after[-1]) == ("neutral", "anger")
    assert after == sorted(after, reverse=True)


@pytest.mark.parametrize(
    ("margin", "first", "second", "label"),
    [
        (0.0, 0.40, 0.41, "sadness"),
        (0.1, 0.40, 0.41, "fear"),
        (0.1, 0.40, 0.49, "fear"),
        (0.1, 0.35, 0.46, "sadness"),
        (1.0, 0.05, 0.90, "fear"),
    ],
)
def test_a_new_label_must_lead_by_the_margin(margin, first, second, label):
    smoother = Smoother(
        SmootherConfig(time_constant_s=0.0, switch_margin=margin, min_label_duration_s=0.0)
    )
    smoother.update("f1", 0.0, sure("fear"))
    probabilities = np.full(8, (1 - first - second) / 6, np.float32)
    probabilities[EMOTIONS.index("fear")] = first
    probabilities[EMOTIONS.index("sadness")] = second
    assert smoother.update("f1", 0.1, probabilities)[1] == label


def test_a_label_lasts_for_the_minimum_duration():
    smoother = Smoother(
        SmootherConfig(time_constant_s=0.0, switch_margin=0.0, min_label_duration_s=0.5)
    )
    frames = [(i / 10, ("fear", "anger")[i % 2], 0.9) for i in range(20)]
    results = labels(smoother, frames)
    changes = [i for i in range(1, 20) if results[i] != results[i - 1]]
    assert changes == [5, 10, 15]


def test_faces_are_smoothed_independently():
    smoother = Smoother(SLOW)
    for i in range(10):
        _, one = smoother.update("f1", i / 10, sure("anger"))
        _, other = smoother.update("f2", i / 10, sure("happiness"))
    assert (one, other, len(smoother)) == ("anger", "happiness", 2)


def test_frames_without_the_face_change_nothing():
    """A face that was missed for a while has not become less angry."""
    smoother = Smoother(SLOW)
    before, _ = smoother.update("f1", 0.0, sure("anger"))
    for i in range(5):
        smoother.forget_older(0.5 + i / 10)
    after, label = smoother.update("f1", 1.0, sure("anger"))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    assert label == "anger"


STEPS = [
    pytest.param(0.0, "anger", id="the same stamp again"),
    pytest.param(-0.5, "anger", id="overtaken on the way"),
    pytest.param(-100.0, "happiness", id="the bag was started again"),
    pytest.param(100.0, "happiness", id="long away"),
]


@pytest.mark.parametrize(("step_s", "label"), STEPS)
def test_steps_in_time(step_s, label):
    """A face starts afresh after a long time, in either direction, and only then."""
    smoother = Smoother(SLOW)
    smoother.update("f1", 200.0, sure("anger"))
    assert smoother.update("f1", 200.0 + step_s, sure("happiness"))[1] == label


def test_after_a_backward_jump_smoothing_continues():
    smoother = Smoother(SLOW)
    smoother.update("f1", 1000.0, sure("anger"))
    results = labels(smoother, [(i / 10, "fear" if i < 10 else "disgust") for i in range(60)])
    assert (results[0], results[-1]) == ("fear", "disgust")


def test_a_late_frame_does_not_turn_time_back():
    """What came between two stamps is not counted twice."""
    plain, mixed = Smoother(SLOW), Smoother(SLOW)
    for smoother in (plain, mixed):
        smoother.update("f1", 1.0, sure("anger"))
    mixed.update("f1", 0.6, sure("anger"))
    expected, _ = plain.update("f1", 1.2, sure("fear"))
    smoothed, _ = mixed.update("f1", 1.2, sure("fear"))
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)


@pytest.mark.parametrize(("after_s", "left"), [(0.0, 1), (4.9, 1), (5.1, 0), (-4.9, 1), (-5.1, 0)])
def test_lost_faces_are_forgotten(after_s, left):
    smoother = Smoother(SLOW)
    smoother.update("f1", 50.0, sure("fear"))
    smoother.forget_older(50.0 + after_s)
    assert len(smoother) == left


def test_memory_stays_bounded():
    smoother = Smoother(SmootherConfig())
    for i in range(1000):
        smoother.update(f"f{i}", i / 10, sure("fear"))
        smoother.forget_older(i / 10)
    assert len(smoother) <= 11


def test_reset_forgets_all_faces():
    smoother = Smoother(SLOW)
    smoother.update("f1", 0.0, sure("fear"))
    smoother.reset()
    assert len(smoother) == 0
    assert smoother.update("f1", 0.1, sure("anger"))[1] == "anger"


def test_without_smoothing_probabilities_are_unchanged():
    smoother = Smoother(INSTANT)
    for i, emotion in enumerate(EMOTIONS * 2):
        probabilities, label = smoother.update("f1", i / 30, sure(emotion))
        np.testing.assert_allclose(probabilities, sure(emotion), rtol=1e-5)
        assert label == emotion
