"""What an evaluation of the running node plays and compares: ``evaluate.launch.py`` asks for it.

``python -m fer_ros.evaluation.playback BAG IMAGE LABELS LABEL_TOPIC`` prints a ``Playback`` as
JSON, or one line on stderr with exit code 1. ``ros2 launch`` itself runs in the system's Python,
which lacks the packages that read recordings; this program runs in the active virtual environment.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from fer_ros.evaluation import EvaluationError
from fer_ros.evaluation.bags.reader import Bag
from fer_ros.evaluation.bags.storage import METADATA, read_metadata
from fer_ros.evaluation.batch import unique_names
from fer_ros.evaluation.ground_truth import topic_labels, unknown_bags
from fer_ros.evaluation.label_files import read_labels
from fer_ros.io.errors import format_os_error

TRANSPORTS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


class Playback(NamedTuple):
    """A recording to play: its image topic, the transport of that, and all topics to play.

    ``label_arguments`` are those of ``fer evaluate-bag``; empty without labels.
    """

    image_topic: str
    transport: str
    topics: list[str]
    label_arguments: list[str]


def check_playback(bag_path: Path, image: str, labels: str, label_topic: str) -> Playback:
    """Check a recording and its labels before it is played.

    Args:
        bag_path: a folder, an ``.mcap`` or a ``.db3`` file.
        image: image topic; "": the only one.
        labels: label file; "": ``labels.csv`` in the recording, if it is there.
        label_topic: topic of the recording that holds labels, or "".

    Raises:
        EvaluationError: the recording cannot be read or played, a topic is missing, or the labels
            are invalid.
    """
    with Bag(bag_path) as bag:
        types = bag.topics
        if bag.errors:
            raise EvaluationError(bag.errors[0])
        _check_playable(bag)
        if label_topic:
            topic_labels(bag, label_topic)  # raises now, not after the recording was played
    images = [topic for topic, kind in types.items() if kind in TRANSPORTS]
    chosen = [image] if image else images
    if len(chosen) != 1 or chosen[0] not in images:
        available = ", ".join(sorted(images)) or "none"
        problem = f"no image topic {image}" if image else f"{len(images)} image topics"
        raise EvaluationError(
            f"{bag_path}: {problem}; choose one with image:= (available: {available})"
        )
    topic = chosen[0]
    camera_info = f"{topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
    calibration = [camera_info] if camera_info in types else []
    label_arguments = _label_arguments(labels, label_topic, bag_path)
    return Playback(topic, TRANSPORTS[types[topic]], [topic, *calibration], label_arguments)


def _check_playable(bag: Bag) -> None:
    """Raise EvaluationError for a readable recording that ros2 bag play cannot play."""
    path = bag.path
    if path.is_dir() and not (path / METADATA).is_file():
        files = [file for suffix in ("mcap", "db3") for file in path.glob(f"*.{suffix}")]
        remedy = f"name {files[0]} with bag:=" if len(files) == 1 else f"ros2 bag reindex {path}"
        raise EvaluationError(f"{path}: no {METADATA}, which ros2 bag play needs: {remedy}")
    if path.is_file() and (bag.is_compressed() or len(read_metadata(path.parent).file_names) > 1):
        raise EvaluationError(
            f"{path}: ros2 bag play needs the folder of a recording that is compressed or split: "
            f"name {path.parent} with bag:="
        )


def _label_arguments(labels: str, label_topic: str, bag_path: Path) -> list[str]:
    """Arguments with the label file, which must be valid, and topic; none without labels."""
    arguments = ["--label-topic", label_topic] if label_topic else []
    path = Path(labels).expanduser() if labels else bag_path / "labels.csv"
    if labels and not path.is_file():
        raise EvaluationError(f"labels: {path}: no such file")
    if path.is_file() and (labels or not label_topic):
        others = unknown_bags(read_labels(path), unique_names([bag_path]))
        if others:
            raise EvaluationError(
                f"{path}: expected labels of bag {unique_names([bag_path])[0]}, "
                f"found {', '.join(others)}; correct the column bag"
            )
        arguments += ["--labels", str(path)]
    return arguments


def main(arguments: list[str] | None = None) -> int:
    """Print the checked playback; return 1 after an error."""
    bag, image, labels, label_topic = sys.argv[1:] if arguments is None else arguments
    try:
        playback = check_playback(Path(bag), image, labels, label_topic)
    except (ValueError, OSError) as error:
        print(format_os_error(error), file=sys.stderr)
        return 1
    print(json.dumps(playback._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
