"""Many recordings: one after the other, in processes of this machine, or on a Dask cluster.

What is done is kept at once, and taken over by the next run into the same folder.
"""

import importlib.util
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_ros.detect import DetectorError
from fer_ros.errors import one_line
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.replay import Outcome, Task, evaluate
from fer_ros.evaluation.store import fingerprint, load, save
from fer_ros.weights import ModelError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext

    from distributed import Client

_CONNECT_S = 20
_NEEDED = ("fer_ros", "rosbags")  # of a worker
_LOOK_UP_S = 0.5  # how often the progress of other processes is told
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
    over. What cannot be kept is told in the outcome's ``troubles``. Raises ModelError when there is
    no such model, ClusterError when there is no cluster, and OSError when there is no ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: fingerprint(task) for name, task in tasks.items()}
    found: dict[str, Outcome | str] = {}
    results = Results()
    for name, key in keys.items():
        kept = None if fresh else _earlier(folder / name, key, tasks[name])
        if kept:
            found[name] = kept
            results.kept.append(name)
            progress(kept.frames + kept.dropped)
    rest = {name: task for name, task in tasks.items() if name not in found}
    try:
        for name, outcome in _spread(rest, jobs, cluster, progress):
            found[name] = _kept(outcome, folder / name, keys[name], tasks[name])
    except KeyboardInterrupt:
        results.interrupted = True
    for name in tasks:
        outcome = found.get(name, f"{tasks[name].bag}: not evaluated: interrupted")
        if isinstance(outcome, str):
            results.failed[name] = outcome
        else:
            results.outcomes[name] = outcome
    return results


def _earlier(folder: Path, key: dict[str, Any], task: Task) -> Outcome | None:
    """What an earlier run left of this very task, with its recording if there is to be one."""
    recorded = task.record is None or (task.record / "metadata.yaml").is_file()
    return load(folder, key) if recorded else None


def _kept(outcome: Outcome | str, folder: Path, key: dict[str, Any], task: Task) -> Outcome | str:
    """The outcome, stored; the next run takes it over when there is nothing more to be had."""
    if isinstance(outcome, str):
        return outcome
    if outcome.sha256 and outcome.sha256 != key["model"]:
        return (
            f"{task.bag}: evaluated with another model than the one here: expected sha256 "
            f"{key['model'][:12]}..., found {outcome.sha256[:12]}...: give all machines the same"
        )
    try:
        save(folder, outcome, {} if outcome.interrupted else key)
    except OSError as error:
        outcome.troubles.append(f"{error.filename}: cannot be kept: {one_line(error)}")
    return outcome


def _spread(
    tasks: Mapping[str, Task], jobs: int, cluster: str | None, progress: Progress
) -> Iterator[Result]:
    """What becomes of the tasks, as they are done; KeyboardInterrupt where that was the end."""
    jobs = min(jobs, len(tasks), _cores())
    if not tasks:
        return iter(())
    if cluster:
        return _on_cluster(tasks, cluster, progress)
    if jobs > 1:
        return _in_processes(tasks, jobs, progress)
    return _one_by_one(tasks, progress)


def _attempt(task: Task, progress: Progress = lambda images: None) -> Outcome | str:
    """The outcome, or in one line why there is none."""
    try:
        return evaluate(task, progress)
    except OSError as error:
        return f"{error.filename or task.bag}: {one_line(error)}"
    except _EXPECTED as error:
        return str(error)


def _one_by_one(tasks: Mapping[str, Task], progress: Progress) -> Iterator[Result]:
    for name, task in tasks.items():
        outcome = _attempt(task, progress)
        yield name, outcome
        if isinstance(outcome, Outcome) and outcome.interrupted:
            raise KeyboardInterrupt


def _in_processes(tasks: Mapping[str, Task], jobs: int, progress: Progress) -> Iterator[Result]:
    """Each in a process of its own: one that dies takes nothing with it.

    Ctrl-C goes to all processes of a terminal. Those of the recordings inherit from their threads
    that it is blocked; they end when they are told to.
    """
    start = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    done, stop = start.Value("q", 0), start.Event()
    told, interrupted = 0, False
    most = _cores() // jobs
    ctrl_c = (signal.SIG_BLOCK, {signal.SIGINT})
    with ThreadPoolExecutor(jobs, initializer=signal.pthread_sigmask, initargs=ctrl_c) as pool:
        waiting: dict[Future[Outcome | str], str] = {
            pool.submit(_in_process, start, done, stop, _with_threads(task, most)): name
            for name, task in tasks.items()
        }
        try:
            while waiting:
                try:
                    ready = wait(waiting, _LOOK_UP_S, FIRST_COMPLETED).done
                    before, told = told, done.value
                    progress(told - before)
                except KeyboardInterrupt:  # then what has been done so far is awaited
                    interrupted = True
                    stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    waiting = {each: waiting[each] for each in waiting if not each.cancelled()}
                    continue
                for future in ready:
                    yield waiting.pop(future), future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if interrupted:
        raise KeyboardInterrupt


def _in_process(start: "SpawnContext", done: Any, stop: Any, task: Task) -> Outcome | str:
    """``done`` counts the images of all processes, ``stop`` is the event that ends them."""
    answer, told = start.Pipe(duplex=False)
    process = start.Process(target=_answer, args=(told, done, stop, task), daemon=True)
    process.start()
    told.close()  # so that the end of the process is the end of the pipe
    try:
        outcome: Outcome | str = answer.recv()
        return outcome
    except EOFError:
        process.join()
        return (
            f"{task.bag}: its process ended before it was done, with exit code {process.exitcode}; "
            "-9 is for want of memory: fewer --jobs need less"
        )
    finally:
        process.join()


def _answer(told: "Connection", done: Any, stop: Any, task: Task) -> None:
    def count(images: int) -> None:
        with done.get_lock():
            done.value += images
        if stop.is_set():
            raise KeyboardInterrupt

    told.send(_attempt(task, count))


def _on_cluster(tasks: Mapping[str, Task], address: str, progress: Progress) -> Iterator[Result]:
    """Dask gives every task one core."""
    import distributed

    with _client(address) as client:
        waiting = {
            client.submit(_attempt, _with_threads(_absolute(task), 1), pure=False): name
            for name, task in tasks.items()
        }
        while waiting:
            done = distributed.as_completed(
                waiting, with_results=True, raise_errors=False, timeout=_CONNECT_S
            )
            try:
                for future, outcome in done:
                    name = waiting.pop(future)
                    if future.status != "finished":
                        outcome = f"{tasks[name].bag}: on the cluster: {_why(outcome)}"
                    progress(_size(outcome))
                    yield name, outcome
            except distributed.TimeoutError:  # some take long, but without workers all would
                if not _has_worker(client):
                    break
        for name in waiting.values():
            yield name, f"{tasks[name].bag}: on the cluster: no worker is left"


def _why(outcome: Any) -> str:
    """An error of a task comes with its type and trace, one of the cluster alone."""
    return one_line(outcome[1] if isinstance(outcome, tuple) else outcome)


def _client(address: str) -> "Client":
    """Raises ClusterError when there is nobody to do the work."""
    import distributed

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # told here, in one line
    try:
        client = distributed.Client(address, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--cluster {address}: no Dask scheduler answers: {one_line(error)}"
        ) from None
    trouble = _trouble(client)
    if trouble:
        client.close()
        raise ClusterError(f"--cluster {address}: {trouble}")
    return client


def _trouble(client: "Client") -> str:
    """A worker without this package would end over its first task, and start again, for ever."""
    if not _has_worker(client):
        return "the scheduler has no workers: start some with `dask worker`"
    # A function without a name travels as it is: there may be nothing to import it from.
    able = client.run(lambda: all(map(importlib.util.find_spec, _NEEDED)))
    without = [worker for worker, answer in able.items() if not answer]
    missing = " or ".join(_NEEDED)
    return f"worker {without[0]}: {missing} is not installed there" if without else ""


def _has_worker(client: "Client") -> bool:
    import distributed

    try:
        client.wait_for_workers(1, timeout=_CONNECT_S)
    except distributed.TimeoutError:
        return False
    return True


def _size(outcome: Outcome | str) -> int:
    return 0 if isinstance(outcome, str) else outcome.frames + outcome.dropped


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def _with_threads(task: Task, most: int) -> Task:
    """With at most so many threads: evaluations do not take each other's cores."""
    classifier = task.config.classifier
    threads = min(classifier.threads or most, most)
    config = replace(task.config, classifier=replace(classifier, threads=threads))
    return replace(task, config=config)


def _absolute(task: Task) -> Task:
    """Workers stand in other folders."""
    classifier, detector = task.config.classifier, task.config.detector
    config = replace(
        task.config,
        classifier=replace(classifier, model=_absolute_path(classifier.model)),
        detector=replace(detector, model_path=_absolute_path(detector.model_path)),
    )
    source, record = (path.resolve() if path else None for path in (task.source, task.record))
    return replace(task, bag=task.bag.resolve(), source=source, record=record, config=config)


def _absolute_path(name: str) -> str:
    """A name that is no path stays one."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name
