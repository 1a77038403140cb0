"""Many recordings: in processes, on a cluster, and again."""

import shutil
from pathlib import Path

import distributed
import pytest
from bag_tools import NamedClassifier, portrait_bag, write_labels

from fer_ros.evaluation.labels import read_labels
from fer_ros.evaluation.many import ClusterError, evaluate_all, names_of
from fer_ros.evaluation.replay import Task, evaluate
from fer_ros.evaluation.verdict import verdict
from fer_ros.weights import ModelError

TOPIC = "/emotion_node/emotions"


@pytest.fixture(scope="module")
def said(tmp_path_factory, astronaut) -> list[Path]:
    """Two recordings of what a node said, and one that is broken: no process needs a network."""
    folder = tmp_path_factory.mktemp("said")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_ros.classify.Classifier", lambda config: NamedClassifier())
        for name in ("day", "night"):
            source = portrait_bag(folder / f"{name}_images", astronaut, 4)
            evaluate(Task(source, record=folder / name))
    (folder / "broken").mkdir()
    return [folder / name for name in ("day", "broken", "night")]


def tasks(paths: list[Path]) -> dict[str, Task]:
    labels = tuple(read_labels(write_labels(paths[0].parent / "l.csv", (0, 9, "happy"))))
    return {path.name: Task(path, predictions=TOPIC, labels=labels) for path in paths}


def test_no_recording_at_all(tmp_path):
    results = evaluate_all({}, tmp_path)
    assert (results.outcomes, results.failed) == ({}, {})


def test_names_are_unique(tmp_path):
    (tmp_path / "day.mcap").touch()
    paths = [tmp_path / "a" / "day", tmp_path / "b" / "day", tmp_path / "day.mcap", Path("b/")]
    assert names_of(paths) == ["day", "day_2", "day_3", "b"]


def test_processes_and_clusters_give_the_same_verdict(said, tmp_path):
    one = evaluate_all(tasks(said), tmp_path / "one")
    assert [*one.outcomes] == ["day", "night"]
    assert list(one.failed) == ["broken"]
    assert "not a bag that can be read" in one.failed["broken"]
    wanted = verdict(one.outcomes, one.failed)
    assert wanted["scores"]["accuracy"] == 1
    two = evaluate_all(tasks(said), tmp_path / "two", jobs=2)
    assert verdict(two.outcomes, two.failed) == wanted
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        three = evaluate_all(tasks(said), tmp_path / "three", cluster=address)
    assert verdict(three.outcomes, three.failed) == wanted


def test_no_cluster_is_one_line(said, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._CONNECT_S", 1)
    with pytest.raises(ClusterError, match="no Dask scheduler answers") as caught:
        evaluate_all(tasks(said), tmp_path, cluster="tcp://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_second_run_takes_over_what_is_done(said, tmp_path):
    first = evaluate_all({"day": tasks(said)["day"]}, tmp_path)
    assert first.kept == []
    again = evaluate_all(tasks(said), tmp_path)
    assert again.kept == ["day"]
    assert [*again.outcomes] == ["day", "night"]
    assert evaluate_all(tasks(said), tmp_path, fresh=True).kept == []


@pytest.mark.parametrize("change", ["labels", "bag", "damage"])
def test_what_has_changed_is_evaluated_again(said, tmp_path, change):
    copy = tmp_path / "day"
    shutil.copytree(said[0], copy)
    out = tmp_path / "out"
    task = Task(copy, predictions=TOPIC)
    evaluate_all({"day": task}, out)
    assert evaluate_all({"day": task}, out).kept == ["day"]
    if change == "labels":
        task = tasks([copy])["day"]
    elif change == "bag":
        (copy / "metadata.yaml").touch()
    else:
        (out / "day" / "faces.csv").write_text("damaged")
    assert evaluate_all({"day": task}, out).kept == []


def test_an_unknown_model_is_told_before_anything_is_read(said, tmp_path):
    from fer_ros.config import ClassifierConfig, PipelineConfig

    config = PipelineConfig(classifier=ClassifierConfig(model="nobody"))
    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        evaluate_all({"day": Task(said[0], config=config)}, tmp_path)


def test_ctrl_c_ends_the_work_and_keeps_what_was_done(said, tmp_path):
    calls = iter(range(100))

    def progress(images: int) -> None:
        if next(calls) == 5:  # the second image of the second recording
            raise KeyboardInterrupt

    order = [said[0], said[2], said[1]]
    results = evaluate_all(tasks(order), tmp_path, progress=progress)
    assert results.interrupted
    assert [*results.outcomes] == ["day", "night"]
    assert "not evaluated: interrupted" in results.failed["broken"]
    assert evaluate_all(tasks(order), tmp_path).kept == ["day"]
