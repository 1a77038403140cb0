"""``fer analyze``: images and videos to JSON lines and annotated images."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fer_ros.cli import params
from fer_ros.cli.annotated_image_writer import AnnotatedImageWriter
from fer_ros.cli.arguments import path_text
from fer_ros.cli.record_writer import RecordWriter, open_records
from fer_ros.config import ClassifierConfig
from fer_ros.io.errors import WarningCounter
from fer_ros.io.media import (
    MediaError,
    MediaImage,
    count_images,
    is_stream,
    list_media,
    read_file,
    read_stream,
    skipped_errors,
)
from fer_ros.io.progress import ProgressBar, progress_bar, write_line
from fer_ros.io.serialization import frame_record
from fer_ros.pipeline import EmotionPipeline
from fer_ros.types import FaceEmotion, Frame
from fer_ros.visualization import draw, draw_attention

if TYPE_CHECKING:
    from fer_ros.cli.attention_recorder import AttentionRecorder

ErrorCallback = Callable[[ValueError], None]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to those of ``fer``."""
    parser = commands.add_parser(
        "analyze",
        help="analyze images and videos",
        description="Write one JSON line for each image or video frame.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=path_text,
        metavar="PATH",
        help="image, video, folder, stream URL or /dev/videoN",
    )
    parser.add_argument(
        "--json", type=path_text, metavar="OUT.jsonl", help="output file; default: stdout"
    )
    parser.add_argument(
        "--save-annotated",
        type=path_text,
        metavar="DIR",
        help="folder for annotated PNG files, one per image and per video second",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="also save attention maps; requires --save-annotated",
    )
    params.add_arguments(parser)
    parser.set_defaults(run=_run, parser=parser)


def _run(args: argparse.Namespace) -> int:
    if args.attention and not args.save_annotated:
        args.parser.error("--attention needs --save-annotated DIR, where its images go")
    errors = []

    def report(error: ValueError) -> None:
        write_line(f"fer: {error}")
        errors.append(error)

    sources = [source for path in args.paths for source in _find_sources(path, report)]
    if not sources:
        return 1
    files = [source for source in sources if isinstance(source, Path)]
    is_endless = len(files) < len(sources)
    _check_outputs(args, files)
    config = params.pipeline_config(args).for_still_images()
    recorder = _attention_recorder(config.classifier) if args.attention else None
    pipeline = EmotionPipeline(config, classifier=recorder)
    writer = AnnotatedImageWriter(Path(args.save_annotated), files) if args.save_annotated else None
    guesses = WarningCounter()
    with (
        open_records(args.json, is_endless) as records,
        _report_interruption(records),
        _progress_bar(files, is_endless, records) as bar,
    ):
        for source in sources:
            pipeline.reset()  # no face of one file is that of another
            for image in _read_images(source, report, guesses):
                faces = pipeline(Frame(image.image_rgb, image.stamp_s)).faces
                records.write(frame_record(image.name, image.stamp_s, faces))
                if writer and writer.select(image):
                    _write_annotated(writer, image, faces, recorder)
                bar.update()
    for line in guesses.lines:
        report(MediaError(line))
    return 1 if errors else 0


def _check_outputs(args: argparse.Namespace, files: list[Path]) -> None:
    """Refuse outputs that would replace the analyzed files, or be analyzed in the next run."""
    if args.json and Path(args.json).exists():
        for file in files:
            if file.samefile(args.json):
                args.parser.error(f"--json {args.json}: is analyzed; name another file")
    if args.save_annotated:
        annotated = Path(args.save_annotated).resolve()
        for folder in filter(Path.is_dir, map(Path, args.paths)):
            if annotated.is_relative_to(folder.resolve()):
                args.parser.error(
                    f"--save-annotated {args.save_annotated}: is in the analyzed folder {folder}; "
                    "name a folder elsewhere"
                )


def _attention_recorder(config: ClassifierConfig) -> "AttentionRecorder":
    # Imports torch, so not before the files are found.
    from fer_ros.cli.attention_recorder import AttentionRecorder

    return AttentionRecorder(config)


def _write_annotated(
    writer: AnnotatedImageWriter,
    image: MediaImage,
    faces: list[FaceEmotion],
    recorder: "AttentionRecorder | None",
) -> None:
    writer.write(image, "faces", draw(image.image_rgb, faces))
    if recorder:
        classified = [face for face in faces if face.is_classified]
        crops_rgb, maps = recorder.last_maps(len(classified))
        writer.write(image, "attention", draw_attention(classified, crops_rgb, maps))


def _find_sources(path: str, report: ErrorCallback) -> list[Path | str]:
    """Files of a path, or the stream itself. What is left out is reported."""
    if is_stream(path):
        return [path]
    try:
        listing = list_media(path)
    except MediaError as error:
        report(error)
        return []
    for line in skipped_errors(path, listing):
        report(MediaError(line))
    if not listing.files and not listing.undecodable:
        report(MediaError(f"{path}: the folder holds no image and no video"))
    return [*listing.files]


def _read_images(
    source: Path | str, report: ErrorCallback, guesses: WarningCounter
) -> Iterator[MediaImage]:
    try:
        if isinstance(source, str):
            yield from read_stream(source)
        else:
            yield from read_file(source, guesses.about(source))
    except MediaError as error:
        report(error)


@contextmanager
def _report_interruption(records: RecordWriter) -> Iterator[None]:
    """Report SIGINT and SIGTERM with the number of analyzed images."""

    def exit_by_signal(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, exit_by_signal)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        write_line(f"fer: interrupted after {records.num_records} images")
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)


def _progress_bar(files: list[Path], is_endless: bool, records: RecordWriter) -> ProgressBar:
    """Hidden when the results go to the same terminal."""
    hidden = records.is_terminal
    total = None if hidden or is_endless else sum(map(count_images, files))
    return progress_bar(total=total, unit="image", hidden=hidden)
