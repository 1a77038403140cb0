"""``fer analyze``: pictures and videos to JSON lines and drawings."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

from fer_ros.cli import params
from fer_ros.cli.gallery import Gallery
from fer_ros.config import ClassifierConfig
from fer_ros.draw import draw, draw_attention
from fer_ros.media import MediaError, MediaImage, count_images, media_files, read_file
from fer_ros.pipeline import EmotionPipeline
from fer_ros.records import to_record
from fer_ros.types import FaceEmotion, Frame

if TYPE_CHECKING:
    from fer_ros.cli.attention import AttentiveClassifier

_BAR_AFTER_S = 2.0  # short work needs no progress bar

Complain = Callable[[ValueError], None]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the command to those of ``fer``."""
    parser = commands.add_parser(
        "analyze",
        help="pictures and videos to JSON lines",
        description="Writes one JSON line for each picture or video frame.",
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="picture, video, or folder")
    parser.add_argument("--json", metavar="OUT.jsonl", help="write there, not to stdout")
    parser.add_argument(
        "--draw", metavar="DIR", help="store annotated PNG files, of a video one each second"
    )
    parser.add_argument(
        "--attention", action="store_true", help="beside them, where in each face the network looks"
    )
    params.add_arguments(parser)
    parser.set_defaults(run=_analyze, parser=parser)


def _analyze(arguments: argparse.Namespace) -> int:
    if arguments.attention and not arguments.draw:
        arguments.parser.error("--attention needs --draw DIR, where its pictures go")
    complaints = []

    def complain(error: ValueError) -> None:
        tqdm.write(f"fer: {error}", file=sys.stderr)
        complaints.append(error)

    files = [file for path in arguments.paths for file in _files(path, complain)]
    if not files:
        return 1
    config = params.pipeline_config(arguments)
    # a picture is all that there is of its faces: the first detection counts
    config = replace(config, tracker=replace(config.tracker, min_hits=1))
    attentive = _attentive(config.classifier) if arguments.attention else None
    pipeline = EmotionPipeline(config, classifier=attentive)
    gallery = Gallery(Path(arguments.draw)) if arguments.draw else None
    with _output(arguments.json) as out, _progress_bar(files, out) as bar:
        for file in files:
            pipeline.reset()  # each file is another place
            for image in _images(file, complain):
                faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
                record = to_record(image.name, image.stamp_s, faces)
                out.write(json.dumps(record) + "\n")
                if gallery and gallery.wants(image):
                    _draw(gallery, image, faces, attentive)
                bar.update()
    return 1 if complaints else 0


def _attentive(config: ClassifierConfig) -> "AttentiveClassifier":
    # brings torch: not before the files are found
    from fer_ros.cli.attention import AttentiveClassifier

    return AttentiveClassifier(config)


def _draw(
    gallery: Gallery,
    image: MediaImage,
    faces: list[FaceEmotion],
    attentive: "AttentiveClassifier | None",
) -> None:
    gallery.add(image, "faces", draw(image.image_rgb, faces))
    if attentive:
        crops_rgb, maps = attentive.seen(len(faces))
        gallery.add(image, "attention", draw_attention(faces, crops_rgb, maps))


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
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with Path(path).open("w", encoding="utf-8") as file:
            yield file


def _progress_bar(files: list[Path], out: TextIO) -> tqdm:
    """On stderr, only for people, and not between the lines of the results."""
    hidden = not sys.stderr.isatty() or out.isatty()
    total = None if hidden else sum(map(count_images, files))
    return tqdm(total=total, unit="image", delay=_BAR_AFTER_S, disable=hidden)
