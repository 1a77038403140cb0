"""``fer evaluate-bag``, ``fer compare`` and ``fer bag-from-video``: recordings and verdicts.

What reads bags and draws is imported when one of them runs: the other commands do without.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tqdm import tqdm

from fer_ros.cli import params
from fer_ros.evaluation import EvaluationError

if TYPE_CHECKING:
    from fer_ros.evaluation.labels import Label
    from fer_ros.evaluation.many import Results
    from fer_ros.evaluation.replay import Task

_NEEDS = "requirements/evaluate.txt"
_BAR_AFTER_S = 2.0  # short work needs no progress bar

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_parsers(commands: Commands) -> None:
    """Adds the commands to those of ``fer``."""
    _add_evaluate(commands)
    _add_compare(commands)
    _add_make(commands)


def _add_evaluate(commands: Commands) -> None:
    parser = commands.add_parser(
        "evaluate-bag",
        help="recordings of ROS 2 to a verdict",
        description="Replays recordings through the pipeline, every image of them, and scores what "
        "it says against labels. Two runs give the same figures.",
    )
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="folder, .mcap or .db3")
    parser.add_argument("--image-topic", metavar="T", help="default: the only one with images")
    parser.add_argument(
        "--labels", metavar="FILE", type=Path, help="CSV or YAML; default: labels.csv in the bag"
    )
    parser.add_argument("--label-topic", metavar="T", help="a topic of the bag that holds labels")
    parser.add_argument(
        "--predictions", metavar="T", help="score what this topic of the bag says, ask no model"
    )
    parser.add_argument(
        "--of", metavar="BAG", type=Path, help="what --predictions are about: time starts there"
    )
    params.add_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("verdict"), help="default: %(default)s"
    )
    parser.add_argument(
        "--rate",
        choices=("all", "realtime"),
        default="all",
        help="realtime drops the images that a robot as fast as this machine would drop",
    )
    parser.add_argument(
        "--thumbnails", action="store_true", help="show the faces of the worst moments in the page"
    )
    parser.add_argument(
        "--record", action="store_true", help="write what the node would publish, as a bag"
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=1,
        help="bags at the same time, one per core at most",
    )
    parser.add_argument("--cluster", metavar="ADDRESS", help="of a Dask scheduler: tcp://host:8786")
    parser.add_argument(
        "--fresh", action="store_true", help="evaluate again what is already in DIR"
    )
    parser.set_defaults(run=_evaluate, needs=_NEEDS)


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="two verdicts side by side",
        description="Says which differences between two runs over the same recordings are real.",
    )
    parser.add_argument("first", type=Path, metavar="RUN_A", help="--out of fer evaluate-bag")
    parser.add_argument("second", type=Path, metavar="RUN_B")
    parser.add_argument("--json", type=Path, metavar="FILE", help="store the comparison there")
    parser.set_defaults(run=_compare, needs=_NEEDS)


def _add_make(commands: Commands) -> None:
    parser = commands.add_parser(
        "bag-from-video",
        help="a recording from a video or pictures",
        description="Makes a bag of a video, a picture, a folder of them, or 'sample', the made-up "
        "camera. Subfolders that are named like emotions give labels.",
    )
    parser.add_argument("source", metavar="VIDEO|FOLDER|sample")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new bag")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    parser.add_argument("--raw", action="store_true", help="raw images instead of JPEG")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="how long a picture is shown; %(default)s"
    )
    parser.set_defaults(run=_make, needs=_NEEDS)


def _evaluate(arguments: argparse.Namespace) -> int:
    from fer_ros.evaluation.bags import expected_images
    from fer_ros.evaluation.many import evaluate_all
    from fer_ros.evaluation.report import write_all
    from fer_ros.evaluation.verdict import verdict

    if arguments.of and not arguments.predictions:
        raise EvaluationError("--of says what --predictions are about; name their topic as well")
    if arguments.record and arguments.predictions:
        raise EvaluationError("--record has what a model says, and --predictions asks none")
    tasks = _tasks(arguments)
    topic = arguments.predictions or arguments.image_topic
    total = sum(expected_images(path, topic) for path in arguments.bags)
    hidden = not sys.stderr.isatty()
    with tqdm(total=total, unit="image", delay=_BAR_AFTER_S, disable=hidden) as bar:
        folder = arguments.out / "bags"
        spread = arguments.jobs, arguments.cluster, arguments.fresh
        results = evaluate_all(tasks, folder, *spread, progress=bar.update)
    _complain(results)
    if results.kept:
        print(f"taken over from an earlier run: {', '.join(results.kept)}")
    found = verdict(results.outcomes, results.failed)
    scores = found["scores"]
    if scores["faces"]:
        figures = [f"{name} {scores[name]:.1%}" for name in ("accuracy", "mean_recall", "macro_f1")]
        print(f"{scores['faces']} labelled faces read: {', '.join(figures)}")
    print(*write_all(arguments.out, found, results.outcomes), sep="\n")
    return 130 if results.interrupted else int(found["partial"])


def _complain(results: "Results") -> None:
    for reason in results.failed.values():
        print(f"fer: {reason}", file=sys.stderr)
    for outcome in results.outcomes.values():
        for line in (*outcome.troubles, *outcome.notes):
            print(f"fer: {line}", file=sys.stderr)


def _tasks(arguments: argparse.Namespace) -> "dict[str, Task]":
    from fer_ros.evaluation.many import names_of
    from fer_ros.evaluation.replay import Task

    config = params.pipeline_config(arguments)
    names = names_of(arguments.bags)
    labels = _labels(arguments, names)
    return {
        name: Task(
            bag=bag,
            image_topic=arguments.image_topic,
            config=config,
            labels=tuple(labels[name]),
            label_topic=arguments.label_topic,
            predictions=arguments.predictions,
            source=arguments.of,
            realtime=arguments.rate == "realtime",
            thumbnails=arguments.thumbnails,
            record=arguments.out / "bags" / name / "emotions" if arguments.record else None,
        )
        for name, bag in zip(names, arguments.bags, strict=True)
    }


def _labels(arguments: argparse.Namespace, names: list[str]) -> "dict[str, list[Label]]":
    """Of each recording: from the one file, or from the file in its folder."""
    from fer_ros.evaluation.labels import LabelError, of_bag, read_labels
    from fer_ros.evaluation.make import LABELS

    if arguments.labels is None:
        files = [bag / LABELS for bag in arguments.bags]
        use = [not arguments.label_topic and file.is_file() for file in files]
        return {
            name: read_labels(file) if wanted else []
            for name, file, wanted in zip(names, files, use, strict=True)
        }
    labels = read_labels(arguments.labels)
    strangers = sorted({label.bag for label in labels} - {"", *names})
    if strangers:
        raise LabelError(
            f"{arguments.labels}: labels of bag {strangers[0]!r}; the bags are {', '.join(names)}"
        )
    if len(names) > 1 and any(not label.bag for label in labels):
        raise LabelError(
            f"{arguments.labels}: of {len(names)} bags, which are the labels of? Name one in the "
            "column 'bag', or give each bag a labels.csv of its own"
        )
    return {name: of_bag(labels, name) for name in names}


def _compare(arguments: argparse.Namespace) -> int:
    from fer_ros.evaluation.compare import as_text, compare, read_run
    from fer_ros.evaluation.store import write_json

    comparison = compare(read_run(arguments.first), read_run(arguments.second))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, comparison)
    print(as_text(comparison))
    return 0


def _make(arguments: argparse.Namespace) -> int:
    from fer_ros.evaluation.make import make_bag

    made = make_bag(
        arguments.source, arguments.out, arguments.storage, arguments.raw, arguments.seconds
    )
    labels = f", {made.labels} labels in {arguments.out / 'labels.csv'}" if made.labels else ""
    size = f"{made.images} images, {made.duration_s:.1f} s"
    print(f"{arguments.out}: {size}, topic {made.topic}{labels}")
    return 0
