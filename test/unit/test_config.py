from dataclasses import FrozenInstanceError, fields

import pytest

from fer_ros.config import (
    ClassifierConfig,
    DetectorConfig,
    PipelineConfig,
    QualityConfig,
    SmootherConfig,
    TrackerConfig,
    from_dict,
    parse_yaml,
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


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (None, "config: expected a mapping, got NoneType"),
        ({"traker": {}}, "config: unknown key 'traker'; did you mean 'tracker'?"),
        ({"tracker": None}, "config.tracker: expected a mapping, got NoneType"),
        ({"tracker": {"zzz": 1}}, "config.tracker: unknown key 'zzz'; known: match_iou_threshold"),
        ({"tracker": {"min_hits": 0}}, "config.tracker.min_hits: expected 1 to 100, got 0"),
        ({"tracker": {"min_hits": 1.5}}, "config.tracker.min_hits: expected int, got 1.5"),
        ({"tracker": {"min_hits": True}}, "config.tracker.min_hits: expected int, got True"),
        (
            {"detector": {"score_threshold": "0.5"}},
            "config.detector.score_threshold: expected float",
        ),
        (
            {"detector": {"score_threshold": float("nan")}},
            "config.detector.score_threshold: expected 0.0 to",
        ),
        ({"image_rotation": 45}, "config.image_rotation: expected 0, 90, 180 or 270, got 45"),
        ({"classifier": {"model": 3}}, "config.classifier.model: expected str, got 3"),
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


# "Billion laughs": each line stands for ten times the one before.
LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join(10 * [f'*a{n - 1}'])}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "found"),
    [("", None), ("a: [1, &b 2.5]", {"a": [1, 2.5]}), ("'*a': x*y", {"*a": "x*y"})],
)
def test_yaml(text, found):
    assert parse_yaml(text.encode()) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a 1\nb: *a", "not a YAML file: alias *a is not supported: write its value out"),
        ("a: &a [*a]", "not a YAML file: alias *a is "),
        ("a: &a {x: 1}\nb: {<<: *a}", "not a YAML file: alias *a is "),
        (LAUGHS, "not a YAML file: alias *a0 is "),
        ("#" * (2**21 + 1), "expected YAML of at most 2097152 bytes, found 2097153"),
        ("a: [", "not a YAML file: "),
    ],
)
def test_unsupported_yaml_is_rejected(text, says):
    with pytest.raises(ValueError) as caught:
        parse_yaml(text.encode())
    assert str(caught.value).startswith(says)
    assert "\n" not in str(caught.value)
