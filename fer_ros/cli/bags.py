"""``fer evaluate-bag``, ``fer compare`` and ``fer bag-from-video``.

Modules that read bags or draw are imported when a command runs: other commands work without them.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fer_ros.cli import params
from fer_ros.cli.arguments import count, path_text, seconds
from fer_ros.evaluation import EvaluationError
from fer_ros.io.progress import progress_bar

if TYPE_CHECKING:
    from fer_ros.evaluation.batch import BatchResult
    from fer_ros.evaluation.ground_truth import Label
    from fer_ros.evaluation.replay import EvaluationTask

_NEEDS = "requirements/evaluate.txt"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_parsers(commands: Commands) -> None:
    """Add the commands to those of ``fer``."""
    _add_evaluate_bag(commands)
    _add_compare(commands)
    _add_bag_from_video(commands)


def _add_evaluate_bag(commands: Commands) -> None:
    parser = commands.add_parser(
        "evaluate-bag",
        help="evaluate ROS 2 bags against labels",
        description="Replay every image of ROS 2 bags through the pipeline and score the "
        "predictions against labels. Two offline runs on one machine give identical metrics.",
    )
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="folder, .mcap or .db3")
    parser.add_argument("--image-topic", metavar="T", help="default: the only image topic")
    parser.add_argument(
        "--labels", metavar="FILE", type=Path, help="CSV or YAML; default: labels.csv in the bag"
    )
    parser.add_argument("--label-topic", metavar="T", help="topic of the bag that holds labels")
    parser.add_argument(
        "--predictions-topic",
        metavar="T",
        help="score the predictions recorded in this topic instead of running a model",
    )
    parser.add_argument(
        "--source-bag",
        metavar="BAG",
        type=Path,
        help="the bag with the images of --predictions-topic; label times start there",
    )
    params.add_arguments(parser)
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("results"), help="default: %(default)s"
    )
    parser.add_argument(
        "--mode",
        choices=("offline", "realtime"),
        default="offline",
        help="realtime drops the images that a node as fast as this machine would drop",
    )
    parser.add_argument(
        "--with-images", action="store_true", help="show faces of the worst errors in the report"
    )
    parser.add_argument(
        "--record", action="store_true", help="write the messages of the node to a bag as well"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=count, default=1, help="bags in parallel; they share cores"
    )
    parser.add_argument(
        "--cluster", metavar="ADDRESS", help="Dask scheduler, such as tcp://host:8786"
    )
    parser.add_argument(
        "--no-cache", action="store_true", help="ignore the results of earlier runs in DIR"
    )
    parser.set_defaults(run=_evaluate_bag, needs=_NEEDS)


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two evaluations",
        description="Report which differences of two runs over the same bags are significant.",
    )
    parser.add_argument("first", type=Path, metavar="RUN_A", help="--out of fer evaluate-bag")
    parser.add_argument("second", type=Path, metavar="RUN_B")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the comparison as JSON")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with both runs side by side"
    )
    parser.set_defaults(run=_compare, needs=_NEEDS)


def _add_bag_from_video(commands: Commands) -> None:
    parser = commands.add_parser(
        "bag-from-video",
        help="create a bag from a video or images",
        description="Create a bag from a video, an image, a folder of them, or 'sample', the "
        "synthetic video. Subfolders that are named like emotions give labels.",
    )
    parser.add_argument("source", type=path_text, metavar="VIDEO|FOLDER|sample")
    parser.add_argument("out", type=Path, metavar="OUT", help="the new bag")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    parser.add_argument("--raw", action="store_true", help="raw images instead of JPEG")
    parser.add_argument(
        "--image-duration",
        metavar="S",
        type=seconds,
        default=2.0,
        help="seconds per image file, at most an hour; default: %(default)s",
    )
    parser.set_defaults(run=_bag_from_video, needs=_NEEDS)


def _evaluate_bag(args: argparse.Namespace) -> int:
    from fer_ros.evaluation.bags.reader import expected_images
    from fer_ros.evaluation.batch import evaluate_all
    from fer_ros.evaluation.report.files import check_folder, write_report
    from fer_ros.evaluation.report.results import summarize

    if args.source_bag and not args.predictions_topic:
        raise EvaluationError("--source-bag needs --predictions-topic")
    if args.source_bag and len(args.bags) > 1:
        raise EvaluationError("--source-bag is the recording of one bag of predictions")
    if args.record and args.predictions_topic:
        raise EvaluationError("--record runs a model, --predictions-topic does not: drop one")
    tasks = _tasks(args)
    check_folder(args.out, tasks)
    has_unread_labels = _print_bags_without_labels(args)
    topic = args.predictions_topic or args.image_topic
    total = sum(expected_images(path, topic) for path in args.bags)
    with progress_bar(total=total, unit="image") as bar:
        batch = evaluate_all(
            tasks,
            args.out / "bags",
            args.jobs,
            args.cluster,
            use_cache=not args.no_cache,
            progress=bar.update,
        )
    _print_errors(batch)
    if batch.cached:
        print(f"results reused from an earlier run: {', '.join(batch.cached)}")
    summary = summarize(batch.results, batch.failed)
    dropped = f", {summary['dropped']} dropped" if summary["dropped"] else ""
    print(f"{summary['images']} images evaluated{dropped}, {summary['duration_s']:.1f} s")
    scores = summary["classification"]
    if scores["faces"]:
        names = ("accuracy", "balanced_accuracy", "macro_f1")
        metrics = ", ".join(f"{name} {scores[name]:.1%}" for name in names)
        print(f"{scores['faces']} labeled faces predicted: {metrics}")
    print(*write_report(args.out, summary, batch.results), sep="\n")
    has_warnings = any(result.warnings for result in batch.results.values())
    if batch.interrupted:
        return 130
    return int(summary["partial"] or has_warnings or has_unread_labels)


def _print_errors(batch: "BatchResult") -> None:
    for error in batch.failed.values():
        print(f"fer: {error}", file=sys.stderr)
    for result in batch.results.values():
        for line in (*result.errors, *result.warnings):
            print(f"fer: {line}", file=sys.stderr)


def _print_bags_without_labels(args: argparse.Namespace) -> bool:
    """Name the bags without labels; return whether one has a label file of another name."""
    from fer_ros.evaluation.bags.from_media import LABELS

    has_unread_labels = False
    for bag in args.bags:
        if args.labels or args.label_topic or (bag / LABELS).is_file() or not bag.exists():
            continue
        unread = sorted(file.name for file in bag.glob("*") if file.stem.lower() == "labels")
        has_unread_labels = has_unread_labels or bool(unread)
        print(
            f"{'fer: ' if unread else ''}{bag}: no labels: expected {LABELS} in the bag, --labels "
            f"or --label-topic, found {', '.join(unread) or 'none'}",
            file=sys.stderr if unread else sys.stdout,
        )
    return has_unread_labels


def _tasks(args: argparse.Namespace) -> "dict[str, EvaluationTask]":
    from fer_ros.evaluation.batch import unique_names
    from fer_ros.evaluation.replay import EvaluationTask

    config = params.pipeline_config(args)
    names = unique_names([args.source_bag] if args.source_bag else args.bags)
    labels = _labels(args, names)
    return {
        name: EvaluationTask(
            bag=bag,
            image_topic=args.image_topic,
            config=config,
            labels=tuple(labels[name]),
            label_topic=args.label_topic,
            predictions_topic=args.predictions_topic,
            source_bag=args.source_bag,
            realtime=args.mode == "realtime",
            with_images=args.with_images,
            record=args.out / "bags" / name / "emotions" if args.record else None,
        )
        for name, bag in zip(names, args.bags, strict=True)
    }


def _labels(args: argparse.Namespace, names: list[str]) -> "dict[str, list[Label]]":
    """Labels of each bag: from the one file, or from the file in its folder."""
    from fer_ros.evaluation.bags.from_media import LABELS
    from fer_ros.evaluation.ground_truth import LabelError, labels_for_bag, unknown_bags
    from fer_ros.evaluation.label_files import read_labels

    if args.labels is None:
        files = {name: bag / LABELS for name, bag in zip(names, args.bags, strict=True)}
        return {
            name: read_labels(file) if not args.label_topic and file.is_file() else []
            for name, file in files.items()
        }
    labels = read_labels(args.labels)
    unknown = unknown_bags(labels, names)
    if unknown:
        raise LabelError(
            f"{args.labels}: labels of bag {unknown[0]!r}; the bags are {', '.join(names)}"
        )
    if len(names) > 1 and any(not label.bag for label in labels):
        raise LabelError(
            f"{args.labels}: {len(names)} bags, and labels that name none: name it in the column "
            "'bag', or give each bag a labels.csv of its own"
        )
    return {name: labels_for_bag(labels, name) for name in names}


def _compare(args: argparse.Namespace) -> int:
    from fer_ros.evaluation.comparison import compare, is_complete, read_run, to_text
    from fer_ros.evaluation.report.pages import comparison_page
    from fer_ros.io.json_file import add_path_to_oserror, write_json

    first, second = read_run(args.first), read_run(args.second)
    comparison = compare(first, second)
    for path in filter(None, (args.json, args.html)):
        path.parent.mkdir(parents=True, exist_ok=True)
    if args.json:
        write_json(args.json, comparison)
    if args.html:
        with add_path_to_oserror(args.html):
            args.html.write_text(comparison_page(comparison, first, second), encoding="utf-8")
    print(to_text(comparison))
    return int(not is_complete(comparison))


def _bag_from_video(args: argparse.Namespace) -> int:
    from fer_ros.evaluation.bags.from_media import LABELS, make_bag

    summary = make_bag(args.source, args.out, args.storage, args.raw, args.image_duration)
    labels = f", {summary.labels} labels in {args.out / LABELS}" if summary.labels else ""
    size = f"{summary.images} images, {summary.duration_s:.1f} s"
    print(f"{args.out}: {size}, topic {summary.topic}{labels}")
    if summary.skipped_folders:
        print(
            f"fer: {args.source}: {len(summary.skipped_folders)} subfolders are not named like "
            f"emotions and left out: {', '.join(summary.skipped_folders)}",
            file=sys.stderr,
        )
    for error in summary.errors:
        print(f"fer: {error}", file=sys.stderr)
    return int(bool(summary.skipped_folders or summary.errors))
