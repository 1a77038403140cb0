"""``fer``: the library at the command line."""

import argparse
import errno
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import cv2
from tqdm import tqdm

from fer_ros.config import ClassifierConfig, PipelineConfig, TrackerConfig
from fer_ros.detect import DetectorError
from fer_ros.draw import draw
from fer_ros.media import MediaError, MediaImage, count_images, is_video, media_files, read_file
from fer_ros.pipeline import EmotionPipeline
from fer_ros.records import to_record
from fer_ros.types import FaceEmotion, Frame
from fer_ros.weights import ModelError, model_folders, read_card

_BAR_AFTER_S = 2.0  # short work needs no progress bar

Complain = Callable[[ValueError], None]


def main(argv: list[str] | None = None) -> int:
    """Runs one command. 0: all went well; 1: something could not be read; 2: wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()  # a closed pipe shows here, not at exit
        return code
    except BrokenPipeError:  # the reader of our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (DetectorError, ModelError) as error:
        print(f"fer: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"fer: {error.filename}: {error.strerror}", file=sys.stderr)
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

    models = commands.add_parser(
        "models",
        help="what models are at hand",
        description="Lists the model folders at hand and verifies their weights.",
    )
    models.set_defaults(run=_models)
    return parser


def _analyze(arguments: argparse.Namespace) -> int:
    complaints = []

    def complain(error: ValueError) -> None:
        tqdm.write(f"fer: {error}", file=sys.stderr)
        complaints.append(error)

    files = [file for path in arguments.paths for file in _files(path, complain)]
    if not files:
        return 1
    pipeline = EmotionPipeline(_config(arguments.model))
    gallery = _Gallery(Path(arguments.draw)) if arguments.draw else None
    with _output(arguments.json) as out, _progress_bar(files, out) as bar:
        for file in files:
            pipeline.reset()  # each file is another place
            for image in _images(file, complain):
                faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
                record = to_record(image.name, image.stamp_s, faces)
                out.write(json.dumps(record) + "\n")
                if gallery:
                    gallery.add(image, faces)
                bar.update()
    return 1 if complaints else 0


def _config(model: str) -> PipelineConfig:
    """A picture is all that there is of its faces: the first detection counts."""
    return PipelineConfig(
        tracker=TrackerConfig(min_hits=1), classifier=ClassifierConfig(model=model)
    )


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


def _models(arguments: argparse.Namespace) -> int:
    folders = model_folders()
    if not folders:
        raise ModelError("no model folder is at hand: the installation is incomplete")
    wrong = 0
    for folder in folders:
        try:
            card = read_card(folder)
            card.verify()
        except ModelError as error:
            print(f"fer: {error}", file=sys.stderr)
            wrong += 1
            continue
        size_mib = card.weights_path.stat().st_size / 2**20
        print(f"{card.name}: {card.architecture}, {len(card.labels)} emotions, {size_mib:.1f} MiB")
        colours = "grey" if card.input.luma else "colour"
        print(f"  sees faces at {card.input.size_px} px in {colours}")
        print(f"  {folder}, sha256 {card.sha256[:12]}... as its card says")
    return 1 if wrong else 0


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
            raise OSError(errno.EIO, "the picture cannot be written", str(path))

    def _free_name(self, stem: str) -> str:
        """Pictures of the same name from two folders must not overwrite each other."""
        numbers = itertools.count(2)
        name = stem
        while name in self._names:
            name = f"{stem}_{next(numbers)}"
        self._names.add(name)
        return f"{name}.png"
