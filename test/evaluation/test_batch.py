"""Many recordings: in processes, on a cluster, and again."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import distributed
import pytest
from bag_tools import NamedClassifier, portrait_bag, small_files, write_labels

from fer_ros.config import ClassifierConfig, DetectorConfig, PipelineConfig
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.batch import (
    ClusterError,
    TaskOutcome,
    _absolute,
    evaluate_all,
    unique_names,
)
from fer_ros.evaluation.code_version import code_version
from fer_ros.evaluation.label_files import read_labels
from fer_ros.evaluation.predictions import PredictionTable
from fer_ros.evaluation.replay import EvaluationResult, EvaluationTask, evaluate
from fer_ros.evaluation.report.results import summarize
from fer_ros.inference.model_store import ModelError

TOPIC = "/emotion_node/emotions"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, astronaut) -> list[Path]:
    """Predictions of a node, recorded twice, and a broken bag: no process needs a network."""
    folder = tmp_path_factory.mktemp("recordings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fer_ros.multi_camera.Classifier", lambda config: NamedClassifier())
        for name in ("day", "night"):
            source = portrait_bag(folder / f"{name}_images", astronaut, 4)
            evaluate(EvaluationTask(source, record=folder / name))
    (folder / "broken").mkdir()
    return [folder / name for name in ("day", "broken", "night")]


def tasks(paths: list[Path]) -> dict[str, EvaluationTask]:
    labels = tuple(read_labels(write_labels(paths[0].parent / "l.csv", (0, 9, "happy"))))
    return {
        path.name: EvaluationTask(path, predictions_topic=TOPIC, labels=labels) for path in paths
    }


def test_no_recordings_give_an_empty_summary(tmp_path):
    batch = evaluate_all({}, tmp_path)
    assert (batch.results, batch.failed) == ({}, {})


def test_names_are_unique(tmp_path):
    (tmp_path / "day.mcap").touch()
    paths = [tmp_path / "a" / "day", tmp_path / "b" / "day", tmp_path / "day.mcap", Path("b/")]
    assert unique_names(paths) == ["day", "day_2", "day_3", "b"]
    assert unique_names([Path("bag\udcff")]) == [r"bag\udcff"]
    with pytest.raises(EvaluationError, match="b: expected different recordings, found this one"):
        unique_names([tmp_path / "b", Path("a"), tmp_path / "a" / ".." / "b"])


@contextmanager
def dask(*words: str, python: tuple[str, ...] = ("-m", "dask")) -> Iterator[subprocess.Popen]:
    """A process of Dask, started on the command line."""
    command = [sys.executable, *python, *words, "--no-dashboard"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def scheduler() -> Iterator[tuple[subprocess.Popen, str]]:
    """The process and its address."""
    with dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show") as process:
        address = next(line.split()[-1] for line in process.stderr if "Scheduler at:" in line)
        yield process, address


@pytest.fixture(scope="module")
def cluster():
    """The address of a scheduler with two workers, all in processes of their own."""
    with (
        scheduler() as (_, address),
        dask("worker", address, "--nthreads", "1", "--no-nanny"),
        dask("worker", address, "--nthreads", "1", "--no-nanny"),
        distributed.Client(address) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield address


@pytest.mark.parametrize("expected", [[], ["broken"], ["day", "night"], ["day", "broken", "night"]])
@pytest.mark.parametrize("way", ["processes", "cluster"])
def test_processes_and_clusters_give_the_same_summary(recordings, tmp_path, request, expected, way):
    of_all = {name: task for name, task in tasks(recordings).items() if name in expected}
    one = evaluate_all(of_all, tmp_path / "one")
    assert [*one.results, *one.failed] == sorted(expected, key="day night broken".find)
    if "broken" in expected:
        assert "not a bag that can be read" in one.failed["broken"]
    spread = {"jobs": 2} if way == "processes" else {"cluster": request.getfixturevalue("cluster")}
    done: list[int] = []
    two = evaluate_all(of_all, tmp_path / "two", **spread, progress=done.append)
    assert sum(done) == 4 * len(one.results)
    summaries = [summarize(run.results, run.failed) for run in (one, two)]
    assert summaries[0] == summaries[1]
    again = evaluate_all(of_all, tmp_path / "two", **spread)
    assert again.cached == [*one.results]


def test_a_cluster_takes_over_where_one_process_ended(recordings, tmp_path, cluster):
    evaluate_all({"day": tasks(recordings)["day"]}, tmp_path)
    batch = evaluate_all(tasks(recordings), tmp_path, cluster=cluster)
    assert (batch.cached, [*batch.results]) == (["day"], ["day", "night"])
    assert summarize(batch.results, {})["classification"]["faces"] == 6


def test_relative_paths_are_those_of_this_machine(recordings, tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(recordings[0].parent)
    source = Path("day_images")
    task = EvaluationTask(Path("day"), predictions_topic=TOPIC, source_bag=source)
    batch = evaluate_all({"day": task}, tmp_path, cluster=cluster)
    assert (batch.failed, batch.results["day"].dropped) == ({}, 0)


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (("", ""), ("", "")),
        (("two_stream_small", "no/face.onnx"), ("two_stream_small", "no/face.onnx")),
        (("mine", "face.onnx"), ("{}/mine", "{}/face.onnx")),
    ],
)
def test_models_that_are_paths_are_found_from_everywhere(tmp_path, monkeypatch, names, paths):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "face.onnx"):
        (tmp_path / name).touch()
    settings = PipelineConfig(detector=DetectorConfig(model_path=names[1]))
    settings = replace(settings, classifier=ClassifierConfig(model=names[0]))
    sent = _absolute(EvaluationTask(Path("bag"), config=settings))
    sent_paths = sent.config.classifier.model, sent.config.detector.model_path
    assert sent_paths == tuple(path.format(tmp_path) for path in paths)
    assert sent.bag == tmp_path / "bag"


@pytest.mark.parametrize(
    ("jobs", "cores", "threads", "together"),
    [
        (1, 1, 2, None),  # in this process, with the requested threads
        (2, 1, 2, None),
        (2, 2, 2, (2, 1)),
        (2, 8, 2, (2, 2)),
        (3, 8, 0, (3, 2)),
        (3, 2, 1, (2, 1)),
        (9, 16, 2, (3, 2)),
    ],
)
def test_jobs_times_threads_is_no_more_than_the_cores(
    recordings, tmp_path, monkeypatch, jobs, cores, threads, together
):
    seen: list[int] = []

    def record_threads(*given):
        (task,) = (argument for argument in given if isinstance(argument, EvaluationTask))
        seen.append(task.config.classifier.threads)
        return EvaluationResult(PredictionTable.from_rows([]), code=code_version())

    monkeypatch.setattr("fer_ros.evaluation.batch._num_cores", lambda: cores)
    monkeypatch.setattr(
        "fer_ros.evaluation.batch._run_in_process", lambda *args: TaskOutcome(record_threads(*args))
    )
    monkeypatch.setattr("fer_ros.evaluation.batch.evaluate", record_threads)
    settings = PipelineConfig(classifier=ClassifierConfig(threads=threads))
    of_all = {name: replace(task, config=settings) for name, task in tasks(recordings).items()}
    evaluate_all(of_all, tmp_path, jobs=jobs)
    most = together[1] if together else threads
    assert seen == [most] * 3
    if together:
        assert together[0] * together[1] <= cores


class CrashingTask(EvaluationTask):
    """Ends the process that unpickles it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_crashed_process_costs_one_recording(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.batch._num_cores", lambda: 2)
    of_all = {
        "dead": CrashingTask(recordings[0], predictions_topic=TOPIC),
        **tasks(recordings),
    }
    batch = evaluate_all(of_all, tmp_path, jobs=2)
    assert [*batch.results] == ["day", "night"]
    assert [*batch.failed] == ["dead", "broken"]
    assert "its process ended early with exit code 3" in batch.failed["dead"]


def test_ctrl_c_ends_all_processes_and_keeps_finished_results(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.batch._num_cores", lambda: 2)
    good = tasks(recordings)
    of_all = {f"bag{k}": good["night" if k % 2 else "day"] for k in range(6)}

    def progress(images: int) -> None:
        if images:
            raise KeyboardInterrupt

    batch = evaluate_all(of_all, tmp_path, jobs=2, progress=progress)
    assert batch.interrupted
    assert batch.failed
    assert set(batch.failed) | set(batch.results) == set(of_all)
    done = [name for name, each in batch.results.items() if not each.interrupted]
    again = evaluate_all(of_all, tmp_path)
    assert (again.cached, len(again.results)) == (done, 6)


def test_a_missing_cluster_is_reported_in_one_line(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.batch._CONNECT_TIMEOUT_S", 1)
    with pytest.raises(ClusterError, match="no Dask scheduler responds") as caught:
        evaluate_all(tasks(recordings), tmp_path, cluster="tcp://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_cluster_without_workers_is_reported_in_one_line(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.batch._CONNECT_TIMEOUT_S", 1)
    with (
        scheduler() as (_, address),
        pytest.raises(ClusterError, match="the scheduler has no workers: start some") as caught,
    ):
        evaluate_all(tasks(recordings), tmp_path, cluster=address)
    assert "\n" not in str(caught.value)


def test_workers_without_the_package_are_reported_in_one_line(recordings, tmp_path):
    """Left alone, they would end and start again over the same task for ever."""
    bare = "import sys; sys.modules['rosbags'] = None; from dask.__main__ import main; main()"
    with (
        scheduler() as (_, address),
        dask("worker", address, "--nthreads", "1", "--no-nanny", python=("-c", bare)),
        pytest.raises(ClusterError, match=r"worker tcp:.*: fer_ros or rosbags is not") as caught,
    ):
        evaluate_all(tasks(recordings), tmp_path, cluster=address)
    assert "\n" not in str(caught.value)


@contextmanager
def work_in_hand(folder):
    """A scheduler, its one worker, and what becomes of the recording ``pipe`` on it.

    The worker waits until the bag is written; the writer thus knows that it has started.
    """
    pipe = folder / "pipe.mcap"
    os.mkfifo(pipe)
    with (
        scheduler() as (boss, address),
        dask("worker", address, "--nthreads", "1", "--no-nanny") as worker,
        ThreadPoolExecutor(1) as thread,
    ):
        task = EvaluationTask(pipe, predictions_topic=TOPIC)
        running = thread.submit(evaluate_all, {"pipe": task}, folder, cluster=address)
        with pipe.open("wb"):
            yield boss, worker, running


def test_lost_workers_cost_the_remaining_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.batch._CONNECT_TIMEOUT_S", 10)
    with work_in_hand(tmp_path) as (_, worker, running):
        worker.kill()
        batch = running.result(60)
    assert batch.failed == {"pipe": f"{tmp_path / 'pipe.mcap'}: on the cluster: no worker is left"}


def test_a_lost_scheduler_costs_its_recordings_only(tmp_path):
    with work_in_hand(tmp_path) as (boss, worker, running):
        boss.kill()
        batch = running.result(60)
        worker.kill()  # it would look for its scheduler for a while
    line = batch.failed["pipe"]
    assert line.startswith(f"{tmp_path / 'pipe.mcap'}: on the cluster: ")
    assert "\n" not in line


def test_another_model_on_the_other_machine_is_reported(recordings, tmp_path, monkeypatch):
    def evaluate(task, progress):
        return EvaluationResult(PredictionTable.from_rows([]), sha256="f" * 64, code=code_version())

    monkeypatch.setattr("fer_ros.evaluation.batch.evaluate", evaluate)
    batch = evaluate_all({"day": tasks(recordings)["day"]}, tmp_path)
    assert "evaluated with another model than the one here" in batch.failed["day"]


def test_other_code_on_the_other_machine_is_reported(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.replay.code_version", lambda: "1.0+old")
    results = evaluate_all({"day": tasks(recordings)["day"]}, tmp_path)
    assert "evaluated with other code than the one here" in results.failed["day"]
    assert "found 1.0+old" in results.failed["day"]


def test_a_full_disk_is_reported_and_the_rest_continues(recordings, tmp_path):
    with small_files(100):
        batch = evaluate_all(tasks(recordings), tmp_path)
    assert [*batch.results] == ["day", "night"]
    for name in ("day", "night"):
        (error,) = batch.results[name].errors
        assert error == f"{tmp_path / name / 'faces.csv'}: cannot be cached: File too large"
    assert summarize(batch.results, {})["partial"]
    assert evaluate_all(tasks(recordings), tmp_path).cached == []


def test_a_second_run_reuses_finished_results(recordings, tmp_path):
    first = evaluate_all({"day": tasks(recordings)["day"]}, tmp_path)
    assert first.cached == []
    again = evaluate_all(tasks(recordings), tmp_path)
    assert again.cached == ["day"]
    assert [*again.results] == ["day", "night"]
    assert evaluate_all(tasks(recordings), tmp_path, use_cache=False).cached == []


@pytest.mark.parametrize("change", ["labels", "bag", "damage", "code", "detector"])
def test_changed_recordings_are_evaluated_again(recordings, tmp_path, monkeypatch, change):
    copy = tmp_path / "day"
    shutil.copytree(recordings[0], copy)
    out = tmp_path / "out"
    detector = tmp_path / "face.onnx"
    detector.write_bytes(b"first")
    config = PipelineConfig(detector=DetectorConfig(model_path=str(detector)))
    task = EvaluationTask(copy, predictions_topic=TOPIC, config=config)
    evaluate_all({"day": task}, out)
    assert evaluate_all({"day": task}, out).cached == ["day"]
    if change == "labels":
        task = tasks([copy])["day"]
    elif change == "bag":
        (copy / "metadata.yaml").touch()
    elif change == "code":
        monkeypatch.setattr("fer_ros.evaluation.result_cache.code_version", lambda: "another")
        monkeypatch.setattr("fer_ros.evaluation.replay.code_version", lambda: "another")
    elif change == "detector":
        detector.write_bytes(b"second")
    else:
        (out / "day" / "faces.csv").write_text("damaged")
    assert evaluate_all({"day": task}, out).cached == []


def test_an_uncached_recording_is_evaluated_again(tmp_path, astronaut, monkeypatch):
    monkeypatch.setattr("fer_ros.multi_camera.Classifier", lambda config: NamedClassifier())
    monkeypatch.setattr(
        "fer_ros.evaluation.result_cache._model_digests",
        lambda config: {"model": NamedClassifier.manifest.sha256},
    )
    bag, out = portrait_bag(tmp_path / "bag", astronaut, 10), tmp_path / "out"
    task = EvaluationTask(bag, record=out / "bag" / "emotions")
    with small_files(20_000):
        first = evaluate_all({"bag": task}, out)
    (error,) = first.results["bag"].errors
    assert "emotions: cannot be written any further: File too large" in error
    second = evaluate_all({"bag": task}, out)
    assert (second.cached, second.results["bag"].errors) == ([], [])
    assert evaluate_all({"bag": task}, out).cached == ["bag"]


def test_an_unknown_model_is_reported_before_anything_is_read(recordings, tmp_path):
    settings = PipelineConfig(classifier=ClassifierConfig(model="unknown_model"))
    with pytest.raises(ModelError, match="unknown model 'unknown_model'"):
        evaluate_all({"day": EvaluationTask(recordings[0], config=settings)}, tmp_path)


def test_ctrl_c_ends_the_evaluation_and_keeps_finished_results(recordings, tmp_path):
    calls = iter(range(100))

    def progress(images: int) -> None:
        if next(calls) == 5:  # the second image of the second recording
            raise KeyboardInterrupt

    order = [recordings[0], recordings[2], recordings[1]]
    batch = evaluate_all(tasks(order), tmp_path, progress=progress)
    assert batch.interrupted
    assert [*batch.results] == ["day", "night"]
    assert "not evaluated: interrupted" in batch.failed["broken"]
    assert evaluate_all(tasks(order), tmp_path).cached == ["day"]
