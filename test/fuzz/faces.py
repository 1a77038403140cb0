"""Extreme outputs of detector and network, through tracker and smoother."""

import numpy as np
from conftest import FakeClassifier
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fer_ros.config import PipelineConfig, SmootherConfig, TrackerConfig
from fer_ros.emotions import EMOTIONS
from fer_ros.pipeline import EmotionPipeline
from fer_ros.smoother import Smoother
from fer_ros.types import FaceDetections, Frame, FrameResult

_IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
_ANY = st.floats(width=32) | st.floats(-10, 80, width=32)
_STAMPS_S = st.floats(-(2.0**31), 2.0**31) | st.floats(0, 3)


@st.composite
def detections(draw: st.DrawFn) -> FaceDetections:
    """Up to four faces anywhere, also inside out, nowhere, or without end."""
    count = draw(st.integers(0, 4))
    return FaceDetections(
        draw(arrays(np.float32, (count, 4), elements=_ANY)),
        draw(arrays(np.float32, count, elements=st.floats(0, 1, width=32) | _ANY)),
        draw(arrays(np.float32, (count, 5, 2), elements=_ANY)),
    )


class Scripted:
    """A detector with given results, frame by frame."""

    def __init__(self, answers: list[FaceDetections]) -> None:
        self._answers = iter(answers)

    def detect(self, image_rgb: np.ndarray) -> FaceDetections:
        return next(self._answers)


@given(
    st.lists(st.tuples(detections(), _STAMPS_S), max_size=4),
    arrays(np.float32, (68, 2), elements=_ANY),
    arrays(np.float32, 8, elements=_ANY),
)
@example([], np.zeros((68, 2), np.float32), np.zeros(8, np.float32))
def any_detections(frames: list, points_xy: np.ndarray, probabilities: np.ndarray) -> None:
    """Each frame has an answer; ids are unique in it, and a face that is read has probabilities."""
    classifier = FakeClassifier()
    classifier.points_xy, classifier.probabilities = points_xy, probabilities
    config = PipelineConfig(tracker=TrackerConfig(min_hits=1))
    pipeline = EmotionPipeline(config, Scripted([boxes for boxes, _ in frames]), classifier)
    for _, stamp_s in frames:
        with np.errstate(all="ignore"):
            check(pipeline(Frame(_IMAGE, stamp_s)))


def check(result: FrameResult) -> None:
    ids = [face.id for face in result.faces]
    assert len(ids) == len(set(ids))
    for face in result.faces:
        assert face.is_readable == (face.emotion is not None) == (not face.rejection_reason)
        assert len(face.rejection_reason.splitlines()) <= 1
        if face.is_readable:
            assert np.isfinite(face.probabilities).all()
            assert abs(face.probabilities.sum() - 1) < 1e-3


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), _STAMPS_S, arrays(np.float32, 8, elements=_ANY)),
        max_size=8,
    ),
    st.floats(0, 60),
    st.floats(0, 1),
)
@example([], 0.4, 0.1)
def any_probabilities(seen: list, time_constant_s: float, min_margin: float) -> None:
    """Smoothed ones sum to 1, and the label is an emotion."""
    config = SmootherConfig(time_constant_s=time_constant_s, switch_margin=min_margin)
    smoother = Smoother(config)
    for face, stamp_s, probabilities in seen:
        with np.errstate(all="ignore"):
            smoothed, emotion = smoother.update(face, stamp_s, probabilities)
        smoother.forget_older(stamp_s)
        assert emotion in EMOTIONS
        assert np.isfinite(smoothed).all()
        assert abs(smoothed.sum() - 1) < 1e-3
