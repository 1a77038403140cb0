"""Many recordings: one after the other, in processes of this machine, or on a Dask cluster.

What is done is kept at once, and taken over by the next run into the same folder.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

from fer_ros.detect import DetectorError
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.replay import Outcome, Task, evaluate
from fer_ros.evaluation.store import fingerprint, load, save
from fer_ros.weights import ModelError

_CONNECT_S = 20
_EXPECTED = (EvaluationError, ModelError, DetectorError)

Result = tuple[str, Outcome | str]
Progress = Callable[[int], object]


class ClusterError(EvaluationError):
    """A cluster cannot be used; the message is one line."""


@dataclass
class Results:
    """What became of many recordings, by name, in the order in which they were given.

    ``failed`` says why there is nothing of a recording, ``kept`` names those taken over.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    interrupted: bool = False


def names_of(paths: Iterable[Path]) -> list[str]:
    """A name for each recording: that of its folder or file, with a number when it is taken."""
    names: list[str] = []
    for path in paths:
        stem = path.stem if path.is_file() else path.resolve().name
        number = 2
        name = stem
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def evaluate_all(
    tasks: Mapping[str, Task],
    folder: Path,
    jobs: int = 1,
    cluster: str | None = None,
    fresh: bool = False,
    progress: Progress = lambda images: None,
) -> Results:
    """Evaluates the recordings by name; each is kept in a folder of its name in ``folder``.

    ``jobs`` processes, or the Dask scheduler ``cluster``, share the work. ``fresh`` takes nothing
    over. Raises ModelError when there is no such model, ClusterError when there is no cluster, and
    OSError when results cannot be written.
    """
    keys = {name: fingerprint(task) for name, task in tasks.items() if task.bag.exists()}
    found: dict[str, Outcome | str] = {}
    results = Results()
    for name, key in keys.items():
        kept = None if fresh else load(folder / name, key)
        if kept:
            found[name] = kept
            results.kept.append(name)
            progress(kept.frames + kept.dropped)
    rest = {name: task for name, task in tasks.items() if name not in found}
    for name, outcome in _spread(rest, jobs, cluster, progress):
        found[name] = outcome
        if isinstance(outcome, Outcome):
            results.interrupted |= outcome.interrupted
            if not outcome.interrupted:
                save(folder / name, outcome, keys[name])
    for name in tasks:
        outcome = found.get(name, f"{tasks[name].bag}: not evaluated: interrupted")
        if isinstance(outcome, str):
            results.failed[name] = outcome
        else:
            results.outcomes[name] = outcome
    return results


def _spread(
    tasks: Mapping[str, Task], jobs: int, cluster: str | None, progress: Progress
) -> Iterator[Result]:
    if not tasks:
        return iter(())
    if cluster:
        return _on_cluster(tasks, cluster, progress)
    if jobs > 1 and len(tasks) > 1:
        return _in_processes(tasks, jobs, progress)
    return _one_by_one(tasks, progress)


def _attempt(task: Task, progress: Progress = lambda images: None) -> Outcome | str:
    """The outcome, or in one line why there is none."""
    try:
        return evaluate(task, progress)
    except OSError as error:
        return f"{error.filename or task.bag}: {error.strerror or error}"
    except _EXPECTED as error:
        return str(error)


def _one_by_one(tasks: Mapping[str, Task], progress: Progress) -> Iterator[Result]:
    for name, task in tasks.items():
        outcome = _attempt(task, progress)
        yield name, outcome
        if isinstance(outcome, Outcome) and outcome.interrupted:
            return


def _in_processes(tasks: Mapping[str, Task], jobs: int, progress: Progress) -> Iterator[Result]:
    jobs = min(jobs, len(tasks))
    threads = max(1, (os.cpu_count() or 1) // jobs)
    start = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    pool = ProcessPoolExecutor(jobs, mp_context=start)
    try:
        futures = {
            pool.submit(_attempt, _with_threads(task, threads)): name
            for name, task in tasks.items()
        }
        for future in as_completed(futures):
            outcome = _of_process(future.result, tasks[futures[future]])
            progress(_size(outcome))
            yield futures[future], outcome
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _of_process(result: Callable[[], Outcome | str], task: Task) -> Outcome | str:
    try:
        return result()
    except BrokenProcessPool:
        return f"{task.bag}: its process was ended from outside, perhaps for want of memory"


def _on_cluster(tasks: Mapping[str, Task], address: str, progress: Progress) -> Iterator[Result]:
    import distributed

    try:
        client = distributed.Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ClusterError(f"--cluster {address}: no Dask scheduler answers: {reason}") from None
    with client:
        futures = {
            client.submit(_attempt, _absolute(task), pure=False): name
            for name, task in tasks.items()
        }
        done = distributed.as_completed(futures, with_results=True, raise_errors=False)
        for future, outcome in done:
            name = futures[future]
            if future.status == "error":  # then the result is the error's type, value and trace
                outcome = f"{tasks[name].bag}: on the cluster: {outcome[1]}"
            progress(_size(outcome))
            yield name, outcome


def _size(outcome: Outcome | str) -> int:
    return 0 if isinstance(outcome, str) else outcome.frames + outcome.dropped


def _with_threads(task: Task, threads: int) -> Task:
    """So that the processes do not take each other's cores, unless the settings say how many."""
    classifier = task.config.classifier
    if classifier.threads:
        return task
    config = replace(task.config, classifier=replace(classifier, threads=threads))
    return replace(task, config=config)


def _absolute(task: Task) -> Task:
    """Workers stand in other folders."""
    record = task.record.resolve() if task.record else None
    return replace(task, bag=task.bag.resolve(), record=record)
