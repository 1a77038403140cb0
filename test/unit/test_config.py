from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from fer_ros.config import (
    ClassifierConfig,
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
    SmootherConfig,
    TrackerConfig,
    from_dict,
)

STAGES = (DetectorConfig, TrackerConfig, SmootherConfig, QualityConfig, ClassifierConfig)


@pytest.mark.parametrize("stage", [*STAGES, PipelineConfig])
def test_empty_settings_give_the_defaults(stage):
    assert from_dict(stage, {}) == stage()


def test_nested_values_override_only_themselves():
    config = from_dict(PipelineConfig, {"tracker": {"min_hits": 3}, "detector": {}})
    assert config == PipelineConfig(tracker=TrackerConfig(min_hits=3))


def test_still_images_change_only_the_confirmation():
    config = PipelineConfig(image_rotation=90, tracker=TrackerConfig(max_age_s=2.0, min_hits=4))
    expected = PipelineConfig(image_rotation=90, tracker=TrackerConfig(max_age_s=2.0, min_hits=1))
    assert config.for_still_images() == expected


def test_an_integer_is_accepted_for_a_float():
    value = from_dict(QualityConfig, {"min_size_px": 30}).min_size_px
    assert (value, type(value)) == (30.0, float)


def test_numbers_of_numpy_are_accepted():
    config = DetectorConfig(max_faces=np.int64(3), min_face_px=np.float32(30), budget_ms=np.int8(5))
    values = (config.max_faces, config.min_face_px, config.budget_ms)
    assert values == (3, 30.0, 5.0)
    assert [type(value) for value in values] == [int, float, float]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (None, "config: expected a mapping, found NoneType"),
        ({"traker": {}}, "config: unknown key 'traker'; did you mean 'tracker'?"),
        ({"tracker": None}, "config.tracker: expected a mapping, found NoneType"),
        ({"tracker": {"zzz": 1}}, "config.tracker: unknown key 'zzz'; known: match_iou_threshold"),
        ({"tracker": {"min_hits": 0}}, "config.tracker.min_hits: expected 1 to 100, found 0"),
        ({"tracker": {"min_hits": 1.5}}, "config.tracker.min_hits: expected int, found 1.5"),
        ({"tracker": {"min_hits": True}}, "config.tracker.min_hits: expected int, found True"),
        ({"tracker": {"min_hits": np.float64(2)}}, "config.tracker.min_hits: expected int, found"),
        ({"tracker": {"max_age_s": np.True_}}, "config.tracker.max_age_s: expected float, found"),
        (
            {"detector": {"score_threshold": "0.5"}},
            "config.detector.score_threshold: expected float",
        ),
        (
            {"detector": {"score_threshold": float("nan")}},
            "config.detector.score_threshold: expected 0.0 to",
        ),
        ({"image_rotation": 45}, "config.image_rotation: expected 0, 90, 180 or 270, found 45"),
        ({"classifier": {"model": 3}}, "config.classifier.model: expected str, found 3"),
    ],
)
def test_invalid_settings_name_the_field(values, says):
    with pytest.raises(ValueError) as caught:
        from_dict(PipelineConfig, values)
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_is_described_and_numbers_have_a_range(stage):
    for item in fields(stage):
        assert item.metadata["description"]
        if isinstance(item.default, int | float):
            assert item.metadata["minimum"] <= item.default <= item.metadata["maximum"]


def test_settings_are_frozen():
    with pytest.raises(FrozenInstanceError):
        TrackerConfig().min_hits = 3
