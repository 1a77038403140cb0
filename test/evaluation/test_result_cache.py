"""The key of cached results."""

import shutil
from pathlib import Path

import pytest
from bag_tools import portrait_bag

from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.detectors import centerface
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.batch import evaluate_all
from fer_ros.evaluation.replay import EvaluationTask
from fer_ros.evaluation.result_cache import cache_key
from fer_ros.inference.model_store import find_model, read_manifest, sha256_of


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


def test_the_manifest_of_the_model_is_part_of_the_key(tmp_path, astronaut):
    shutil.copytree(find_model("two_stream_small"), tmp_path / "mine")
    config = PipelineConfig(classifier=ClassifierConfig(model=str(tmp_path / "mine")))
    task = EvaluationTask(portrait_bag(tmp_path / "bag", astronaut, 1), config=config)
    manifest, key = tmp_path / "mine" / "model.yaml", cache_key(task)
    text = manifest.read_text().replace("balanced: {temperature: 0.9", "balanced: {temperature: 4")
    assert manifest.write_text(text) and read_manifest(manifest.parent).priors
    assert cache_key(task) == key | {"manifest": sha256_of(manifest)} != key


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("bag", "out"),
    [
        ("data/bags/cam", "data/bags"),
        ("data/bags/cam/cam.mcap", "data/bags"),
        ("cam", "cam/results/bags"),
        ("mon/../cam", "cam/bags"),
    ],
)
def test_results_are_never_written_into_a_bag(tmp_path, astronaut, bag, out):
    (tmp_path / "mon").mkdir()
    folder = (tmp_path / bag).resolve()
    folder = folder.parent if folder.suffix else folder
    portrait_bag(folder, astronaut, 1)
    (folder / "metadata.yaml").rename(folder / "lost.yaml")
    (folder / "emotions").mkdir()
    before = files_of(tmp_path)
    task = EvaluationTask(tmp_path / bag, record=tmp_path / out / "cam" / "emotions")
    with pytest.raises(EvaluationError, match="expected a folder for the results, found the rec"):
        evaluate_all({"cam": task}, tmp_path / out)
    assert files_of(tmp_path) == before


def test_results_never_replace_another_bag(tmp_path, astronaut):
    bag = portrait_bag(tmp_path / "cam", astronaut, 1)
    other = portrait_bag(tmp_path / "data" / "cam", astronaut, 1)
    before = files_of(tmp_path)
    with pytest.raises(EvaluationError, match=f"{other}: expected a folder for the results"):
        evaluate_all({"cam": EvaluationTask(bag)}, tmp_path / "data")
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    ("files", "is_own"),
    [
        (["cam/emotions/precious.txt"], False),
        (["cam/emotions/emotions.mcap", "cam/emotions/metadata.yaml"], False),
        (["cam/emotions/emotions.mcap"], True),  # the run was killed
        (["cam/result.json", "cam/emotions/metadata.yaml"], True),
    ],
)
def test_only_a_recording_of_an_earlier_run_is_replaced(tmp_path, files, is_own):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    task = EvaluationTask(tmp_path / "no_bag", record=tmp_path / "cam" / "emotions")
    if is_own:
        assert "no such bag" in evaluate_all({"cam": task}, tmp_path).failed["cam"]
        return
    with pytest.raises(EvaluationError, match="emotions: expected a recording of an earlier run"):
        evaluate_all({"cam": task}, tmp_path)
    assert all((tmp_path / file).exists() for file in files)
