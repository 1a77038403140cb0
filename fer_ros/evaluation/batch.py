"""Evaluate many recordings: sequentially, in local processes, or on a Dask cluster.

Each finished result is cached at once and reused by the next run into the same folder.
"""

import importlib.util
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fer_ros.detector import DetectorError
from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.replay import (
    EvaluationResult,
    EvaluationTask,
    ProgressCallback,
    evaluate,
)
from fer_ros.evaluation.result_cache import cache_key, check_folders, load, save
from fer_ros.inference.model_store import ModelError
from fer_ros.io.errors import encodable, single_line

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnContext

    from distributed import Client

_CONNECT_TIMEOUT_S = 20
_WORKER_PACKAGES = ("fer_ros", "rosbags")
_POLL_INTERVAL_S = 0.5
_EXPECTED_ERRORS = (EvaluationError, ModelError, DetectorError)


class ClusterError(EvaluationError):
    """A cluster cannot be used. The message is one line."""


@dataclass(frozen=True)
class TaskOutcome:
    """The result of one task, or the error, one line, why there is none."""

    result: EvaluationResult | None = None
    error: str = ""

    @property
    def num_images(self) -> int:
        """Images that the result is about."""
        return self.result.frames + self.result.dropped if self.result else 0


@dataclass
class BatchResult:
    """Results of many recordings by name, in the order of the tasks.

    ``failed`` has the error of each recording without a result, ``cached`` the names of reused
    results.
    """

    results: dict[str, EvaluationResult] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    interrupted: bool = False


def unique_names(paths: Iterable[Path]) -> list[str]:
    """Name each recording like its folder or file, with a number if the name is taken.

    Raises EvaluationError when a recording is given twice.
    """
    names: list[str] = []
    resolved: set[Path] = set()
    for path in paths:
        if path.resolve() in resolved:
            raise EvaluationError(f"{path}: expected different recordings, found this one twice")
        resolved.add(path.resolve())
        stem = encodable(path.stem if path.is_file() else path.resolve().name)
        number = 2
        name = stem
        while name in names:
            name, number = f"{stem}_{number}", number + 1
        names.append(name)
    return names


def evaluate_all(
    tasks: Mapping[str, EvaluationTask],
    folder: Path,
    jobs: int = 1,
    cluster: str | None = None,
    use_cache: bool = True,
    progress: ProgressCallback = lambda images: None,
) -> BatchResult:
    """Evaluate recordings and cache each result in a folder of its name in ``folder``.

    A result that cannot be cached has a line about it in its ``errors``.

    Args:
        jobs: Number of local processes.
        cluster: Address of a Dask scheduler to use instead.
        use_cache: Reuse cached results of earlier runs.
        progress: Called with the number of images done since its last call.

    Raises:
        ModelError: There is no such model.
        ClusterError: The cluster cannot be used.
        EvaluationError: A result would be written into a bag or replace other files.
        OSError: ``folder`` cannot be created.
    """
    check_folders(tasks, folder)
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: cache_key(task) for name, task in tasks.items()}
    outcomes: dict[str, TaskOutcome] = {}
    batch = BatchResult()
    for name, key in keys.items():
        cached = _load_cached(folder / name, key, tasks[name]) if use_cache else None
        if cached:
            outcomes[name] = TaskOutcome(cached)
            batch.cached.append(name)
            progress(outcomes[name].num_images)
    remaining = {name: task for name, task in tasks.items() if name not in outcomes}
    try:
        for name, outcome in _dispatch(remaining, jobs, cluster, progress):
            outcomes[name] = _store_result(outcome, folder / name, keys[name], tasks[name])
    except KeyboardInterrupt:
        batch.interrupted = True
    for name, task in tasks.items():
        outcome = outcomes.get(name, TaskOutcome(error=f"{task.bag}: not evaluated: interrupted"))
        if outcome.result:
            batch.results[name] = outcome.result
        else:
            batch.failed[name] = outcome.error
    return batch


def _load_cached(
    folder: Path, key: dict[str, Any], task: EvaluationTask
) -> EvaluationResult | None:
    is_recorded = task.record is None or (task.record / "metadata.yaml").is_file()
    return load(folder, key) if is_recorded else None


def _store_result(
    outcome: TaskOutcome, folder: Path, key: dict[str, Any], task: EvaluationTask
) -> TaskOutcome:
    """Cache the result. The result of an interrupted task gets a key that is never reused."""
    result = outcome.result
    if result is None:
        return outcome
    if result.sha256 and result.sha256 != key["model"]:
        error = (
            f"{task.bag}: evaluated with another model than the one here: expected sha256 "
            f"{key['model'][:12]}..., found {result.sha256[:12]}...; install the same model on all "
            "machines, and set classifier.precision (auto is int8 or fp32, by the CPU)"
        )
        return TaskOutcome(error=error)
    if result.code != key["code"]:
        error = (
            f"{task.bag}: evaluated with other code than the one here: expected {key['code']}, "
            f"found {result.code}; install the same version on all machines"
        )
        return TaskOutcome(error=error)
    try:
        save(folder, result, {} if result.interrupted else key)
    except OSError as error:
        result.errors.append(f"{error.filename}: cannot be cached: {single_line(error)}")
    return outcome


def _dispatch(
    tasks: Mapping[str, EvaluationTask],
    jobs: int,
    cluster: str | None,
    progress: ProgressCallback,
) -> Iterator[tuple[str, TaskOutcome]]:
    """Yield outcomes as they are done. An interrupted run ends with KeyboardInterrupt."""
    jobs = min(jobs, len(tasks), _num_cores())
    if not tasks:
        return iter(())
    if cluster:
        return _run_on_cluster(tasks, cluster, progress)
    if jobs > 1:
        return _run_in_processes(tasks, jobs, progress)
    return _run_sequentially(tasks, progress)


def _run_task(
    task: EvaluationTask, progress: ProgressCallback = lambda images: None
) -> TaskOutcome:
    try:
        return TaskOutcome(evaluate(task, progress))
    except OSError as error:
        return TaskOutcome(error=f"{error.filename or task.bag}: {single_line(error)}")
    except _EXPECTED_ERRORS as error:
        return TaskOutcome(error=str(error))


def _run_sequentially(
    tasks: Mapping[str, EvaluationTask], progress: ProgressCallback
) -> Iterator[tuple[str, TaskOutcome]]:
    for name, task in tasks.items():
        outcome = _run_task(task, progress)
        yield name, outcome
        if outcome.result and outcome.result.interrupted:
            raise KeyboardInterrupt


def _run_in_processes(
    tasks: Mapping[str, EvaluationTask], jobs: int, progress: ProgressCallback
) -> Iterator[tuple[str, TaskOutcome]]:
    """Run each task in a process of its own, so that a crash costs one recording.

    Ctrl-C reaches all processes of a terminal. The workers inherit a mask that blocks it; they end
    when ``stop`` is set.
    """
    context = multiprocessing.get_context("spawn")  # PyTorch's threads do not survive a fork
    num_done, stop = context.Value("q", 0), context.Event()
    num_reported, interrupted = 0, False
    threads = _num_cores() // jobs
    block_sigint = (signal.SIG_BLOCK, {signal.SIGINT})
    with ThreadPoolExecutor(
        jobs, initializer=signal.pthread_sigmask, initargs=block_sigint
    ) as pool:
        pending: dict[Future[TaskOutcome], str] = {
            pool.submit(
                _run_in_process, context, num_done, stop, _limit_threads(task, threads)
            ): name
            for name, task in tasks.items()
        }
        try:
            while pending:
                try:
                    ready = wait(pending, _POLL_INTERVAL_S, FIRST_COMPLETED).done
                    previous, num_reported = num_reported, num_done.value
                    progress(num_reported - previous)
                except KeyboardInterrupt:  # wait for the partial results of running tasks
                    interrupted = True
                    stop.set()
                    pool.shutdown(wait=False, cancel_futures=True)
                    pending = {
                        future: name for future, name in pending.items() if not future.cancelled()
                    }
                    continue
                for future in ready:
                    yield pending.pop(future), future.result()
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if interrupted:
        raise KeyboardInterrupt


def _run_in_process(
    context: "SpawnContext", num_done: Any, stop: Any, task: EvaluationTask
) -> TaskOutcome:
    """Run a task in a child process.

    Args:
        num_done: Shared counter of the images done by all processes.
        stop: Shared event that interrupts the task.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_worker_main, args=(sender, num_done, stop, task), daemon=True)
    process.start()
    sender.close()  # so that the end of the process closes the pipe
    try:
        outcome: TaskOutcome = receiver.recv()
        return outcome
    except EOFError:
        process.join()
        return TaskOutcome(
            error=f"{task.bag}: its process ended early with exit code {process.exitcode}; -9 "
            "usually means out of memory: use fewer --jobs"
        )
    finally:
        process.join()


def _worker_main(sender: "Connection", num_done: Any, stop: Any, task: EvaluationTask) -> None:
    def count(images: int) -> None:
        with num_done.get_lock():
            num_done.value += images
        if stop.is_set():
            raise KeyboardInterrupt

    sender.send(_run_task(task, count))


def _run_on_cluster(
    tasks: Mapping[str, EvaluationTask], address: str, progress: ProgressCallback
) -> Iterator[tuple[str, TaskOutcome]]:
    """Run the tasks on a Dask cluster, which gives one core to each."""
    import distributed

    with _connect(address) as client:
        pending = {
            client.submit(_run_task, _limit_threads(_absolute(task), 1), pure=False): name
            for name, task in tasks.items()
        }
        while pending:
            completed = distributed.as_completed(
                pending, with_results=True, raise_errors=False, timeout=_CONNECT_TIMEOUT_S
            )
            try:
                for future, value in completed:
                    name = pending.pop(future)
                    outcome = value
                    if future.status != "finished":
                        error = f"{tasks[name].bag}: on the cluster: {_task_error(value)}"
                        outcome = TaskOutcome(error=error)
                    progress(outcome.num_images)
                    yield name, outcome
            except distributed.TimeoutError:  # some tasks take long; without workers all would
                if not _has_worker(client):
                    break
        for name in pending.values():
            error = f"{tasks[name].bag}: on the cluster: no worker is left"
            yield name, TaskOutcome(error=error)


def _task_error(value: Any) -> str:
    """Dask gives errors of tasks as (type, error, traceback), its own ones as the error."""
    return single_line(value[1] if isinstance(value, tuple) else value)


def _connect(address: str) -> "Client":
    """Connect to a scheduler that has usable workers. Raises ClusterError."""
    import distributed

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # reported here instead
    try:
        client = distributed.Client(address, timeout=_CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--cluster {address}: no Dask scheduler responds: {single_line(error)}"
        ) from None
    reason = _cluster_error(client)
    if reason:
        client.close()
        raise ClusterError(f"--cluster {address}: {reason}")
    return client


def _cluster_error(client: "Client") -> str:
    """Why the workers cannot be used. One without this package would restart for ever."""
    if not _has_worker(client):
        return "the scheduler has no workers: start some with `dask worker`"
    # A lambda is sent by value: the worker may have nothing to import a function from.
    is_usable = client.run(lambda: all(map(importlib.util.find_spec, _WORKER_PACKAGES)))
    unusable = [worker for worker, has_package in is_usable.items() if not has_package]
    packages = " or ".join(_WORKER_PACKAGES)
    return f"worker {unusable[0]}: {packages} is not installed there" if unusable else ""


def _has_worker(client: "Client") -> bool:
    import distributed

    try:
        client.wait_for_workers(1, timeout=_CONNECT_TIMEOUT_S)
    except distributed.TimeoutError:
        return False
    return True


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _limit_threads(task: EvaluationTask, max_threads: int) -> EvaluationTask:
    """Limit the threads of a task, so that parallel tasks do not compete for cores."""
    classifier = task.config.classifier
    threads = min(classifier.threads or max_threads, max_threads)
    config = replace(task.config, classifier=replace(classifier, threads=threads))
    return replace(task, config=config)


def _absolute(task: EvaluationTask) -> EvaluationTask:
    """Make the paths of a task absolute: workers run in other folders."""
    classifier, detector = task.config.classifier, task.config.detector
    config = replace(
        task.config,
        classifier=replace(classifier, model=_absolute_path(classifier.model)),
        detector=replace(detector, model_path=_absolute_path(detector.model_path)),
    )
    source, record = (path.resolve() if path else None for path in (task.source_bag, task.record))
    return replace(task, bag=task.bag.resolve(), source_bag=source, record=record, config=config)


def _absolute_path(name: str) -> str:
    """Leave the name of a shipped model as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if name and path.exists() else name
