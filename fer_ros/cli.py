"""``fer``: the library at the command line."""

import argparse
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import cv2
from tqdm import tqdm

from fer_ros.config import ClassifierConfig, PipelineConfig, SmootherConfig, TrackerConfig
from fer_ros.detect import DetectorError
from fer_ros.draw import draw
from fer_ros.labels import EMOTIONS
from fer_ros.media import MediaError, MediaImage, count_images, is_video, media_files, read_file
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceEmotion, Frame
from fer_ros.weights import ModelError

_BAR_AFTER_S = 2.0  # short work needs no progress bar

Complain = Callable[[ValueError], None]


def main(argv: list[str] | None = None) -> int:
    """Runs one command. 0: all went well; 1: something could not be read; 2: wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DetectorError, ModelError, OSError) as error:
        print(f"fer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fer", description="Emotions that faces show.")
    commands = parser.add_subparsers(title="commands", required=True)

    analyze = commands.add_parser(
        "analyze",
        help="pictures and videos to JSON lines",
        description="Writes one JSON line for each picture or video frame.",
    )
    analyze.add_argument("paths", nargs="+", metavar="PATH", help="picture, video, or folder")
    analyze.add_argument("--json", metavar="OUT.jsonl", help="write there, not to stdout")
    analyze.add_argument(
        "--draw", metavar="DIR", help="store annotated PNG files, of a video one each second"
    )
    analyze.add_argument(
        "--model", metavar="NAME", default=ClassifierConfig.model, help="default: %(default)s"
    )
    analyze.set_defaults(run=_analyze)
    return parser


def _analyze(arguments: argparse.Namespace) -> int:
    complaints = []

    def complain(error: ValueError) -> None:
        tqdm.write(f"fer: {error}", file=sys.stderr)
        complaints.append(error)

    files = [file for path in arguments.paths for file in _files(path, complain)]
    if not files:
        return 1
    pictures, videos = _pipelines(arguments.model)
    gallery = _Gallery(Path(arguments.draw)) if arguments.draw else None
    with _output(arguments.json) as out, _progress_bar(files, out) as bar:
        for file in files:
            pipeline = videos if is_video(file) else pictures
            pipeline.reset()
            for image in _images(file, complain):
                faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
                out.write(json.dumps(_record(image, faces)) + "\n")
                if gallery:
                    gallery.add(image, faces)
                bar.update()
    return 1 if complaints else 0


def _pipelines(model: str) -> tuple[EmotionPipeline, EmotionPipeline]:
    """One for pictures, which have no before and after, and one for videos."""
    config = PipelineConfig(classifier=ClassifierConfig(model=model))
    videos = EmotionPipeline(config)
    one_by_one = replace(
        config, tracker=TrackerConfig(min_hits=1), smoother=SmootherConfig(time_constant_s=0.0)
    )
    return EmotionPipeline(one_by_one, classifier=videos.classifier), videos


def _files(path: str, complain: Complain) -> list[Path]:
    try:
        return media_files(path)
    except MediaError as error:
        complain(error)
        return []


def _images(file: Path, complain: Complain) -> Iterator[MediaImage]:
    try:
        yield from read_file(file)
    except MediaError as error:
        complain(error)


@contextmanager
def _output(path: str | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        sys.stdout.flush()  # a closed pipe shows here, not at exit
    else:
        with Path(path).open("w", encoding="utf-8") as file:
            yield file


def _progress_bar(files: list[Path], out: TextIO) -> tqdm:
    """On stderr, only for people, and not between the lines of the results."""
    hidden = not sys.stderr.isatty() or out.isatty()
    total = None if hidden else sum(map(count_images, files))
    return tqdm(total=total, unit="image", delay=_BAR_AFTER_S, disable=hidden)


def _record(image: MediaImage, faces: list[FaceEmotion]) -> dict[str, Any]:
    return {
        "source": image.name,
        "stamp_s": round(image.stamp_s, 6),
        "faces": [_face_record(face) for face in faces],
    }


def _face_record(face: FaceEmotion) -> dict[str, Any]:
    return {
        "id": face.id,
        "box": [round(float(edge), 2) for edge in face.box_xyxy],
        "score": round(face.score, 4),
        "emotion": face.emotion,
        "probabilities": {
            name: round(float(share), 5)
            for name, share in zip(EMOTIONS, face.probabilities, strict=True)
        },
        "landmarks": [[round(float(x), 2), round(float(y), 2)] for x, y in face.points_xy],
        "usable": face.usable,
        "why": face.why,
    }


class _Gallery:
    """A folder of annotated PNG files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._drawn: set[tuple[str, int]] = set()
        self._names: set[str] = set()

    def add(self, image: MediaImage, faces: list[FaceEmotion]) -> None:
        """Stores a picture, or the first frame in each second of a video."""
        second = int(image.stamp_s)
        if (image.name, second) in self._drawn:
            return
        self._drawn.add((image.name, second))
        source = Path(image.name)
        moment = f"_{second:05d}s" if is_video(source) else ""
        path = self._folder / self._free_name(f"{source.stem}{moment}_faces")
        annotated_bgr = cv2.cvtColor(draw(image.image_rgb, faces), cv2.COLOR_RGB2BGR)
        if not cv2.imwrite(str(path), annotated_bgr):
            raise OSError(f"{path}: cannot be written")

    def _free_name(self, stem: str) -> str:
        """Pictures of the same name from two folders must not overwrite each other."""
        numbers = itertools.count(2)
        name = stem
        while name in self._names:
            name = f"{stem}_{next(numbers)}"
        self._names.add(name)
        return f"{name}.png"
