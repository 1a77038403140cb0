import numpy as np
import pytest

from fer_ros.types import AlignedFaces, FaceDetections, FaceEmotion, Frame, TrackedFace

F32 = np.float32


def boxes(count=1, **change):
    fields = {
        "boxes_xyxy": np.zeros((count, 4), F32),
        "scores": np.zeros(count, F32),
        "points_xy": np.zeros((count, 5, 2), F32),
    }
    return FaceDetections(**{**fields, **change})


def emotion(**change):
    fields = {
        "id": "f00001",
        "box_xyxy": np.zeros(4, F32),
        "score": 0.9,
        "points_xy": np.zeros((68, 2), F32),
        "probabilities": np.zeros(8, F32),
        "raw_probabilities": np.zeros(8, F32),
        "emotion": "neutral",
    }
    return FaceEmotion(**{**fields, **change})


GOOD = [
    pytest.param(FaceDetections.empty, id="no face"),
    pytest.param(lambda: boxes(0), id="no face, by hand"),
    pytest.param(lambda: boxes(3), id="three faces"),
    pytest.param(lambda: Frame(np.zeros((1, 1, 3), np.uint8), 0.0), id="smallest frame"),
    pytest.param(
        lambda: AlignedFaces(np.zeros((0, 112, 112, 3), np.uint8), np.zeros((0, 2, 3), F32)),
        id="no crop",
    ),
    pytest.param(emotion, id="usable face"),
    pytest.param(
        lambda: emotion(
            is_readable=False, emotion=None, rejection_reason="too small: 18 px, minimum 24"
        ),
        id="unusable",
    ),
]


@pytest.mark.parametrize("make", GOOD)
def test_valid_values_are_accepted(make):
    make()


BAD = [
    (lambda: Frame(np.zeros((0, 4, 3), np.uint8), 0.0), ValueError, "empty"),
    (lambda: Frame(np.zeros((4, 4), np.uint8), 0.0), ValueError, r"\(any, any, 3\).*\(4, 4\)"),
    (lambda: Frame(np.zeros((4, 4, 4), np.uint8), 0.0), ValueError, r"\(4, 4, 4\)"),
    (lambda: Frame(np.zeros((4, 4, 3)), 0.0), ValueError, "uint8.*float64"),
    (lambda: Frame([[[0, 0, 0]]], 0.0), TypeError, "image_rgb.*list"),
    (lambda: Frame(np.zeros((4, 4, 3), np.uint8), None), TypeError, "stamp_s.*seconds.*NoneType"),
    (lambda: Frame(np.zeros((4, 4, 3), np.uint8), "1"), TypeError, "stamp_s.*seconds.*str"),
    (lambda: Frame(np.zeros((4, 4, 3), np.uint8), 0.0, "1"), TypeError, "arrival_s.*str"),
    (lambda: boxes(1, scores=np.zeros(2, F32)), ValueError, r"scores.*\(1\).*\(2,\)"),
    (lambda: boxes(1, points_xy=np.zeros((1, 68, 2), F32)), ValueError, "points_xy"),
    (lambda: boxes(1, boxes_xyxy=np.zeros((1, 4))), ValueError, "boxes_xyxy.*float32.*float64"),
    (
        lambda: TrackedFace("f1", np.zeros((1, 4), F32), np.zeros((5, 2), F32), 0.5),
        ValueError,
        "box_xyxy",
    ),
    (
        lambda: AlignedFaces(np.zeros((1, 96, 96, 3), np.uint8), np.zeros((1, 2, 3), F32)),
        ValueError,
        "crops_rgb.*112.*96",
    ),
    (
        lambda: AlignedFaces(np.zeros((2, 112, 112, 3), np.uint8), np.zeros((1, 2, 3), F32)),
        ValueError,
        "frame_to_crop",
    ),
    (lambda: emotion(probabilities=np.zeros(7, F32)), ValueError, r"probabilities.*\(8\).*\(7,\)"),
    (lambda: emotion(emotion="bored"), ValueError, "f00001.*bored"),
    (lambda: emotion(emotion=None), ValueError, "f00001.*is_readable"),
    (lambda: emotion(is_readable=False), ValueError, "f00001.*is_readable"),
]


@pytest.mark.parametrize(("make", "error", "says"), BAD)
def test_invalid_values_are_rejected_by_name(make, error, says):
    with pytest.raises(error, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)
