"""The key of cached results."""

import pytest
from bag_tools import portrait_bag

from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detectors import centerface
from fer_ros.evaluation.batch import evaluate_all
from fer_ros.evaluation.replay import EvaluationTask
from fer_ros.evaluation.result_cache import cache_key
from fer_ros.inference.model_store import find_model, read_manifest


@pytest.mark.parametrize("has_int8", [False, True])
def test_the_weights_are_those_that_this_cpu_uses(tmp_path, astronaut, monkeypatch, has_int8):
    monkeypatch.setattr("fer_ros.classifier.supports_int8_dot_product", lambda: has_int8)
    config = PipelineConfig(classifier=ClassifierConfig(device="cpu"))
    tasks = {"bag": EvaluationTask(portrait_bag(tmp_path / "bag", astronaut, 2), config=config)}
    batch = evaluate_all(tasks, tmp_path / "out")
    assert batch.failed == {}
    model = "two_stream_small_int8" if has_int8 else "two_stream_small"
    assert batch.results["bag"].model == model
    assert batch.results["bag"].sha256 == read_manifest(find_model(model)).sha256
    assert evaluate_all(tasks, tmp_path / "out").cached == ["bag"]
    monkeypatch.setattr("fer_ros.classifier.supports_int8_dot_product", lambda: not has_int8)
    assert evaluate_all(tasks, tmp_path / "out").cached == []


@pytest.mark.parametrize("is_named", [False, True])
def test_the_precision_of_the_detector_is_part_of_the_key(
    tmp_path, astronaut, monkeypatch, is_named
):
    path = str(centerface.find_model("")) if is_named else ""
    config = PipelineConfig(detector=DetectorConfig(model_path=path))
    task = EvaluationTask(portrait_bag(tmp_path / "bag", astronaut, 1), config=config)
    keys = []
    for has_int8 in (False, True):
        monkeypatch.setattr(
            "fer_ros.detectors.centerface.supports_int8_dot_product", lambda has=has_int8: has
        )
        keys.append(cache_key(task))
    assert (keys[0] == keys[1]) == is_named
