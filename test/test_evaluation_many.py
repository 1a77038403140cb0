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
from fer_ros.evaluation.labels import read_labels
from fer_ros.evaluation.many import ClusterError, _absolute, evaluate_all, names_of
from fer_ros.evaluation.replay import Outcome, Task, evaluate
from fer_ros.evaluation.table import FaceTable
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


@contextmanager
def dask(*words: str, python: tuple[str, ...] = ("-m", "dask")) -> Iterator[subprocess.Popen]:
    """A process of Dask, as somebody would start it."""
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
        dask("worker", address, "--nworkers", "2", "--nthreads", "1"),
        distributed.Client(address) as client,
    ):
        client.wait_for_workers(2, timeout=60)
        yield address


@pytest.mark.parametrize("wanted", [[], ["broken"], ["day", "night"], ["day", "broken", "night"]])
@pytest.mark.parametrize("way", ["processes", "cluster"])
def test_processes_and_clusters_give_the_same_verdict(said, tmp_path, request, wanted, way):
    of_all = {name: task for name, task in tasks(said).items() if name in wanted}
    one = evaluate_all(of_all, tmp_path / "one")
    assert [*one.outcomes, *one.failed] == sorted(wanted, key="day night broken".find)
    if "broken" in wanted:
        assert "not a bag that can be read" in one.failed["broken"]
    spread = {"jobs": 2} if way == "processes" else {"cluster": request.getfixturevalue("cluster")}
    done: list[int] = []
    two = evaluate_all(of_all, tmp_path / "two", **spread, progress=done.append)
    assert sum(done) == 4 * len(one.outcomes)
    verdicts = [verdict(run.outcomes, run.failed) for run in (one, two)]
    assert verdicts[0] == verdicts[1]
    again = evaluate_all(of_all, tmp_path / "two", **spread)
    assert again.kept == [*one.outcomes]


def test_a_cluster_takes_over_where_one_process_ended(said, tmp_path, cluster):
    evaluate_all({"day": tasks(said)["day"]}, tmp_path)
    results = evaluate_all(tasks(said), tmp_path, cluster=cluster)
    assert (results.kept, [*results.outcomes]) == (["day"], ["day", "night"])
    assert verdict(results.outcomes, {})["scores"]["faces"] == 6


def test_relative_paths_are_those_of_this_machine(said, tmp_path, cluster, monkeypatch):
    monkeypatch.chdir(said[0].parent)
    source = Path("day_images")
    task = Task(Path("day"), predictions=TOPIC, source=source)
    results = evaluate_all({"day": task}, tmp_path, cluster=cluster)
    assert (results.failed, results.outcomes["day"].dropped) == ({}, 0)


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
    settings = PipelineConfig(DetectorConfig(model_path=names[1]))
    settings = replace(settings, classifier=ClassifierConfig(model=names[0]))
    sent = _absolute(Task(Path("bag"), config=settings))
    found = sent.config.classifier.model, sent.config.detector.model_path
    assert found == tuple(path.format(tmp_path) for path in paths)
    assert sent.bag == tmp_path / "bag"


@pytest.mark.parametrize(
    ("jobs", "cores", "threads", "together"),
    [
        (1, 1, 2, None),  # in this process, with the threads that were asked for
        (2, 1, 2, None),
        (2, 2, 2, (2, 1)),
        (2, 8, 2, (2, 2)),
        (3, 8, 0, (3, 2)),
        (3, 2, 1, (2, 1)),
        (9, 16, 2, (3, 2)),
    ],
)
def test_jobs_times_threads_is_no_more_than_the_cores(
    said, tmp_path, monkeypatch, jobs, cores, threads, together
):
    seen: list[int] = []

    def see(*given):
        (task,) = (each for each in given if isinstance(each, Task))
        seen.append(task.config.classifier.threads)
        return Outcome(FaceTable.of([]))

    monkeypatch.setattr("fer_ros.evaluation.many._cores", lambda: cores)
    monkeypatch.setattr("fer_ros.evaluation.many._in_process", see)
    monkeypatch.setattr("fer_ros.evaluation.many.evaluate", see)
    settings = PipelineConfig(classifier=ClassifierConfig(threads=threads))
    of_all = {name: replace(task, config=settings) for name, task in tasks(said).items()}
    evaluate_all(of_all, tmp_path, jobs=jobs)
    most = together[1] if together else threads
    assert seen == [most] * 3
    if together:
        assert together[0] * together[1] <= cores


class Deadly(Task):
    """Ends the process that gets it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_process_that_dies_takes_nothing_with_it(said, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._cores", lambda: 2)
    of_all = {"dead": Deadly(said[0], predictions=TOPIC), **tasks(said)}
    results = evaluate_all(of_all, tmp_path, jobs=2)
    assert [*results.outcomes] == ["day", "night"]
    assert [*results.failed] == ["dead", "broken"]
    assert "its process ended before it was done, with exit code 3" in results.failed["dead"]


def test_ctrl_c_ends_all_processes_and_keeps_what_was_done(said, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._cores", lambda: 2)
    good = tasks(said)
    of_all = {f"bag{k}": good["night" if k % 2 else "day"] for k in range(6)}

    def progress(images: int) -> None:
        if images:
            raise KeyboardInterrupt

    results = evaluate_all(of_all, tmp_path, jobs=2, progress=progress)
    assert results.interrupted
    assert results.failed
    assert set(results.failed) | set(results.outcomes) == set(of_all)
    done = [name for name, each in results.outcomes.items() if not each.interrupted]
    again = evaluate_all(of_all, tmp_path, jobs=2)
    assert (again.kept, len(again.outcomes)) == (done, 6)


def test_no_cluster_is_one_line(said, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._CONNECT_S", 1)
    with pytest.raises(ClusterError, match="no Dask scheduler answers") as caught:
        evaluate_all(tasks(said), tmp_path, cluster="tcp://127.0.0.1:9")
    assert "\n" not in str(caught.value)


def test_a_cluster_without_workers_is_one_line(said, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._CONNECT_S", 1)
    with (
        scheduler() as (_, address),
        pytest.raises(ClusterError, match="the scheduler has no workers: start some") as caught,
    ):
        evaluate_all(tasks(said), tmp_path, cluster=address)
    assert "\n" not in str(caught.value)


def test_workers_without_the_package_are_one_line(said, tmp_path):
    """Left alone, they would end and start again over the same task for ever."""
    bare = "import sys; sys.modules['rosbags'] = None; from dask.__main__ import main; main()"
    with (
        scheduler() as (_, address),
        dask("worker", address, "--nthreads", "1", "--no-nanny", python=("-c", bare)),
        pytest.raises(ClusterError, match=r"worker tcp:.*: fer_ros or rosbags is not") as caught,
    ):
        evaluate_all(tasks(said), tmp_path, cluster=address)
    assert "\n" not in str(caught.value)


@contextmanager
def work_in_hand(folder):
    """A scheduler, its one worker, and what becomes of the recording ``pipe`` on it.

    The worker waits for somebody to write the bag; whoever does so knows that it has begun.
    """
    pipe = folder / "pipe.mcap"
    os.mkfifo(pipe)
    with (
        scheduler() as (boss, address),
        dask("worker", address, "--nthreads", "1", "--no-nanny") as worker,
        ThreadPoolExecutor(1) as thread,
    ):
        task = Task(pipe, predictions=TOPIC)
        running = thread.submit(evaluate_all, {"pipe": task}, folder, cluster=address)
        with pipe.open("wb"):
            yield boss, worker, running


def test_workers_that_are_gone_cost_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_ros.evaluation.many._CONNECT_S", 3)
    with work_in_hand(tmp_path) as (_, worker, running):
        worker.kill()
        results = running.result(60)
    assert results.failed == {
        "pipe": f"{tmp_path / 'pipe.mcap'}: on the cluster: no worker is left"
    }


def test_a_scheduler_that_goes_away_costs_its_recordings_only(tmp_path):
    with work_in_hand(tmp_path) as (boss, worker, running):
        boss.kill()
        results = running.result(60)
        worker.kill()  # it would look for its scheduler for a while
    line = results.failed["pipe"]
    assert line.startswith(f"{tmp_path / 'pipe.mcap'}: on the cluster: ")
    assert "\n" not in line


def test_another_model_on_the_other_machine_is_told(said, tmp_path, monkeypatch):
    def evaluate(task, progress):
        return Outcome(FaceTable.of([]), sha256="f" * 64)

    monkeypatch.setattr("fer_ros.evaluation.many.evaluate", evaluate)
    results = evaluate_all({"day": tasks(said)["day"]}, tmp_path)
    assert "evaluated with another model than the one here" in results.failed["day"]


def test_what_a_full_disk_does_not_take_is_told_and_the_rest_goes_on(said, tmp_path):
    with small_files(100):
        results = evaluate_all(tasks(said), tmp_path)
    assert [*results.outcomes] == ["day", "night"]
    for name in ("day", "night"):
        (trouble,) = results.outcomes[name].troubles
        assert trouble == f"{tmp_path / name / 'faces.csv'}: cannot be kept: File too large"
    assert verdict(results.outcomes, {})["partial"]
    assert evaluate_all(tasks(said), tmp_path).kept == []


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


def test_a_recording_that_the_disk_did_not_take_is_made_again(tmp_path, astronaut, monkeypatch):
    monkeypatch.setattr("fer_ros.classify.Classifier", lambda config: NamedClassifier())
    monkeypatch.setattr("fer_ros.evaluation.store.find_model", lambda name: name)
    monkeypatch.setattr("fer_ros.evaluation.store.read_card", lambda name: NamedClassifier.card)
    bag, out = portrait_bag(tmp_path / "bag", astronaut, 10), tmp_path / "out"
    task = Task(bag, record=out / "bag" / "emotions")
    with small_files(20_000):
        first = evaluate_all({"bag": task}, out)
    (trouble,) = first.outcomes["bag"].troubles
    assert "emotions: cannot be written any further: File too large" in trouble
    second = evaluate_all({"bag": task}, out)
    assert (second.kept, second.outcomes["bag"].troubles) == ([], [])
    assert evaluate_all({"bag": task}, out).kept == ["bag"]


def test_an_unknown_model_is_told_before_anything_is_read(said, tmp_path):
    settings = PipelineConfig(classifier=ClassifierConfig(model="nobody"))
    with pytest.raises(ModelError, match="unknown model 'nobody'"):
        evaluate_all({"day": Task(said[0], config=settings)}, tmp_path)


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
